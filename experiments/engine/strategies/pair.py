"""A searcher that proposes whole configurations, joined with a scheduler that stops, pauses and promotes trials."""

from collections.abc import Callable, Sequence

from experiments.engine.events import Config, Metrics, Verdict
from experiments.engine.outcome import Outcome
from experiments.engine.strategies import Left, Proposal, Scheduler, Searcher, Signal, given, key

# A space can be small: after so many proposals that had been tried or are refused, it counts as searched.
REDRAWS = 200


class Pair:
    """The default configuration first, then the user's initial ones, then what the searcher proposes and, in turns with
    it, what past searches advise.

    `trials` None means: until the time budget ends it. `outcome` turns metrics into what they are worth. `admit` says
    why a configuration breaks a constraint whatever it trains to (None: it does not, as far as is known); such a one is
    never handed out, unless it was given.
    """

    def __init__(
        self,
        *,
        searcher: Searcher,
        scheduler: Scheduler,
        first: Sequence[Config],
        trials: int | None,
        epochs: float,
        outcome: Callable[[Metrics], Outcome],
        admit: Callable[[Config], str | None] = lambda _: None,
        advised: Sequence[Config] = (),
    ) -> None:
        self._searcher = searcher
        self._scheduler = scheduler
        self._first = list(first)
        self._advised = list(advised)
        self._advised_keys = set(map(key, advised))
        self._trials = trials
        self._epochs = epochs
        self._outcome = outcome
        self._admit = admit
        self._configs: list[Config] = []
        self._tried: set[str] = set()
        self._refused = 0
        self._live: set[int] = set()
        self._paused: set[int] = set()
        self._answer: Proposal | Signal | None = None

    def ask(self) -> Proposal | Signal:
        """A promoted trial, else the next that nobody has tried yet. The same until something is told."""
        if self._answer is None:
            left: Left = "time" if self._trials is None else "nothing"
            self._answer = self._promoted("trials") or self._new() or self._promoted(left) or self._rest()
        return self._answer

    def refused(self, config: Config) -> None:
        """Passed over for good: to the searcher it is a failure, under a number that no trial has."""
        self._answer = None
        self._tried.add(key(config))
        self._refused += 1
        self._searcher.started(-self._refused, config)
        self._searcher.observed(-self._refused, config, 0.0, None)

    def started(self, trial: int, config: Config) -> None:
        """The proposal is taken: a paused trial goes on, or a new number and its point are used."""
        self._answer = None
        self._live.add(trial)
        self._paused.discard(trial)
        self._scheduler.started(trial, key(config) in self._advised_keys)
        if trial == len(self._configs):
            self._configs.append(config)
            self._tried.add(key(config))
            self._searcher.started(trial, config)

    def reported(self, trial: int, epochs: float, metrics: Metrics) -> Verdict:
        """The scheduler's decision; the searcher learns the outcome whatever it is."""
        self._answer = None
        outcome = self._outcome(metrics)
        self._searcher.observed(trial, self._configs[trial], epochs, outcome)
        return self._scheduler.judge(trial, epochs, outcome)

    def paused(self, trial: int) -> None:
        """The trial takes no slot until it is promoted."""
        self._answer = None
        self._live.discard(trial)
        self._paused.add(trial)

    def dropped(self) -> Sequence[int]:
        """Paused trials that are not promoted: their scheduler gave them up, or the search is over."""
        if self._paused and not self._live and self.ask() == "done":
            return sorted(self._paused)
        return self._scheduler.dropped()

    def ended(self, trial: int, failed: bool) -> None:
        """A failed trial is told to the searcher without an outcome: it ranks last."""
        self._answer = None
        self._live.discard(trial)
        self._paused.discard(trial)
        self._scheduler.ended(trial)
        if failed:
            self._searcher.observed(trial, self._configs[trial], 0.0, None)

    def _rest(self) -> Signal:
        return "wait" if self._live else "done"

    def _promoted(self, left: Left) -> Proposal | None:
        found = self._scheduler.promoted(left)
        return Proposal(found[0], self._configs[found[0]], found[1], start=found[0]) if found else None

    def _new(self) -> Proposal | None:
        trial = len(self._configs)
        if self._trials is not None and trial >= self._trials:
            return None
        config = given(trial, self._first, self._advised)
        if config is not None and (trial < len(self._first) or key(config) not in self._tried):
            return self._proposal(trial, config)
        refused: dict[str, Config] = {}
        for attempt in range(REDRAWS):
            config = self._searcher.propose(trial, attempt)
            if config is None:
                return None
            if key(config) in self._tried or key(config) in refused:
                continue
            if self._admit(config) is None:
                return self._proposal(trial, config, *refused.values())
            refused[key(config)] = config
        return None

    def _proposal(self, trial: int, config: Config, *refused: Config) -> Proposal:
        epochs = self._scheduler.budget(key(config) in self._advised_keys) or self._epochs
        return Proposal(trial, config, epochs, refused=refused)
