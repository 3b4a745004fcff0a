"""Cheap refusal: what is known of a configuration before training may show already that it breaks a constraint."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from experiments.engine import references
from experiments.engine.frontier import Bounds
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


def bounds(spec: Spec, stage: Stage) -> Bounds:
    """The constraints that the trials of a stage must meet: none where it only makes a teacher for a later stage."""
    within = [found for each in spec.stages for found in references.within(each.options)]
    taken, like = (
        {name.removeprefix("stages.") for path, name in within if (path == references.LIKE) is of_shape}
        for of_shape in (False, True)
    )
    picked = {*spec.finalist_stages, *(each.each.stage for each in spec.stages if each.each)}
    return spec.resolved()["constraints"] if stage.name in (picked | like) - taken else {}


def faults(spec: Spec, stage: Stage, space: Space, known: Known) -> list[str]:
    """A line for each constraint that no point of a stage seems to meet: neither the default nor one of many draws."""
    points = [space.default(), *(space.draw(spec.seed, index) for index in range(_DRAWS if space.names else 0))]
    wanted = bounds(spec, stage)
    figures = [known(point) for point in points] if wanted else []
    return [
        f"constraints.{name}: {text} of stages.{stage.name}; loosen it, or search another space"
        for name, bound in wanted.items()
        for text in _out_of_reach(name, bound, [each[name] for each in figures if name in each])
    ]


def _out_of_reach(name: str, bound: Mapping[str, float | None], values: list[float]) -> Iterator[str]:
    if not values:
        return
    low, high = bound.get("min"), bound.get("max")
    if high is not None and min(values) > high:
        yield f"must be at most {high:,.6g}, got {min(values):,.6g} as the least of {len(values)} points"
    if low is not None and max(values) < low:
        yield f"must be at least {low:,.6g}, got {max(values):,.6g} as the most of {len(values)} points"
