"""Supervised training of an encoder, from scratch or from pretrained weights: the ordinary routine."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from models import cost, own, pretrained
from models.architecture import Architecture, check_fit, parse_signature
from models.encoder import Classifier, build
from models.own import Own
from tasks.task import Data
from trainables import checkpoint, trained, used
from trainables.data import prepare
from trainables.loop import Examples, Loop, Optimization
from trainables.routine import Workspace

FREE = {"dropout", "pooling"}  # what neither a pretrained model nor another one's architecture fixes
COSTS = ("params", "flops", "size_mb", "latency_ms")
PASSES = 3  # of a training step: one forward, backward as much as two


class TrainConfig(Architecture, Optimization):
    """An architecture, an optimization, what to train on, and a seed."""

    task: dict[str, Any] = Field(description="name of a task, and that task's own settings")
    seed: int = Field(
        default=0, ge=0, lt=2**63, description="decides the first weights, the order of samples and the dropout"
    )
    pretrained: str | None = Field(
        default=None,
        description="folder or Hugging Face name of a model to begin with, which then gives the architecture",
    )
    like: str | None = Field(
        default=None,
        description="folder of a checkpoint or artifact whose architecture is taken, but not its weights",
    )
    model: str | None = Field(default=None, description="a network of your own, as file.py:FUNCTION (see models.own)")
    arguments: dict[str, Any] = Field(default={}, description="parameters of your own network")

    @model_validator(mode="before")
    @classmethod
    def _own_arguments(cls, values: Any) -> Any:
        """With a network of the user's own, what is no setting of training is an argument of it."""
        if not isinstance(values, dict):
            return values
        # Once a validator of ours has seen them, pydantic takes lists for Python's, which are no tuples to it.
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        if not values.get("model"):
            return values
        known = set(cls.model_fields) - set(Architecture.model_fields)
        own = {name: value for name, value in values.items() if name not in known}
        rest = {name: value for name, value in values.items() if name in known}
        return {**rest, "arguments": {**rest.get("arguments", {}), **own}}

    @property
    def _giving_architecture(self) -> tuple[str, ...]:
        """Fields that each stand for a whole architecture."""
        return ("pretrained", "like")

    @model_validator(mode="after")
    def _one_architecture(self) -> Self:
        sources = [name for name in self._giving_architecture if getattr(self, name) is not None]
        given = self.model_fields_set & {*Architecture.model_fields, *self._giving_architecture, "model"} - FREE
        if sources and (others := sorted(given - {sources[0]})):
            raise ValueError(
                f"{sources[0]} is {getattr(self, sources[0])!r}, which gives the architecture; leave out "
                f"{', '.join(others)}"
            )
        if not isinstance(self.task.get("name"), str):
            raise ValueError("task must have a name; add name: text_classification")
        return self


class Train:
    """Trains one classifier on one task."""

    Config = TrainConfig

    def __init__(self, config: TrainConfig, workspace: Workspace) -> None:
        self.config = config
        self.data = prepare(config.task, workspace.cache)
        torch.manual_seed(config.seed)
        self.model = make_model(config, self.data.signature)
        optimization = Optimization(**config.model_dump(include=set(Optimization.model_fields)))
        self.loop = Loop(self.model, self.data, optimization, self._loss, seed=config.seed, device=workspace.device)
        self.cost = costs(Train.architecture(config), self.model, self.data, workspace)
        self.flops = 0
        loss = used.of_loss(self._told, self.data.signature["n_classes"])
        self.used = used.digest(**used.of_training(self.loop), loss=loss)

    @staticmethod
    def architecture(config: TrainConfig) -> Architecture | Own:
        """What the config trains."""
        if config.model is not None:
            return Own(model=config.model, arguments=config.arguments)
        given = config.model_dump(include=FREE & config.model_fields_set)
        if config.pretrained is not None:
            return _pretrained(config.pretrained).model_copy(update=given)
        if config.like is not None:
            return trained.architecture(Path(config.like), f"like: {config.like}").model_copy(update=given)
        return Architecture(**config.model_dump(include=set(Architecture.model_fields)))

    @staticmethod
    def check(config: TrainConfig, data: Data) -> None:
        """Raises ValueError, a line a fault, where the config's model and the data do not fit together."""
        architecture = Train.architecture(config)
        if isinstance(architecture, Own):
            _check_own(make_model(config, data.signature), data)
            return
        check_fit(architecture, parse_signature(data.signature))
        if config.pretrained is not None:  # its vocabulary and positions are only known with its weights
            make_model(config, data.signature)

    @staticmethod
    def known(config: TrainConfig, data: Data, inputs: Mapping[str, Any]) -> dict[str, float]:
        """What it costs, before it is trained; nothing of a network of the user's own, or like one not here yet."""
        if config.pretrained is not None:
            return figures(_pretrained(config.pretrained), data.signature, data, inputs)
        if config.like is not None and not Path(config.like).is_dir():
            return {}
        architecture = Train.architecture(config)
        return {} if isinstance(architecture, Own) else figures(architecture, data.signature, data, inputs)

    @staticmethod
    def metrics(config: TrainConfig, data: Data) -> list[str]:
        """The names in its reports."""
        return [*Loop.metrics(data), *COSTS, *(() if config.model else ("training_flops",))]

    def advance(self) -> dict[str, Any]:
        """The loop's report (see `Loop.advance`), and what the model costs: params, flops (of an example of the
        validation split's mean length), size_mb (float32), and latency_ms where the stage has a layer table; and
        `training_flops` of the stretch, backward counted as two forward, but for a network of the user's own; and
        `used`, the hash of what optimizer, model and data really had (see `trainables.used`)."""
        self.flops = 0
        report = {**self.loop.advance(), **self.cost, "used": self.used}
        return {**report, "training_flops": PASSES * self.flops} if isinstance(self.model, Classifier) else report

    def save(self, folder: Path) -> None:
        """Write a checkpoint (see `trainables.checkpoint`)."""
        checkpoint.save(
            folder,
            self.loop,
            {
                "architecture": Train.architecture(self.config).model_dump(),
                "signature": self.data.signature,
                "task": self.config.task,
                "config": self.config.model_dump(exclude_unset=True),
            },
        )

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint, with this routine's settings."""
        checkpoint.load(folder, self.loop)

    def _loss(self, model: nn.Module, examples: Examples) -> Tensor:
        if isinstance(model, Classifier):
            self.flops += forward_flops(model.architecture, self.data.signature, examples.inputs)
        return self._told(model(**examples.inputs), examples.targets)

    def _told(self, logits_BC: Tensor, targets_B: Tensor) -> Tensor:
        return label_loss(self.data, logits_BC, targets_B, self.config.label_smoothing)


