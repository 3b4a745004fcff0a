"""Which configurations to try first, from what past searches on similar data found.

Similarity is the distance of meta-features (Feurer et al. 2015, AAAI). The portfolio is greedy: always the
configuration that lowers the average of the best ranks the most (Wistuba et al. 2015, DSAA). Where a past search has
not tried a configuration, its rank there is that of the nearest ones that it has.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.engine.outcome import Outcome, ranks
from searchspaces import Space

Config = dict[str, Any]
Features = Mapping[str, float]
Array = NDArray[np.float64]

# How many of the most similar searches count, and of each the best configurations that may come first: so many, and of
# a short search no more than the better half.
_SEARCHES, _BEST, _BETTER = 5, 50, 0.5
_NEAREST = 5
# A search on the same data counts so many times what one at distance 1 does.
_SHARPNESS = 10.0
_UNORDERED = ("choice", "fixed")


@dataclass(frozen=True)
class Search:
    """A past search: its data's meta-features, legal points of today's space, and what each came to (None: failed)."""

    name: str
    features: Features
    points: Sequence[Config]
    outcomes: Sequence[Outcome | None]


def distances(now: Features, past: Sequence[Features]) -> list[float]:
    """How far each past data set is from today's, 0 to 1: the mean over the features that both have, counts as logs,
    each over its range among all of them. 1 where nothing is in common.
    """
    every = [now, *past]
    found = []
    for there in past:
        gaps = [
            abs(_log(now[name]) - _log(there[name])) / (_width(name, every) or 1.0) for name in now if name in there
        ]
        found.append(float(np.mean(gaps)) if gaps else 1.0)
    return found


def _log(value: float) -> float:
    return float(np.log10(value)) if value > 1 else value - 1


def _width(name: str, every: Sequence[Features]) -> float:
    values = [_log(each[name]) for each in every if name in each]
    return max(values) - min(values)


def nearest(now: Features, past: Sequence[Search]) -> list[tuple[float, Search]]:
    """The searches that count, each with its distance, the most similar first."""
    far = distances(now, [search.features for search in past])
    return sorted(zip(far, past, strict=True), key=lambda pair: pair[0])[:_SEARCHES]


def portfolio(space: Space, now: Features, past: Sequence[Search], count: int) -> list[Config]:
    """At most `count` points, the one to try first at the front; none where nothing is remembered."""
    near = nearest(now, past)
    searches = [search for _, search in near]
    if not searches:
        return []
    weights_S = np.array([1 / (far + 1 / _SHARPNESS) for far, _ in near])
    shares = [_shares(search.outcomes) for search in searches]
    points = [point for point in _candidates(searches, shares) if point != space.default()]
    if not points:
        return []
    shares_SP = np.stack([_expected(space, points, *pair) for pair in zip(searches, shares, strict=True)])
    return [points[index] for index in _greedy(shares_SP, weights_S / weights_S.sum(), count)]


def _shares(outcomes: Sequence[Outcome | None]) -> Array:
    """Places among the others, 0 (best) to 1."""
    return np.array(ranks(outcomes)) / max(1, len(outcomes) - 1)


def _candidates(searches: Sequence[Search], shares: Sequence[Array]) -> list[Config]:
    found: dict[str, Config] = {}
    for search, share in zip(searches, shares, strict=True):
        for index in np.argsort(share, kind="stable")[:_BEST]:
            if search.outcomes[index] is not None and share[index] <= _BETTER:
                found.setdefault(json.dumps(search.points[index], sort_keys=True), search.points[index])
    return list(found.values())


def _expected(space: Space, points: Sequence[Config], search: Search, shares: Array) -> Array:
    """The share of each point in a search, by the nearest that it tried; of a point it tried, its own."""
    found = []
    for row in _apart(space, points, search.points):
        nearest = np.argsort(row, kind="stable")[:_NEAREST]
        weights = 1 / (row[nearest] + 1e-6)
        found.append(float(weights @ shares[nearest] / weights.sum()))
    return np.array(found)


def _apart(space: Space, points: Sequence[Config], others: Sequence[Config]) -> Array:
    """Distances (points × others): the mean over parameters of the gap on its scale, or of 1 where they differ."""
    kinds = {row["name"]: row["kind"] for row in space.describe()}
    ordered = np.array([kinds[name] not in _UNORDERED for name in space.names])
    here, there = _numbers(space, points), _numbers(space, others)
    gaps = np.abs(here[:, None] - there[None])
    one_absent = np.isnan(here)[:, None] != np.isnan(there)[None]
    gaps = np.where(ordered, gaps, (gaps > 0).astype(float))
    return np.asarray(np.where(one_absent, 1.0, np.nan_to_num(gaps)).mean(-1), dtype=float)


def _numbers(space: Space, points: Sequence[Config]) -> Array:
    units = [space.unit(point) for point in points]
    return np.array([[unit.get(name, np.nan) for name in space.names] for unit in units])


def _greedy(shares_SP: Array, weights_S: Array, count: int) -> list[int]:
    average_P = weights_S @ shares_SP
    best_S = np.ones(len(shares_SP))
    chosen: list[int] = []
    for _ in range(min(count, len(average_P))):
        with_P = np.round(weights_S @ np.minimum(best_S[:, None], shares_SP), 9)
        order = np.lexsort((average_P, with_P)).tolist()
        index = next(place for place in order if place not in chosen)
        chosen.append(index)
        best_S = np.minimum(best_S, shares_SP[:, index])
    return chosen
