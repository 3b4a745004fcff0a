"""Decides what an experiment does next: stages, retries, endings. A fold over events; no ray, no clock, no files."""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from experiments.engine.events import (
    Cancelled,
    Checkpoint,
    Event,
    Expired,
    Extended,
    Failed,
    FailureKind,
    LossKind,
    Lost,
    Reported,
    Segment,
    Started,
    Verdict,
)
from experiments.engine.strategies import Proposal, Signal, Strategy
from experiments.engine.strategies.listed import Listed
from experiments.engine.trial import Failure, Key, Status, Trial

__all__ = ["MAX_ATTEMPTS", "Director", "Failure", "Key", "Stage", "Status", "Trial"]

# How often a trial whose process or node went away is tried.
MAX_ATTEMPTS = 3
# How often one that took more memory than its node has: with others beside it, then alone.
_MEMORY_ATTEMPTS = 2
# Where the number of trials is open, a share of failures is said of so many at least.
_FEWEST = 10
_STATUSES: dict[Verdict, Status] = {"continue": "running", "pause": "paused", "stop": "stopped"}
_VERDICTS: dict[Status, Verdict] = {"running": "continue", "paused": "pause"}


@dataclass(frozen=True)
class Stage:
    """One part of an experiment.

    `plan` makes its strategy when the stages named in `after` are done; it sees the director, so a stage can take
    what an earlier one found. `alone`: one segment at a time with nothing beside it, as a timing needs.
    `watched` names metrics that must be finite. `timed`: the time budget ends it. `max_failed` is the share of its
    `trials` (None: of those ended, ten at least) that may end as error or lost before the experiment is given up.
    """

    name: str
    routine: str
    plan: Callable[["Director"], Strategy]
    after: tuple[str, ...] = ()
    alone: bool = False
    timed: bool = False
    watched: tuple[str, ...] = ()
    trials: int | None = None
    max_failed: float = 1.0
    common: Mapping[str, Any] = field(default_factory=dict)


class Unreachable(ValueError):  # noqa: N818  it says what is so
    """No trial of a stage can meet what is asked for, by what earlier stages measured: its plan raises this."""


