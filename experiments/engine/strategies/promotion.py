"""Asynchronous successive halving, promotion variant (Li et al. 2020, MLSys, arXiv 1810.05934, algorithm 2).

A trial pauses at each rung. A free slot goes to the best paused one that is among the first 1/eta of its rung, the
highest rung first, else to a new trial: who was passed over goes on later, once more have come that are worse. At a
rung a trial counts by the best that it reported up to there, so that one epoch's spike or dip decides nothing.

What past searches advise was found good by whole trainings there, so that the fewest epochs have no say in it: it first
pauses at the second rung.
"""

import bisect
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from experiments.engine.events import Verdict
from experiments.engine.outcome import Outcome, best, comparable, ranks
from experiments.engine.strategies import Left, Scheduler, check_grace_period
from experiments.engine.strategies.hyperband import brackets


class Rung:
    """Who was recorded there, in the order of `outcome.ranks`."""

    def __init__(self, epochs: float) -> None:
        self.epochs = epochs
        self.paused: set[int] = set()
        self._outcomes: dict[int, Outcome] = {}
        self._by_value: list[tuple[float, float, int, int]] = []
        self._by_ranks: list[int] | None = None

    def record(self, trial: int, outcome: Outcome) -> None:
        """Takes the outcome in."""
        self._outcomes[trial], self._by_ranks = outcome, None
        if len(outcome.values) == 1:  # what `ranks` gives, kept up
            value = comparable(outcome.values[0])
            bisect.insort(self._by_value, (outcome.violation, -value, len(self._outcomes), trial))

    def first(self) -> tuple[float, int] | None:
        """The best paused one, and the share of all that it is the last of."""
        order = self._order() if self.paused else []
        return next(
            (((place + 1) / len(order), trial) for place, trial in enumerate(order) if trial in self.paused), None
        )

    def _order(self) -> list[int]:
        if self._by_value:
            return [row[-1] for row in self._by_value]
        if self._by_ranks is None:
            places = dict(zip(self._outcomes, ranks(list(self._outcomes.values())), strict=True))
            self._by_ranks = sorted(places, key=places.__getitem__)
        return self._by_ranks


class Promotion(Scheduler):
    """Rungs as in Hyperband's first bracket, the last at the maximum epochs."""

    class Config(BaseModel):
        """eta is the paper's reduction factor η, grace_period its minimum resource r (in epochs)."""

        model_config = ConfigDict(frozen=True, extra="forbid")
        eta: float = Field(3.0, ge=2.0, allow_inf_nan=False, description="reduction factor: 1 in eta passes a rung")
        grace_period: Annotated[float, Field(gt=0.0)] = Field(
            1.0, description="epochs after which a trial pauses first"
        )

    def __init__(self, config: Config, max_epochs: float) -> None:
        check_grace_period(config.grace_period, max_epochs)
        self._eta = config.eta
        self._rungs = [Rung(epochs) for _, epochs in brackets(max_epochs, config.eta, config.grace_period)[0]]
        self._level: dict[int, int] = {}
        self._best: dict[int, Outcome] = {}
        self._running: set[int] = set()

    def budget(self, advised: bool = False) -> float:
        """Epochs to the rung where it first pauses."""
        return self._rungs[self._lowest(advised)].epochs

    def started(self, trial: int, advised: bool = False) -> None:
        """On its way to the rung where it first pauses, or to the one after that where it was paused."""
        if trial in self._level:
            self._rungs[self._level[trial]].paused.discard(trial)
            self._level[trial] += 1
        else:
            self._level[trial] = self._lowest(advised)
        self._running.add(trial)

    def judge(self, trial: int, epochs: float, outcome: Outcome) -> Verdict:
        """Pauses at a rung, stops at the last."""
        self._best[trial] = best(self._best.get(trial, outcome), outcome)
        rung = self._rungs[self._level[trial]]
        if epochs < rung.epochs:
            return "continue"
        rung.record(trial, self._best[trial])
        if rung is self._rungs[-1]:
            return "stop"
        rung.paused.add(trial)
        self._running.discard(trial)
        return "pause"

    def ended(self, trial: int) -> None:
        """It is promoted no more."""
        self._rungs[self._level[trial]].paused.discard(trial)
        self._running.discard(trial)

    def promoted(self, left: Left) -> tuple[int, float] | None:
        """Where no new trials come, one at least trains to the end; with time left all do, the best first."""
        above = [rung.epochs for rung in self._rungs[1:]]
        firsts = [(rung.first(), epochs) for rung, epochs in zip(self._rungs, above, strict=False)]
        waiting = [(*first, epochs) for first, epochs in reversed(firsts) if first]
        found = next((one for one in waiting if one[0] <= 1 / self._eta + 1e-9), None)
        if found is None and waiting and left == "time":
            found = min(waiting)
        if found is None and waiting and left == "nothing" and not self._running and self._none_at_the_end():
            found = waiting[0]
        return found and found[1:]

    def _lowest(self, advised: bool) -> int:
        return min(int(advised), len(self._rungs) - 1)

    def _none_at_the_end(self) -> bool:
        return max(self._level.values(), default=0) < len(self._rungs) - 1


SCHEDULER = Promotion
