"""Decides what an experiment does next: stages, retries, endings. A fold over events; no ray, no clock, no files."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from experiments.engine.events import (
    Checkpoint,
    Config,
    Event,
    Expired,
    Failed,
    Lost,
    Metrics,
    Reported,
    Segment,
    Started,
    Verdict,
)
from experiments.engine.strategies import Proposal, Signal, Strategy

Status = Literal["running", "completed", "stopped", "error", "infeasible", "diverged", "lost", "expired"]
Key = tuple[str, int]

# How often a trial whose process went away is tried again.
MAX_ATTEMPTS = 3


@dataclass
class Trial:
    """One point of a stage's search, and all that is known of it."""

    stage: str
    number: int
    config: Config
    status: Status = "running"
    reason: str = ""
    attempts: int = 1
    losses: int = 0
    reports: list[Reported] = field(default_factory=list)
    checkpoint: Checkpoint | None = None

    @property
    def id(self) -> str:
        """Its name in folders and reports."""
        return f"{self.stage}-{self.number:03d}"

    @property
    def epochs(self) -> float:
        """Epochs reported so far."""
        return self.reports[-1].epochs if self.reports else 0.0

    @property
    def metrics(self) -> Metrics:
        """Its last reported metrics."""
        return self.reports[-1].metrics if self.reports else {}

    @property
    def failed(self) -> bool:
        """Whether it ended without a result to rank."""
        return self.status in ("error", "infeasible", "diverged", "lost")


@dataclass(frozen=True)
class Stage:
    """One part of an experiment.

    `plan` makes its strategy when the stages named in `after` are done; it sees the director, so a stage can take
    what an earlier one found. `alone`: one segment at a time with nothing beside it, as a timing needs.
    `watched` names metrics that must be finite. `timed`: the time budget ends it.
    """

    name: str
    routine: str
    plan: Callable[["Director"], Strategy]
    after: tuple[str, ...] = ()
    alone: bool = False
    timed: bool = False
    watched: tuple[str, ...] = ()
    common: Mapping[str, Any] = field(default_factory=dict)


class Director:
    """ask() → segment, "wait" or "done"; tell(event) → verdict. Its state is the fold of all events told."""

    def __init__(self, stages: list[Stage]) -> None:
        self.stages = {stage.name: stage for stage in stages}
        self.trials: dict[Key, Trial] = {}
        self.segments: dict[int, Segment] = {}
        self.in_flight: set[int] = set()
        self.expired = ""
        self._strategies: dict[str, Strategy] = {}
        self._retries: list[Key] = []

    # What to do next

    def ask(self) -> Segment | Signal:
        """The next segment; "wait" only while something is in flight; "done" when all stages are."""
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

    def _next(self, stage: Stage) -> Segment | Signal:
        retry = next((key for key in self._retries if key[0] == stage.name), None)
        if retry is not None:
            return self._retry(self.trials[retry])
        if stage.timed and self.expired:
            return "done"
        answer = self._strategy(stage).ask()
        return self._segment(stage, answer) if isinstance(answer, Proposal) else answer

    def _strategy(self, stage: Stage) -> Strategy:
        if stage.name not in self._strategies:
            self._strategies[stage.name] = stage.plan(self)
        return self._strategies[stage.name]

    def _segment(self, stage: Stage, proposal: Proposal) -> Segment:
        start = None
        if proposal.start is not None:
            start = self.trials[stage.name, proposal.start[0]].checkpoint
        return Segment(len(self.segments), stage.name, proposal.trial, 0, proposal.config, proposal.epochs, start)

    def _retry(self, trial: Trial) -> Segment:
        last = max(
            (s for s in self.segments.values() if (s.stage, s.trial) == (trial.stage, trial.number)),
            key=lambda segment: segment.number,
        )
        return replace(last, number=len(self.segments), attempt=trial.attempts, start=trial.checkpoint or last.start)

    # What happened

    def tell(self, event: Event) -> Verdict:
        """Takes an event into the state; the verdict matters for `Reported` alone."""
        match event:
            case Started():
                self._started(event.segment)
            case Reported():
                return self._reported(event)
            case Failed():
                self._end(self._leave(event.segment), event.kind, event.reason)
            case Lost():
                self._lost(event)
            case Expired():
                self.expired = event.reason
        return "continue"

    def trial_of(self, segment: int) -> Trial:
        """The trial a segment belongs to."""
        return self.trials[self.segments[segment].stage, self.segments[segment].trial]

    def of_stage(self, name: str) -> list[Trial]:
        """The trials of a stage, in order."""
        return [trial for key, trial in self.trials.items() if key[0] == name]

    def _started(self, segment: Segment) -> None:
        key = (segment.stage, segment.trial)
        self.segments[segment.number] = segment
        self.in_flight.add(segment.number)
        if segment.attempt:
            self._retries.remove(key)
            self.trials[key].attempts += 1
            return
        self._strategy(self.stages[segment.stage]).started(segment.trial, segment.config)
        self.trials[key] = Trial(segment.stage, segment.trial, segment.config)

    def _reported(self, event: Reported) -> Verdict:
        trial = self.trial_of(event.segment)
        if event.checkpoint is not None:
            trial.checkpoint = Checkpoint(event.checkpoint, event.epochs)
        if event.epochs <= trial.epochs:  # a retry repeats what was already told: the first report counts
            return "continue"
        trial.reports.append(event)
        bad = self._not_finite(trial)
        if bad:
            self._leave(event.segment)
            self._end(trial, "diverged", bad)
            return "stop"
        return self._judge(trial, event)

    def _judge(self, trial: Trial, event: Reported) -> Verdict:
        stage = self.stages[trial.stage]
        verdict = self._strategy(stage).reported(trial.number, event.epochs, event.metrics)
        full = event.epochs >= self.segments[event.segment].epochs
        expired = stage.timed and bool(self.expired)
        if not (verdict == "stop" or full or expired):
            return "continue"
        self._leave(event.segment)
        status: Status = "completed" if full else "expired" if expired else "stopped"
        self._end(trial, status, self.expired if status == "expired" else "")
        return "stop"

    def _not_finite(self, trial: Trial) -> str:
        for name in self.stages[trial.stage].watched:
            value = trial.metrics.get(name)
            if not isinstance(value, int | float) or not math.isfinite(value):
                there = ", ".join(sorted(trial.metrics)) or "none"
                what = "is not finite" if name in trial.metrics else f"was not reported (reported: {there})"
                return f"{name} {what} after {trial.epochs:g} epochs"
        return ""

    def _lost(self, event: Lost) -> None:
        trial = self._leave(event.segment)
        trial.losses += event.counted
        if trial.losses >= MAX_ATTEMPTS:
            self._end(trial, "lost", f"{event.reason} ({trial.losses} times)")
        elif self.stages[trial.stage].timed and self.expired:
            self._end(trial, "expired", self.expired)
        else:
            self._retries.append((trial.stage, trial.number))

    def _leave(self, segment: int) -> Trial:
        self.in_flight.remove(segment)
        return self.trial_of(segment)

    def _end(self, trial: Trial, status: Status, reason: str) -> None:
        trial.status, trial.reason = status, reason
        self._strategy(self.stages[trial.stage]).ended(trial.number, trial.failed)
