"""What a report is worth: objectives as numbers to be high, how far constraints are broken, and who is before whom."""

import bisect
import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.engine.frontier import Bounds, Objectives, score, vector

Array = NDArray[np.float64]
Row = tuple[float, ...]


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


def best(one: Outcome, other: Outcome) -> Outcome:
    """Each number as good as in the better of the two."""
    values = tuple(max(pair, key=comparable) for pair in zip(one.values, other.values, strict=True))
    return Outcome(values, min(one.violation, other.violation))


def comparable(value: float) -> float:
    """What is undefined is the last."""
    return -math.inf if math.isnan(value) else value


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
    return [front[place] for front in fronts(values) for place in epsilon_net(scaled[front])]


def fronts(values: Array) -> Iterator[list[int]]:
    """Indices of the non-dominated points, then of those that are so without them, and so on; each in order."""
    found: dict[int, list[int]] = {}
    for index, front in enumerate(_of_two(values) if values.shape[1] == 2 else _of_many(values)):
        found.setdefault(front, []).append(index)
    yield from (found[front] for front in sorted(found))


def _of_two(values: Array) -> list[int]:
    """The front of each point, by one pass from the best first objective down (Jensen 2003, IEEE TEC 7(5))."""
    points = [(first, second) for first, second in values.tolist()]
    places = [0] * len(points)
    highest: list[float] = []  # of the second objective in each front, turned round so that it ascends
    last = None
    for index in sorted(range(len(points)), key=lambda index: points[index], reverse=True):
        if last is None or points[index] != points[last]:
            second = points[index][1]
            place = bisect.bisect_right(highest, -second)
            highest[place : place + 1] = [-second]
        else:
            place = places[last]
        places[index], last = place, index
    return places


def _of_many(values: Array) -> list[int]:
    no_worse = np.ones((len(values), len(values)), dtype=bool)
    for column in values.T:
        no_worse &= column[:, None] >= column
    better = no_worse & ~no_worse.T
    above, places, place = better.sum(0), np.zeros(len(values), dtype=int), 0
    while len(front := np.flatnonzero(above == 0)):
        places[front] = place
        above -= better[front].sum(0)
        above[front], place = -1, place + 1
    return [int(number) for number in places]


def epsilon_net(points: Array) -> list[int]:
    """Greedily: the best by the first objective, then always the one farthest from all those taken."""
    apart = ((points[:, None] - points) ** 2).sum(-1)
    np.fill_diagonal(apart, -np.inf)
    order = [int(points[:, 0].argmax())]
    distance = apart[order[0]]
    for _ in range(len(points) - 1):
        order.append(int(distance.argmax()))
        distance = np.minimum(distance, apart[order[-1]])
    return order


class Fronts:
    """Outcomes in non-dominated fronts, kept up as they come: one more moves only those that it pushes down.

    To break constraints less dominates, so that the order is that of `ranks`.
    """

    def __init__(self) -> None:
        self._fronts: list[list[Row]] = []
        self._count = 0

    def add(self, outcome: Outcome, share: float) -> bool:
        """Takes one more in; whether it is then among the first `share` of all."""
        row = tuple(-math.inf if math.isnan(value) else value for value in (-outcome.violation, *outcome.values))
        own = bisect.bisect_left(self._fronts, True, key=lambda front: not any(_dominates(one, row) for one in front))
        movers, level = [row], own
        while movers and level < len(self._fronts):
            front = self._fronts[level]
            beaten = [one for one in front if any(_dominates(mover, one) for mover in movers)]
            self._fronts[level] = [one for one in front if one not in beaten] + movers
            movers, level = beaten, level + 1
        if movers:
            self._fronts.append(movers)
        self._count += 1
        return self._among(own, share * self._count)

    def _among(self, own: int, most: float) -> bool:
        """Whether the newest, the last of front `own`, has a place below `most`."""
        before, front = sum(map(len, self._fronts[:own])), self._fronts[own]
        if before >= most or before + len(front) <= most:
            return before < most
        others = (one for level in (*self._fronts[:own], *self._fronts[own + 1 :]) for one in level)
        alike = [*front, *(one for one in others if one[0] == front[0][0])]
        scaled = _scaled(np.array(alike)[:, 1:])[: len(front)]
        return before + epsilon_net(scaled).index(len(front) - 1) < most


def _dominates(one: Row, other: Row) -> bool:
    """Rows are violation turned round, then values."""
    return one[0] > other[0] or (one[0] == other[0] and one != other and all(map(operator.ge, one, other)))


def _scaled(values: Array) -> Array:
    """Each objective over its range, so that no unit outweighs another; a range without end or width counts as 0."""
    finite = np.where(np.isfinite(values), values, np.nan)
    with np.errstate(all="ignore"):
        lowest, highest = np.nanmin(finite, 0), np.nanmax(finite, 0)
        scaled = (finite - lowest) / (highest - lowest)
    return np.asarray(np.nan_to_num(scaled, nan=0.0, posinf=0.0, neginf=0.0), dtype=float)
