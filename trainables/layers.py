"""Measures the layers that a search is about to try, alone on the target, before it starts (house §3.8).

What was measured goes with the report into the ledger and from there to every trial, so that on a cluster, too, all
trials are compared by one table.
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from models.architecture import Architecture, parse_signature
from models.export import random_feeds, to_onnx
from models.latency import Target, batches_like, measure_model
from models.latency_table import LayerTable
from models.quantize import quantized
from tasks.task import Data
from trainables import routine
from trainables.data import prepare
from trainables.parsing import parse
from trainables.routine import Workspace

Json = dict[str, Any]


class LayersConfig(BaseModel):
    """Which configurations a search may try, on which data."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    task: Json = Field(description="name of a task, and that task's own settings")
    target: Json = Field(default={}, description="see models.latency.Target")
    configs: list[Json] = Field(description="{routine, values} of some points of the space")
    seed: int = Field(default=0, ge=0)


class Layers:
    """One step: measure what the cached table lacks, report the table. A point without an architecture counts not."""

    Config = LayersConfig

    def __init__(self, config: LayersConfig, workspace: Workspace) -> None:
        self._config = config
        self._data = prepare(config.task, workspace.cache)
        lengths = self._data.splits["validation"].lengths
        self._table = LayerTable(workspace.cache / "latency", parse(Target, config.target, "target"), lengths)

    def advance(self) -> Json:
        """`table` (see `read`) and how many parts had to be measured."""
        found = (_architecture(config) for config in self._config.configs)
        architectures = [architecture for architecture in found if isinstance(architecture, Architecture)]
        measured = self._table.measure(architectures, self._data.signature)
        needed = {
            "target": self._config.target,
            "length": self._table.length,
            "parts": list(self._table.parts.values()),
        }
        return {"epochs": 1, "measured": measured, "table": needed}

    def save(self, folder: Path) -> None:
        """Nothing outlasts the one step."""

    def load(self, folder: Path) -> None:
        """Nothing outlasts the one step."""


def read(table: Json) -> LayerTable:
    """The layer table of a report; it measures nothing."""
    return LayerTable.given(parse(Target, table["target"], "target"), table["length"], table["parts"])


def measured(table: Json, model: nn.Module, data: Data) -> float:
    """p50 in ms of a network of the user's own, whole and at once: beside running trials, so rougher than a table."""
    target = parse(Target, table["target"], "target")
    signature = parse_signature(data.signature)
    batches = batches_like(data.splits["validation"].lengths, target.batch)
    exported = quantized(to_onnx(model, random_feeds(signature, batches[0], 0)), target.precision)
    return measure_model(exported, signature, batches, target).p50_ms


def _architecture(config: Json) -> Any:
    kind = routine.load(config["routine"])
    architecture = getattr(kind, "architecture", None)
    parsed = parse(kind.Config, config["values"], config["routine"])
    try:
        return architecture(parsed) if architecture else None
    except ValueError:  # the trial that meets it will say why
        return None


ROUTINE = Layers
