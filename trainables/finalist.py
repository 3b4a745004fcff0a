"""What a finalist goes through after the last trial (house §3.7 to §3.9): export, measurement, the one look at the
test split. It runs alone, and every figure is of the artifact as shipped.
"""

from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from models import artifact, quantize
from models.architecture import parse_signature
from models.export import random_feeds, to_onnx
from models.latency import Kind, Target, batches_like, measure_model
from models.predictor import Predictor, session
from tasks.batches import sorted_by_length
from tasks.task import Data
from trainables import checkpoint
from trainables.data import prepare
from trainables.parsing import parse
from trainables.retokenized import as_read_by
from trainables.routine import Workspace

Json = dict[str, Any]
_SAMPLES = 3
_MOST_LOST = 0.003  # of validation accuracy, by the precision that is chosen
_BATCH = 128
_SCORED = 1000  # examples that tell what a layer's fewer bits cost


_Precision = tuple[Kind, tuple[str, ...]]  # and the layers left in float32


class FinalistConfig(BaseModel):
    """Which trial, and where its weights lie in the experiment's folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    task: Json = Field(description="name of a task, and that task's own settings")
    trial: str = Field(description="the trial's id; names the artifact")
    checkpoint: str = Field(description="its last checkpoint, relative to the experiment's folder")
    repeats: tuple[str, ...] = Field(default=(), description="those of the same configuration with other seeds")
    target: Json = Field(default={}, description="see models.latency.Target")
    model: str | None = Field(default=None, description="the user's own network, as file.py:FUNCTION")
    flops: float = Field(default=0, description="of one prediction, as the trial counted them")
    experiment: str = Field(default="", description="for the card")
    precision: Kind | Literal["auto"] = Field(
        default="fp32", description="of the artifact; auto: the quickest on the target that costs no accuracy"
    )
    seed: int = Field(default=0, ge=0, description="draws the sample predictions")


class Finalist:
    """One step: from a checkpoint to a measured artifact under `artifacts/`."""

    Config = FinalistConfig

    def __init__(self, config: FinalistConfig, workspace: Workspace) -> None:
        self._config = config
        self._workspace = workspace
        self._data = prepare(config.task, workspace.cache)
        self._target = parse(Target, config.target, "target")

    def advance(self) -> Json:
        """Figures of the artifact: validation and test scores, latency, size, cost, and some predictions.

        `seeds`, where there are repeats: scores on validation and test by seed, the artifact's own first, each in the
        artifact's precision.
        """
        suffix = "" if self._config.precision == "fp32" else f"-{self._config.precision}"
        name = f"artifacts/{self._config.trial}{suffix}"
        folder = self._workspace.folder / name
        saved, told = self._export(folder)
        predictor = Predictor(folder)
        validation_NC = _logits(predictor, self._data, "validation")
        test_NC = _logits(predictor, self._data, "test")
        splits = self._data.splits
        found = {
            "validation": self._data.metrics(validation_NC, splits["validation"].targets),
            "test": self._data.interval(test_NC, splits["test"].targets),
            **self._latency(folder, told[0]),
        }
        if self._config.repeats:
            test = self._data.metrics(test_NC, splits["test"].targets)
            own = {"validation": found["validation"], "test": test}
            found["seeds"] = [own, *(self._seed(place, told) for place in self._config.repeats)]
        artifact.add_metrics(folder, found)
        report = {
            "epochs": 1,
            "artifact": name,
            "flops": self._config.flops,
            **saved,
            **found,
            **{f"val_{metric}": value for metric, value in found["validation"].items()},
            "predictions": self._predictions(predictor, test_NC),
        }
        self._workspace.publish(name)
        return report

    def save(self, folder: Path) -> None:
        """The artifact is what stays."""

    def load(self, folder: Path) -> None:
        """The one step begins anew; an artifact is replaced as a whole."""

    def _export(self, folder: Path) -> tuple[Json, _Precision]:
        place = self._workspace.fetch(self._config.checkpoint)
        model, architecture, config = checkpoint.load_model(place, self._config.model)
        self._data = as_read_by(place, self._data, self._workspace.cache)
        precision, exclude, measured = self._precision(model, config["signature"])
        record = self._data.record
        origin = artifact.Origin(
            name=f"{self._config.experiment} {self._config.trial}",
            task=self._config.task["name"],
            data=str(record["source"]),
            fingerprint=record["fingerprint"],
            licence=record.get("licence"),
        )
        saved = artifact.save(
            folder,
            model,
            architecture=architecture,
            signature=config["signature"],
            labels=self._data.labels,
            files=self._data.files,
            metrics=measured,
            origin=origin,
            precision=precision,
            exclude=exclude,
        )
        return saved, (precision, exclude)

    def _seed(self, place: str, told: _Precision) -> Json:
        """Scores of a repeat in the artifact's precision."""
        model, _, config = checkpoint.load_model(self._workspace.fetch(place), self._config.model)
        data = quantize.quantized(_onnx(model, config["signature"]), *told)
        return {name: self._scores(data, name) for name in ("validation", "test")}

    def _precision(self, model: nn.Module, read: Json) -> tuple[Kind, tuple[str, ...], Json]:
        """What the artifact is exported in, the layers left in float32, and what was measured to tell."""
        asked = self._config.precision
        if asked == "fp32":
            return asked, (), {}
        data = _onnx(model, read)
        if asked != "auto":
            return asked, (), self._sensitivity(data, asked)
        batches = batches_like(self._data.splits["validation"].lengths, self._target.batch)
        best, found = quantize.choose(
            data, parse_signature(read), batches, self._target, self._accuracy, most_lost=_MOST_LOST
        )
        rows = [{"kind": each.kind, "accuracy": each.score, "latency_ms": each.timing.p50_ms} for each in found]
        return best.kind, best.exclude, {"precisions": rows, **self._sensitivity(data, best.kind)}

    def _sensitivity(self, data: bytes, kind: Kind) -> Json:
        """What each layer costs in accuracy by itself, on a sample of validation."""
        if kind == "fp32":
            return {}
        n = len(self._data.splits["validation"])
        rows = np.sort(np.random.default_rng(0).permutation(n)[:_SCORED])
        return {"sensitivity": quantize.sensitivity(data, kind, partial(self._accuracy, rows=rows))}

    def _accuracy(self, model: bytes, rows: NDArray[np.int64] | None = None) -> float:
        """On validation, or on these rows of it, of an ONNX model."""
        return self._scores(model, "validation", rows)["accuracy"]

    def _scores(self, model: bytes, name: str, rows: NDArray[np.int64] | None = None) -> dict[str, float]:
        """The task's metrics of an ONNX model on a split, or on these rows of it."""
        split, run = self._data.splits[name], session(model, self._target.threads).run
        rows = np.arange(len(split)) if rows is None else rows
        logits_NC = np.zeros((len(rows), len(self._data.labels)), np.float32)
        for places in sorted_by_length(split.lengths[rows], _BATCH):
            logits_NC[places] = run(["logits"], dict(split.batch(rows[places]).inputs))[0]
        found = self._data.metrics(logits_NC, split.targets[rows])
        return {metric: float(value) for metric, value in found.items()}

    def _latency(self, folder: Path, precision: Kind) -> Json:
        lengths = self._data.splits["validation"].lengths
        batches = batches_like(lengths, self._target.batch)
        timing = measure_model(folder / artifact.ONNX, parse_signature(self._data.signature), batches, self._target)
        return {
            "latency_ms": timing.p50_ms,
            "latency_p95_ms": timing.p95_ms,
            "latency_quiet": timing.quiet,
            "target": {**self._target.model_dump(), "precision": precision},
        }

    def _predictions(self, predictor: Predictor, test_NC: NDArray[Any]) -> list[Json]:
        split = self._data.splits["test"]
        rows = np.random.default_rng(self._config.seed).choice(len(split), min(_SAMPLES, len(split)), replace=False)
        answers = predictor.predict(split.raw(rows))
        return [
            {
                "input": raw if isinstance(raw, str) else f"image {row} of the test split",
                "predicted": answer[0][0],
                "probability": answer[0][1],
                "label": self._data.labels[split.targets[row]],
            }
            for row, raw, answer in zip(rows.tolist(), split.raw(rows), answers, strict=True)
        ]


def _onnx(model: nn.Module, read: Json) -> bytes:
    return to_onnx(model.float().cpu().eval(), random_feeds(parse_signature(read), [5, 3], 0))


def _logits(predictor: Predictor, data: Data, split: str) -> NDArray[Any]:
    """Logits of a whole split by the artifact as shipped, from the raw inputs on."""
    rows = np.arange(len(data.splits[split]))
    return predictor.logits(data.splits[split].raw(rows))


ROUTINE = Finalist