@lru_cache(maxsize=8)
def _pretrained(folder_or_name: str) -> Architecture:
    """Asked for every point that a search proposes, and by a name from Hugging Face."""
    return pretrained.architecture(folder_or_name)


def forward_flops(architecture: Architecture, signature: dict[str, Any], inputs: Mapping[str, Tensor]) -> int:
    """Operations of one forward pass of a batch, its padding among them."""
    length = inputs["tokens"].shape[1] if "tokens" in inputs else None
    return len(next(iter(inputs.values()))) * cost.flops(architecture, signature, length)


def label_loss(data: Data, logits_BC: Tensor, targets_B: Tensor, smoothing: float) -> Tensor:
    """The task's loss, with a share `smoothing` of each target spread over all classes."""
    loss = data.loss(logits_BC, targets_B)
    if smoothing == 0:
        return loss
    return (1 - smoothing) * loss - smoothing * F.log_softmax(logits_BC.float(), dim=-1).mean()


def make_model(config: TrainConfig, signature: dict[str, Any]) -> nn.Module:
    """A model for the signature: freshly initialised from torch's generator, or with pretrained weights."""
    architecture = Train.architecture(config)
    if isinstance(architecture, Own):
        return own.build(architecture, signature)
    model = build(architecture, signature)
    if config.pretrained is not None:
        pretrained.load_into(model, config.pretrained)
    return model


def _check_own(model: nn.Module, data: Data) -> None:
    """Raises ValueError where a network of the user's own does not turn a batch into logits."""
    batch = data.splits["train"].batch(np.arange(2))
    try:
        logits_BC = model.eval()(**{name: torch.from_numpy(array) for name, array in batch.inputs.items()})
        shape = tuple(logits_BC.shape)
    except Exception as error:  # the user's own code may raise anything
        raise ValueError(f"model: forward({', '.join(batch.inputs)}) raises {type(error).__name__}: {error}") from error
    wanted = (2, data.signature["n_classes"])
    if shape != wanted:
        raise ValueError(f"model: forward must give logits of shape {wanted} for two examples, got {shape}")


def costs(architecture: Architecture | Own, model: nn.Module, data: Data, workspace: Workspace) -> dict[str, float]:
    """Params, flops, size_mb, and latency_ms where the stage has a layer table."""
    if isinstance(architecture, Own):
        return _own_cost(model, data, workspace)
    assert isinstance(model, Classifier)
    # A slice of a teacher may have more positions than the data.
    return figures(architecture, model.signature.model_dump(), data, workspace.inputs)


def figures(
    architecture: Architecture, signature: dict[str, Any], data: Data, inputs: Mapping[str, Any]
) -> dict[str, float]:
    """`costs` of an encoder with this signature, without the model."""
    length = round(float(data.splits["validation"].lengths.mean()))
    found = {
        "params": cost.params(architecture, signature),
        "flops": cost.flops(architecture, signature, length),
        "size_mb": cost.weight_bytes(architecture, signature) / 1e6,
    }
    if "layer_table" in inputs:
        from trainables.layers import read  # with onnxruntime, which training does without

        found["latency_ms"] = read(inputs["layer_table"]).predict(architecture, data.signature)
    return found


def _own_cost(model: nn.Module, data: Data, workspace: Workspace) -> dict[str, float]:
    """Counted and measured, since no table knows the layers of a network of the user's own."""
    from torch.utils.flop_counter import FlopCounterMode

    params = sum(parameter.numel() for parameter in model.parameters())
    typical = np.argsort(data.splits["validation"].lengths)[len(data.splits["validation"]) // 2]
    batch = data.splits["validation"].batch(np.array([typical]))
    inputs = {name: torch.from_numpy(array).to(workspace.device) for name, array in batch.inputs.items()}
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model.eval()(**inputs)
    found = {"params": params, "flops": counter.get_total_flops(), "size_mb": params * 4 / 1e6}
    if "layer_table" in workspace.inputs:
        from trainables.layers import measured  # with onnxruntime, which training does without

        found["latency_ms"] = measured(workspace.inputs["layer_table"], model, data)
    return found


ROUTINE = Train
