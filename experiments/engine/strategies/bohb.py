"""BOHB's model (Falkner et al. 2018, ICML, arXiv 1807.01774, §3.2 and §4): TPE with one density over all parameters,
of the trials at the highest budget that has enough of them, the best and the latest where they are many. Which budgets
there are is the scheduler's to say.
"""

import hashlib
import math
from collections import deque

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from experiments.engine.events import Config as Point
from experiments.engine.outcome import Outcome
from experiments.engine.strategies.coding import Coding
from experiments.engine.strategies.density import Density
from experiments.engine.strategies.observations import MOST, Observations
from searchspaces import Space

Array = NDArray[np.float64]

# A density below this counts as this, so that a quotient of two is finite.
_FLOOR = math.log(1e-32)


class Bohb:
    """A share of random draws; else of many candidates the one where good trials are densest against the others."""

    class Config(BaseModel):
        """Defaults are the paper's."""

        model_config = ConfigDict(frozen=True, extra="forbid")
        random_fraction: float = Field(1 / 3, ge=0.0, le=1.0, description="share of random draws (the paper's ρ)")
        good: float = Field(0.15, gt=0.0, lt=1.0, description="share of trials that are good (the paper's q)")
        n_candidates: int = Field(64, ge=1, description="points drawn, of which the best is taken (the paper's N_s)")
        bandwidth_factor: float = Field(3.0, gt=0.0, allow_inf_nan=False, description="widens what is drawn (b_w)")
        min_bandwidth: float = Field(1e-3, gt=0.0, lt=1.0, description="where good trials agree in a parameter")

    def __init__(self, config: Config, space: Space, seed: int) -> None:
        self._config = config
        self._seed = seed
        self._coding = Coding(space)
        self._rows: dict[int, Array] = {}
        self._budgets: dict[float, Observations] = {}
        self._failed: deque[int] = deque(maxlen=MOST)
        self._densities: tuple[Density, Density] | None = None
        self._fresh = True

    def started(self, trial: int, config: Point) -> None:
        """Where a parameter is inactive, the density has a random value of it, as in the authors' code."""
        random, given = _random(f"{self._seed}/{trial}/inactive"), self._coding.numbers(config)
        drawn = [(d, random.random()) for d in self._coding.dimensions]
        row = [given.get(d.name, math.floor(share * d.levels) if d.levels else share) for d, share in drawn]
        self._rows[trial] = np.array(row, dtype=float)

    def observed(self, trial: int, config: Point, epochs: float, outcome: Outcome | None) -> None:
        """A report counts at its own budget, a failure as the last at each."""
        self._fresh = False
        if outcome is None:
            self._failed.append(trial)
            for budget in self._budgets.values():
                budget.observed(trial, 0.0, None)
            return
        if epochs not in self._budgets:
            self._budgets[epochs] = Observations(MOST)
            for failed in self._failed:
                self._budgets[epochs].observed(failed, 0.0, None)
        self._budgets[epochs].observed(trial, epochs, outcome)

    def propose(self, trial: int, attempt: int) -> Point:
        """Random where no budget has enough trials yet, and for the share of random draws."""
        if not self._fresh:
            self._densities, self._fresh = self._fitted(), True
        return self._coding.proposed(self._seed, trial, attempt, self._suggested)

    def _fitted(self) -> tuple[Density, Density] | None:
        """Densities of the good and of the others. Where trials are few, both have the least a density needs and so
        some in common.
        """
        least = len(self._coding.dimensions) + 1
        highest_first = [self._budgets[epochs] for epochs in sorted(self._budgets, reverse=True)]
        budget = next((budget for budget in highest_first if budget.succeeded >= least + 2), None)
        if budget is None:
            return None
        places = budget.ranks()
        order = sorted(places, key=places.__getitem__)
        good = max(least, math.floor(self._config.good * len(order)))
        others = max(least, len(order) - good)
        rows = np.array([self._rows[trial] for trial in order])
        return self._density(rows[:good]), self._density(rows[-others:])

    def _density(self, rows: Array) -> Density:
        return Density(rows, self._coding.dimensions, self._config.min_bandwidth)

    def _suggested(self, decision: str) -> dict[str, float] | None:
        random = _random(decision)
        if self._densities is None or random.random() < self._config.random_fraction:
            return None
        good, others = self._densities
        points = good.draw(random, self._config.n_candidates, self._config.bandwidth_factor)
        gains = np.maximum(good.logarithms(points), _FLOOR) - np.maximum(others.logarithms(points), _FLOOR)
        best = points[int(gains.argmax())]
        return {d.name: float(number) for d, number in zip(self._coding.dimensions, best, strict=True)}


def _random(decision: str) -> np.random.Generator:
    return np.random.default_rng(list(hashlib.sha256(decision.encode()).digest()))


SEARCHER = Bohb
