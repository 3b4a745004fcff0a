"""The one training loop: every routine that trains a network uses it, each with a loss of its own.

Fidelity is counted in samples; an epoch is one pass over the training split. The order of the samples follows from
(seed, epoch) and every random draw from generators that are saved, so that a loop which is saved and loaded, also in
the middle of an epoch, goes on exactly as if nothing had happened.
"""

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tasks.batches import Rows, bucketed, padding, sorted_by_length
from tasks.task import Batch, Data, Split
from trainables.memory import keep_freed_memory
from trainables.optimization import Optimization, autocast, rate_scale
from trainables.optimizers import Optimizer

__all__ = ["Examples", "Loop", "Loss", "Optimization", "logits"]

EVALUATION_BATCH = 128
_CHECK_EVERY = 16  # batches; looking at the loss waits for an accelerator


class Examples(NamedTuple):
    """A batch on its device, and which rows of the training split it holds."""

    rows: Rows
    inputs: dict[str, Tensor]
    targets: Tensor


Loss = Callable[[nn.Module, Examples], Tensor]
Lengths = NDArray[np.int32]


class Loop:
    """Trains `model` on the training split of `data`; each `advance` ends in an evaluation on the validation split.

    loss: what is minimised, a scalar from the model (which it calls) and examples; runs under autocast where that is
    on. seed: decides the order of the samples. train: the training split as each epoch sees it, where that is not the
    one of `data`. beside: what the loss trains together with the model, and only training needs.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Data,
        optimization: Optimization,
        loss: Loss,
        *,
        seed: int,
        device: str = "cpu",
        train: Callable[[int], Split] | None = None,
        beside: nn.Module | None = None,
    ) -> None:
        self.model, self.data, self.optimization, self.loss = model.to(device), data, optimization, loss
        self.seed, self.device = seed, device
        if device == "cpu":
            keep_freed_memory()
        self.train = train or (lambda epoch: data.splits["train"])
        trained: nn.Module = self.model
        if beside is not None:
            trained = nn.ModuleDict({"model": self.model, "beside": beside.to(device)})
        self.optimizer = Optimizer(trained, optimization)
        self.epochs = 0.0  # at the last report
        self.epoch, self.place = 0, 0  # whole epochs done, and samples seen of the one begun
        self.samples = 0

    def advance(self) -> dict[str, Any]:
        """Train until the next report is due and return it.

        So far: `epochs` and `samples` seen. Of this stretch: `train_loss`, `samples_per_second` (evaluation left
        out), `padding` (share of the positions). And the task's metrics on validation, `val_loss` among them. A loss
        that is no longer finite ends the stretch early; it and the metrics are then NaN.
        """
        due = self._due()
        began = time.perf_counter()
        loss, lengths = self.train_until(due)
        seconds = time.perf_counter() - began
        self.epochs = due
        return {
            "epochs": due,
            "samples": self.samples,
            "train_loss": loss,
            **self._scores(math.isfinite(loss)),
            "samples_per_second": sum(map(len, lengths)) / seconds,
            "padding": _padding(lengths),
        }

    @staticmethod
    def metrics(data: Data) -> list[str]:
        """The names in the reports of a loop on these data."""
        targets = data.splits["validation"].targets[:1]
        scores = data.metrics(np.zeros((1, data.signature["n_classes"]), np.float32), targets)
        ours = ("epochs", "samples", "train_loss", "samples_per_second", "padding")
        return [*ours, *(f"val_{name}" for name in scores)]

    def train_until(self, due: float) -> tuple[float, list[Lengths]]:
        """Train up to `due` epochs; the mean loss (NaN once it is not finite), and the lengths in each batch."""
        self.model.train()
        total, lengths = torch.zeros((), device=self.device), []
        for rows, progress in self._upcoming(due):
            lengths.append(self.train(self.epoch).lengths[rows])
            total += self._step(rows, progress) * len(rows)
            if len(lengths) % _CHECK_EVERY == 0 and not torch.isfinite(total):
                break
        self.optimizer.settle()
        mean = float(total) / sum(map(len, lengths))
        return (mean if math.isfinite(mean) else math.nan), lengths

    def rate(self, progress: float) -> float:
        """The learning rate when a share `progress` of all steps is done."""
        return self.optimization.learning_rate * rate_scale(self.optimization, progress)

    def state(self) -> dict[str, Any]:
        """Everything that the next `advance` depends on besides model, optimizer and settings, as plain JSON."""
        place = {"epochs": self.epochs, "epoch": self.epoch, "place": self.place, "samples": self.samples}
        return {**place, "random": _generators(self.device)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken. The settings are this loop's own, whatever they were then."""
        self.epochs, self.samples = state["epochs"], state["samples"]
        self.epoch, self.place = state["epoch"], state["place"]
        _set_generators(state["random"], self.device)

    def _due(self) -> float:
        every, budget = self.optimization.report_every, self.optimization.epochs
        following = round((math.floor(self.epochs / every + 1e-6) + 1) * every, 6)
        return min(following, budget) if self.epochs < budget else following

    def _upcoming(self, due: float) -> Iterator[tuple[Rows, float]]:
        """The batches up to `due` epochs, one at least, each with the share of all steps done before it.

        The place is kept in samples: after a load, another batch size goes on with the batch that holds it.
        """
        for epoch in range(self.epoch, max(self.epoch + 1, math.ceil(due))):
            batches = bucketed(self.train(epoch).lengths, self.optimization.batch_size, self.seed, epoch)
            ends = np.cumsum([len(rows) for rows in batches])
            first = int(np.searchsorted(ends, self.place, side="right"))
            stop = min(len(batches), max(first + 1, round((due - epoch) * len(batches))))
            for index in range(first, stop):
                yield batches[index], (epoch + index / len(batches)) / self.optimization.epochs
                self.samples += len(batches[index])
                self.place = int(ends[index])
            if stop == len(batches):
                self.epoch, self.place = epoch + 1, 0

    def _step(self, rows: Rows, progress: float) -> Tensor:
        examples = Examples(rows, *on_device(self.train(self.epoch).batch(rows), self.device))
        with autocast(self.optimization.precision, self.device):
            loss = self.loss(self.model, examples)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step(self.rate(progress))
        return loss.detach()

    def _scores(self, finite: bool) -> dict[str, float]:
        split = self.data.splits["validation"]
        logits_NC = logits(self.model, split, precision=self.optimization.precision, device=self.device)
        if not finite:  # of zeros, for the names alone
            return dict.fromkeys(self._scored(np.zeros_like(logits_NC)), math.nan)
        return self._scored(logits_NC)

    def _scored(self, logits_NC: NDArray[np.float32]) -> dict[str, float]:
        scores = self.data.metrics(logits_NC, self.data.splits["validation"].targets)
        return {f"val_{name}": float(value) for name, value in scores.items()}


