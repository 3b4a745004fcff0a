"""Data with one class an example: the part of `tasks.task.Data` that text, image and other classifiers share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from tasks import metrics
from tasks.task import Split

if TYPE_CHECKING:
    import torch

Label = str | int | bool


@dataclass(frozen=True)
class Classification:
    """Prepared data of a classification task (see `tasks.task.Data`)."""

    folder: Path
    record: dict[str, Any]
    labels: list[Label]
    splits: Mapping[str, Split]
    signature: dict[str, Any]
    files: dict[str, Path] = field(default_factory=dict)

    def loss(self, logits: "torch.Tensor", targets: "torch.Tensor") -> "torch.Tensor":
        """Cross-entropy, always computed in float32."""
        from torch.nn import functional  # torch is slow to import, and preparing data needs none of it

        return functional.cross_entropy(logits.float(), targets)

    def metrics(self, logits: NDArray[Any], targets: NDArray[Any]) -> dict[str, float]:
        """`accuracy`, `f1` (macro) and `loss` of logits (n, C)."""
        return {
            "accuracy": metrics.accuracy(logits, targets),
            "f1": metrics.macro_f1(logits, targets),
            "loss": metrics.cross_entropy(logits, targets),
        }

    def interval(self, logits: NDArray[Any], targets: NDArray[Any]) -> dict[str, dict[str, float]]:
        """95 %: Wilson's interval of `accuracy`, the bootstrap's of macro `f1`."""
        scores = self.metrics(logits, targets)
        right = round(scores["accuracy"] * len(targets))
        bounds = {"accuracy": metrics.wilson(right, len(targets)), "f1": metrics.bootstrap_f1(logits, targets)}
        return {name: {"value": scores[name], "low": low, "high": high} for name, (low, high) in bounds.items()}
