"""Grid search: every choice with every other, ranges in a few steps, in a seeded order (Bergstra and Bengio 2012, JMLR
13, on what it costs): a budget smaller than the grid, or a scheduler's first rungs, see all of it and not one corner.
"""

import functools
import random
from collections.abc import Hashable, Iterator
from itertools import islice
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field

from experiments.engine.events import Config as Point
from experiments.engine.outcome import Outcome
from experiments.engine.strategies import index, key

# A grid of more points is drawn from, point by point, as no search ends it.
_LISTED = 10_000


class Gridded(Hashable, Protocol):
    """All that grid search needs of a space."""

    def grid(self, steps: int, seed: int | None = ..., index: int = ...) -> Iterator[Point]: ...


class Grid:
    """The points of the grid in an order that depends on the seed alone."""

    class Config(BaseModel):
        """Options of the grid."""

        model_config = ConfigDict(frozen=True, extra="forbid")
        steps: int = Field(3, ge=2, description="values a range of numbers is tried at, both ends included")

    def __init__(self, config: Config, space: Gridded, seed: int) -> None:
        self._steps = config.steps
        self._space = space
        self._seed = seed
        listed = _listed(space, config.steps)
        self._whole = len(listed) <= _LISTED
        order = random.Random(f"{seed} grid").sample(range(len(listed)), len(listed)) if self._whole else []
        self._left = {key(listed[place]): listed[place] for place in order}

    def propose(self, trial: int, attempt: int) -> Point | None:
        """The next point of the grid that nobody has taken; None after the last."""
        if not self._whole:
            return next(self._space.grid(self._steps, self._seed, index(trial, attempt)))
        point = next(islice(self._left.values(), attempt, None), None)
        return None if point is None else dict(point)

    def started(self, trial: int, config: Point) -> None:
        """Taken."""
        self._left.pop(key(config), None)

    def observed(self, trial: int, config: Point, epochs: float, outcome: Outcome | None) -> None:
        """Grid search does not learn."""


@functools.lru_cache(maxsize=4)  # a run has few spaces, and a replay makes its searchers anew
def _listed(space: Gridded, steps: int) -> list[Point]:
    """The grid, or one more point than is listed."""
    return list(islice(space.grid(steps), _LISTED + 1))


SEARCHER = Grid
