"""A network of the user's own: `file.py:FUNCTION`. Such a file is code and runs as code.

The function takes the data's signature (see `models.architecture`) and whatever parameters its space has, and gives a
torch module whose `forward` takes the inputs by name (tokens and keep, or pixels) and returns logits_BC.
"""

import importlib.util
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from torch import nn


class Own(BaseModel):
    """What a network of the user's own is built from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(description="file.py:FUNCTION")
    arguments: dict[str, Any] = Field(default={}, description="the function's parameters, besides the signature")


def build(own: Own, signature: dict[str, Any]) -> nn.Module:
    """The network. Raises ValueError where the file, the function or its arguments do not serve."""
    function = _function(own.model)
    try:
        network = function(signature, **own.arguments)
    except Exception as error:  # the user's own code may raise anything
        raise ValueError(f"model {own.model} raises {type(error).__name__}: {error}") from error
    if not isinstance(network, nn.Module):
        raise ValueError(f"model {own.model} must return a torch module, got {type(network).__name__}")
    return network


def _function(model: str) -> Any:
    path, _, name = model.rpartition(":")
    if not path.endswith(".py") or not Path(path).is_file():
        raise ValueError(f"model {model!r} must be file.py:FUNCTION; there is no Python file {path!r} in {Path.cwd()}")
    spec = importlib.util.spec_from_file_location(f"own_{Path(path).stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not callable(getattr(module, name, None)):
        raise ValueError(f"model {model!r}: the file has no function {name!r}")
    return getattr(module, name)
