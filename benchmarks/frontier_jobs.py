"""Many trainings of routines at once, each in a process of its own, without Ray; what is finished is not done again.

    python -m benchmarks.frontier_jobs JOBS.json --processes 14 --device cuda --out FOLDER --seconds 500

JOBS.json is a list of {"name", "routine", "config"} with, as needed, "after" (names of jobs that come first), "save"
(keep a checkpoint in FOLDER/NAME) and "test" (score the test split at the end). "jobs.NAME" within a config stands for
the checkpoint of that job, which is then waited for. FOLDER/jobs.jsonl takes a line for each report (epochs, metrics
on validation, training_flops and seconds so far), for each end ("done") and each failure ("error"). The name is what a
job is known by: one that is done there is skipped, so a changed job needs another name.
"""

import argparse
import json
import math
import multiprocessing
import os
import sys
import threading
import time
import traceback
from collections.abc import Collection, Iterator, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from trainables.handed import with_paths

Json = dict[str, Any]
LOG = "jobs.jsonl"
TIME_UP = "it ran when the time was up"
_REFERENCE = "jobs."
_PAUSE_S = 0.2
# Imported once; processes branch off before anything has touched a GPU or begun a thread. torch's optimizers import its
# compiler, which takes longer than the smallest of trainings.
_PRELOADED = [
    "__main__",
    "torch._dynamo",
    *(f"trainables.{name}" for name in ("compress", "distill", "subnet", "supernet")),
]


class Job(BaseModel):
    """One training."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")
    routine: str
    config: Json
    after: tuple[str, ...] = ()
    test: bool = False
    save: bool = False

    @property
    def taken(self) -> set[str]:
        """Names of the jobs whose checkpoints it takes."""
        return {text.removeprefix(_REFERENCE) for text in _texts(self.config) if text.startswith(_REFERENCE)}

    @property
    def needs(self) -> set[str]:
        """Names of the jobs that come first."""
        return {*self.after, *self.taken}


def read(path: Path) -> list[Job]:
    """The jobs of a file. Raises ValueError, a line a fault."""
    try:
        jobs = TypeAdapter(list[Job]).validate_json(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); give a file with a list of jobs") from None
    except ValidationError as error:
        places = ((".".join(map(str, each["loc"])), each["msg"]) for each in error.errors())
        raise ValueError(
            "\n".join(f"{path}: {place or 'the file'}: {what}; see --help" for place, what in places)
        ) from None
    return jobs


def check(jobs: Sequence[Job], there: Collection[str] = ()) -> None:
    """Raises ValueError, a line a fault, where names repeat, or jobs wait for what never comes. there: what is done."""
    names = [job.name for job in jobs]
    known = {job.name: number for number, job in enumerate(jobs)}
    saved = {job.name for job in jobs if job.save}
    faults = [
        f"job {name!r} is there {names.count(name)} times, must be once; rename one"
        for name in known
        if names.count(name) > 1
    ]
    for number, job in enumerate(jobs):
        late = sorted(name for name in job.needs - set(there) if known.get(name, number) >= number)
        faults += [
            f"job {job.name!r} needs {name!r}, which must come before it in the list; add or move it" for name in late
        ]
        unsaved = sorted((job.taken & set(known)) - saved)
        faults += [f"job {job.name!r} takes {name!r}, which must be saved; add save: true to it" for name in unsaved]
    if faults:
        raise ValueError("\n".join(faults))


def lines(folder: Path) -> list[Json]:
    """What FOLDER/jobs.jsonl says so far; a line that was cut short is passed over."""
    path, found = folder / LOG, []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            found.append(dict(json.loads(line)))
        except ValueError:
            continue
    return found


def done(folder: Path) -> dict[str, Json]:
    """The last line of each job that is done: its last report, the device, and `test_accuracy` where that was asked."""
    return {line["name"]: line for line in lines(folder) if line.get("done")}


def run(jobs: Sequence[Job], folder: Path, *, processes: int, device: str, seconds: float = math.inf) -> list[str]:
    """Run all that are not done; the names of those that are not done then, for failures or for want of time.

    Raises ValueError as `check`.
    """
    check(jobs, done(folder))
    folder.mkdir(parents=True, exist_ok=True)
    _whole(folder / LOG)
    waiting, running = [job for job in jobs if job.name not in done(folder)], dict[str, BaseProcess]()
    try:
        _spread(waiting, running, folder, (processes, device, time.monotonic() + seconds))
    finally:
        _end(running, folder)
    finished = done(folder)
    return [job.name for job in jobs if job.name not in finished]


def _spread(waiting: list[Job], running: dict[str, BaseProcess], folder: Path, limits: tuple[int, str, float]) -> None:
    """Until nothing is left to do, or nothing can be done, or the time has come."""
    (processes, device, end), context = limits, multiprocessing.get_context("forkserver")
    threads = max(1, (os.cpu_count() or 1) // processes)
    context.set_forkserver_preload(_PRELOADED)
    while time.monotonic() < end:
        _sweep(running, folder)
        for job in _ready(waiting, set(done(folder)), processes - len(running)):
            waiting.remove(job)
            running[job.name] = context.Process(target=_work, args=(job, folder, device, threads), daemon=True)
            running[job.name].start()
        if not running:
            break
        time.sleep(_PAUSE_S)
    else:
        return
    for job in waiting:
        lacking = ", ".join(sorted(job.needs - set(done(folder))))
        _say(folder, {"name": job.name, "error": f"it needs {lacking}, which failed"})


def _ready(waiting: Sequence[Job], finished: set[str], free: int) -> list[Job]:
    """Those that can begin, the first of the list first."""
    return [job for job in waiting if job.needs <= finished][: max(free, 0)]


def _sweep(running: dict[str, BaseProcess], folder: Path) -> None:
    """Forget the processes that ended; one that was killed left no word itself."""
    for name, process in list(running.items()):
        if process.is_alive():
            continue
        del running[name]
        if process.exitcode:
            _say(folder, {"name": name, "error": f"its process ended with exit code {process.exitcode}"})


def _end(running: Mapping[str, BaseProcess], folder: Path) -> None:
    for process in running.values():
        process.terminate()
    for name, process in running.items():
        process.join()
        if process.exitcode:
            _say(folder, {"name": name, "error": TIME_UP})


def _work(job: Job, folder: Path, device: str, threads: int) -> None:
    """What a process does: one job."""
    import torch

    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        for line in _train(job, folder, device):
            _say(folder, {"name": job.name, **line})
    except Exception as error:  # noqa: BLE001  whatever it is, the other jobs go on
        traceback.print_exc()
        _say(folder, {"name": job.name, "error": " ".join(f"{type(error).__name__}: {error}".split())})


def _end_with_parent() -> None:
    """Also where that was killed: nobody waits for this one then."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _train(job: Job, folder: Path, device: str) -> Iterator[Json]:
    from trainables import routine
    from trainables.data import default_cache
    from trainables.parsing import parse

    began, spent, report = time.monotonic(), 0, Json()
    kind = routine.load(job.routine)
    config: Any = parse(
        kind.Config, with_paths(job.config, {_REFERENCE + name: str(folder / name) for name in job.taken})
    )
    unit = kind(config, routine.Workspace(default_cache(), folder, device=device))
    while report.get("epochs", 0) < getattr(config, "epochs", 1):
        metrics = unit.advance()
        spent += metrics.get("training_flops", 0)
        if not math.isfinite(metrics.get("train_loss", 0)):
            raise ValueError(f"train_loss is not finite in epoch {metrics['epochs']}")
        report = {**_kept(metrics), "training_flops": spent, "seconds": round(time.monotonic() - began, 1)}
        yield report
    if job.save:
        unit.save(folder / job.name)
    yield {**report, **(_tested(unit, device) if job.test else {}), "device": _named(device), "done": True}


