"""A searcher that proposes whole configurations, joined with a scheduler that stops trials."""

import json
from collections.abc import Callable, Sequence

from experiments.engine.events import Config, Metrics, Verdict
from experiments.engine.strategies import Proposal, Scheduler, Searcher, Signal

# A space can be small: after so many draws that had been tried, it counts as searched.
_REDRAWS = 200


class Pair:
    """The default configuration first, then the user's initial ones, then what the searcher proposes.

    `trials` None means: until the time budget ends it. `score` turns metrics into one higher-is-better number.
    """

    def __init__(
        self,
        *,
        searcher: Searcher,
        scheduler: Scheduler,
        first: Sequence[Config],
        trials: int | None,
        epochs: float,
        score: Callable[[Metrics], float],
    ) -> None:
        self._searcher = searcher
        self._scheduler = scheduler
        self._first = list(first)
        self._trials = trials
        self._epochs = epochs
        self._score = score
        self._configs: list[Config] = []
        self._tried: set[str] = set()
        self._live: set[int] = set()

    def ask(self) -> Proposal | Signal:
        """The next trial nobody has tried yet."""
        trial = len(self._configs)
        if self._trials is not None and trial >= self._trials:
            return self._rest()
        config = self._untried(trial)
        return Proposal(trial, config, self._epochs) if config is not None else self._rest()

    def started(self, trial: int, config: Config) -> None:
        """The proposal is taken: its number and its point are used."""
        self._configs.append(config)
        self._tried.add(_key(config))
        self._live.add(trial)

    def reported(self, trial: int, epochs: float, metrics: Metrics) -> Verdict:
        """The scheduler's decision; the searcher learns the score whatever it is."""
        score = self._score(metrics)
        self._searcher.observed(trial, self._configs[trial], epochs, score)
        return self._scheduler.judge(trial, epochs, score)

    def ended(self, trial: int, failed: bool) -> None:
        """A failed trial is told to the searcher without a score: it ranks last."""
        self._live.discard(trial)
        if failed:
            self._searcher.observed(trial, self._configs[trial], 0.0, None)

    def _rest(self) -> Signal:
        return "wait" if self._live else "done"

    def _untried(self, trial: int) -> Config | None:
        if trial < len(self._first):
            return self._first[trial]
        draws = (self._searcher.propose(trial, attempt) for attempt in range(_REDRAWS))
        return next((config for config in draws if _key(config) not in self._tried), None)


def _key(config: Config) -> str:
    return json.dumps(config, sort_keys=True)
