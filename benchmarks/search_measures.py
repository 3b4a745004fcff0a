"""How good a search was: epochs until it had closed the gap, hypervolume on the way; and what 30 seeds say of two."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.surfaces import ACCURACY, LATENCY, Surface
from experiments.engine.director import Director, Stage
from experiments.engine.events import Reported
from experiments.engine.frontier import dominates, hypervolume
from experiments.engine.simulator import simulate
from experiments.engine.strategies import Strategy

Vector = tuple[float, ...]
# Points at which curves are kept.
MARKS = 60
_RESAMPLES = 2000


@dataclass(frozen=True)
class Course:
    """One search. to_target: epochs spent when the target was reported first (inf: never). best, volumes: after each
    of `MARKS` even parts of the budget. volume: the mean over the budget.
    """

    to_target: float
    best: list[float]
    volumes: list[float]
    volume: float


class Trace:
    """What a search has reported so far, all trials together."""

    def __init__(self, surface: Surface, budget: int) -> None:
        self.spent, self.to_target = 0, math.inf
        self._surface, self._budget, self._target = surface, budget, surface.target
        self._front: list[Vector] = []
        self._bests, self._volumes = [-math.inf], [0.0]

    def report(self, metrics: Mapping[str, Any]) -> None:
        """One epoch more."""
        self.spent += 1
        if metrics[ACCURACY] >= self._target:
            self.to_target = min(self.to_target, self.spent)
        if self.spent <= self._budget:
            self._bests.append(max(self._bests[-1], metrics[ACCURACY]))
            self._volumes.append(_grown(self._front, metrics, self._surface, self._volumes[-1]))

    def best(self, epochs: int) -> float:
        """The best accuracy reported within so many epochs."""
        return self._bests[min(epochs, len(self._bests) - 1)]

    def course(self) -> Course:
        """Where a space was searched before the budget was spent, it stays as it was."""
        last = len(self._volumes) - 1
        marks = [min(mark, last) for mark in np.linspace(1, self._budget, MARKS).astype(int).tolist()]
        total = sum(self._volumes) + (self._budget - last) * self._volumes[-1]
        best, volumes = ([values[mark] for mark in marks] for values in (self._bests, self._volumes))
        return Course(self.to_target, best, volumes, total / self._budget)


def play(strategy: Strategy, surface: Surface, budget: int, workers: int, *, most: int = 0) -> Course:
    """The search on virtual workers, until the budget (in epochs, of all trials together) is spent.

    most: epochs up to which it goes on beyond the budget until the target is met; the curves end with the budget.
    """
    return searched(strategy, surface, budget, workers, most=most)[0].course()


def searched(
    strategy: Strategy, surface: Surface, budget: int, workers: int, *, most: int = 0
) -> tuple[Trace, Director]:
    """As `play`, with all that is known of the search's trials."""
    director = Director([Stage("search", "", lambda _: strategy, watched=(ACCURACY,))])
    trace = Trace(surface, budget)
    for _, event in simulate(director, surface.curve, workers):
        if isinstance(event, Reported):
            trace.report(event.metrics)
        if trace.spent >= (budget if trace.to_target < math.inf else max(budget, most)):
            break
    return trace, director


def _grown(front: list[Vector], metrics: Mapping[str, Any], surface: Surface, volume: float) -> float:
    """The hypervolume with one more report, accuracy from 0 up and decades of latency below the ceiling."""
    point = float(metrics[ACCURACY]), math.log10(surface.ceiling_ms / metrics[LATENCY])
    if point in front or any(dominates(other, point) for other in front):
        return volume
    front[:] = [*(other for other in front if not dominates(point, other)), point]
    return hypervolume(front, (0.0, 0.0))


@dataclass(frozen=True)
class Ratio:
    """A median over seeds and its 95 % interval; of epochs that were never enough it is infinite."""

    median: float
    low: float
    high: float


def of_medians(ones: Sequence[float], others: Sequence[float], most: float) -> Ratio:
    """The median of the ones over that of the others; where neither is finite the ratio of their means, a search that
    never got there counted as `most`. Resampled in pairs (Efron 1979), a seed is a pair.
    """

    def ratio(a: Sequence[float], b: Sequence[float]) -> float:
        if math.isinf(_median(a)) and math.isinf(_median(b)):
            return _over(mean(a, most), mean(b, most))
        return _over(_median(a), _median(b))

    return _bootstrapped(ones, others, ratio)


def mean(epochs: Sequence[float], most: float) -> float:
    """A search that never got there counts as `most`."""
    return statistics.fmean(min(each, most) for each in epochs)


def of_pairs(ones: Sequence[float], others: Sequence[float]) -> Ratio:
    """The median of the ratios of pairs."""
    return _bootstrapped(ones, others, lambda a, b: _median([_over(x, y) for x, y in zip(a, b, strict=True)]))


def _bootstrapped(ones: Sequence[float], others: Sequence[float], of: Any) -> Ratio:
    random = np.random.default_rng(0)
    drawn = random.integers(len(ones), size=(_RESAMPLES, len(ones))).tolist()
    found = sorted(of([ones[i] for i in row], [others[i] for i in row]) for row in drawn)
    return Ratio(of(ones, others), found[round(0.025 * (_RESAMPLES - 1))], found[round(0.975 * (_RESAMPLES - 1))])


def _median(values: Sequence[float]) -> float:
    """The lower one of two where the upper is infinite would flatter: the upper then."""
    median = statistics.median(values)
    return statistics.median_high(values) if math.isnan(median) else median


def _over(one: float, other: float) -> float:
    """Not of two that are infinite."""
    return 0.0 if math.isinf(other) else one / other
