"""What a search can be played on in seconds: closed forms with learning curves, and the recorded benchmark.

Closed forms (one space of architecture, training and distillation; `val_accuracy` up to 0.9, `latency_ms`):

ridge      the best learning rate falls with width, so that parameters cannot be chosen one by one
crossing   the same, but what ends high begins slowly: early reports mislead
branches   a teacher helps where its temperature is right, and harms at the default: a condition hides the best

Of a recorded table only what was recorded can be played, nothing in between is made up. There `Nearest` turns a wish
into the nearest recorded point that was not tried, and the searcher is told that *this* point was run. All that model
or mutate are treated so, ours and rivals alike; random searches draw among the points, for them nothing changes.
What that costs: a wish is met as well as the points lie dense, so that searchers which refine (greedy, evolution, a
sharp model) lose more of their lead over random search than in an open space, and ratios here are cautious ones.
"""

import json
import math
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ConfigSpace import ConfigurationSpace, EqualsCondition
from ConfigSpace.hyperparameters import (
    CategoricalHyperparameter,
    OrdinalHyperparameter,
    UniformFloatHyperparameter,
    UniformIntegerHyperparameter,
)

import searchspaces
from benchmarks import recorded_table
from experiments.engine.outcome import Outcome
from experiments.engine.simulator import Curve
from experiments.engine.strategies import Searcher
from searchspaces import Space

Point = dict[str, Any]
ACCURACY, LATENCY = "val_accuracy", "latency_ms"
_CHANCE, _BEST = 0.1, 0.9


@dataclass(frozen=True)
class Surface:
    """A space and what each of its points reports.

    best: the highest accuracy of any point at any epoch. share: of the gap from the default to it that a search is to
    close. ceiling_ms: the latency from which down hypervolume counts. points: the only ones; empty: all of the space.
    features: meta-features of the data.
    """

    name: str
    space: Space
    epochs: int
    curve: Callable[[Point], Curve]
    best: float
    share: float
    ceiling_ms: float
    points: tuple[Point, ...] = ()
    features: Mapping[str, float] = field(default_factory=dict)

    @property
    def default(self) -> float:
        """The highest accuracy of the default configuration."""
        metrics = self.curve(self.space.default()).metrics
        return max(float(metrics(epoch)[ACCURACY]) for epoch in range(1, self.epochs + 1))

    @property
    def target(self) -> float:
        """The accuracy at which the share of the gap from the default to the best is closed."""
        default = self.default
        return default + self.share * (self.best - default)


# Closed forms


def _declared() -> Space:
    declared = ConfigurationSpace(name="surface")
    teaching = CategoricalHyperparameter("teaching", ("labels", "teacher"), default_value="labels")
    temperature = UniformFloatHyperparameter("temperature", 1.0, 8.0, default_value=1.0, log=True)
    soft_weight = UniformFloatHyperparameter("soft_weight", 0.1, 1.0, default_value=0.5)
    declared.add(
        UniformIntegerHyperparameter("n_layers", 1, 6, default_value=2),
        OrdinalHyperparameter("d_model", (32, 64, 128, 256), default_value=64),
        UniformFloatHyperparameter("learning_rate", 1e-5, 1e-1, default_value=1e-4, log=True),
        UniformFloatHyperparameter("dropout", 0.0, 0.5, default_value=0.4),
        teaching,
        temperature,
        soft_weight,
    )
    declared.add(EqualsCondition(temperature, teaching, "teacher"), EqualsCondition(soft_weight, teaching, "teacher"))
    return Space(declared, "surface")


def _size(point: Point) -> float:
    """0 for the smallest network, 1 for the largest."""
    return (math.log2(int(point["d_model"]) / 32) / 3 + (int(point["n_layers"]) - 1) / 5) / 2


def _training(point: Point) -> float:
    """How far the training is from what is best for this network: a rate of 10^-2 at width 32, 10^-3.5 at 256."""
    rate = math.log10(point["learning_rate"]) + 2 + math.log2(point["d_model"] / 32) / 2
    return rate**2 / 2 + (float(point["dropout"]) - 0.1) ** 2


def _teaching(point: Point) -> float:
    """What the teacher costs: most at temperature 1, nothing at 4 with all the weight; labels are in between."""
    if point["teaching"] == "labels":
        return 0.15
    return 0.3 * abs(math.log2(point["temperature"] / 4)) + 0.1 * (1 - float(point["soft_weight"]))


