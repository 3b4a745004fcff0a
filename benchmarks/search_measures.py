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


def play(strategy: Strategy, surface: Surface, budget: int, workers: int, *, most: int = 0) -> Course:
    """The search on virtual workers, until the budget (in epochs, of all trials together) is spent.

    most: epochs up to which it goes on beyond the budget until the target is met; the curves end with the budget.
    """
    director = Director([Stage("search", "", lambda _: strategy, watched=(ACCURACY,))])
    front, volume, best, spent = list[Vector](), 0.0, -math.inf, 0
    bests, volumes, to_target, target = list[float](), list[float](), math.inf, surface.target
    for _, event in simulate(director, surface.curve, workers):
        if not isinstance(event, Reported):
            continue
        spent += 1
        if spent > max(budget, most):
            break
        best = max(best, event.metrics[ACCURACY])
        if best >= target:
            to_target = min(to_target, spent)
        if spent <= budget:
            volume = _grown(front, event.metrics, surface, volume)
            bests.append(best)
            volumes.append(volume)
        elif to_target < math.inf:
            break
    marks = np.linspace(1, budget, MARKS).astype(int) - 1
    held = [min(mark, len(bests) - 1) for mark in marks.tolist()]  # a space can be searched before the budget is spent
    mean = (sum(volumes) + (budget - len(volumes)) * volume) / budget
    return Course(to_target, [bests[mark] for mark in held], [volumes[mark] for mark in held], mean)


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


def of_medians(ones: Sequence[float], others: Sequence[float]) -> Ratio:
    """The median of the ones over that of the others; resampled in pairs (Efron 1979), a seed is a pair."""
    return _bootstrapped(ones, others, lambda a, b: _over(_median(a), _median(b)))


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
    """inf / inf: neither got there, and nothing is known; it counts as no better."""
    if math.isinf(other):
        return 1.0 if math.isinf(one) else 0.0
    return one / other
