"""The director as one Ray Searcher and one Ray TrialScheduler. Ray runs segments and is told CONTINUE or STOP.

Nothing of Ray Tune's own checkpoints, pause, retries or restore is used (house §7).
"""

import json
import time
from collections.abc import Callable
from typing import Any

from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial as RayTrial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from experiments.engine.director import Director
from experiments.engine.events import (
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
from experiments.engine.ledger import Ledger

Observer = Callable[[Event, Verdict], None]


class Bridge:
    """Shared by the searcher and the scheduler: takes events to the director and into the ledger, in order.

    `job` turns a segment into the config its trainable gets; `slots` bounds what is in flight; `deadline` is the
    moment (of `clock`) at which the time budget ends.
    """

    def __init__(
        self,
        director: Director,
        ledger: Ledger,
        job: Callable[[Segment], dict[str, Any]],
        *,
        slots: int,
        deadline: float | None = None,
        clock: Callable[[], float] = time.time,
        observers: tuple[Observer, ...] = (),
    ) -> None:
        self.director = director
        self._ledger = ledger
        self._job = job
        self._slots = slots
        self._deadline = deadline
        self._clock = clock
        self._observers = observers
        self._segment_of: dict[str, int] = {}

    def suggest(self, ray_trial: str) -> dict[str, Any] | str | None:
        """The next segment's config, None to wait, or Ray's word for the end."""
        self.sweep()
        if len(self.director.in_flight) >= self._slots:
            return None
        answer = self.director.ask()
        if not isinstance(answer, Segment):
            return Searcher.FINISHED if answer == "done" else None
        self.record(Started(answer))
        self._segment_of[ray_trial] = answer.number
        return self._job(answer)

    def record(self, event: Event) -> Verdict:
        """Decides, then writes event and verdict down, then lets the observers look."""
        verdict = self.director.tell(event)
        self._ledger.append({**to_record(event), "verdict": verdict, "at": round(self._clock(), 3)})
        for observer in self._observers:
            observer(event, verdict)
        return verdict

    def result(self, ray_trial: str, result: dict[str, Any]) -> Verdict:
        """What a segment reported or how it failed."""
        number = self._segment_of[ray_trial]
        if number not in self.director.in_flight:
            return "stop"
        if "failure" in result:
            self.record(Failed(number, **json.loads(result["failure"])))
            return "stop"
        return self.record(Reported(number, **json.loads(result["report"])))

    def lost(self, ray_trial: str) -> None:
        """The segment's process went away, possibly before its first step (an idle actor that had died)."""
        number = self._segment_of.get(ray_trial)
        if number in self.director.in_flight:
            self.record(Lost(number, "process", "its process or node was lost"))

    def sweep(self) -> None:
        """Runs in every turn of Ray's loop: ends the searches when the time budget is used."""
        if self._deadline is not None and self._clock() >= self._deadline and not self.director.expired:
            self.record(Expired("the time budget was used up"))


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
            self._bridge.lost(trial_id)

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

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        return True

    def on_trial_add(self, tune_controller: TuneController, trial: RayTrial) -> None:
        """The searcher already knows it."""

    def on_trial_result(self, tune_controller: TuneController, trial: RayTrial, result: dict[str, Any]) -> str:
        verdict = self._bridge.result(trial.trial_id, result)
        return str(TrialScheduler.STOP if verdict == "stop" else TrialScheduler.CONTINUE)

    def on_trial_error(self, tune_controller: TuneController, trial: RayTrial) -> None:
        self._bridge.lost(trial.trial_id)

    def on_trial_complete(self, tune_controller: TuneController, trial: RayTrial, result: dict[str, Any]) -> None:
        """The verdict was given with the result."""

    def on_trial_remove(self, tune_controller: TuneController, trial: RayTrial) -> None:
        """Nothing is paused."""

    def choose_trial_to_run(self, tune_controller: TuneController) -> RayTrial | None:
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
