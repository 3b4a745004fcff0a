"""What past searches on other tasks save a new one: the recorded benchmark, one task left out at a time.

    python -m benchmarks.warm_start [--seeds 30] [--first-seed 1000]

For each task and seed the searches of the other tasks are played first, for a whole budget each, and remembered as
their ledgers would be; then the task itself is searched twice by the same strategy and seed, cold and in turns with
the portfolio that `warm_start` makes of them (`experiments.engine.portfolio`). Compared are epochs until 99 % of the
gap from the default to the best is closed (see benchmarks.search_efficiency).

That one new trial in three is advised, and begins at the second rung, was chosen on these tasks, among some twenty ways
by the seeds 0 to 29; the seeds are others now (from `--first-seed` on), the tasks are not.
Results: benchmarks/results/warm_start.json.
"""

import argparse
import functools
import multiprocessing
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import search_efficiency, search_measures
from benchmarks.machine import record
from benchmarks.search_efficiency import BUDGET, OURS, TABLE, WORKERS
from benchmarks.surfaces import ACCURACY, Point, Surface
from experiments.engine.memory import MOST
from experiments.engine.outcome import outcome
from experiments.engine.portfolio import Search, portfolio

Json = dict[str, Any]


@functools.lru_cache(maxsize=64)
def remembered(table: Path, name: str, seed: int) -> Search:
    """A whole search of a task, as a ledger tells it: its trials that reported, each with its last report."""
    surface = search_efficiency.given(table)[name]
    strategy = search_efficiency.strategy(OURS[0], surface, seed)
    _, director = search_measures.searched(strategy, surface, BUDGET, WORKERS)
    trials = [trial for trial in director.of_stage("search") if trial.reports]
    outcomes = [outcome(trial.metrics, {ACCURACY: "max"}, {}) for trial in trials]
    return Search(name, surface.features, [trial.config for trial in trials], outcomes)


def advised(table: Path, surface: Surface, seed: int) -> list[Point]:
    """What a search of this task is advised to try, by what is remembered of the others."""
    others = [name for name in search_efficiency.given(table) if name != surface.name]
    return portfolio(surface.space, surface.features, [remembered(table, name, seed) for name in others], MOST)


def played(task: tuple[Path, str, int]) -> tuple[float, float]:
    """Epochs to the target, cold and warm; a table searched in vain counts as all its epochs."""
    table, name, seed = task
    surface = search_efficiency.given(table)[name]
    every = len(surface.points) * surface.epochs
    cold, warm = (
        search_measures.play(
            search_efficiency.strategy(OURS[0], surface, seed, points), surface, BUDGET, WORKERS, most=every
        )
        for points in ((), advised(table, surface, seed))
    )
    return min(cold.to_target, every), min(warm.to_target, every)


def told(pairs: Sequence[tuple[float, float]]) -> Json:
    """Medians over seeds; the share saved is that of the medians."""
    cold, warm = (statistics.median(column) for column in zip(*pairs, strict=True))
    return {"epochs_cold": cold, "epochs_warm": warm, "saved": 1 - warm / cold, "pairs": [list(pair) for pair in pairs]}


def run(table: Path, seeds: Sequence[int], processes: int) -> Json:
    """All tasks, and the median over them."""
    names = list(search_efficiency.given(table))
    tasks = [(table, name, seed) for name in names for seed in seeds]
    with multiprocessing.get_context("forkserver").Pool(processes) as pool:
        found = dict(zip(tasks, pool.imap(played, tasks), strict=True))
    by = {name: told([found[table, name, seed] for seed in seeds]) for name in names}
    saved = statistics.median(each["saved"] for each in by.values())
    return {"strategy": OURS[0], "seeds": list(seeds), "budget_epochs": BUDGET, "saved": saved, "tasks": by}


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args(arguments)
    if not given.table.is_file():
        parser.error(f"--table is {given.table}, which is not there; write it with python -m benchmarks.recorded table")
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    found = run(given.table, seeds, given.processes)
    for name, each in found["tasks"].items():
        print(
            f"{name}: {each['epochs_cold']:.0f} epochs cold, {each['epochs_warm']:.0f} warm, {each['saved']:.0%} saved"
        )
    print(f"saved, median over tasks: {found['saved']:.0%}")
    record("warm_start", found, ("numpy",))
    return 0


if __name__ == "__main__":
    sys.exit(main())
