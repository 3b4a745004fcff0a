"""What every task offers to the rest of the house: batches, targets, a loss, metrics and a record of the data."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

if TYPE_CHECKING:
    import torch


class DataError(ValueError):
    """Everything that is wrong with the user's data, one line a fault."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = list(faults)
        super().__init__("\n".join(self.faults))

    def __reduce__(self) -> tuple[type["DataError"], tuple[list[str]]]:
        return DataError, (self.faults,)  # crosses process borders with its list, not its joined text


class Batch(NamedTuple):
    """Inputs by the name that the model's `forward` gives them, and what they should come to.

    Text: `tokens` int64 (B, L), `keep` bool (B, L), True = attend. Images: `pixels` float32 (B, H, W, C), already
    multiplied by the signature's `scale`. `targets` int64 (B,).
    """

    inputs: dict[str, NDArray[Any]]
    targets: NDArray[Any]


class Split(Protocol):
    """One split, on disk and memory-mapped; `batch` copies only the rows asked for."""

    @property
    def lengths(self) -> NDArray[np.int32]:
        """Positions of each example, (n,)."""

    @property
    def targets(self) -> NDArray[np.int64]:
        """Class of each example, an index into the labels, (n,)."""

    def __len__(self) -> int: ...

    def batch(self, rows: NDArray[np.int64]) -> Batch:
        """The examples `rows`, padded to the longest of them."""

    def raw(self, rows: NDArray[np.int64]) -> list[Any]:
        """The examples as the user gave them: texts, or arrays of unscaled pixels."""


class Data(Protocol):
    """A prepared data set: three splits ("train", "validation", "test") and how an answer on them is scored."""

    @property
    def folder(self) -> Path:
        """Where the preprocessed files lie."""

    @property
    def record(self) -> dict[str, Any]:
        """What was read, inferred, split and hashed, as plain JSON; `warnings` is a list of sentences."""

    @property
    def labels(self) -> Sequence[str | int | bool]:
        """What the classes stand for, in the order of the model's outputs."""

    @property
    def splits(self) -> Mapping[str, Split]:
        """By name: train, validation, test."""

    @property
    def signature(self) -> dict[str, Any]:
        """What a model for this data is built from, as plain JSON."""

    @property
    def files(self) -> dict[str, Path]:
        """What an artifact needs of this data in order to predict, by the name it has there."""

    def loss(self, logits: "torch.Tensor", targets: "torch.Tensor") -> "torch.Tensor":
        """The scalar that training minimises."""

    def metrics(self, logits: NDArray[Any], targets: NDArray[Any]) -> dict[str, float]:
        """Scores of a whole split, by name."""

    def interval(self, logits: NDArray[Any], targets: NDArray[Any]) -> dict[str, dict[str, float]]:
        """By metric: `value`, and the 95 % interval `low` to `high`."""


class Task(Protocol):
    """One file in `tasks/` offers this as `TASK`."""

    @property
    def Config(self) -> type[BaseModel]:  # noqa: N802  (a class)
        """Frozen; what the `task:` block of an experiment holds besides its name. Refuses unknown keys."""

    @property
    def example(self) -> dict[str, Any]:
        """The smallest config on bundled data: what the contract tests run the task on."""

    def prepare(self, config: Any, cache: Path, /) -> Data:
        """Preprocess into the folder `cache`, or open what lies there already. DataError for the user's faults.

        Safe when several processes call it at once, and quick when nothing is left to do: every trial calls it.
        """

    def classical(self, data: Any, /) -> dict[str, Any]:
        """A model without a Transformer, fitted on train: `name`, `validation` metrics and `test` intervals."""
