"""A run that was never run: its ledger holds what the simulator made of an experiment. It costs no Ray."""

from dataclasses import dataclass, field
from pathlib import Path

from experiments.engine import runs
from experiments.engine.director import Director
from experiments.engine.events import to_record
from experiments.engine.ledger import FILE, Ledger
from experiments.engine.simulator import Curve, simulate

SPEC = {
    "name": "tiny",
    "description": "a text with: colons, # signs and 'quotes'",
    "task": {"name": "image_classification", "data": "digits", "sample": 100},
    "stages": [
        {
            "name": "search",
            "space": ["encoder", "optimization"],
            "narrow": {"n_layers": [1, 2], "learning_rate": [5e-4, 2e-3]},
            "fix": {"d_model": 64, "positions": "learned"},
            "initial": [{"n_layers": 2}],
            "options": {"patch": 2},
            "search": {"searcher": "random", "scheduler": {"name": "asha", "eta": 2}},
            "trials": 4,
            "epochs": 4,
        }
    ],
    "objectives": {"val_accuracy": "max"},
    "constraints": {"size_mb": {"max": 3}},
    "finalists": {"count": 1},
    "time": "10m",
    "smoke": {"stages.search.trials": 2},
}


@dataclass(frozen=True)
class Book:
    """A run and its ledger."""

    folder: Path
    content: bytes = field(repr=False)

    @property
    def name(self):
        return self.folder.name

    @property
    def ledger(self):
        return self.folder / FILE


def records(plan):
    """Those of a finished run of a plan."""
    director = Director(plan.steps())
    opened = {"event": "opened", "spec": plan.spec.resolved(), "fingerprint": "f", "at": 0.0}
    found = [{**opened, "data": plan.data.record}]
    for at, event in simulate(director, lambda config: Curve(metrics), 2):
        found.append({**to_record(event), "verdict": "continue", "at": at})
    return [*found, {"event": "finished", "at": 99.0, "chosen": "finalists-000", "code": 0}]


def metrics(epochs):
    """What any of the routines might report."""
    score = {"accuracy": {"low": 0.1, "value": 0.2, "high": 0.3}}
    measured = {"params": 10, "size_mb": 1.0, "latency_ms": 1.0, "val_accuracy": epochs / 10, "predictions": []}
    return {"name": "Pixels", "artifact": "artifacts/a", "validation": {"accuracy": 0.2}, "test": score, **measured}


def write(storage, found):
    """A run's folder with these records."""
    folder = runs.create(storage, "tiny").local
    with Ledger(folder) as ledger:
        for record in found:
            ledger.append(record)
    return Book(folder, (folder / FILE).read_bytes())
