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
    no_worse = np.all(values[:, None] >= values, axis=-1)
    better = no_worse & ~no_worse.T
    above = better.sum(0)
    while len(front := np.flatnonzero(above == 0)):
        yield front
        above -= better[front].sum(0)
        above[front] = -1


def epsilon_net(points: Array) -> list[int]:
    """Greedily: the best by the first objective, then always the one farthest from all those taken."""
    order = [int(points[:, 0].argmax())]
    distance = np.full(len(points), np.inf)
    for _ in range(len(points) - 1):
        distance = np.minimum(distance, ((points - points[order[-1]]) ** 2).sum(1))
        distance[order[-1]] = -np.inf
        order.append(int(distance.argmax()))
    return order


class Fronts:
    """Outcomes in non-dominated fronts, kept up as they come: one more costs a pass over those that are there.

    To break constraints less dominates, so that the order is that of `ranks`.
    """

    def __init__(self, objectives: int) -> None:
        self._rows = np.empty((16, objectives + 1))
        self._front = np.empty(16, dtype=int)
        self._count = 0

    def add(self, outcome: Outcome, share: float) -> bool:
        """Takes one more in; whether it is then among the first `share` of all."""
        row = np.nan_to_num(np.array([-outcome.violation, *outcome.values]), nan=-np.inf)
        rows, front = self._rows[: self._count], self._front[: self._count]
        own = 1 + int(front[_dominate(rows, row)].max(initial=-1))
        self._push_down(row[None], own)
        self._append(row, own)
        return self._among(own, share * self._count)

    def _push_down(self, movers: Array, level: int) -> None:
        """Those that the movers, now on this level, dominate there go one level down, and push others."""
        rows, front = self._rows[: self._count], self._front[: self._count]
        there = np.flatnonzero(front == level)
        beaten = there[[bool(_dominate(movers, rows[index]).any()) for index in there]]
        if len(beaten):
            self._push_down(rows[beaten], level + 1)
            front[beaten] = level + 1

    def _append(self, row: Array, level: int) -> None:
        if self._count == len(self._front):
            self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
            self._front = np.concatenate([self._front, np.empty_like(self._front)])
        self._rows[self._count], self._front[self._count] = row, level
        self._count += 1

    def _among(self, own: int, most: float) -> bool:
        """Whether the newest, of front `own`, has a place below `most`."""
        rows, front = self._rows[: self._count], self._front[: self._count]
        before, level_ones = int((front < own).sum()), np.flatnonzero(front == own)
        if before >= most or before + len(level_ones) <= most:
            return before < most
        alike = rows[:, 0] == rows[-1, 0]
        scaled = np.empty_like(rows[:, 1:])
        scaled[alike] = _scaled(rows[alike, 1:])
        return before + epsilon_net(scaled[level_ones]).index(len(level_ones) - 1) < most


def _dominate(rows: Array, row: Array) -> NDArray[np.bool_]:
    """Which of the rows (violation turned round, then values) dominate the one."""
    less = rows[:, 0] > row[0]
    level = (rows[:, 0] == row[0]) & (rows[:, 1:] >= row[1:]).all(1) & (rows[:, 1:] > row[1:]).any(1)
    return np.asarray(less | level)


def _scaled(values: Array) -> Array:
    """Each objective over its range, so that no unit outweighs another; a range without end or width counts as 0."""
    finite = np.where(np.isfinite(values), values, np.nan)
    with np.errstate(all="ignore"):
        lowest, highest = np.nanmin(finite, 0), np.nanmax(finite, 0)
        scaled = (finite - lowest) / (highest - lowest)
    return np.asarray(np.nan_to_num(scaled, nan=0.0, posinf=0.0, neginf=0.0), dtype=float)
