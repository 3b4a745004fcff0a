"""What a compressor is, how one is found, and what they share: how much is kept, and which."""

import importlib
import math
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from models.architecture import Architecture, Size
from models.encoder import Classifier
from models.importance import Importance, Kind, Loss, importance
from models.slicing import Keep, Places, of_slice, sliced


class Network(NamedTuple):
    """A model, what it is built from, and for texts its tokenizer (the text of a tokenizer.json)."""

    model: Classifier
    architecture: Architecture
    signature: dict[str, Any]
    tokenizer: str | None = None

    def sliced(self, keep: Keep) -> "Network":
        """A smaller network (see `models.slicing`), with the tokenizer as it is; this very one if nothing goes."""
        whole = keep.tokens is None or len(keep.tokens) == self.signature["vocab_size"]
        if whole and of_slice(self.architecture, keep) == self.architecture:
            return self
        return Network(*sliced(self.model, self.architecture, self.signature, keep), self.tokenizer)


@dataclass(frozen=True)
class Context:
    """What a compressor may look at besides the weights.

    batches: examples as `loss(model, batch)` takes them, some hundreds suffice. token_counts: gives how often each
    entry of the vocabulary occurs in the training data.
    """

    batches: Sequence[Any] = ()
    loss: Loss | None = None
    token_counts: Callable[[], NDArray[np.int64]] | None = None

    def scores(self, network: Network, kind: Kind) -> Importance:
        """See `models.importance`."""
        return importance(network.model, self.batches, self.loss, kind)


class Compressor(Protocol):
    """One file offers this as `COMPRESSOR`.

    A ratio of 0 gives back the very network. Raises ValueError for what the network does not have.
    """

    Config: ClassVar[type[BaseModel]]

    def __init__(self, config: Any) -> None: ...

    def size(self, network: Network) -> float:
        """What a ratio is a share of, such as the mean number of heads in a layer."""

    def compress(self, network: Network, context: Context) -> Network:
        """A smaller network; the given one stays as it is."""


class Share(BaseModel):
    """How much is removed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ratio: float = Field(0.0, ge=0, lt=1, description="share that is removed")
    keep: Size | None = Field(None, description="how many are kept, instead of a ratio")
    round_to: Size = Field(1, description="what a ratio keeps is rounded up to a multiple of this")

    @property
    def nothing(self) -> bool:
        """Whether all is kept."""
        return self.ratio == 0 and self.keep is None

    def kept(self, there: int, what: str) -> int:
        """How many of those there are; ValueError for more than there are."""
        if self.keep is None:
            least = math.ceil(there * (1 - self.ratio) - 1e-9)
            return min(there, self.round_to * math.ceil(least / self.round_to))
        if self.keep > there:
            raise ValueError(f"{what}: keep is {self.keep}, must be at most {there}, all there are; lower it")
        return self.keep


class Ranked(Share):
    """How much is removed of every layer, and by which importance."""

    importance: Kind = Field("taylor", description="what tells the least important ones (see models.importance)")
    spread: Literal["layer", "network"] = Field(
        "layer", description="layer: as many of each layer; network: compared over all layers, some left in each"
    )


def chosen(scores: Sequence[Tensor], share: Ranked, what: str) -> tuple[Places, ...]:
    """Which are kept of each layer, in their old order."""
    kept = [share.kept(len(each), f"{what} of layer {layer}") for layer, each in enumerate(scores)]
    if share.spread == "network":
        kept = _over_all(scores, sum(kept), share.round_to)
    return tuple(best(each, n) for each, n in zip(scores, kept, strict=True))


def best(scores: Tensor, n: int) -> Places:
    """The places of the n highest scores, in ascending order; of equal ones the first."""
    order = torch.argsort(scores, descending=True, stable=True)[:n]
    return tuple(sorted(order.tolist()))


def _over_all(scores: Sequence[Tensor], n: int, round_to: int) -> list[int]:
    """How many of each layer are among the n best of all; at least one, rounded up."""
    layers = torch.cat([torch.full((len(each),), layer) for layer, each in enumerate(scores)])
    among = layers[list(best(torch.cat(list(scores)), n))].bincount(minlength=len(scores)).tolist()
    rounded = [round_to * math.ceil(max(1, count) / round_to) for count in among]
    return [min(len(each), count) for each, count in zip(scores, rounded, strict=True)]


def find() -> list[str]:
    """Names of the modules here that declare a `COMPRESSOR`."""
    package = importlib.import_module("models.compression")
    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    return [name for name in names if hasattr(importlib.import_module(f"models.compression.{name}"), "COMPRESSOR")]


def load(name: str) -> type[Compressor]:
    """The compressor of that name; ValueError with what there is."""
    if name not in find():
        raise ValueError(f"compressor is {name!r}, must be one of {', '.join(find())}; choose one of these")
    found: type[Compressor] = importlib.import_module(f"models.compression.{name}").COMPRESSOR
    return found
