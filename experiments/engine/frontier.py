"""Several objectives: scores, constraints, non-domination, hypervolume. Pure functions over metrics."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

Direction = Literal["max", "min"]
Objectives = Mapping[str, Direction]
Bounds = Mapping[str, Mapping[str, float | None]]
Vector = tuple[float, ...]


def score(metrics: Mapping[str, Any], name: str, direction: Direction) -> float:
    """The metric as a number where higher is better; NaN where it is missing or no number."""
    value = metrics.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return math.nan
    return float(value) if direction == "max" else -float(value)


def watched(spec: Mapping[str, Any]) -> tuple[str, ...]:
    """The metrics that every trial must report as finite numbers: what is optimised, constrained or chosen by."""
    return tuple(dict.fromkeys([*spec["objectives"], *spec.get("constraints", ()), *spec.get("choose", {}).values()]))


def vector(metrics: Mapping[str, Any], objectives: Objectives) -> Vector:
    """All objectives as scores, in the order they are declared."""
    return tuple(score(metrics, name, direction) for name, direction in objectives.items())


def feasible(metrics: Mapping[str, Any], constraints: Bounds) -> bool:
    """Whether every constrained metric is there and within its bounds; a bound of None is none."""
    for name, bounds in constraints.items():
        low, value, high = bounds.get("min"), score(metrics, name, "max"), bounds.get("max")
        if not (-math.inf if low is None else low) <= value <= (math.inf if high is None else high):
            return False
    return True


def dominates(a: Vector, b: Vector) -> bool:
    """Whether `a` is at least as good everywhere and better somewhere (scores, higher is better)."""
    return all(x >= y for x, y in zip(a, b, strict=True)) and a != b


def non_dominated(points: Sequence[Vector]) -> list[int]:
    """Indices of the points no other dominates; of equal points the first stays."""
    finite = [index for index, point in enumerate(points) if all(map(math.isfinite, point))]
    return [
        index
        for index in finite
        if not any(
            dominates(points[other], points[index]) or (points[other] == points[index] and other < index)
            for other in finite
        )
    ]


def hypervolume(points: Sequence[Vector], reference: Vector) -> float:
    """Volume dominated by `points` above `reference` (Zitzler and Thiele 1998), by slicing the last objective."""
    above = [point for point in points if all(x > r for x, r in zip(point, reference, strict=True))]
    if not above:
        return 0.0
    if len(reference) == 1:
        return max(point[0] for point in above) - reference[0]
    levels = sorted({point[-1] for point in above}, reverse=True)
    floors = [*levels[1:], reference[-1]]
    return sum(
        (level - floor) * hypervolume([p[:-1] for p in above if p[-1] >= level], reference[:-1])
        for level, floor in zip(levels, floors, strict=True)
    )


# Where the hypervolume's reference point lies for a metric that is minimised, fixed before any search.
_CEILING = {"latency_ms": 100.0, "size_mb": 1000.0, "params": 1e9, "flops": 1e12}


def volume_points(trials: Sequence[Mapping[str, Any]], objectives: Objectives) -> tuple[list[Vector], Vector]:
    """Points and reference for `hypervolume`, in units that do not depend on the trials.

    A maximised metric counts from 0 up; a minimised one counts in decades below its ceiling (100 where none is
    fixed), so that 1 ms against 2 ms weighs as much as 10 ms against 20 ms.
    """
    points = [tuple(_height(metrics, name, way) for name, way in objectives.items()) for metrics in trials]
    return [point for point in points if all(map(math.isfinite, point))], (0.0,) * len(objectives)


def _height(metrics: Mapping[str, Any], name: str, direction: Direction) -> float:
    value = score(metrics, name, "max")
    if direction == "max" or not value > 0:
        return value if direction == "max" else math.nan
    return math.log10(_CEILING.get(name, 100.0) / value)
