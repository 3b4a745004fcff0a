"""Whether real searches, through Ray, end in the order that the recorded benchmark says.

    python -m benchmarks.search_real [--seeds 3] [--out results/search_real]

The digits of the recorded benchmark, its space and teacher, searched by strategies of ours with real trainings; at each
of a few budgets (epochs, all trials together, in the order of the ledger) a search is worth the best validation
accuracy reported so far. Beside it what the same strategies are worth at the same budgets on the recorded table (its
medians over 30 seeds). A run that is there is not repeated.
Results: benchmarks/results/search_real.json.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks import frontier_jobs, recorded, search_efficiency, search_measures
from benchmarks.engine_runs import finished, ran
from benchmarks.machine import record
from benchmarks.search_efficiency import OURS, RANDOM, TABLE, WORKERS
from experiments.engine.events import Reported, from_record
from experiments.engine.runs import Run

Json = dict[str, Any]
TASK, EPOCHS = "digits", 27
BUDGETS = 81, 243, 486
# Trials that surely spend the largest budget; what a search does after it is left out.
_TRIALS = {"none": BUDGETS[-1] // EPOCHS, "promotion": BUDGETS[-1] // 3}
STRATEGIES = (RANDOM, OURS[0])
_TABLE_SEEDS = 30


def teacher(size: recorded.Size, folder: Path) -> Path:
    """The recorded benchmark's own, trained where it is not there."""
    given = recorded.tasks(size, folder)
    [job] = [job for job in recorded.teachers(size, given) if job.name == TASK]
    if frontier_jobs.run([job], folder / "teachers", processes=1, device="cpu"):
        raise RuntimeError(f"the teacher was not trained; see {folder / 'teachers' / frontier_jobs.LOG}")
    return (folder / "teachers" / TASK).resolve()


def experiment(name: str, size: recorded.Size, folder: Path, seed: int) -> Json:
    """A declared search by a strategy of `search_efficiency`."""
    searcher, scheduler, _ = search_efficiency.OWN[name]
    task = recorded.tasks(size, folder)[TASK]
    options = {**recorded.FIXED, "patch": 2, "teacher": str(teacher(size, folder))}
    return {
        "name": "search_real",
        "seed": seed,
        "task": task,
        "stages": [
            {
                "name": "search",
                "routine": "distill",
                "space": "joint",
                "options": options,
                "search": {"searcher": searcher, "scheduler": scheduler},
                "trials": _TRIALS[scheduler],
                "epochs": EPOCHS,
            }
        ],
        "objectives": {"val_accuracy": "max"},
        "finalists": {"count": 1},
    }


def searched(name: str, size: recorded.Size, folder: Path, seed: int) -> Run:
    """A real search, finished."""
    storage = folder / f"{name.replace(' ', '')}-{seed}"
    if run := finished(storage):
        return run
    storage.mkdir(parents=True, exist_ok=True)
    path = storage / "search_real.yaml"
    path.write_text(yaml.safe_dump(experiment(name, size, folder, seed)))
    return ran(path, storage)


def worth(records: Iterable[Json]) -> list[float]:
    """The best validation accuracy after each budget."""
    best, found = 0.0, list[float]()
    for line in records:
        if isinstance(event := from_record(line), Reported) and "val_accuracy" in event.metrics:
            found.append(best := max(best, float(event.metrics["val_accuracy"])))
    return [found[min(budget, len(found)) - 1] for budget in BUDGETS]


def on_table(name: str, table: Path) -> list[float]:
    """The medians on the recorded table."""
    surface = search_efficiency.given(table)[TASK]
    courses = []
    for seed in range(_TABLE_SEEDS):
        strategy = search_efficiency.strategy(name, surface, seed)
        trace, _ = search_measures.searched(strategy, surface, BUDGETS[-1], WORKERS)
        courses.append([trace.best(budget) for budget in BUDGETS])
    return [statistics.median(column) for column in zip(*courses, strict=True)]


def figures(seeds: Sequence[int], folder: Path, table: Path) -> Json:
    """Of every strategy: each seed, their means, and the table's."""
    found: Json = {}
    for name in STRATEGIES:
        rows = [worth(searched(name, recorded.Size(), folder, seed).records) for seed in seeds]
        means = [statistics.fmean(column) for column in zip(*rows, strict=True)]
        found[name] = {"real": rows, "real_mean": means, "recorded_median": on_table(name, table)}
        print(name, json.dumps(found[name]), flush=True)
    return {"budgets_epochs": BUDGETS, "task": TASK, "strategies": found, "same_order": _same_order(found)}


def _same_order(found: Json) -> list[bool]:
    """At each budget, whether the real means put the strategies in the order of the table's medians."""
    orders = [
        [sorted(found, key=lambda name: found[name][key][place]) for place in range(len(BUDGETS))]
        for key in ("real_mean", "recorded_median")
    ]
    return [real == table for real, table in zip(*orders, strict=True)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--out", type=Path, default=Path("results/search_real"), help="folder of the runs")
    given = parser.parse_args(arguments)
    if not given.table.is_file():
        parser.error(f"--table is {given.table}, which is not there; write it with python -m benchmarks.recorded table")
    found = figures(range(given.seeds), given.out.resolve(), given.table)
    record("search_real", found, ("ray", "torch", "ConfigSpace"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
