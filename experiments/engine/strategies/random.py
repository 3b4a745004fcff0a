"""Random search (Bergstra and Bengio 2012, JMLR 13): independent draws from the space."""

from typing import Protocol

from pydantic import BaseModel, ConfigDict

from experiments.engine.events import Config as Point
from experiments.engine.outcome import Outcome
from experiments.engine.strategies import index


class Draws(Protocol):
    """All that random search needs of a space."""

    def draw(self, seed: int, index: int) -> Point: ...


class Random:
    """Draw number `trial` depends on (seed, trial) alone, so a lost or retried segment shifts nothing."""

    class Config(BaseModel):
        """Random search has no options."""

        model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, config: Config, space: Draws, seed: int) -> None:
        self._space = space
        self._seed = seed

    def propose(self, trial: int, attempt: int) -> Point:
        """The draw for a trial; `attempt` counts draws thrown away because they had been tried before."""
        return self._space.draw(self._seed, index(trial, attempt))

    def started(self, trial: int, config: Point) -> None:
        """What was drawn before changes no draw."""

    def observed(self, trial: int, config: Point, epochs: float, outcome: Outcome | None) -> None:
        """Random search does not learn."""


SEARCHER = Random
