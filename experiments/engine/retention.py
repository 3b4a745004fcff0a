"""Which checkpoints an experiment still needs; the others are deleted once the reason is durable."""

import contextlib

from experiments.engine.director import Director, Trial
from experiments.engine.events import Event, Failed, Lost, Reported, Verdict
from experiments.engine.frontier import Objectives, non_dominated, vector
from experiments.engine.ledger import Ledger
from trainables.store import StorageError, Store


class Retention:
    """Keeps the last checkpoint of every running trial, and of the ended ones those on their stage's frontier."""

    def __init__(self, director: Director, ledger: Ledger, store: Store, objectives: Objectives) -> None:
        self._director = director
        self._ledger = ledger
        self._store = store
        self._objectives = objectives
        self._kept: dict[str, str] = {}

    def __call__(self, event: Event, verdict: Verdict) -> None:
        """Looks at the trial an event was about, and at its stage's frontier when it ended."""
        if not isinstance(event, Reported | Failed | Lost):
            return
        trial = self._director.trial_of(event.segment)
        self._replace(trial)
        if trial.status != "running":
            self._sweep(trial.stage)

    def _replace(self, trial: Trial) -> None:
        newest = trial.checkpoint.path if trial.checkpoint else None
        old = self._kept.get(trial.id)
        if newest is not None:
            self._kept[trial.id] = newest
        if old is not None and old != newest:
            self._delete(old)

    def _sweep(self, stage: str) -> None:
        ended = [t for t in self._director.of_stage(stage) if t.status != "running" and t.id in self._kept]
        best = non_dominated([vector({} if t.failed else t.metrics, self._objectives) for t in ended])
        for index, trial in enumerate(ended):
            if index not in best:
                self._delete(self._kept.pop(trial.id))

    def _delete(self, path: str) -> None:
        self._ledger.when_durable(lambda: self._remove(path))

    def _remove(self, path: str) -> None:
        with contextlib.suppress(StorageError):  # what stays is looked at again when the run goes on
            self._store.delete(path)
