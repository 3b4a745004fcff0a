"""Search by reinforcement learning (Zoph and Le 2017, ICLR, arXiv 1611.01578): a policy draws configurations, and
REINFORCE (Williams 1992) with a moving baseline and an entropy bonus makes those more likely that do well.

The policy has a softmax over the values of each parameter (long ranges in bins, uniform within one) in place of the
paper's recurrent network, which some hundreds of trials do not train. As in the paper's asynchronous training, a
trial's gradient is taken at the policy it began with.
"""

import random
from collections.abc import Mapping, Sequence
from itertools import islice, pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from experiments.engine.events import Config as Point
from experiments.engine.outcome import Outcome, ranks
from experiments.engine.strategies import Space
from experiments.engine.strategies.random import Random

Array = NDArray[np.float64]

# A reward compares with so many trials at most: the last to have joined.
_WINDOW = 50
# The baseline before any reward, and the reward of a trial that has none to compare with.
_AVERAGE = 0.5
# Trials that the scores have room for at first.
_ROWS = 64
# After so many draws that had been tried, the rest come from the whole space.
_DRAWS = 100


class Described(Space, Protocol):
    """What the policy needs of a space besides: how many values each parameter has."""

    def describe(self) -> list[dict[str, Any]]: ...


class Arms:
    """What the policy decides between for one parameter: places in [0, 1], as `Space.unit` gives them, or bins."""

    def __init__(self, row: Mapping[str, Any], space: Space, bins: int) -> None:
        self.name = str(row["name"])
        values: Sequence[Any] = row["range"]
        if row["kind"].endswith("int") and values[1] - values[0] < bins:
            values = range(values[0], values[1] + 1)
        elif row["kind"].endswith(("int", "float")):
            values = []
        self._places = [space.unit({self.name: value})[self.name] for value in values]
        self._bins = bins
        self.count = len(values) or bins

    def place(self, arm: int, within: float) -> float:
        """A place of an arm; `within` in [0, 1) says where in a bin."""
        return self._places[arm] if self._places else (arm + within) / self._bins

    def arm(self, place: float) -> int:
        """The arm of a place."""
        if self._places:
            return int(np.argmin(np.abs(np.array(self._places) - place)))
        return min(int(place * self._bins), self._bins - 1)


class Policy:
    """Independent softmaxes, one a parameter, over one vector of logits."""

    def __init__(self, arms: Sequence[Arms]) -> None:
        self.arms = list(arms)
        ends = np.cumsum([0, *(each.count for each in arms)]).tolist()
        self._parts = [slice(start, end) for start, end in pairwise(ends)]
        self.size: int = ends[-1]

    def probabilities(self, logits: Array) -> Array:
        """Of every arm, in the order of the logits; those of one parameter sum to 1."""
        found = np.empty_like(logits)
        for part in self._parts:
            shifted = np.exp(logits[part] - logits[part].max())
            found[part] = shifted / shifted.sum()
        return found

    def score(self, probabilities: Array, numbers: Mapping[str, float]) -> Array:
        """Gradient by the logits of the log-probability of a point; 0 for parameters it does not have."""
        found = np.zeros(self.size)
        for arms, part in zip(self.arms, self._parts, strict=True):
            if arms.name in numbers:
                found[part] = -probabilities[part]
                found[part.start + arms.arm(numbers[arms.name])] += 1
        return found

    def entropy_gradient(self, probabilities: Array) -> Array:
        """Gradient by the logits of the sum of the parameters' entropies."""
        logs = np.log(np.maximum(probabilities, 1e-300))
        entropies = [-(probabilities[part] * logs[part]).sum() for part in self._parts]
        widths = [each.count for each in self.arms]
        found: Array = -probabilities * (logs + np.repeat(entropies, widths))
        return found

    def draw(self, probabilities: Array, random_: random.Random) -> dict[str, float]:
        """Places in [0, 1] of all parameters."""
        return {
            arms.name: arms.place(random_.choices(range(arms.count), probabilities[part].tolist())[0], random_.random())
            for arms, part in zip(self.arms, self._parts, strict=True)
        }


class Reinforce:
    """A reward is the share of other trials that one is better than, so that units and scales do not matter."""

    class Config(BaseModel):
        """Step, exploration and baseline of the policy gradient."""

        model_config = ConfigDict(frozen=True, extra="forbid")
        learning_rate: float = Field(1.0, gt=0, description="step along the gradient of a trial's log-probability")
        entropy: float = Field(0.05, ge=0, description="weight of the policy's entropy: how long it goes on exploring")
        decay: float = Field(0.9, ge=0, lt=1, description="of the baseline, a moving average of rewards")
        bins: int = Field(8, ge=2, description="parts that a range of numbers is cut into, on its own scale")

    def __init__(self, config: Config, space: Described, seed: int) -> None:
        self._config = config
        self._space = space
        self._seed = seed
        self._draws = Random(Random.Config(), space, seed)
        self._policy = Policy([Arms(row, space, config.bins) for row in space.describe()])
        self._rows: dict[int, int] = {}  # of trials in the scores
        self._scores: Array = np.empty((_ROWS, self._policy.size))
        self._outcomes: dict[int, Outcome | None] = {}
        self._rewards: dict[int, float] = {}
        self._exploring = np.zeros(self._policy.size)
        self._probabilities: Array | None = None

    def propose(self, trial: int, attempt: int) -> Point:
        """A draw from the policy that no clause forbids."""
        if attempt >= _DRAWS:
            return self._draws.propose(trial, attempt)
        drawn = random.Random(f"{self._seed} policy {trial} {attempt}")
        for _ in range(_DRAWS):
            try:
                return self._space.from_unit(self._policy.draw(self.probabilities(), drawn))
            except ValueError:  # the space forbids it
                continue
        return self._draws.propose(trial, attempt)

    def started(self, trial: int, config: Point) -> None:
        """Its gradient is that of the policy now."""
        probabilities = self.probabilities()
        row = self._rows[trial] = len(self._rows)
        if row == len(self._scores):
            self._scores = np.concatenate((self._scores, np.empty_like(self._scores)))
        self._scores[row] = self._policy.score(probabilities, self._space.unit(config))
        self._exploring += self._policy.entropy_gradient(probabilities)
        self._probabilities = None

    def observed(self, trial: int, config: Point, epochs: float, outcome: Outcome | None) -> None:
        """Its reward at its newest epochs replaces the one before."""
        self._outcomes[trial] = outcome
        latest = islice(reversed(self._outcomes.items()), _WINDOW + 1)
        others = [other for number, other in latest if number != trial][:_WINDOW][::-1]
        self._rewards[trial] = 1 - ranks([*others, outcome])[-1] / len(others) if others else _AVERAGE
        self._probabilities = None

    def probabilities(self) -> Array:
        """The policy now: of each parameter's arms, in the order of `Space.describe`."""
        if self._probabilities is None:
            rows = [self._rows[trial] for trial in self._rewards]
            logits = self._config.entropy * self._exploring + self._advantages() @ self._scores[rows]
            self._probabilities = self._policy.probabilities(self._config.learning_rate * logits)
        return self._probabilities

    def _advantages(self) -> Array:
        """Rewards above the moving average of those before, in the order of first reports."""
        from scipy.signal import lfilter  # slow to import, and nobody needs it who looks for a strategy's name

        rewards, decay = np.array(list(self._rewards.values())), self._config.decay
        averages, _ = lfilter([1 - decay], [1, -decay], rewards, zi=[decay * _AVERAGE])
        found: Array = rewards - np.concatenate(([_AVERAGE], averages))[:-1]
        return found


SEARCHER = Reinforce
