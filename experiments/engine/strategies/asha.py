"""Asynchronous successive halving, stopping variant (Li et al. 2020, MLSys, arXiv 1810.05934).

A trial that reaches a rung goes on only if its score is at least the (1 - 1/eta) quantile of the scores recorded
there before it. With one bracket it decides exactly as Ray's `AsyncHyperBandScheduler`.
"""

import bisect
import math
from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from experiments.engine.events import Verdict


class Asha:
    """Rungs at grace_period · eta^k up to the maximum epochs."""

    class Config(BaseModel):
        """eta is the paper's reduction factor η, grace_period its minimum resource r (in epochs)."""

        model_config = ConfigDict(frozen=True, extra="forbid")
        eta: float = Field(3.0, gt=1.0, description="reduction factor: 1 in eta trials passes a rung")
        grace_period: Annotated[float, Field(gt=0.0)] = Field(
            1.0, description="epochs every trial gets before it can be stopped"
        )

    def __init__(self, config: Config, max_epochs: float) -> None:
        if config.grace_period > max_epochs:
            raise ValueError(
                f"scheduler.grace_period must be at most epochs, got {config.grace_period:g} above {max_epochs:g}"
            )
        self._eta = config.eta
        self._max_epochs = max_epochs
        count = int(math.log(max_epochs / config.grace_period) / math.log(config.eta) + 1)
        milestones = [config.grace_period * config.eta**k for k in reversed(range(count))]
        self.rungs: list[tuple[float, dict[int, float]]] = [(milestone, {}) for milestone in milestones]
        self._ordered: dict[float, list[float]] = {milestone: [] for milestone in milestones}

    def judge(self, trial: int, epochs: float, score: float) -> Verdict:
        """Records the score at the highest rung reached and not yet recorded; stops below its cutoff."""
        if epochs >= self._max_epochs:
            self._record(trial, epochs, score)
            return "stop"
        if self._record(trial, epochs, score):
            return "continue"
        self._record(trial, epochs, score)
        return "stop"

    def _record(self, trial: int, epochs: float, score: float) -> bool:
        for milestone, scores in self.rungs:
            if epochs < milestone or trial in scores:
                continue
            ordered = self._ordered[milestone]
            # Ray's scheduler asks for a percentile, whose last bit can differ from that of the share.
            passes = not scores or score >= quantile(ordered, (1 - 1 / self._eta) * 100 / 100)
            scores[trial] = score
            bisect.insort(ordered, score)
            return passes
        return True


def quantile(ordered: Sequence[float], share: float) -> float:
    """To the last bit what numpy.percentile gives of them by its linear method, without sorting them anew."""
    place = (len(ordered) - 1) * share
    below = math.floor(place)
    part = place - below
    low, high = ordered[below], ordered[min(below + 1, len(ordered) - 1)]
    return low + (high - low) * part if part < 0.5 else high - (high - low) * (1 - part)


SCHEDULER = Asha