class Director:
    """ask() → segment, "wait" or "done"; tell(event) → verdict. Its state is the fold of all events told.

    `expired`, `given_up` and `unreachable` say why nothing more is proposed; empty while all goes its way.
    """

    def __init__(self, stages: list[Stage]) -> None:
        self.stages = {stage.name: stage for stage in stages}
        self.trials: dict[Key, Trial] = {}
        self.segments: dict[int, Segment] = {}
        self.in_flight: set[int] = set()
        self.expired = ""
        self.final = False
        self.given_up = ""
        self.unreachable = ""
        self._strategies: dict[str, Strategy] = {}
        self._retries: list[Key] = []
        self._newest: dict[Key, int] = {}
        self._ended: dict[str, Counter[Status]] = {stage.name: Counter() for stage in stages}

    # What to do next

    def ask(self) -> Segment | Signal:
        """The next segment; "wait" only while something is in flight; "done" when all stages are."""
        crowded = next((key for key in self._retries if self.trials[key].crowded), None)
        if crowded is not None and not self.in_flight:
            return self._retry(self.trials[crowded])
        if crowded is not None or any(self.trial_of(number).crowded for number in self.in_flight):
            return "wait"
        for stage in self.stages.values():
            if any(not self.done(name) for name in stage.after):
                continue
            if stage.alone and self.in_flight:
                continue
            answer = self._next(stage)
            if isinstance(answer, Segment):
                return answer
        return "wait" if self.in_flight else "done"

    def done(self, name: str) -> bool:
        """Whether a stage has nothing in flight, nothing to retry and nothing more to propose."""
        stage = self.stages[name]
        if any(self.segments[number].stage == name for number in self.in_flight):
            return False
        return all(self.done(before) for before in stage.after) and not isinstance(self._next(stage), Segment)

    def overdue(self) -> list[int]:
        """The segments in flight that time is up for: of stages that have a result without them."""
        if not self.expired:
            return []
        return sorted(number for number in self.in_flight if self._over(self.stages[self.segments[number].stage]))

    def _next(self, stage: Stage) -> Segment | Signal:
        retry = next((key for key in self._retries if key[0] == stage.name), None)
        if retry is not None:
            return self._retry(self.trials[retry])
        if self.given_up or self.unreachable or self._over(stage) or (stage.timed and self.expired):
            return "done"
        answer = self._strategy(stage).ask()
        return self._segment(stage, answer) if isinstance(answer, Proposal) else answer

    def _out_of_time(self, stage: Stage) -> bool:
        return self.final or (stage.timed and bool(self.expired))

    def _over(self, stage: Stage) -> bool:
        """Out of time, with a result: a stage without one goes on until its first."""
        return self._out_of_time(stage) and any(t.reports and not t.failed for t in self.of_stage(stage.name))

    def _strategy(self, stage: Stage) -> Strategy:
        if stage.name not in self._strategies:
            self._strategies[stage.name] = self._planned(stage)
        return self._strategies[stage.name]

    def _planned(self, stage: Stage) -> Strategy:
        try:
            return stage.plan(self)
        except Unreachable as error:
            self.unreachable = str(error)
            return Listed([])

    def _segment(self, stage: Stage, proposal: Proposal) -> Segment:
        start = None
        if proposal.start is not None:
            start = self.trials[stage.name, proposal.start].checkpoint
        number, epochs = len(self.segments), proposal.epochs
        return Segment(number, stage.name, proposal.trial, 0, proposal.config, epochs, start, proposal.refused)

    def _retry(self, trial: Trial) -> Segment:
        last = self.segments[self._newest[trial.stage, trial.number]]
        start = trial.checkpoint or last.start
        return replace(last, number=len(self.segments), attempt=trial.attempts, start=start, refused=())

    # What happened

    def tell(self, event: Event, recorded: Verdict | None = None) -> Verdict:
        """Takes an event into the state; the verdict matters for `Reported` alone.

        recorded: what was decided when the event happened. It is applied then; what this code would have decided is
        returned all the same.
        """
        verdict: Verdict = "continue"
        match event:
            case Started():
                self._started(event.segment)
            case Reported():
                verdict = self._reported(event, recorded)
            case Failed():
                trial = self._leave(event.segment)
                self._failed(event.segment, event.kind, event.reason, trace=event.trace, node=event.node)
                self._end(trial, event.kind, event.reason)
            case Lost():
                self._lost(event)
            case Cancelled():
                self._cancelled(event)
            case Expired():
                self._expire(event)
            case Extended():
                self._extend(event)
        self._drop()
        return verdict

    def trial_of(self, segment: int) -> Trial:
        """The trial a segment belongs to."""
        return self.trials[self.segments[segment].stage, self.segments[segment].trial]

    def about(self, event: Event) -> Trial | None:
        """The trial an event is about; None for `Expired` and `Extended`."""
        match event:
            case Started():
                return self.trial_of(event.segment.number)
            case Cancelled():
                return self.trials[event.stage, event.trial]
            case Expired() | Extended():
                return None
        return self.trial_of(event.segment)

    def of_stage(self, name: str) -> list[Trial]:
        """The trials of a stage, in order."""
        return [trial for key, trial in self.trials.items() if key[0] == name]

    def _started(self, segment: Segment) -> None:
        key = (segment.stage, segment.trial)
        self.segments[segment.number] = segment
        self._newest[key] = segment.number
        self.in_flight.add(segment.number)
        if segment.attempt:
            self._again(self.trials[key])
            return
        strategy = self._strategy(self.stages[segment.stage])
        for config in segment.refused:
            strategy.refused(config)
        strategy.started(segment.trial, segment.config)
        if key in self.trials:
            self._resumed(self.trials[key])
        else:
            self.trials[key] = Trial(segment.stage, segment.trial, segment.config)

    def _resumed(self, trial: Trial) -> None:
        """A paused trial was promoted, if need be one that this code would have dropped."""
        if trial.ended:
            self._ended[trial.stage][trial.status] -= 1
        trial.status, trial.reason = "running", ""

    def _again(self, trial: Trial) -> None:
        """A retry was handed out, if need be of a trial that this code would have given up (other limits then)."""
        key = (trial.stage, trial.number)
        if key in self._retries:
            self._retries.remove(key)
        else:
            self._ended[trial.stage][trial.status] -= 1
        trial.status, trial.reason = "running", ""
        trial.attempts += 1

    def _reported(self, event: Reported, recorded: Verdict | None) -> Verdict:
        trial = self.trial_of(event.segment)
        if event.checkpoint is not None:
            trial.checkpoint = Checkpoint(event.checkpoint, event.epochs)
        if event.epochs <= trial.epochs:  # a retry repeats what was already told: the first report counts
            return "continue"
        trial.reports.append(event)
        bad = self._not_finite(trial)
        status: Status = "diverged"
        reason = bad
        if not bad:
            status, reason = self._judged(trial, event, recorded)
        decided = _VERDICTS.get(status, "stop")
        final = recorded or decided
        if final == "continue":
            return decided
        self._leave(event.segment)
        if final == "pause":
            trial.status = "paused"
            self._strategy(self.stages[trial.stage]).paused(trial.number)
            return decided
        if bad:
            self._failed(event.segment, "diverged", bad, node=event.node)
        self._end(trial, "stopped" if status in _VERDICTS else status, reason)
        return decided

    def _judged(self, trial: Trial, event: Reported, recorded: Verdict | None) -> tuple[Status, str]:
        """What becomes of a trial with a sound report: "running" where it goes on."""
        stage = self.stages[trial.stage]
        verdict = self._strategy(stage).reported(trial.number, event.epochs, event.metrics)
        if event.epochs >= self.segments[event.segment].epochs and verdict != "pause":
            return "completed", ""
        if self._out_of_time(stage):
            return "expired", self.expired
        # The share that may fail is free to change between sessions.
        if self.given_up and recorded in (None, "stop"):
            return "stopped", self.given_up
        return _STATUSES[verdict], ""

    def _not_finite(self, trial: Trial) -> str:
        for name in self.stages[trial.stage].watched:
            value = trial.metrics.get(name)
            if not isinstance(value, int | float) or not math.isfinite(value):
                there = ", ".join(sorted(trial.metrics)) or "none"
                what = f"is {value!r}" if name in trial.metrics else f"was not reported (reported: {there})"
                return f"{name} {what} at epoch {trial.epochs:g}; it must be a finite number"
        return ""

    def _lost(self, event: Lost) -> None:
        trial = self._leave(event.segment)
        self._failed(event.segment, event.kind, event.reason, node=event.node)
        if not event.checkpoint:
            trial.checkpoint = None
            self.segments[event.segment] = replace(self.segments[event.segment], start=None)
        status, reason = self._after_loss(trial, event)
        if status == "running":
            self._retries.append((trial.stage, trial.number))
        else:
            self._end(trial, status, reason)

    def _after_loss(self, trial: Trial, event: Lost) -> tuple[Status, str]:
        """What becomes of a trial that was lost: "running" where it is tried again."""
        stage = self.stages[trial.stage]
        if event.kind == "time" or self._over(stage) or (event.kind == "hung" and self._out_of_time(stage)):
            return "expired", self.expired or event.reason
        if sum(failure.kind == "memory" for failure in trial.failures) >= _MEMORY_ATTEMPTS:
            return "infeasible", f"{event.reason} (also alone)"
        if trial.losses >= MAX_ATTEMPTS:
            return "lost", f"{event.reason} ({trial.losses} times)"
        return ("lost", event.reason) if self.given_up else ("running", "")

    def _cancelled(self, event: Cancelled) -> None:
        key = (event.stage, event.trial)
        trial = self.trials[key]
        if trial.ended:
            return
        self.in_flight -= {self._newest[key]}
        self._retries = [other for other in self._retries if other != key]
        self._end(trial, "cancelled", event.reason)

    def _expire(self, event: Expired) -> None:
        self.expired, self.final = event.reason, self.final or event.final
        for key in [key for key in self._retries if self._over(self.stages[key[0]])]:
            self._retries.remove(key)
            self._end(self.trials[key], "expired", self.expired)
        self.drop_paused("expired", self.expired)

    def drop_paused(self, status: Status = "stopped", reason: str = "") -> None:
        """No paused trial goes on any more."""
        for trial in [trial for trial in self.trials.values() if trial.status == "paused"]:
            self._end(trial, status, reason)

    def _drop(self) -> None:
        """Ends the paused trials that their strategies gave up."""
        for name, strategy in self._strategies.items():
            for number in strategy.dropped():
                if self.trials[name, number].status == "paused":
                    self._end(self.trials[name, number], "stopped", "")

    def _extend(self, event: Extended) -> None:
        """Nothing ends it any more that ended it before."""
        self.expired, self.final, self.given_up, self.unreachable = "", False, "", ""
        for stage in self.stages.values():
            if event.stage in stage.after:
                self._strategies.pop(stage.name, None)

    def _leave(self, segment: int) -> Trial:
        self.in_flight.remove(segment)
        return self.trial_of(segment)

    def _failed(
        self, segment: int, kind: FailureKind | LossKind, reason: str, *, trace: str = "", node: str = ""
    ) -> None:
        failure = Failure(self.segments[segment].attempt, kind, reason, trace, node)
        self.trial_of(segment).failures.append(failure)

    def _end(self, trial: Trial, status: Status, reason: str) -> None:
        trial.status, trial.reason = status, reason
        # What the user cancelled says nothing about its configuration.
        self._strategy(self.stages[trial.stage]).ended(trial.number, trial.failed and status != "cancelled")
        self._ended[trial.stage][status] += 1
        if status in ("error", "lost") and not self.given_up:
            self._give_up_if_too_many(self.stages[trial.stage])

    def _give_up_if_too_many(self, stage: Stage) -> None:
        ended = self._ended[stage.name]
        failed, planned = ended["error"] + ended["lost"], stage.trials or max(_FEWEST, ended.total())
        if failed <= stage.max_failed * planned:
            return
        self.given_up = (
            f"{stage.name}: {failed} of {planned} trials ended as error or lost, max_failed allows {stage.max_failed:g}"
        )
        waiting, self._retries = self._retries, []
        for key in waiting:
            self._end(self.trials[key], "lost", self.trials[key].failures[-1].reason)
        self.drop_paused("stopped", self.given_up)
