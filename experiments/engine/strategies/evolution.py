"""Regularised evolution (Real et al. 2019, AAAI, arXiv 1802.01548): the best of a few drawn from the population has one
parameter changed, the child joins, the oldest leaves.

What joins is a trial with its first report, worth what it is at its newest one. Identity mutations, which the paper
has, are left out: no point is tried twice.
"""

import random

from pydantic import BaseModel, ConfigDict, Field

from experiments.engine.events import Config as Point
from experiments.engine.outcome import Outcome, ranks
from experiments.engine.strategies import Space, index
from experiments.engine.strategies.random import Random

# After so many children that had been tried, the rest are drawn from the whole space.
_CHILDREN = 100


class Evolution:
    """The population are the last trials to have joined and not failed."""

    class Config(BaseModel):
        """P and S of the paper, which has 100 and 25 for 20,000 trials."""

        model_config = ConfigDict(frozen=True, extra="forbid")
        population: int = Field(20, ge=2, description="trials that can be parents; as many are drawn at random first")
        tournament: int = Field(
            10, ge=1, description="how many of them are drawn (all, if fewer), for the best to be the parent"
        )

    def __init__(self, config: Config, space: Space, seed: int) -> None:
        self._config = config
        self._space = space
        self._seed = seed
        self._draws = Random(Random.Config(), space, seed)
        self._members: dict[int, tuple[Point, Outcome]] = {}

    def propose(self, trial: int, attempt: int) -> Point:
        """A child of a tournament's winner; at random while the first population is not complete."""
        if trial < self._config.population or not self._members or attempt >= _CHILDREN:
            return self._draws.propose(trial, attempt)
        drawn = random.Random(f"{self._seed} tournament {trial} {attempt}")
        parent = self._winner(drawn)
        for name in drawn.sample(sorted(parent), len(parent)):
            try:
                return self._space.changed(parent, name, self._seed, index(trial, attempt))
            except ValueError:  # it has no other legal value
                continue
        return self._draws.propose(trial, attempt)

    def started(self, trial: int, config: Point) -> None:
        """A trial joins when it reports."""

    def observed(self, trial: int, config: Point, epochs: float, outcome: Outcome | None) -> None:
        """Joins, or is worth something else now; leaves when it failed. Order is that of the first reports."""
        if outcome is None:
            self._members.pop(trial, None)
        else:
            self._members[trial] = config, outcome

    def _winner(self, drawn: random.Random) -> Point:
        """Ranked within the whole population: with several objectives, the few drawn would know one end of a front."""
        members = list(self._members.values())[-self._config.population :]
        places = ranks([outcome for _, outcome in members])
        few = drawn.sample(range(len(members)), min(self._config.tournament, len(members)))
        return members[min(few, key=lambda member: places[member])][0]


SEARCHER = Evolution