def _ridge(point: Point) -> tuple[float, float]:
    """Quality in [0, 1], and the epochs in which two thirds of it are there."""
    return math.exp(-_training(point) - 0.3 * (1 - _size(point)) - 0.3 * _teaching(point)), 4.0


def _crossing(point: Point) -> tuple[float, float]:
    quality, _ = _ridge(point)
    return quality, 2 + 8 * quality**2


def _branches(point: Point) -> tuple[float, float]:
    return math.exp(-_training(point) / 2 - 0.2 * (1 - _size(point)) - 2 * _teaching(point)), 4.0


_LARGEST: Point = {"n_layers": 6, "d_model": 256, "learning_rate": 10**-3.5, "dropout": 0.1}
OPTIMUM: Point = {**_LARGEST, "teaching": "teacher", "temperature": 4.0, "soft_weight": 1.0}
_FORMS: Mapping[str, Callable[[Point], tuple[float, float]]] = {
    "ridge": _ridge,
    "crossing": _crossing,
    "branches": _branches,
}


def names() -> list[str]:
    """Of the closed forms."""
    return list(_FORMS)


def closed(name: str, epochs: int = 27) -> Surface:
    """A closed form. Its best point is `OPTIMUM`, at the last epoch."""
    if name not in _FORMS:
        raise ValueError(f"there is no surface {name!r}; there are: {', '.join(names())}")
    form = _FORMS[name]

    def curve(point: Point) -> Curve:
        quality, pace = form(point)
        latency = 0.05 + 0.02 * point["n_layers"] * (point["d_model"] / 32) ** 1.5

        def metrics(epoch: int) -> dict[str, float]:
            height = quality * (1 - math.exp(-epoch / pace))
            return {ACCURACY: _CHANCE + (_BEST - _CHANCE) * height, LATENCY: latency}

        return Curve(metrics, seconds=0.2 + latency)

    best = float(curve(OPTIMUM).metrics(epochs)[ACCURACY])
    # Nine tenths: what is left beyond is as much as one narrow peak has, of which no random search finds anything.
    return Surface(name, _declared(), epochs, curve, best, share=0.9, ceiling_ms=10.0)


def sampled(surface: Surface, count: int = 500) -> Surface:
    """A closed form of which only the default and some random points are left, as of a recorded table."""
    points = (surface.space.default(), *(surface.space.draw(0, index) for index in range(1, count)))
    best = max(float(surface.curve(point).metrics(surface.epochs)[ACCURACY]) for point in points)
    return replace(surface, name=f"{surface.name}, {count} points", best=best, share=0.99, points=points)


# What was recorded


def key(point: Mapping[str, Any]) -> str:
    """By which a point is known."""
    return json.dumps(point, sort_keys=True)


def recorded(path: Path) -> dict[str, Surface]:
    """A recorded benchmark's surfaces, by task. Raises ValueError where the file is another one."""
    about, rows = recorded_table.load(path)
    space = searchspaces.load("joint")
    tasks = dict.fromkeys(row["task"] for row in rows)
    return {task: _played(task, space, about, [row for row in rows if row["task"] == task]) for task in tasks}


