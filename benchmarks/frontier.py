"""The measured frontier: one run of `glosses_frontier`, its picks measured as shipped, and what stands beside them.

Parts, in order; each leaves its JSON in the folder --out, and is not done again where that is whole:

run        the experiment through the engine; or --run FOLDER, a finished run of another machine
pick       of its finalists the non-dominated ones by accuracy on validation and latency here, 1.3 times apart
measure    the picks and the teacher's architecture on test, in turns on one core; receipts under artifacts/glosses
train      seeds, no distillation, independent students, ablations, subnets: routines without Ray, many at once
table      what the layer table predicts of random subnets, beside what they take; subnets scored a minute
hypernymy  the teacher and the picked shapes on a harder task (`python -m benchmarks.hypernymy` makes its --pairs)
write      benchmarks/results/frontier.json, .md and .png

Timings want a quiet machine, trainings do not. `--parts train hypernymy --seconds 0` only lists the trainings, in
train-jobs.json and hypernymy-jobs.json of --out; `python -m benchmarks.frontier_jobs` does them on any machine that has
the run in the same place, into the folder jobs of --out. Brought back, they count as done.

Run: python -m benchmarks.frontier [--set KEY=VALUE]   (as python -m experiments run takes them)
"""

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch

from benchmarks import frontier_jobs, frontier_measured, frontier_record, frontier_run
from benchmarks.frontier_run import Finished
from benchmarks.frontier_trainings import SUBNETS, Trainings
from benchmarks.machine import described
from experiments.engine import runs
from trainables.store import Store

Json = dict[str, Any]
ROOT = Path(__file__).parents[1]
EXPERIMENT = "glosses_frontier"


class Work:
    """The parts, and where they leave what they find."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.folder = options, options.out
        self.smoke: bool = options.smoke
        self.artifacts = self.folder / "artifacts" if self.smoke else ROOT / "artifacts" / "glosses"
        self.results = self.folder / "written" if self.smoke else ROOT / "benchmarks" / "results"

    def part(self, name: str) -> Json:
        """What a part found. Raises ValueError where it was not run."""
        path = self.folder / f"{name}.json"
        if not path.is_file():
            raise ValueError(f"{path} is missing, must be there first; run the part {name}")
        found: Json = json.loads(path.read_bytes())
        return found

    def done(self, name: str) -> bool:
        """Whether a part has nothing left to do."""
        return (self.folder / f"{name}.json").is_file() and not self.part(name).get("left")

    def keep(self, name: str, found: Json) -> None:
        """Write what a part found, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / f".{name}.json"
        draft.write_text(json.dumps(found, indent=1) + "\n")
        draft.replace(self.folder / f"{name}.json")

    @property
    def finished(self) -> Finished:
        """The run. Raises ValueError where --run is another than the one that the parts are of."""
        folder, given = Path(self.part("run")["run"]), self.options.run
        if given is not None and given != folder:
            raise ValueError(f"--run is {given}, must be {folder}, which {self.folder} is of; give another --out")
        return frontier_run.read(folder)

    def trainings(self) -> Trainings:
        """What is trained beside the picks."""
        chosen = self.part("pick")
        trial = {name: each["trial"] for name, each in chosen["candidates"].items()}
        heads = {share: name and trial[name] for share, name in chosen["heads"].items()}
        return Trainings(self.finished, [trial[name] for name in chosen["picks"]], heads, 2 if self.smoke else SUBNETS)


def run(work: Work) -> Json:
    """The experiment, or the folder of a finished one."""
    folder = work.options.run
    if folder is None:
        storage = work.folder / "run"
        command = [sys.executable, "-m", "experiments", "run", EXPERIMENT, "--storage", str(storage)]
        settings = (word for each in work.options.settings for word in ("--set", each))
        command += [*(["--smoke"] if work.smoke else []), *settings]
        newest = next(runs.every(storage), None)
        if newest is None or not newest.finished:
            subprocess.run(command, cwd=ROOT, check=True)
        name = runs.find(Store(str(storage)), None).name
        folder = storage / name
    frontier_run.read(folder)
    here = described(())["machine"]["processor"] if work.options.run is None else "another machine"
    return {"run": str(folder), "machine": work.options.trained_on or here}


def pick(work: Work) -> Json:
    """On validation."""
    done = work.finished
    found = frontier_run.candidates(done)
    speeds = frontier_measured.speeds(done, found, _rounds(work))
    for name, each in found.items():
        each |= {"latency_ms": speeds[name].p50_ms, "quiet": speeds[name].quiet}
    teacher = done.teacher.metrics["val_accuracy"]
    picks, heads = frontier_run.picked(frontier_run.lean(found), teacher, work.options.margin)
    about = {"teacher_val_accuracy": teacher, "margin": work.options.margin}
    return {"candidates": found, "picks": picks, "heads": heads, **about}


