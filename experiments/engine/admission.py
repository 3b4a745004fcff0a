"""Cheap refusal: what is known of a configuration before training may show already that it breaks a constraint."""

import json
import math
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

from experiments.engine.frontier import Bounds
from experiments.engine.handed import bounds
from experiments.engine.spec import Spec
from experiments.engine.stage import Stage
from searchspaces import Space
from tasks.task import Data
from trainables import routine

Config = dict[str, Any]
Known = Callable[[Config], Mapping[str, float]]

_DRAWS = 100
# By how much, as a share of the bounds, the nearest point found may break constraints that might yet be met together.
_NEAR = 0.1


def known(stage: Stage, common: Mapping[str, Any], data: Data, inputs: Mapping[str, Any]) -> Known:
    """What a trial of a stage at a point will report whatever it trains to; `common` is what all its trials are told,
    `inputs` what was measured so far, such as the layer table.
    """

    @cache  # a searcher proposes the same until something was told
    def of(point: str) -> Mapping[str, float]:
        try:
            return routine.known(stage.routine, {**common, **json.loads(point)}, data, inputs)
        except ValueError:  # the trial that meets it will say why
            return {}

    return lambda point: of(json.dumps(point, sort_keys=True))


def reason(figures: Mapping[str, float], bounds: Bounds) -> str | None:
    """Why figures break a constraint: "params is 1,000, must be at most 500". What is not known breaks none."""
    for name, bound in bounds.items():
        value, low, high = figures.get(name, math.nan), bound.get("min"), bound.get("max")
        if high is not None and value > high:
            return f"{name} is {value:,.6g}, must be at most {high:,.6g}"
        if low is not None and value < low:
            return f"{name} is {value:,.6g}, must be at least {low:,.6g}"
    return None


def faults(spec: Spec, stage: Stage, space: Space, known: Known) -> list[str]:
    """A line for each constraint that no point of a stage seems to meet, else one where none comes near to meeting all
    together: neither the default, nor one of many draws, nor what is found by going from the nearest of these to
    neighbours that are nearer.
    """
    points = [space.default(), *(space.draw(spec.seed, index) for index in range(_DRAWS if space.names else 0))]
    limits = bounds(spec.resolved(), stage.name)
    return _each(limits, stage, space, known, points) or _together(limits, stage, space, known, points)


def _each(limits: Bounds, stage: Stage, space: Space, known: Known, points: list[Config]) -> list[str]:
    found: list[str] = []
    for name, bound in limits.items():
        there = [point for point in points if name in known(point)]
        for limit, sign, most, extreme in ((bound["max"], 1, "most", "least"), (bound["min"], -1, "least", "most")):
            if limit is None or not there:
                continue
            nearest = _nearest(space, there, partial(_beyond, known, name, limit, sign))
            if _beyond(known, name, limit, sign, nearest) > 0:
                found.append(
                    f"constraints.{name}: must be at {most} {limit:,.6g}, got {known(nearest)[name]:,.6g} as the "
                    f"{extreme} found in the space of stages.{stage.name}; loosen it, or search another space"
                )
    return found


def _together(limits: Bounds, stage: Stage, space: Space, known: Known, points: list[Config]) -> list[str]:
    names = [name for name in limits if any(name in known(point) for point in points)]

    def beyond(point: Config) -> float:
        return sum(
            max(0.0, _beyond(known, name, limit, sign, point)) / (abs(limit) or 1.0)
            for name in names
            for limit, sign in ((limits[name]["max"], 1), (limits[name]["min"], -1))
            if limit is not None
        )

    nearest = _nearest(space, points, beyond)
    if beyond(nearest) <= _NEAR:  # a narrow band may be met where nobody looked
        return []
    broken = [said for name in names if (said := reason(known(nearest), {name: limits[name]}))]
    return [
        f"constraints: must be met together, and no point was found in the space of stages.{stage.name} that comes "
        f"near: of the nearest {' and '.join(broken)}; loosen one, or search another space"
    ]


def _beyond(known: Known, name: str, limit: float, sign: int, point: Config) -> float:
    """How far a point is above a limit (sign 1) or below it (-1)."""
    return sign * (known(point).get(name, sign * math.inf) - limit)


def _nearest(space: Space, points: list[Config], beyond: Callable[[Config], float]) -> Config:
    """The point least beyond a bound: the best of those given, or what its neighbours lead to, until one is within."""
    best, step = min(points, key=beyond), 0
    while beyond(best) > 0:
        near = min(space.neighbours(best, 0, step), key=beyond, default=best)
        if beyond(near) >= beyond(best):
            break
        best, step = near, step + 1
    return best
