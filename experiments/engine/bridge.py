"""The director as one Ray Searcher and one Ray TrialScheduler. Ray runs segments and is told CONTINUE or STOP.

Nothing of Ray Tune's own checkpoints, pause, retries or restore is used (house §7).
"""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial as RayTrial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from experiments.engine.director import Director
from experiments.engine.events import (
    Cancelled,
    Event,
    Expired,
    Failed,
    Lost,
    Reported,
    Segment,
    Started,
    Verdict,
    to_record,
)
from experiments.engine.ledger import Ledger, LedgerError
from experiments.engine.loss import draining, end, host, loss, survive_losses
from experiments.engine.watch import Cancel, News, Watch
from trainables.store import StorageError

Observer = Callable[[Event, Verdict], None]

# How often, in seconds, the cluster is asked how many segments it can run, and which nodes are about to go.
_SLOTS_PERIOD = 5.0
_DRAINING_PERIOD = 1.0


class Bridge:
    """Shared by the searcher and the scheduler: takes events to the director and into the ledger, in order.

    `job` turns a segment into the config its trainable gets; `slots` says how many may be in flight, and is asked
    again as a cluster grows and shrinks; `watch` ends what hangs or is due (None: nothing does); `clock` dates the
    records. `fault` is what the loop had to stop for, if Ray wrapped it in something of its own.
    """

    def __init__(
        self,
        director: Director,
        ledger: Ledger,
        job: Callable[[Segment], dict[str, Any]],
        *,
        slots: Callable[[], int],
        watch: Watch | None = None,
        clock: Callable[[], float] = time.time,
        observers: tuple[Observer, ...] = (),
    ) -> None:
        self.director = director
        self.fault: Exception | None = None
        self._ledger = ledger
        self._job = job
        self._ask_slots = slots
        self._slots, self._slots_due = 0, 0.0
        self._announced: set[str] = set()
        self._draining_due = 0.0
        self._watch = watch or Watch()
        self._clock = clock
        self._observers = observers
        # Takes a Ray trial that waits for its resources out of Ray's queue; the scheduler knows how.
        self.dequeue: Callable[[RayTrial], None] = lambda _: None
        self._segment_of: dict[str, int] = {}
        self._ray_trials: dict[int, RayTrial] = {}
        self._actors: dict[int, Any] = {}
        self._nodes: dict[int, str] = {}

    def suggest(self, ray_trial: str) -> dict[str, Any] | str | None:
        """The next segment's config, None to wait, or Ray's word for the end."""
        self.sweep()
        if len(self.director.in_flight) >= self._slots_now():
            return None
        answer = self.director.ask()
        if not isinstance(answer, Segment):
            return Searcher.FINISHED if answer == "done" else None
        self.record(Started(answer))
        self._segment_of[ray_trial] = answer.number
        return self._job(answer)

    def added(self, ray_trial: RayTrial) -> None:
        """Ray made a trial of what was suggested."""
        self._ray_trials[self._segment_of[ray_trial.trial_id]] = ray_trial

    def record(self, event: Event) -> Verdict:
        """Decides, then writes event and verdict down, then lets the observers look."""
        verdict = self.director.tell(event)
        try:
            self._ledger.append({**to_record(event), "verdict": verdict, "at": round(self._clock(), 3)})
            for observer in self._observers:
                observer(event, verdict)
        except (LedgerError, StorageError) as error:
            self.fault = error
            raise
        return verdict

    def result(self, ray_trial: str, result: dict[str, Any]) -> Verdict:
        """What a segment reported, or how it failed or was lost."""
        number = self._segment_of[ray_trial]
        if number not in self.director.in_flight:
            return "stop"
        self._watch.heard(number)
        for name, kind in (("failed", Failed), ("lost", Lost)):
            if name in result:
                self._record_end(kind(number, **json.loads(result[name])))
                return "stop"
        report = Reported(number, **json.loads(result["reported"]))
        self._nodes[number] = report.node
        verdict = self.record(report)
        if verdict != "continue":
            self._forget(number)
        return verdict

    def lost(self, ray_trial: RayTrial) -> None:
        """The segment's process went away, possibly before its first step (an idle actor that had died)."""
        self._note_draining()
        self._take_news()  # it may have been the watch that ended it
        number = self._segment_of.get(ray_trial.trial_id)
        if number in self.director.in_flight:
            why = loss(ray_trial, self._actors.get(number), self._announced)
            self._record_end(Lost(number, *why, self._node(number)))

    def lost_before_it_ran(self, ray_trial: str) -> None:
        """The same, where Ray names the trial only."""
        number = self._segment_of.get(ray_trial)
        if number in self.director.in_flight:
            self.lost(self._ray_trials[number])

    def sweep(self) -> None:
        """Runs in every turn of Ray's loop: records what the watch found, ends what is due."""
        if self._watch.superseded:
            self.fault = StorageError("another driver has taken this run over; follow that one, or cancel it")
            raise self.fault
        self._note_draining()
        self._look_after()
        self._take_news()
        for number in self.director.overdue():
            self._end(number, Lost(number, "time", self.director.expired, self._node(number)))

    def _take_news(self) -> None:
        for news in self._watch.news():
            self._take(news)

    def _take(self, news: News) -> None:
        match news:
            case Expired() if news.final > self.director.final or not self.director.expired:
                self.record(news)
            case Lost() if news.segment in self.director.in_flight:
                self._record_end(replace(news, node=self._node(news.segment)))
            case Cancel():
                self._cancel(news.trial)

    def _cancel(self, name: str) -> None:
        running = (trial for trial in self.director.trials.values() if not trial.ended)
        trial = next((trial for trial in running if trial.id == name), None)
        if trial is None:
            return  # it has come to its end in the meantime
        number = next((n for n in self.director.in_flight if self.director.trial_of(n) is trial), None)
        event = Cancelled(trial.stage, trial.number, "cancelled by the user")
        if number is None:
            self.record(event)
        else:
            self._end(number, event)

    def _end(self, number: int, event: Event) -> None:
        """Records a segment's end and ends its process, or its waiting for one."""
        self._watch.end(number)
        ray_trial = self._ray_trials.get(number)
        self.record(event)
        if ray_trial is not None and number not in self._actors:
            self.dequeue(ray_trial)
        self._forget(number)

    def _record_end(self, event: Failed | Lost) -> None:
        self.record(event)
        self._forget(event.segment)

    def _look_after(self) -> None:
        """Lets the watch know of the processes that segments were given since the last turn."""
        for number in self.director.in_flight - self._actors.keys():
            ray_trial = self._ray_trials.get(number)
            actor = ray_trial.temporary_state.ray_actor if ray_trial else None
            if actor is not None:
                self._actors[number] = actor
                self._watch.runs(number, partial(end, actor))

    def _node(self, number: int) -> str:
        return self._nodes.get(number) or (host(self._actors[number]) if number in self._actors else "")

    def _forget(self, number: int) -> None:
        self._watch.left(number)
        for table in (self._ray_trials, self._actors, self._nodes):
            table.pop(number, None)

    def _note_draining(self) -> None:
        now = time.monotonic()
        if now >= self._draining_due:
            self._announced |= draining()
            self._draining_due = now + _DRAINING_PERIOD

    def _slots_now(self) -> int:
        now = time.monotonic()
        if now >= self._slots_due:
            self._slots, self._slots_due = self._ask_slots(), now + _SLOTS_PERIOD
        return self._slots


