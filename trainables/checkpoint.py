"""Checkpoints: a folder of safetensors and JSON, from which training goes on or a model is read.

config.json: format_version, architecture, signature, task and config, which rebuild the model and its data;
model.safetensors: the weights; optimizer.safetensors: its tensors, as "<parameter>/<name>"; state.json: the place.
"""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models import own
from models.architecture import Architecture
from models.encoder import build
from models.own import Own
from trainables.loop import Loop

FORMAT_VERSION = 1


def save(folder: Path, loop: Loop, config: dict[str, Any]) -> None:
    """Write a loop and the `config` from which its model and data are rebuilt."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(_apart(loop.optimizer.state()), folder / "optimizer.safetensors")
    save_file(_apart(loop.model.state_dict()), folder / "model.safetensors")
    state = {**loop.state(), "optimizer": loop.optimization.optimizer}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "config.json").write_text(json.dumps({"format_version": FORMAT_VERSION, **config}, indent=1))


def load(folder: Path, loop: Loop) -> None:
    """Let a loop go on where it was saved; its settings (learning rate, batch size …) stay those it was made with.

    Raises ValueError when the checkpoint holds another architecture. After a change of the optimizer that begins
    afresh.
    """
    _load_weights(folder, loop.model)
    state = json.loads((folder / "state.json").read_text())
    if state["optimizer"] == loop.optimization.optimizer:
        loop.optimizer.load_state(load_file(folder / "optimizer.safetensors"))
    loop.load_state(state)


def read_config(folder: Path) -> dict[str, Any]:
    """The checkpoint's config.json; raises ValueError when there is none or it is of a newer format."""
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder} is no checkpoint: it has no config.json")
    config: dict[str, Any] = json.loads(path.read_text())
    if config["format_version"] > FORMAT_VERSION:
        raise ValueError(
            f"{path} has format_version {config['format_version']}, this code reads up to {FORMAT_VERSION}; "
            "update Fitformer"
        )
    return config


def load_model(folder: Path, model: str | None = None) -> tuple[nn.Module, Architecture | Own, dict[str, Any]]:
    """The network of a checkpoint, what it is built from, and the checkpoint's config.

    model: the user's own `file.py:FUNCTION`, where the checkpoint is of one. What a folder names is never run unless
    the caller names it, too.
    """
    config = read_config(folder)
    architecture = _architecture(folder, config["architecture"], model)
    signature = config["signature"]
    network = own.build(architecture, signature) if isinstance(architecture, Own) else build(architecture, signature)
    _load_weights(folder, network)
    return network, architecture, config


def _architecture(folder: Path, values: dict[str, Any], model: str | None) -> Architecture | Own:
    if "model" not in values:
        return Architecture.model_validate_json(json.dumps(values))
    if values["model"] != model:
        raise ValueError(f"{folder} is of the network {values['model']!r}, not of {model!r}; name it to run its code")
    return Own(**values)


def _load_weights(folder: Path, model: nn.Module) -> None:
    try:
        model.load_state_dict(load_file(folder / "model.safetensors"))
    except RuntimeError as error:
        first = str(error).splitlines()[1:2] or [str(error)]
        raise ValueError(f"the checkpoint {folder} holds another architecture: {first[0].strip()}") from error


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """As safetensors wants them: on the CPU, contiguous, and none sharing memory with another (tied weights do)."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        here = tensor.detach().cpu().contiguous()
        shared = any(here.data_ptr() == other.data_ptr() for other in found.values() if here.numel())
        found[name] = here.clone() if shared else here
    return found
