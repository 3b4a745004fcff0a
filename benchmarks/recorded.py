"""The recorded benchmark: 500 configurations of a joint space on three tasks, each trained once, with full curves.

    python -m benchmarks.recorded            how much there is to train, in FLOPs and in hours
    python -m benchmarks.recorded run        train what is not done yet (it goes on where it was ended, and with what
                                             the table lacks that is published)
    python -m benchmarks.recorded table      what is done as one Parquet file, with its data card, in benchmarks/results

Space: `searchspaces.joint` (architecture × training × distillation). Points: its default, then random search's own
draws, the same on every task. Tasks, none of which needs a network:

glosses   1,000 of the bundled definitions, 45 fields: words, many classes of unlike size, far from solved
digits    scikit-learn's handwritten digits, 10 classes: images, few and alike
turned    the same images turned by 0, 90, 180 or 270 degrees, which turn is it (Gidaris et al. 2018, arXiv
          1803.07728): images that show little, 0 and 8 next to nothing, so that there is noise in the labels

Pairs of glosses (benchmarks.hypernymy) were not taken: of 1,000 pairs so small networks learn next to nothing.
A teacher a task, trained on the same examples first, answers to all students. Trainings are jobs of
`benchmarks.frontier_jobs`, in parts: its log is read again and again, and has to stay short.
"""

import argparse
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import searchspaces
from benchmarks import frontier_jobs
from benchmarks.frontier_jobs import Job
from experiments.engine.strategies.random import Random
from models.architecture import Architecture
from trainables.data import default_cache, prepare
from trainables.train import PASSES, figures

Json = dict[str, Any]
SEED = 0
# What no configuration changes.
FIXED: Json = {"d_head": 16, "precision": "fp32"}
_TEACHER: Json = {"n_layers": 4, "d_model": 192, "n_heads": 4, "d_head": 32, "d_ff": 512, "dropout": 0.2}
# Guesses, said with the estimate: what a core reaches on such small products, and what a step costs beside.
_FLOPS_A_SECOND, _SECONDS_A_STEP = 15e9, 8e-3


@dataclass(frozen=True)
class Size:
    """How much is recorded. A part is as many configurations as share a log."""

    configurations: int = 500
    epochs: int = 27
    part: int = 25
    teacher_epochs: int = 30
    texts: tuple[int, int] = (1000, 500)
    digits: int = 600
    turned: tuple[int, int] = (200, 100)


SMOKE = Size(configurations=3, epochs=2, part=2, teacher_epochs=1, texts=(200, 60), digits=60, turned=(10, 5))


def points(count: int) -> list[Json]:
    """The space's default, then what random search draws, no point twice."""
    space = searchspaces.load("joint")
    random, found = Random(Random.Config(), space, SEED), [space.default()]
    while len(found) < count:
        attempts = (random.propose(len(found), attempt) for attempt in range(100))
        found.append(next(point for point in attempts if point not in found))
    return found


def tasks(size: Size, folder: Path) -> dict[str, Json]:
    """The `task:` block of each; the turned digits are written into the folder."""
    train, evaluated = size.texts
    words = {"max_length": 24, "tokenizer": {"vocab_size": 2000}}
    images = {"name": "image_classification", "validation_fraction": 0.25}
    return {
        "glosses": {
            "name": "text_classification",
            "data": "glosses",
            "sample": train,
            "evaluation_sample": evaluated,
            **words,
        },
        "digits": {**images, "data": "digits", "sample": size.digits},
        "turned": {**images, "data": str(_turned(folder / "turned.npz", *size.turned))},
    }


def _turned(path: Path, train: int, evaluated: int) -> Path:
    """Each image in all four turns, in one split: as many for training, twice as many each for the others."""
    if path.exists():
        return path.resolve()
    from sklearn import datasets  # slow to import, and needed once

    images = datasets.load_digits().images.astype(np.uint8)
    order = np.random.default_rng(SEED).permutation(len(images))[: train + 2 * evaluated]
    split = np.repeat(["train", "validation", "test"], [train, evaluated, evaluated])
    turned: npt.NDArray[np.uint8] = np.concatenate([np.rot90(images[order], turn, axes=(1, 2)) for turn in range(4)])
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = np.repeat([f"{90 * turn} degrees" for turn in range(4)], len(order))
    np.savez(path, images=turned, labels=labels, split=np.tile(split, 4))
    return path.resolve()


