"""`fit`: the experiment that a file and a few limits amount to, without any YAML."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.engine.spec import Spec, checked
from trainables.parsing import ParseError

Json = dict[str, Any]

# Samples a trial may see at most, in thousands: a small data set is passed over more often than a large one.
_SAMPLES = 150_000
_EPOCHS = (3, 27)
_TRIALS = 16


@dataclass(frozen=True)
class Wish:
    """What the user asked for on the command line."""

    data: str
    label: str | None = None
    text: str | None = None
    test: str | None = None
    pretrained: str | None = None
    space: str | None = None
    max_latency_ms: float | None = None
    max_size_mb: float | None = None
    time: str | None = None
    seed: int = 0


def spec(wish: Wish, rows: int) -> Spec:
    """The experiment of a wish about data of `rows` training rows. Raises ParseError."""
    limits = {"max_latency_ms": wish.max_latency_ms, "max_size_mb": wish.max_size_mb}
    faults = [
        f"{name} must be above 0, got {limit:g}; leave it out for no limit"
        for name, limit in limits.items()
        if limit is not None and not 0 < limit < math.inf
    ]
    if faults:
        raise ParseError(faults)
    return checked(values(wish, rows))


def values(wish: Wish, rows: int) -> Json:
    """The experiment as plain values, only what differs from the defaults."""
    epochs = max(_EPOCHS[0], min(_EPOCHS[1], _SAMPLES // max(1, rows)))
    stage: Json = {
        "name": "search",
        "space": wish.space or ("finetuning" if wish.pretrained else ["encoder", "optimization"]),
        "search": {"searcher": "bohb", "scheduler": {"name": "promotion", "eta": 3, "grace_period": 1}},
        "trials": None if wish.time else _TRIALS,
        "epochs": min(epochs, 4) if wish.pretrained else epochs,
    }
    options = _options(wish)
    limits = {"latency_ms": wish.max_latency_ms, "size_mb": wish.max_size_mb}
    return {
        "name": _name(wish.data),
        "task": task(wish),
        "stages": [{**stage, "options": options} if options else stage],
        "objectives": {"val_accuracy": "max", "latency_ms": "min"},
        "constraints": {name: {"max": limit} for name, limit in limits.items() if limit is not None},
        "time": wish.time,
        "seed": wish.seed,
    }


def task(wish: Wish) -> Json:
    """The task block: images for an .npz file, else text."""
    if is_images(wish):
        return {"name": "image_classification", "data": wish.data}
    given = {"text": wish.text, "label": wish.label, "test": wish.test}
    tokenizer = {"tokenizer": {"pretrained": wish.pretrained}} if wish.pretrained else {}
    return {
        "name": "text_classification",
        "data": wish.data,
        **{name: value for name, value in given.items() if value is not None},
        **tokenizer,
    }


def is_images(wish: Wish) -> bool:
    """Whether the data are images."""
    return wish.data == "digits" or wish.data.endswith(".npz")


def _options(wish: Wish) -> Json:
    if is_images(wish):
        return {"patch": 2}
    return {"pretrained": wish.pretrained} if wish.pretrained else {}


def _name(data: str) -> str:
    """A run's name out of the file's: what the allow-list lets through."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", Path(data).stem).strip("-_")[:48] or "fit"
