"""Hyperband (Li et al. 2018, JMLR 18(185), algorithm 1): brackets of successive halving in synchronous rungs.

The first bracket starts most trials with least epochs, the last few with all epochs; then it begins anew. A trial that
reaches its rung pauses; when the rung is full, the best 1/eta of it go on from their checkpoints and the others end.
Other brackets fill the slots meanwhile.
"""

import math
from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from experiments.engine.events import Verdict
from experiments.engine.outcome import Outcome, ranks
from experiments.engine.strategies import Left, Scheduler, check_grace_period

Rungs = list[tuple[int, float]]


def brackets(max_epochs: float, eta: float, grace_period: float) -> list[Rungs]:
    """Each bracket as its rungs, (trials, epochs), the most exploring first; epochs are rounded down."""
    most = 0
    while grace_period * eta ** (most + 1) <= max_epochs * (1 + 1e-9):
        most += 1
    found = []
    for s in range(most, -1, -1):
        trials = math.ceil(round((most + 1) / (s + 1) * eta**s, 9))
        epochs = [max(grace_period, max_epochs // eta ** (s - i)) for i in range(s + 1)]
        found.append([(int(trials / eta**i), epochs[i]) for i in range(s + 1)])
    return found


class Bracket:
    """One successive halving. A rung is decided when all trials that it expects are recorded there or failed."""

    def __init__(self, rungs: Rungs, eta: float) -> None:
        self.rungs = rungs
        self.queue: list[int] = []
        self.dropped: list[int] = []
        self._eta = eta
        self._expected = [rungs[0][0]] + [-1] * len(rungs[1:])
        self._recorded: list[dict[int, Outcome | None]] = [{} for _ in rungs]
        self._level: dict[int, int] = {}
        self._paused: set[int] = set()
        self._left = 0

    @property
    def over(self) -> bool:
        """Whether all the trials that it will ever have are over."""
        return self.full and self._left == len(self._level)

    @property
    def full(self) -> bool:
        """Whether it takes no more trials."""
        return len(self._level) >= self._expected[0]

    def budget(self, trial: int) -> float:
        """Epochs to the rung it is on the way to, or will be."""
        return self.rungs[self._level[trial] + (trial in self._paused)][1]

    def start(self, trial: int) -> None:
        """A new trial, or a promoted one; one that is not promoted yet closes its rung."""
        if trial not in self._level:
            self._level[trial] = 0
            return
        if trial not in self.queue:
            self._close(self._level[trial])
        for numbers in (self.queue, self.dropped):
            if trial in numbers:
                numbers.remove(trial)
        self._paused.discard(trial)
        self._level[trial] += 1

    def reach(self, trial: int, outcome: Outcome) -> Verdict:
        """The trial has trained for its budget."""
        level = self._level[trial]
        self._recorded[level][trial] = outcome
        if level == len(self.rungs) - 1:
            return "stop"
        self._paused.add(trial)
        self._decide_if_complete(level)
        return "pause"

    def leave(self, trial: int) -> None:
        """The trial is over: the rung it was on the way to, or was promoted to, expects it no longer."""
        level = self._level[trial]
        self._left += 1
        if trial in self.queue:
            self.queue.remove(trial)
            self._expected[level + 1] -= 1
            self._decide_if_complete(level + 1)
        if trial in self.dropped:
            self.dropped.remove(trial)
        self._paused.discard(trial)
        if trial not in self._recorded[level]:
            self._recorded[level][trial] = None
            self._decide_if_complete(level)

    def last(self) -> int | None:
        """Where no new trial comes: the first to promote of a first rung that is not full, once all there are done."""
        if self.full or len(self._recorded[0]) < len(self._level):
            return None
        return next((trial for trial in self._order(0) if trial in self._paused), None)

    def _order(self, level: int) -> list[int]:
        recorded = self._recorded[level]
        places = dict(zip(recorded, ranks(list(recorded.values())), strict=True))
        return sorted(recorded, key=lambda trial: places[trial])

    def _close(self, level: int) -> None:
        self._expected[level] = len(self._recorded[level])
        self._decide_if_complete(level)

    def _decide_if_complete(self, level: int) -> None:
        if level + 1 >= len(self.rungs) or len(self._recorded[level]) != self._expected[level]:
            return
        count = int(self._expected[0] / self._eta ** (level + 1))
        order = [trial for trial in self._order(level) if trial in self._paused]
        self.queue += order[: max(1, count)]
        self.dropped += order[max(1, count) :]
        self._expected[level + 1] = len(order[: max(1, count)])


class Hyperband(Scheduler):
    """Brackets one after the other; a trial belongs to the one that was open when it started."""

    class Config(BaseModel):
        """eta is the paper's η, grace_period the least epochs of a trial (the unit of the paper's R)."""

        model_config = ConfigDict(frozen=True, extra="forbid")
        eta: float = Field(3.0, ge=2.0, allow_inf_nan=False, description="reduction factor: 1 in eta passes a rung")
        grace_period: Annotated[float, Field(gt=0.0)] = Field(
            1.0, description="epochs every trial gets before it can be stopped"
        )

    def __init__(self, config: Config, max_epochs: float) -> None:
        check_grace_period(config.grace_period, max_epochs)
        self._eta = config.eta
        self._plan = brackets(max_epochs, config.eta, config.grace_period)
        self._count = 0
        self._brackets: list[Bracket] = []  # those that are not over
        self._of: dict[int, Bracket] = {}

    def budget(self, advised: bool = False) -> float:
        """Epochs to the first rung of the bracket that is open, or would be opened."""
        bracket = self._brackets[-1] if self._brackets and not self._brackets[-1].full else self._next()
        return bracket.rungs[0][1]

    def started(self, trial: int, advised: bool = False) -> None:
        """A new trial joins the open bracket."""
        if trial not in self._of:
            if not self._brackets or self._brackets[-1].full:
                self._brackets.append(self._next())
                self._count += 1
            self._of[trial] = self._brackets[-1]
        self._of[trial].start(trial)

    def judge(self, trial: int, epochs: float, outcome: Outcome) -> Verdict:
        """Pauses at a rung, stops at the last."""
        bracket = self._of[trial]
        return bracket.reach(trial, outcome) if epochs >= bracket.budget(trial) else "continue"

    def ended(self, trial: int) -> None:
        """Its rung does not wait for it."""
        bracket = self._of[trial]
        bracket.leave(trial)
        if bracket.over:
            self._brackets.remove(bracket)

    def promoted(self, left: Left) -> tuple[int, float] | None:
        """The best of the oldest bracket where some wait to go on."""
        for bracket in self._brackets:
            trial = bracket.queue[0] if bracket.queue else bracket.last() if left != "trials" else None
            if trial is not None:
                return trial, bracket.budget(trial)
        return None

    def dropped(self) -> Sequence[int]:
        """Those that a rung has let go."""
        return [trial for bracket in self._brackets for trial in bracket.dropped]

    def _next(self) -> Bracket:
        return Bracket(self._plan[self._count % len(self._plan)], self._eta)


SCHEDULER = Hyperband