def _played(task: str, space: Space, about: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Surface:
    epochs = int(about["size"]["epochs"])
    reports: dict[str, list[Mapping[str, Any]]] = {}
    points: dict[str, Point] = {}
    for row in sorted(rows, key=lambda row: (row["configuration"], row["epoch"])):
        point = {name: row[name] for name in space.names if name in row}
        points[key(point)] = point
        reports.setdefault(key(point), []).append(row)

    def curve(point: Point) -> Curve:
        if key(point) not in reports:
            raise ValueError(f"{point} was not recorded; propose points of the table alone")
        of = reports[key(point)]
        return Curve(lambda epoch: dict(of[epoch - 1]), seconds=of[-1]["seconds"] / epochs)

    best = max(float(row[ACCURACY]) for row in rows)
    return Surface(
        task,
        space,
        epochs,
        curve,
        best,
        share=0.99,
        ceiling_ms=1.0,
        points=tuple(points.values()),
        features=about["features"][task],
    )


class Nearest:
    """The recorded point nearest to a wish, of those that were not tried.

    Distance is Gower's (1971): a parameter counts by the share of its range between the two, 1 between different
    choices and where it is active in one of the two alone, 0 where it is in neither.
    """

    def __init__(self, space: Space, points: Sequence[Point]) -> None:
        self.points = points
        self._space = space
        self._index = {key(point): index for index, point in enumerate(points)}
        self._numbers = np.array([self._row(point) for point in points])

    def __call__(self, wish: Mapping[str, Any], tried: Collection[int]) -> Point | None:
        """None: all were tried. Of those equally near the first."""
        if len(tried) == len(self.points):
            return None
        distance = self._distances(self._row(wish))
        distance[list(tried)] = np.inf
        return self.points[int(distance.argmin())]

    def index(self, point: Mapping[str, Any]) -> int:
        """Which of the points it is."""
        return self._index[key(point)]

    def _distances(self, row: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        apart = np.abs(self._numbers - row)
        apart = np.where(self._choices & (apart > 0), 1.0, np.minimum(apart * self._widths, 1.0))
        one, other = np.isnan(self._numbers), np.isnan(row)
        total: npt.NDArray[np.float64] = np.where(one & other, 0.0, np.where(one | other, 1.0, apart)).sum(axis=1)
        return total

    def _row(self, point: Mapping[str, Any]) -> npt.NDArray[np.float64]:
        places = self._space.unit(point)
        return np.array([places.get(name, math.nan) for name in self._space.names])

    @cached_property
    def _rows(self) -> dict[str, dict[str, Any]]:
        return {row["name"]: row for row in self._space.describe()}

    @cached_property
    def _choices(self) -> npt.NDArray[np.bool_]:
        return np.array([self._rows[name]["kind"] == "choice" for name in self._space.names])

    @cached_property
    def _widths(self) -> npt.NDArray[np.float64]:
        """`unit` puts the last of n ordinals at (n - 1) / n."""
        kinds = [(self._rows[name]["kind"], len(self._rows[name]["range"])) for name in self._space.names]
        return np.array([n / (n - 1) if kind == "ordinal" else 1.0 for kind, n in kinds])


class OnlyRecorded:
    """A searcher that proposes what is recorded: the point nearest to what another one wishes."""

    def __init__(self, searcher: Searcher, nearest: Nearest) -> None:
        self._searcher, self._nearest = searcher, nearest
        self._tried: set[int] = set()

    def propose(self, trial: int, attempt: int) -> Point | None:
        """Always one that was not tried; None when all were."""
        wish = self._searcher.propose(trial, attempt)
        return None if wish is None else self._nearest(wish, self._tried)

    def started(self, trial: int, config: Point) -> None:
        """To the other one, too: it learns which point was run, not which it had wished."""
        self._tried.add(self._nearest.index(config))
        self._searcher.started(trial, config)

    def observed(self, trial: int, config: Point, epochs: float, outcome: Outcome | None) -> None:
        """Passed on."""
        self._searcher.observed(trial, config, epochs, outcome)


class Shuffled:
    """A table's points as random search draws them: each once, in an order that depends on the seed."""

    def __init__(self, points: Sequence[Point]) -> None:
        self._points = points
        self._orders: dict[int, list[int]] = {}

    def draw(self, seed: int, index: int) -> Point:
        """Point number `index` of the order."""
        if seed not in self._orders:
            self._orders[seed] = np.random.default_rng(seed).permutation(len(self._points)).tolist()
        return self._points[self._orders[seed][index % len(self._points)]]


def said(surface: Surface) -> str:
    """Of a table: default, best and target, and of those that meet it the place after the first epoch."""
    curves = [surface.curve(point) for point in surface.points]
    heights = [[float(of.metrics(epoch)[ACCURACY]) for epoch in range(1, surface.epochs + 1)] for of in curves]
    met = [row[0] for row in heights if max(row) >= surface.target]
    places = ", ".join(str(1 + sum(row[0] > first for row in heights)) for first in met)
    return (
        f"{surface.name}: default {surface.default:.4f}, best {surface.best:.4f}, target {surface.target:.4f}; "
        f"{len(met)} of {len(heights)} configurations meet it, after one epoch in place {places}"
    )


def main() -> int:
    """Says of each recorded task what a search is up against."""
    for surface in recorded(Path("benchmarks/results/recorded.parquet")).values():
        print(said(surface))
    return 0


if __name__ == "__main__":
    sys.exit(main())