def _named(device: str) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def _kept(metrics: Mapping[str, Any]) -> Json:
    names = {"epochs", "train_loss", "samples_per_second", "params", "flops", "size_mb", "rounds"}
    return {name: value for name, value in metrics.items() if name in names or "val_" in name}


def _tested(unit: Any, device: str) -> Json:
    from trainables.loop import logits

    split = unit.data.splits["test"]
    scores = unit.data.metrics(logits(unit.model, split, precision="fp32", device=device), split.targets)
    return {"test_accuracy": float(scores["accuracy"])}


def _texts(values: Any) -> Iterator[str]:
    if isinstance(values, str):
        yield values
    elif isinstance(values, Mapping | list | tuple):
        for value in values.values() if isinstance(values, Mapping) else values:
            yield from _texts(value)


def _say(folder: Path, line: Json) -> None:
    """One write, so that lines of several processes do not mix, and no lock that a killed one could hold."""
    place = os.open(folder / LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(place, (json.dumps(line) + "\n").encode())
    finally:
        os.close(place)


def _whole(path: Path) -> None:
    """What comes next begins a line of its own, also after a machine that died while writing one."""
    if path.exists() and not path.read_bytes().endswith(b"\n"):
        with path.open("ab") as file:
            file.write(b"\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 0 if all is done, 1 if something is not, 2 for a file that makes no sense."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", type=Path, help="JSON file")
    parser.add_argument("--processes", type=int, default=1, help="jobs at once, which share the cores")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--out", type=Path, required=True, help="folder of jobs.jsonl and the checkpoints")
    parser.add_argument("--seconds", type=float, default=math.inf, help="jobs that run then are ended")
    given = parser.parse_args(arguments)
    if given.processes < 1:
        parser.error(f"--processes is {given.processes}, must be at least 1")
    try:
        jobs = read(given.jobs)
        left = run(jobs, given.out, processes=given.processes, device=given.device, seconds=given.seconds)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    why = {line["name"]: line["error"] for line in lines(given.out) if "error" in line}
    print(f"{len(jobs) - len(left)} of {len(jobs)} jobs are done")
    for name in left:
        print(f"not done: {name} ({why.get(name, 'it did not begin')})")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
