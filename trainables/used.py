"""What a training really had: a description read off the live optimizer, model and data, and its hash.

It says nothing of the configuration itself, so that a value which never arrives anywhere leaves the hash as it is.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tasks.batches import bucketed
from trainables.loop import Loop

Json = dict[str, Any]
_NOT_SET = ("params", "lr")  # of the optimizer's groups: the rate is the schedule's
_STEPS = 16
_DIGITS = 4
_ROWS = 4


def digest(**parts: Any) -> str:
    """16 hexadecimal digits of plain JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def of_training(loop: Loop) -> Json:
    """What a loop trains with what: the same for every seed."""
    train = loop.data.splits["train"]
    sizes = [len(rows) for rows in bucketed(train.lengths, loop.optimization.batch_size, 0, 0)]
    return {
        "model": of_model(loop.optimizer.model),
        "optimizer": _of_optimizer(loop),
        "data": [loop.data.record.get("fingerprint"), len(train), sizes],
    }


def of_model(model: nn.Module) -> Json:
    """Shapes of its tensors, which are trained, and the plain values and functions that its modules hold."""
    return {
        "tensors": {name: list(tensor.shape) for name, tensor in model.state_dict(keep_vars=True).items()},
        "trained": sorted(name for name, parameter in model.named_parameters() if parameter.requires_grad),
        "modules": {name: [type(module).__name__, dict(_values(module))] for name, module in model.named_modules()},
    }


def _values(module: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, value in vars(module).items():
        if name.startswith("_") or name == "training":
            continue
        if callable(value) and hasattr(value, "__qualname__"):
            yield name, value.__qualname__
        elif _is_plain(value):
            yield name, value


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _of_optimizer(loop: Loop) -> Json:
    optimizer = loop.optimizer
    groups = [
        {name: value for name, value in group.items() if name not in _NOT_SET and _is_plain(value)}
        | {"numbers": sum(parameter.numel() for parameter in group["params"])}
        for group in optimizer.dense.param_groups
    ]
    return {
        "kind": type(optimizer.dense).__name__,
        "groups": groups,
        "tables": [table.beta2 for table in optimizer.tables],
        "clip_norm": optimizer.clip_norm,
        "rates": [round(loop.rate(step / _STEPS), 12) for step in range(_STEPS + 1)],
    }


def of_loss(loss: Callable[[Tensor, Tensor], Tensor], n_classes: int) -> list[float]:
    """What a loss of (logits_BC, targets_B) says to the same few made-up answers, whatever the seed."""
    logits_BC = made_up(n_classes)
    return [round(float(loss(logits_BC, torch.arange(_ROWS) % n_classes)), _DIGITS)]


def made_up(n_classes: int, shift: float = 0.0) -> Tensor:
    """Logits (B, C) that are neither even nor sure."""
    return 3 * torch.sin(1.7 * torch.arange(_ROWS * n_classes) + shift).view(_ROWS, n_classes)
