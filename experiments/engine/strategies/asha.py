"""Asynchronous successive halving, stopping variant (Li et al. 2020, MLSys, arXiv 1810.05934).

A trial that reaches a rung goes on only if its score is at least the (1 - 1/eta) quantile of the scores recorded
there before it. With one bracket it decides exactly as Ray's `AsyncHyperBandScheduler`. With several objectives, or
where a constraint is broken, it has to be among the first 1/eta of `outcome.ranks`, itself included, as in MO-ASHA
(Schmucker et al. 2021, arXiv 2106.12639).
"""

import bisect
import math
from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from experiments.engine.events import Verdict
from experiments.engine.outcome import Fronts, Outcome
from experiments.engine.strategies import Scheduler, check_grace_period


class Rung:
    """What was reported at a milestone, and who goes on from there."""

    def __init__(self, epochs: float, eta: float) -> None:
        self.epochs = epochs
        self.outcomes: dict[int, Outcome] = {}
        self._eta = eta
        self._values: list[float] = []
        self._fronts: Fronts | None = None

    def record(self, trial: int, outcome: Outcome) -> bool:
        """Takes the outcome in; whether it is good enough among all so far. The first always is."""
        if self._fronts is None and (len(outcome.values) > 1 or outcome.violation):
            self._fronts = Fronts()
            for other in self.outcomes.values():
                self._fronts.add(other, 1.0)
        self.outcomes[trial] = outcome
        return self._by_value(outcome.values[0]) if self._fronts is None else self._fronts.add(outcome, 1 / self._eta)

    def _by_value(self, value: float) -> bool:
        # Ray's scheduler asks for a percentile, whose last bit can differ from that of the share.
        passes = not self._values or value >= quantile(self._values, (1 - 1 / self._eta) * 100 / 100)
        bisect.insort(self._values, value)
        return passes


class Asha(Scheduler):
    """Rungs at grace_period · eta^k up to the maximum epochs."""

    class Config(BaseModel):
        """eta is the paper's reduction factor η, grace_period its minimum resource r (in epochs)."""

        model_config = ConfigDict(frozen=True, extra="forbid")
        eta: float = Field(3.0, gt=1.0, description="reduction factor: 1 in eta trials passes a rung")
        grace_period: Annotated[float, Field(gt=0.0)] = Field(
            1.0, description="epochs every trial gets before it can be stopped"
        )

    def __init__(self, config: Config, max_epochs: float) -> None:
        check_grace_period(config.grace_period, max_epochs)
        self._eta = config.eta
        self._max_epochs = max_epochs
        count = int(math.log(max_epochs / config.grace_period) / math.log(config.eta) + 1)
        self.rungs = [Rung(config.grace_period * config.eta**k, config.eta) for k in reversed(range(count))]

    def judge(self, trial: int, epochs: float, outcome: Outcome) -> Verdict:
        """Records the outcome at the highest rung reached and not yet recorded; stops below its cutoff."""
        passes = self._record(trial, epochs, outcome)
        return "continue" if passes and epochs < self._max_epochs else "stop"

    def _record(self, trial: int, epochs: float, outcome: Outcome) -> bool:
        return next(
            (
                rung.record(trial, outcome)
                for rung in self.rungs
                if epochs >= rung.epochs and trial not in rung.outcomes
            ),
            True,
        )


def quantile(ordered: Sequence[float], share: float) -> float:
    """To the last bit what numpy.percentile gives of them by its linear method, without sorting them anew."""
    place = (len(ordered) - 1) * share
    below = math.floor(place)
    part = place - below
    low, high = ordered[below], ordered[min(below + 1, len(ordered) - 1)]
    return low + (high - low) * part if part < 0.5 else high - (high - low) * (1 - part)


SCHEDULER = Asha
