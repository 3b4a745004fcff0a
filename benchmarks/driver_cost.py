"""What deciding costs as a search grows: 1,000 trials on the simulator for every searcher, 200 through Ray.

simulator   seconds of the driver (director, searcher, fold; no training, no ledger) for the first hundred trials after
            a searcher's own random start and for the last hundred; and of one suggestion with 1,000 observations
ray         200 trials of a routine that does nothing, by the ledger: seconds of the second hundred over the first

Bounds: the last hundred takes at most 1.5 times the first; a suggestion at most 20 ms, of hyperopt and optuna 100 ms.
Results: benchmarks/results/driver_cost.json.

Run: python -m benchmarks.driver_cost [--only SEARCHER ...] [--trials 1000]
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import surfaces, trial_turnover
from benchmarks.machine import record
from benchmarks.surfaces import ACCURACY, Surface
from experiments.engine import launch, strategies
from experiments.engine.director import Director, Stage
from experiments.engine.events import Started
from experiments.engine.ledger import read
from experiments.engine.outcome import outcome
from experiments.engine.simulator import simulate
from experiments.engine.strategies import Searcher
from experiments.engine.strategies.none import Unscheduled
from experiments.engine.strategies.pair import Pair
from trainables.store import Store

Json = dict[str, Any]
TRIALS, ON_RAY, HUNDRED = 1000, 200, 100
EPOCHS, WORKERS, ASKED = 3, 4, 20
# More than any searcher draws at random before its model is asked.
_START = 60
BOUND_GROWTH, BOUND_MS, BOUND_FOREIGN_MS = 1.5, 20.0, 100.0
_FOREIGN = ("tpe", "optuna")
# Beside optuna's TPE. CMA-ES takes no space with choices, as this one has.
_SAMPLERS = ("optuna gp", "optuna nsga2")


def bound_ms(name: str) -> float:
    """Of a suggestion."""
    return BOUND_FOREIGN_MS if name.split()[0] in _FOREIGN else BOUND_MS


def searcher(name: str, surface: Surface) -> Searcher:
    """With its own defaults, but for a sampler named after it."""
    kind, *sampler = name.split()
    named = strategies.load(kind, "SEARCHER")
    config = named.Config(sampler=sampler[0]) if sampler else named.Config()
    made: Searcher = named(config, surface.space, 0)
    return made


def grown(name: str, trials: int) -> Json:
    """One searcher on the simulator."""
    surface = surfaces.closed("ridge", EPOCHS)
    proposes = searcher(name, surface)
    pair = Pair(
        searcher=proposes,
        scheduler=Unscheduled(Unscheduled.Config(), EPOCHS),
        first=[surface.space.default()],
        trials=trials,
        epochs=EPOCHS,
        outcome=partial(outcome, objectives={ACCURACY: "max"}, constraints={}),
    )
    director = Director([Stage("search", "", lambda _: pair, watched=(ACCURACY,))])
    starts = [
        time.perf_counter() for _, event in simulate(director, surface.curve, WORKERS) if isinstance(event, Started)
    ]
    first, last = _spent(starts, _START), _spent(starts, len(starts) - HUNDRED - 1)
    return {
        "first_hundred_s": first,
        "last_hundred_s": last,
        "growth": last / first,
        "suggestion_ms": 1000 * _asked(proposes, trials),
        "bound_ms": bound_ms(name),
    }


def _spent(starts: Sequence[float], begin: int) -> float:
    return starts[begin + HUNDRED] - starts[begin]


def _asked(proposes: Searcher, trials: int) -> float:
    """The median time of a suggestion, each of another trial: what was asked before may be remembered."""
    taken = []
    for trial in range(trials, trials + ASKED):
        begun = time.perf_counter()
        proposes.propose(trial, 0)
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def through_ray() -> Json:
    """The growth from the first to the second hundred of trials that do nothing, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.driver_cost", "--ray"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the search through Ray failed:\n{done.stderr[-4000:]}")
    first, last = map(float, done.stdout.splitlines()[-1].split())
    return {"trials": ON_RAY, "first_hundred_s": first, "last_hundred_s": last, "growth": last / first}


def _ray() -> tuple[float, float]:
    """Of the ledger's times: from the report of the first trial on, as before it workers start."""
    launch.connect(None)
    with tempfile.TemporaryDirectory(prefix="driver-cost-") as folder:
        trial_turnover.ours(Path(folder), ON_RAY)
        reports = [line for line in read(Store(folder)) if line["event"] == "reported"]
    ends = [line["at"] for line in reports if line["epochs"] == trial_turnover.REPORTS]
    half = len(ends) // 2
    return ends[half - 1] - ends[0], ends[-1] - ends[half]


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; `passed` says whether all are within their bounds."""
    names = [*strategies.find("SEARCHER"), *_SAMPLERS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--ray", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.ray:
        print(*_ray(), flush=True)
        os._exit(0)  # Ray's shutdown is not timed, and need not be waited for
    found: Json = {}
    for name in given.only:
        found[name] = grown(name, given.trials)
        print(name, {key: round(value, 3) for key, value in found[name].items()}, flush=True)
    ray = through_ray()
    kept = [row["growth"] <= BOUND_GROWTH and row["suggestion_ms"] <= row["bound_ms"] for row in found.values()]
    passed = all(kept) and ray["growth"] <= BOUND_GROWTH
    record("driver_cost", {"searchers": found, "ray": ray, "passed": passed}, ("ray", "hyperopt", "optuna", "numpy"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
