"""What a report is worth: objectives as numbers to be high, how far constraints are broken, and who is before whom."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.engine.frontier import Bounds, Objectives, score, vector

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """One number an objective, higher is better, in the spec's order; `violation` is 0 where all constraints hold,
    else by how much bounds are broken, each relative to its bound, summed.
    """

    values: tuple[float, ...]
    violation: float = 0.0


def outcome(metrics: Mapping[str, Any], objectives: Objectives, constraints: Bounds) -> Outcome:
    """The outcome of a report's metrics. A constrained metric that is missing breaks its bound without limit."""
    return Outcome(vector(metrics, objectives), sum(_excess(metrics, name, to) for name, to in constraints.items()))


def _excess(metrics: Mapping[str, Any], name: str, bounds: Mapping[str, float | None]) -> float:
    value = score(metrics, name, "max")
    if math.isnan(value):
        return math.inf
    low, high = bounds.get("min"), bounds.get("max")
    under = 0.0 if low is None else max(0.0, low - value) / (abs(low) or 1.0)
    over = 0.0 if high is None else max(0.0, value - high) / (abs(high) or 1.0)
    return under + over


def ranks(outcomes: Sequence[Outcome | None]) -> list[int]:
    """The place of each, 0 the best: feasible ones first, then by least violation, None (failed) last.

    What is level there is ordered by non-dominated fronts, and within a front by an epsilon-net, which puts far apart
    points first (Schmucker et al. 2021, arXiv 2106.12639, §3.2). One objective: by value. Ties keep their order.
    """
    places = [0] * len(outcomes)
    for place, index in enumerate(_ordered(outcomes)):
        places[index] = place
    return places


def _ordered(outcomes: Sequence[Outcome | None]) -> Iterator[int]:
    def level(index: int) -> float:
        found = outcomes[index]
        return math.inf if found is None else found.violation

    there = [index for index, found in enumerate(outcomes) if found is not None]
    for _, group in groupby(sorted(there, key=level), key=level):
        level_ones = list(group)
        values = np.array([found.values for index in level_ones if (found := outcomes[index])], dtype=float)
        yield from (level_ones[place] for place in spread(np.nan_to_num(values, nan=-np.inf)))
    yield from (index for index, found in enumerate(outcomes) if found is None)


def spread(values: Array) -> list[int]:
    """The rows of an array (points × objectives, higher is better), best first, fronts and epsilon-nets."""
    if values.shape[1] == 1:
        return [int(index) for index in np.argsort(-values[:, 0], kind="stable")]
    scaled = _scaled(values)
    return [int(front[place]) for front in fronts(values) for place in epsilon_net(scaled[front])]


def fronts(values: Array) -> Iterator[NDArray[np.intp]]:
    """Indices of the non-dominated points, then of those that are so without them, and so on."""
    left = np.arange(len(values))
    no_worse = np.all(values[:, None] >= values, axis=-1)
    better = no_worse & ~no_worse.T
    while len(left):
        dominated = better[np.ix_(left, left)].any(0)
        yield left[~dominated]
        left = left[dominated]


def epsilon_net(points: Array) -> list[int]:
    """Greedily: the best by the first objective, then always the one farthest from all those taken."""
    order = [int(points[:, 0].argmax())]
    distance = np.full(len(points), np.inf)
    for _ in range(len(points) - 1):
        distance = np.minimum(distance, ((points - points[order[-1]]) ** 2).sum(1))
        distance[order[-1]] = -np.inf
        order.append(int(distance.argmax()))
    return order


def _scaled(values: Array) -> Array:
    """Each objective over its range, so that no unit outweighs another; a range without end or width counts as 0."""
    finite = np.where(np.isfinite(values), values, np.nan)
    with np.errstate(all="ignore"):
        lowest, highest = np.nanmin(finite, 0), np.nanmax(finite, 0)
        scaled = (finite - lowest) / (highest - lowest)
    return np.asarray(np.nan_to_num(scaled, nan=0.0, posinf=0.0, neginf=0.0), dtype=float)
