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
    """A line for each constraint that no point of a stage seems to meet: neither the default, nor one of many draws,
    nor what is found by going from the nearest of these to neighbours that are nearer.
    """
    points = [space.default(), *(space.draw(spec.seed, index) for index in range(_DRAWS if space.names else 0))]
    found: list[str] = []
    for name, bound in bounds(spec.resolved(), stage.name).items():
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
