"""Routines as Ray trainables: the only place where a routine meets Ray's `Trainable`.

`trainable("train")` is ordinary: it runs under any Ray scheduler. `SegmentTrainable` is what our own engine runs: it
serves every routine, so that actors are reused across stages, and turns an exception into a result, so that only lost
processes and nodes reach Ray as errors.
"""

import contextlib
import errno
import json
import logging
import math
import os
import random
import shutil
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import ray
from ray import tune

from trainables import manifest
from trainables.data import default_cache
from trainables.handed import Handed, with_paths
from trainables.parsing import parse
from trainables.routine import Infeasible, Routine, Workspace, load
from trainables.store import StorageError, Store

_TRACE_LINES = 12
# What torch says where there is not enough, on a CPU and in cuBLAS.
_OUT_OF_MEMORY = ("not enough memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO, errno.ESTALE)
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

    config: `segment` (number, trial id, epochs, start), `routine`, `values` (the routine's config), `references` (texts
    in `values` that stand for checkpoints, by their paths in the run's folder), `store` (the URI of that folder),
    `inputs`, `checkpoints` (whether to write any), `resources`.
    Everything that can fail happens in `step`: a `reset_config` that returns False would end the trial silently.
    """

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """The CPUs and GPUs that the segment's config names."""
        return tune.PlacementGroupFactory([{"CPU": config["resources"]["cpu"], "GPU": config["resources"]["gpu"]}])

    def setup(self, config: dict[str, Any]) -> None:
        self._forget()
        self._job = config
        self._handed = getattr(self, "_handed", None) or Handed()
        self._scratch = Path(tempfile.mkdtemp(prefix="fitformer-"))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def cleanup(self) -> None:
        """Forgets the segment, and frees what it and those before it took."""
        self._forget()
        self._handed.clear()

    def _forget(self) -> None:
        self._routine: Routine | None = None
        if hasattr(self, "_scratch"):
            shutil.rmtree(self._scratch, ignore_errors=True)
        torch = _torch()
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    def step(self) -> dict[str, Any]:
        """One result: `reported`, `failed` or `lost`, each with the fields of that event as JSON text, since Ray
        flattens nested results.
        """
        begun = time.perf_counter()
        try:
            self._store = Store(self._job["store"])
            with self._log():
                return {"reported": json.dumps(self._report(begun))}
        except (manifest.Damaged, StorageError) as error:
            damaged = isinstance(error, manifest.Damaged)
            return {"lost": json.dumps(_storage_loss(error, checkpoint=not damaged))}
        except (Exception, SystemExit) as error:  # noqa: BLE001  a failure is a result (house §3.11)
            if _disk_is_at_fault(error):
                return {"lost": json.dumps(_storage_loss(error, checkpoint=True))}
            return {"failed": json.dumps(_failure(error))}

    def _report(self, begun: float) -> dict[str, Any]:
        if self._routine is None:
            self._routine = self._start()
        started = time.perf_counter()
        metrics = self._routine.advance()
        busy = time.perf_counter() - started
        if not isinstance(metrics, dict):
            raise TypeError(f"advance of {self._job['routine']} must return a dict of metrics, got {metrics!r}")
        epochs = float(metrics.get("epochs", self.iteration + 1))
        checkpoint, size = self._save(self._routine, epochs) if self._job["checkpoints"] else (None, 0)
        _LOG.info("epochs %g: %s", epochs, {k: v for k, v in metrics.items() if isinstance(v, int | float)})
        return {
            "epochs": epochs,
            "metrics": metrics,
            "checkpoint": checkpoint,
            "seconds": time.perf_counter() - begun,
            "busy": busy,
            "node": socket.gethostname(),
            "size": size,
        }

    def _start(self) -> Routine:
        segment = self._job["segment"]
        _LOG.info("segment %d starts: %s", segment["number"], self._job["values"])
        kind = load(self._job["routine"])
        here = workspace(self._folder, self._job["inputs"], self._store)
        references = self._job.get("references", {})
        values = with_paths(self._job["values"], self._handed.places(references, here))
        config = parse(kind.Config, values, self._job["routine"])
        seed_everything(int(self._job["values"].get("seed", 0)))
        try:
            routine = kind(config, here)
        except ValueError as error:
            if not references:
                raise
            raise Infeasible(str(error)) from error  # what a stage was handed could not be checked before
        if segment["start"] is not None:
            routine.load(here.fetch(segment["start"]["path"]))
        return routine

    def _save(self, routine: Routine, epochs: float) -> tuple[str, int]:
        """Writes a checkpoint; its path in the run's folder, and its bytes."""
        segment = self._job["segment"]
        name = f"trials/{segment['id']}/{segment['number']:05d}/{epochs:g}"
        draft = self._folder / f"{name}.part"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        routine.save(draft)
        size = manifest.write(draft)
        self._store.put(draft, name)
        shutil.rmtree(draft, ignore_errors=True)
        return name, size

    @property
    def _folder(self) -> Path:
        """The run's own where that lies on disk, so that nothing is written twice."""
        return self._store.local or self._scratch

    @contextlib.contextmanager
    def _log(self) -> Iterator[None]:
        """Sends the routine's log records to the trial's log: one file, or one a segment in an object store."""
        segment = self._job["segment"]
        name = "log.txt" if self._store.local else f"log-{segment['number']:05d}.txt"
        path = self._folder / "trials" / segment["id"] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path)
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        _LOG.setLevel(logging.INFO)
        _LOG.propagate = False
        _LOG.addHandler(handler)
        try:
            yield
        except BaseException:
            _LOG.exception("segment %d came to an end", segment["number"])
            raise
        finally:
            _LOG.removeHandler(handler)
            handler.close()
            if self._store.local is None:
                self._upload(path)

    def _upload(self, log: Path) -> None:
        with contextlib.suppress(OSError):  # a log is no reason to lose a trial
            Store(self._job["store"], patience=0).write(str(log.relative_to(self._folder)), log.read_bytes())


def workspace(folder: Path, inputs: dict[str, Any] | None = None, store: Store | None = None) -> Workspace:
    """The workspace of a Ray actor: its GPU if it was given one, and as many threads as CPUs it was given."""
    resources = ray.get_runtime_context().get_assigned_resources() if ray.is_initialized() else {}
    threads = max(1, int(resources.get("CPU", 1)))
    device = "cuda" if resources.get("GPU", 0) > 0 else "cpu"
    torch = _torch()
    if torch is not None:
        torch.set_num_threads(threads)
    if torch is not None and device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("the trial was given a GPU that torch cannot use")
    elsewhere = store if store is not None and store.local is None else None
    return Workspace(default_cache(), folder, device, threads, inputs or {}, elsewhere)


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


def _failure(error: BaseException) -> dict[str, str]:
    lines = traceback.format_exception(error)
    text = str(error)
    out_of_memory = (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or any(words in text for words in _OUT_OF_MEMORY)
    )
    kind = "infeasible" if out_of_memory or isinstance(error, Infeasible) else "error"
    return {
        "kind": kind,
        "reason": f"{type(error).__name__}: {error}".splitlines()[0],
        "trace": "".join(lines[-_TRACE_LINES:]),
        "node": socket.gethostname(),
    }


def _disk_is_at_fault(error: BaseException) -> bool:
    """Whether what the routine ran into is the disk's state; safetensors says so in words only."""
    return (isinstance(error, OSError) and error.errno in _DISK) or os.strerror(errno.ENOSPC) in str(error)


def _storage_loss(error: BaseException, *, checkpoint: bool) -> dict[str, Any]:
    reason = str(error).splitlines()[0]
    return {"kind": "storage", "reason": reason, "node": socket.gethostname(), "checkpoint": checkpoint}