def teachers(size: Size, given: Mapping[str, Json]) -> list[Job]:
    """One a task."""
    rest = {"learning_rate": 1e-3, "weight_decay": 0.1, "epochs": size.teacher_epochs, "precision": "fp32"}
    patch = {name: _patch(task) for name, task in given.items()}
    return [
        Job(name=name, routine="train", config={**_TEACHER, **rest, **patch[name], "task": task}, save=True)
        for name, task in given.items()
    ]


def _patch(task: Json) -> Json:
    return {"patch": 2} if task["name"] == "image_classification" else {}


def jobs(
    size: Size, given: Mapping[str, Json], folder: Path, there: Collection[int] = ()
) -> Iterator[tuple[Path, list[Job]]]:
    """The folder and the jobs of each part: all tasks of some configurations, so that what is there is of use.

    there: configurations that are left out.
    """
    chosen = points(size.configurations)
    for first in range(0, len(chosen), size.part):
        part = [pair for pair in enumerate(chosen[first : first + size.part], first) if pair[0] not in there]
        yield (
            folder / f"part-{first // size.part:02d}",
            [
                _job(f"{name}-{number:03d}", {**point, "task": task, "seed": number}, size, folder / "teachers" / name)
                for number, point in part
                for name, task in given.items()
            ],
        )


def _job(name: str, given: Json, size: Size, teacher: Path) -> Job:
    config = {**FIXED, **_patch(given["task"]), **given, "teacher": str(teacher.resolve()), "epochs": size.epochs}
    return Job(name=name, routine="distill", config=config)


def run(size: Size, folder: Path, *, processes: int, seconds: float, there: Collection[int] = ()) -> list[str]:
    """Trains what is not done; the names of what is not done then. Beginning again goes on.

    there: configurations that need no training.
    """
    given, end = tasks(size, folder), time.monotonic() + seconds
    left = frontier_jobs.run(
        teachers(size, given), folder / "teachers", processes=processes, device="cpu", seconds=seconds
    )
    if left:
        return left
    for place, part in jobs(size, given, folder, there):
        rest = end - time.monotonic()
        left += frontier_jobs.run(part, place, processes=processes, device="cpu", seconds=max(rest, 0))
    return left


def estimate(size: Size, folder: Path) -> str:
    """Training's operations a task, and the hours they should take."""
    said, total = [], 0.0
    for name, task in tasks(size, folder).items():
        data = prepare(task, default_cache())
        train, evaluated = len(data.splits["train"]), len(data.splits["validation"])
        flops = steps = 0.0
        for point in points(size.configurations):
            forward = figures(architecture(point, task), data.signature, data, {})["flops"]
            flops += forward * (PASSES * train + evaluated) * size.epochs
            steps += size.epochs * train / point["batch_size"]
        hours = (flops / _FLOPS_A_SECOND + steps * _SECONDS_A_STEP) / 3600
        total += hours
        said.append(f"{name}: {train} + {evaluated} examples, {flops:.2e} FLOPs, {steps:.2e} steps, {hours:.1f} h")
    how = f"at {_FLOPS_A_SECOND / 1e9:g} GFLOP/s and {_SECONDS_A_STEP * 1e3:g} ms a step"
    return "\n".join(
        [*said, f"{total:.1f} hours of a core, {total / 2:.1f} of two, {how}: guesses, time the first part"]
    )


def architecture(point: Json, task: Json) -> Architecture:
    """The network of a configuration."""
    given = {**FIXED, **_patch(task), **point}
    return Architecture(**{name: value for name, value in given.items() if name in Architecture.model_fields})


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 0 if all is done, 1 if something is not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("count", "run", "table"), default="count")
    parser.add_argument("--out", type=Path, default=Path("results/recorded"), help="folder of the logs")
    parser.add_argument("--to", type=Path, help="folder of the table (benchmarks/results; with --smoke the logs')")
    parser.add_argument("--processes", type=int, default=2, help="trainings at once")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="trainings that run then are ended")
    parser.add_argument("--smoke", action="store_true", help="next to nothing, in seconds")
    given = parser.parse_args(arguments)
    size = SMOKE if given.smoke else Size()
    to = given.to or (given.out if given.smoke else Path("benchmarks/results"))
    if given.what == "count":
        print(estimate(size, given.out))
        return 0
    from benchmarks import recorded_table

    if given.what == "run":
        _, rows = recorded_table.published(size, to)
        there = {row["configuration"] for row in rows}
        left = run(size, given.out, processes=given.processes, seconds=given.seconds, there=there)
        print(f"{len(left)} trainings are not done")
        return 1 if left else 0
    print(recorded_table.write(size, given.out, to))
    return 0


if __name__ == "__main__":
    sys.exit(main())