def measure(work: Work) -> Json:
    """On test."""
    chosen = work.part("pick")
    picks = {name: chosen["candidates"][name] for name in chosen["picks"]}
    found = frontier_measured.measured(work.finished, picks, _rounds(work))
    frontier_measured.ship(picks, found, work.artifacts)
    return found


def train(work: Work) -> Json:
    """Seeds, no distillation, independent students, ablations, subnets."""
    return _trained(work, work.trainings().jobs(), "train")


def hypernymy(work: Work) -> Json:
    """On --pairs."""
    place = work.options.pairs
    if place is None or not place.is_dir():
        raise ValueError(f"--pairs is {place}, must be a folder; make it by python -m benchmarks.hypernymy")
    found = _trained(work, work.trainings().hypernymy(str(place)), "hypernymy")
    return found | {"classical": frontier_measured.classical(work.finished, str(place))}


def table(work: Work) -> Json:
    """The layer table and the search, on this machine."""
    n = 3 if work.smoke else frontier_measured.SUBNETS
    return frontier_measured.table(work.finished, n, _rounds(work))


def write(work: Work) -> Json:
    """For people and for machines."""
    names = [name for name in PARTS if name != "write" and (work.folder / f"{name}.json").is_file()]
    found = {name: work.part(name) for name in names}
    return frontier_record.write(work.results, work.finished, found)


PARTS: dict[str, Callable[[Work], Json]] = {
    "run": run,
    "pick": pick,
    "measure": measure,
    "train": train,
    "table": table,
    "hypernymy": hypernymy,
    "write": write,
}


def _trained(work: Work, jobs: Sequence[frontier_jobs.Job], part: str) -> Json:
    """Whatever could be done; `left`: what another attempt may do, `failed`: what it would not."""
    folder, options = work.folder / "jobs", work.options
    work.folder.mkdir(parents=True, exist_ok=True)
    (work.folder / f"{part}-jobs.json").write_text(json.dumps([job.model_dump() for job in jobs], indent=1) + "\n")
    limits = {"processes": options.processes, "device": options.device, "seconds": options.seconds}
    wanted = [job for job in jobs if any(fnmatch(job.name, pattern) for pattern in options.jobs)]
    frontier_jobs.run(wanted, folder, **limits)
    undone = {job.name for job in jobs} - set(frontier_jobs.done(folder))
    lines = frontier_jobs.lines(folder)
    failed = {line["name"]: line["error"] for line in lines if line["name"] in undone and "error" in line}
    failed = {name: error for name, error in failed.items() if error != frontier_jobs.TIME_UP}
    done = frontier_jobs.done(folder)
    found = {job.name: done[job.name] for job in jobs if job.name in done}
    devices = sorted({line["device"] for line in found.values()})
    return {"jobs": found, "left": sorted(undone - set(failed)), "failed": failed, "devices": devices}


def _rounds(work: Work) -> int:
    return 1 if work.smoke else int(work.options.rounds)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="these alone")
    top.add_argument("--out", type=Path, default=Path("results/frontier"), help="folder of what the parts leave")
    top.add_argument("--run", type=Path, help="folder of a finished run")
    top.add_argument("--trained-on", metavar="TEXT", help="machine of that run, in words")
    top.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings", help="for the run")
    top.add_argument("--pairs", type=Path, help="folder of gloss pairs; without it, no hypernymy")
    top.add_argument(
        "--jobs", nargs="+", metavar="PATTERN", default=["*"], help="of the trainings these alone, as seed-*"
    )
    top.add_argument("--processes", type=int, default=os.cpu_count(), help="trainings at once, which share the cores")
    top.add_argument("--device", default="cpu", help="of the trainings: cpu or cuda")
    top.add_argument("--seconds", type=float, default=math.inf, help="after which trainings of a part are ended")
    top.add_argument("--rounds", type=int, default=9, help="turns that each takes in a timing")
    top.add_argument("--margin", type=float, default=0.005, help="of a headline on validation, beyond its share")
    top.add_argument("--smoke", action="store_true", help="everything at its smallest, under --out alone")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all parts are whole; 1: trainings are left; 2: something is missing."""
    options = parser().parse_args(arguments)
    work, left = Work(options), False
    parts = [name for name in PARTS if name in options.parts and (name != "hypernymy" or options.pairs)]
    try:
        for name in parts:
            if name == "write" or not work.done(name):
                print(f"frontier: {name}", flush=True)
                work.keep(name, PARTS[name](work))
            left = left or not work.done(name)
    except (ValueError, subprocess.CalledProcessError) as error:
        print(f"frontier: {error}", file=sys.stderr)
        return 2
    return 1 if left else 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
