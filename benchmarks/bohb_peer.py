"""Our `bohb` beside the authors' own, hpbandster's: what both suggest when both were told the same.

Each data set is 60 random points of a space of three ranges and a choice, valued by a closed form at one budget. Both
models are asked for 200 suggestions of theirs alone (no random ones). Compared is how the suggestions are spread: by
range the Kolmogorov-Smirnov distance, of the choice the total variation, ours from theirs, and beside it theirs from
theirs with other random numbers, which is how far apart two equal ones lie by chance; and how good they truly are.
hpbandster (unmaintained, compiles an extension) is no dependency: install it beside, and name the folder in PYTHONPATH.

    pip install --target FOLDER --no-deps hpbandster==0.7.4 Pyro4 serpent netifaces statsmodels patsy
    PYTHONPATH=FOLDER python -m benchmarks.bohb_peer

Results: benchmarks/results/bohb_peer.json.
"""

import argparse
import math
import statistics
import sys
import types
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from ConfigSpace import ConfigurationSpace
from ConfigSpace.hyperparameters import CategoricalHyperparameter, UniformFloatHyperparameter
from scipy import stats

from benchmarks.machine import record
from experiments.engine.outcome import Outcome
from experiments.engine.strategies.bohb import Bohb
from searchspaces import Space

Json = dict[str, Any]
Point = dict[str, Any]
POINTS, ASKED, SETS, BUDGET = 60, 200, 10, 27.0
RANGES, CHOICE = ("learning_rate", "dropout", "momentum"), "activation"
ACTIVATIONS = ("gelu", "relu", "tanh")


def declared() -> ConfigurationSpace:
    """Nothing that hpbandster does not take: no ordinals, no conditions."""
    space = ConfigurationSpace(name="peer")
    space.add(
        UniformFloatHyperparameter("learning_rate", 1e-5, 1e-1, default_value=1e-3, log=True),
        UniformFloatHyperparameter("dropout", 0.0, 0.5, default_value=0.1),
        UniformFloatHyperparameter("momentum", 0.5, 0.99, default_value=0.9),
        CategoricalHyperparameter("activation", ACTIVATIONS, default_value="gelu"),
    )
    return space


def value(point: Point) -> float:
    """Higher is better, 0 at the best: a rate of 10^-2.5, where momentum is high rather 10^-3.5."""
    rate = math.log10(point["learning_rate"]) + 2.5 + 2 * (point["momentum"] - 0.5)
    off = {"gelu": 0.0, "relu": 0.05, "tanh": 0.3}[point["activation"]]
    return float(-(rate**2) / 4 - (point["dropout"] - 0.2) ** 2 - off)


def ours(space: Space, points: Sequence[Point], seed: int) -> list[Point]:
    """Suggestions of our model alone."""
    made = Bohb(Bohb.Config.model_validate({"random_fraction": 0.0}), space, seed)
    for trial, point in enumerate(points):
        made.started(trial, point)
        made.observed(trial, point, BUDGET, Outcome((value(point),)))
    return [made.propose(len(points) + asked, 0) for asked in range(ASKED)]


def theirs(points: Sequence[Point], seed: int) -> list[Point]:
    """Suggestions of hpbandster's model alone."""
    from hpbandster.optimizers.config_generators.bohb import BOHB  # type: ignore[import-not-found]

    np.random.seed(seed)  # noqa: NPY002  it draws from NumPy's own generator
    made = BOHB(declared(), random_fraction=0.0)
    for point in points:
        told = {"kwargs": {"budget": BUDGET, "config": point}, "result": {"loss": -value(point)}, "exception": None}
        made.new_result(types.SimpleNamespace(**told))
    return [{**made.get_config(BUDGET)[0]} for _ in range(ASKED)]


def apart(one: Sequence[Point], other: Sequence[Point]) -> dict[str, float]:
    """How differently two samples are spread, by parameter: 0 alike, 1 nothing in common."""
    found = {
        name: float(stats.ks_2samp(*([p[name] for p in each] for each in (one, other))).statistic) for name in RANGES
    }
    shares = [[sum(p[CHOICE] == name for p in each) / len(each) for name in ACTIVATIONS] for each in (one, other)]
    return {**found, CHOICE: sum(abs(a - b) for a, b in zip(*shares, strict=True)) / 2}


def compared(seed: int, peer: Callable[[Sequence[Point], int], list[Point]]) -> Json:
    """One data set."""
    space = Space(declared(), "peer")
    points = [space.draw(seed, index) for index in range(POINTS)]
    mine, first, second = ours(space, points, seed), peer(points, 1), peer(points, 2)
    mean = {
        name: statistics.fmean(map(value, of)) for name, of in (("random", points), ("ours", mine), ("theirs", first))
    }
    return {"ours_from_theirs": apart(mine, first), "theirs_from_theirs": apart(first, second), "mean_value": mean}


def figures(sets: int) -> Json:
    """Medians over data sets."""
    rows = [compared(seed, theirs) for seed in range(sets)]
    return {
        "data_sets": sets,
        **{
            kind: {name: statistics.median(row[kind][name] for row in rows) for name in rows[0][kind]}
            for kind in rows[0]
        },
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """2: hpbandster is not there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=SETS, help="data sets")
    given = parser.parse_args(arguments)
    if find_spec("hpbandster") is None:
        print("hpbandster is not installed, must be there to be compared with; see --help", file=sys.stderr)
        return 2
    record("bohb_peer", figures(given.sets), ("hpbandster", "ConfigSpace", "numpy", "scipy"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