def logits(
    model: nn.Module, split: Split, *, precision: str = "auto", device: str = "cpu", batch_size: int = EVALUATION_BATCH
) -> NDArray[np.float32]:
    """The model's answers to a whole split, in its order, without dropout."""
    model.eval()
    batches = sorted_by_length(split.lengths, batch_size)
    with torch.inference_mode(), autocast(precision, device):
        answers = [model(**on_device(split.batch(rows), device)[0]).float() for rows in batches]
    logits_NC = torch.empty((len(split), answers[0].shape[1]))
    logits_NC[torch.from_numpy(np.concatenate(batches))] = torch.cat(answers).cpu()
    return logits_NC.numpy()


def _padding(lengths: list[Lengths]) -> float:
    ends = np.cumsum([len(batch) for batch in lengths])
    return padding(np.concatenate(lengths), np.split(np.arange(ends[-1]), ends[:-1]))


def on_device(batch: Batch, device: str) -> tuple[dict[str, Tensor], Tensor]:
    """Inputs and targets of a batch as tensors."""
    inputs = {name: torch.from_numpy(array).to(device) for name, array in batch.inputs.items()}
    return inputs, torch.from_numpy(batch.targets).to(device)


def _generators(device: str) -> dict[str, Any]:
    numpy_state = np.random.get_state(legacy=False)  # noqa: NPY002  a task's augmentation may use the global one
    numpy_state["state"]["key"] = numpy_state["state"]["key"].tolist()
    states = {"torch": _text(torch.get_rng_state()), "numpy": numpy_state, "python": random.getstate()}
    return states | ({"cuda": _text(torch.cuda.get_rng_state())} if device.startswith("cuda") else {})


def _set_generators(states: Mapping[str, Any], device: str) -> None:
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    numpy_state = states["numpy"]
    key = np.array(numpy_state["state"]["key"], dtype=np.uint32)
    np.random.set_state({**numpy_state, "state": {**numpy_state["state"], "key": key}})  # noqa: NPY002
    torch.set_rng_state(_tensor(states["torch"]))
    if device.startswith("cuda") and "cuda" in states:
        torch.cuda.set_rng_state(_tensor(states["cuda"]))


def _text(state: Tensor) -> str:
    return state.numpy().tobytes().hex()


def _tensor(text: str) -> Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8)
