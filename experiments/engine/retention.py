"""Which checkpoints an experiment still needs; the others are deleted once the reason is durable."""

import contextlib
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from experiments.engine import references
from experiments.engine.director import Director, Trial
from experiments.engine.events import Checkpoint, Event, Reported, Started, Verdict
from experiments.engine.frontier import Objectives, feasible, score
from experiments.engine.ledger import Ledger
from experiments.engine.report.summary import SEEDS, choice, frontier, picks
from trainables.store import StorageError, Store

TRIALS = "trials"
# A checkpoint lies at trials/<trial>/<segment>/<epochs>.
_DEPTH = 4


class Retention:
    """Keeps the last checkpoint of every running or paused trial, what a new one goes on from until it has its own,
    and of the ended ones those on their stage's frontier, and finalists trained with more seeds.

    `spec`, resolved, brings constraints, `choose` and the budget `disk` in bytes: what meets the constraints has a
    frontier of its own, from which the finalists are picked, and above the budget the checkpoints on the frontiers that
    no finalist needs go, the worst by `choose` first. `say` is told once when what is needed alone is more than that.

    It begins with the director as the ledger left it, and deletes the checkpoints that no record names.
    """

    def __init__(
        self,
        director: Director,
        ledger: Ledger,
        store: Store,
        objectives: Objectives,
        *,
        spec: Mapping[str, Any] | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._director = director
        self._ledger = ledger
        self._store = store
        self._objectives = objectives
        self._spec = spec or {"constraints": {}, "disk": None}
        self._say = say
        self._told = False
        self._kept: dict[str, str] = {}
        self._sizes: dict[str, int] = {}
        self._frontiers: dict[str, list[Trial]] = {}
        self._pausing: dict[str, Trial] = {}
        # What a trial began from that has no checkpoint of its own yet, by its id.
        self._begun_from: dict[str, str] = {}
        for segment in director.segments.values():
            self._borrow(director.trial_of(segment.number), segment.start)
        for trial in director.trials.values():
            self._sizes |= {report.checkpoint: report.size for report in trial.reports if report.checkpoint}
            self._look(trial)
        for path in self._left_behind():
            ledger.when_durable(partial(self._remove, path))

    def __call__(self, event: Event, verdict: Verdict) -> None:
        """Looks at the trial an event was about, at its stage's frontier when it ended, and at the budget."""
        if isinstance(event, Started):
            self._borrow(self._director.trial_of(event.segment.number), event.segment.start)
        for other in [other for other in self._pausing.values() if other.status != "paused"]:
            self._look(other)  # promoted, dropped by its rung, or its time is up
        trial = self._director.about(event)
        if trial is None:
            return
        if isinstance(event, Reported) and event.checkpoint:
            self._sizes[event.checkpoint] = event.size
        self._look(trial)
        if self._spec["disk"] is not None:
            self._economise(self._spec["disk"])

    def _look(self, trial: Trial) -> None:
        newest = trial.checkpoint.path if trial.checkpoint else None
        if self._kept.get(trial.id) != newest:
            self._drop(trial)
        if newest is not None:
            self._kept[trial.id] = newest
        self._pausing.pop(trial.id, None)
        if trial.status == "paused":
            self._pausing[trial.id] = trial
        if trial.ended and not trial.stage.startswith(f"{SEEDS}."):
            self._ended(trial)
        if trial.ended or newest is not None:
            self._give_back(trial)

    def _borrow(self, trial: Trial, start: Checkpoint | None) -> None:
        if start is not None and trial.checkpoint is None and not trial.ended:
            self._begun_from[trial.id] = start.path

    def _give_back(self, trial: Trial) -> None:
        path = self._begun_from.pop(trial.id, None)
        if path is not None and path not in {*self._kept.values(), *self._begun_from.values()}:
            self._sizes.pop(path, None)
            self._ledger.when_durable(partial(self._remove, path))

    def _ended(self, trial: Trial) -> None:
        """Only what is on the frontier can be on it later, so the others need not be looked at again."""
        before = [other for other in self._frontiers.get(trial.stage, []) if other is not trial]
        candidates = sorted([*before, trial], key=lambda other: other.number)
        fit = [other for other in candidates if feasible(other.metrics, self._spec["constraints"])]
        best = {other.id for some in (candidates, fit) for other in frontier(some, self._objectives)}
        self._frontiers[trial.stage] = [other for other in candidates if other.id in best]
        for other in candidates:
            if other.id not in best and other.ended:
                self._drop(other)

    def _drop(self, trial: Trial) -> None:
        path = self._kept.pop(trial.id, None)
        if path is not None and path not in self._begun_from.values():
            self._sizes.pop(path, None)
            self._ledger.when_durable(partial(self._remove, path))

    def _remove(self, path: str) -> None:
        with contextlib.suppress(StorageError):  # what stays goes when the run goes on
            self._store.delete(path)

    def _economise(self, budget: float) -> None:
        while (size := self._used()) > budget:
            spare = self._spare()
            if not spare:
                return self._warn(size, budget)
            self._drop(min(spare, key=self._choice))
        return None

    def _used(self) -> float:
        """Bytes of the kept checkpoints, and of the artifacts: weights and network, each of the model's size."""
        artifacts = [t.metrics["size_mb"] for t in self._director.trials.values() if t.metrics.get("artifact")]
        paths = {*self._kept.values(), *self._begun_from.values()}
        return float(sum(self._sizes.get(path, 0) for path in paths) + 2e6 * sum(artifacts))

    def _spare(self) -> list[Trial]:
        """Ended trials whose checkpoint no finalist, no stage to come and no segment in flight needs."""
        segments = [self._director.segments[number] for number in self._director.in_flight]
        needed = {segment.start.path for segment in segments if segment.start}
        needed |= {segment.config["checkpoint"] for segment in segments if "checkpoint" in segment.config}
        found = []
        handed_on = references.needed(self._director, self._spec)
        for best in self._frontiers.values():
            picked = {trial.id for trial in picks(best, self._spec)} | handed_on
            found += [t for t in best if t.id not in picked and self._kept.get(t.id, "") not in {"", *needed}]
        return [trial for trial in found if trial.ended]

    def _choice(self, trial: Trial) -> float:
        name, direction = choice(self._spec)
        value = score(trial.metrics, name, direction)
        return -math.inf if math.isnan(value) else value

    def _warn(self, size: float, budget: float) -> None:
        if not self._told:
            self._told = True
            self._say(
                f"disk: the checkpoints and artifacts still needed take {size / 1e6:,.1f} MB, the budget is "
                f"{budget / 1e6:,.1f} MB; a larger `disk` may be given when the run goes on"
            )

    def _left_behind(self) -> set[str]:
        """Checkpoints and drafts of a driver that was killed."""
        names = self._store.names(TRIALS)
        found = {"/".join(name.split("/")[:_DEPTH]) for name in names if name.count("/") >= _DEPTH}
        if self._store.local is not None:
            drafts = self._store.local.glob(f"{TRIALS}/*/*/.*.part")
            found |= {str(path.relative_to(self._store.local)) for path in drafts}
        return found - {*self._kept.values(), *self._begun_from.values()}
