"""Experiments that a benchmark runs through the engine."""

import subprocess
import sys
from pathlib import Path

from experiments.engine import runs
from experiments.engine.runs import Run

ROOT = Path(__file__).parents[1]


def ran(experiment: str | Path, storage: Path, *options: str) -> Run:
    """The finished run of an experiment, a name or a file, in a process of its own; one that is there is not repeated.

    Raises subprocess.CalledProcessError where it fails.
    """
    if finished(storage) is None:
        command = [sys.executable, "-m", "experiments", "run", str(experiment), "--storage", str(storage), *options]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    found = finished(storage)
    if found is None:
        raise RuntimeError(f"{experiment} left no finished run in {storage}; see its report")
    return found


def finished(storage: Path) -> Run | None:
    """The finished run that lies there."""
    return next((run for run in runs.every(storage) if run.finished), None)
