"""Routines as Ray trainables: the only place where a routine meets Ray's `Trainable`.

`trainable("train")` is ordinary: it runs under any Ray scheduler. `SegmentTrainable` is what our own engine runs: it
serves every routine, so that actors are reused across stages, and turns an exception into a result, so that only lost
processes and nodes reach Ray as errors.
"""

import json
import logging
import math
import random
import shutil
import sys
import time
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import ray
from ray import tune

from trainables.data import default_cache
from trainables.parsing import parse
from trainables.routine import Infeasible, Routine, Workspace, load

_TRACE_LINES = 12
_LOG = logging.getLogger("fitformer")


def trainable(name: str) -> type[tune.Trainable]:
    """An ordinary Ray Trainable that runs a routine; its config is the routine's, as a plain dict.

    A trial ends by itself when the routine's `epochs` are done; `reset_config` lets Ray reuse actors; a checkpoint is
    the routine's own folder of safetensors and JSON.
    """
    routine = load(name)
    return type(f"{name.capitalize()}Trainable", (_RoutineTrainable,), {"_routine_class": routine})


class _RoutineTrainable(tune.Trainable):
    _routine_class: type[Routine]
    _routine: Routine

    def setup(self, config: dict[str, Any]) -> None:
        values = {key: value for key, value in config.items() if not key.startswith("__")}
        parsed = parse(self._routine_class.Config, values, self._routine_class.__name__.lower())
        seed_everything(int(values.get("seed", 0)))
        self._epochs = float(getattr(parsed, "epochs", math.inf))
        self._routine = self._routine_class(parsed, workspace(Path(self.logdir)))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        metrics = self._routine.advance()
        return {**metrics, "done": metrics["epochs"] >= self._epochs}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        self._routine.save(Path(checkpoint_dir))

    def load_checkpoint(self, checkpoint: str | dict[str, Any] | None) -> None:
        self._routine.load(Path(str(checkpoint)))


class SegmentTrainable(tune.Trainable):
    """Runs one segment after another in the same process.

    config: `segment` (number, trial id, epochs, start), `routine`, `values` (the routine's config), `folder`, `inputs`.
    Everything that can fail happens in `step`: a `reset_config` that returns False would end the trial silently.
    """

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """The CPUs and GPUs that the segment's config names."""
        return tune.PlacementGroupFactory([{"CPU": config["resources"]["cpu"], "GPU": config["resources"]["gpu"]}])

    def setup(self, config: dict[str, Any]) -> None:
        self._routine: Routine | None = None
        self._job = config

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """One result: `report` (epochs, metrics, checkpoint, times) or `failure` (kind, reason, trace).

        Either is JSON text, since Ray flattens nested results.
        """
        begun = time.perf_counter()
        segment = self._job["segment"]["number"]
        with _trial_log(Path(self._job["folder"]), self._job["segment"]["id"]):
            try:
                return {"segment": segment, "report": json.dumps(self._report(begun))}
            except Exception as error:  # noqa: BLE001  a failure is a result (house §3.11)
                _LOG.exception("segment %d failed", segment)
                return {"segment": segment, "failure": json.dumps(_failure(error))}

    def _report(self, begun: float) -> dict[str, Any]:
        if self._routine is None:
            self._routine = self._start()
        started = time.perf_counter()
        metrics = self._routine.advance()
        busy = time.perf_counter() - started
        epochs = float(metrics.get("epochs", self.iteration + 1))
        checkpoint = self._save(epochs)
        _LOG.info("epochs %g: %s", epochs, {k: v for k, v in metrics.items() if isinstance(v, int | float)})
        return {
            "epochs": epochs,
            "metrics": metrics,
            "checkpoint": checkpoint,
            "seconds": time.perf_counter() - begun,
            "busy": busy,
        }

    def _start(self) -> Routine:
        segment = self._job["segment"]
        _LOG.info("segment %d starts: %s", segment["number"], self._job["values"])
        kind = load(self._job["routine"])
        config = parse(kind.Config, self._job["values"], self._job["routine"])
        seed_everything(int(self._job["values"].get("seed", 0)))
        routine = kind(config, workspace(Path(self._job["folder"]), self._job["inputs"]))
        if segment["start"] is not None:
            routine.load(Path(self._job["folder"]) / segment["start"]["path"])
        return routine

    def _save(self, epochs: float) -> str | None:
        if not self._job["checkpoints"] or self._routine is None:
            return None
        segment = self._job["segment"]
        relative = Path("trials") / segment["id"] / f"{segment['number']:05d}" / f"{epochs:g}"
        final = Path(self._job["folder"]) / relative
        part = final.with_name(f".{final.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        self._routine.save(part)
        part.rename(final)
        return str(relative)


def workspace(folder: Path, inputs: dict[str, Any] | None = None) -> Workspace:
    """The workspace of a Ray actor: its GPU if it was given one, and as many threads as CPUs it was given."""
    resources = ray.get_runtime_context().get_assigned_resources() if ray.is_initialized() else {}
    threads = max(1, int(resources.get("CPU", 1)))
    device = "cuda" if resources.get("GPU", 0) > 0 else "cpu"
    torch = _torch()
    if torch is not None:
        torch.set_num_threads(threads)
    if torch is not None and device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("the trial was given a GPU that torch cannot use")
    return Workspace(default_cache(), folder, device, threads, inputs or {})


def seed_everything(seed: int) -> None:
    """A reused actor keeps its predecessor's generators: start each trial from its own seed."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  libraries below use the global generator
    torch = _torch()
    if torch is not None:
        torch.manual_seed(seed)


def _torch() -> ModuleType | None:
    """torch, if the routine's module imported it: that takes seconds, which a routine without it need not wait."""
    return sys.modules.get("torch")


def _failure(error: Exception) -> dict[str, str]:
    lines = traceback.format_exception(error)
    out_of_memory = (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "not enough memory" in str(error)
    )
    kind = "infeasible" if out_of_memory or isinstance(error, Infeasible) else "error"
    return {
        "kind": kind,
        "reason": f"{type(error).__name__}: {error}".splitlines()[0],
        "trace": "".join(lines[-_TRACE_LINES:]),
    }


class _trial_log:  # noqa: N801  a context manager
    """Sends the routine's log records to the trial's one log file."""

    def __init__(self, folder: Path, trial: str) -> None:
        path = folder / "trials" / trial / "log.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._handler = logging.FileHandler(path)
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))

    def __enter__(self) -> None:
        _LOG.setLevel(logging.INFO)
        _LOG.propagate = False
        _LOG.addHandler(self._handler)

    def __exit__(self, *_: object) -> None:
        _LOG.removeHandler(self._handler)
        self._handler.close()