class SegmentSearcher(Searcher):
    """Suggests the director's next segment."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self._bridge = bridge

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        return self._bridge.suggest(trial_id)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A trial that failed before it ran reaches no scheduler: take it from here."""
        if error:
            self._bridge.lost_before_it_ran(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """The ledger is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """The ledger is the state."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """The ledger is the state."""

    def restore_from_dir(self, checkpoint_dir: str) -> None:
        """The ledger is the state."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class SegmentScheduler(TrialScheduler):
    """Answers CONTINUE or STOP as the director decides."""

    _supports_buffered_results = False

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self._bridge = bridge
        survive_losses()

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        return True

    def on_trial_add(self, tune_controller: TuneController, trial: RayTrial) -> None:
        self._bridge.added(trial)

    def on_trial_result(self, tune_controller: TuneController, trial: RayTrial, result: dict[str, Any]) -> str:
        verdict = self._bridge.result(trial.trial_id, result)
        return str(TrialScheduler.CONTINUE if verdict == "continue" else TrialScheduler.STOP)

    def on_trial_error(self, tune_controller: TuneController, trial: RayTrial) -> None:
        self._bridge.lost(trial)

    def on_trial_complete(self, tune_controller: TuneController, trial: RayTrial, result: dict[str, Any]) -> None:
        """The verdict was given with the result."""

    def on_trial_remove(self, tune_controller: TuneController, trial: RayTrial) -> None:
        """Nothing is paused."""

    def choose_trial_to_run(self, tune_controller: TuneController) -> RayTrial | None:
        self._bridge.dequeue = tune_controller.stop_trial
        self._bridge.sweep()
        return None

    def debug_string(self) -> str:
        return "segments"

    def save(self, checkpoint_path: str) -> None:
        """The ledger is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """The ledger is the state."""

    def __getstate__(self) -> dict[str, Any]:
        return {}
