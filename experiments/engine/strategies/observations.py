"""What a searcher was told, and who is before whom in it."""

import math

from experiments.engine.outcome import Outcome, ranks

# What a model is made of at most: with more, a suggestion would take longer and longer. As in Syne Tune's
# `max_size_data_for_model`, which is 500.
MOST = 200
# Surplus that is let gather, so that not every report ranks all.
_SURPLUS = 1.1


class Observations:
    """Each trial's outcome at the highest epochs it reached, in the order in which trials first reported.

    Of more than `most` the latest half stays, and of those before them the best; what is forgotten is known again once
    it reports anew.
    """

    def __init__(self, most: float = math.inf) -> None:
        self._most = most
        self._latest: dict[int, tuple[float, Outcome | None]] = {}
        self._ranks: dict[int, int] | None = None

    def observed(self, trial: int, epochs: float, outcome: Outcome | None) -> None:
        """A report; None: the trial failed, whatever it reported before."""
        self._ranks = None
        before, known = self._latest.get(trial, (0.0, outcome))
        if outcome is None or (known is not None and epochs >= before):
            self._latest[trial] = epochs, outcome
        if len(self._latest) > _SURPLUS * self._most:
            self._forget()

    def _forget(self) -> None:
        half = int(self._most // 2)
        known = list(self._latest)
        for trial in sorted(known[:-half], key=self.ranks().__getitem__)[half:]:
            del self._latest[trial]
        self._ranks = None

    @property
    def outcomes(self) -> dict[int, Outcome | None]:
        """Of the trials that reported (or, None, failed)."""
        return {trial: outcome for trial, (_, outcome) in self._latest.items()}

    @property
    def succeeded(self) -> int:
        """How many did not fail."""
        return sum(outcome is not None for _, outcome in self._latest.values())

    def ranks(self) -> dict[int, int]:
        """Of the same trials; 0 is the best."""
        if self._ranks is None:
            outcomes = self.outcomes
            self._ranks = dict(zip(outcomes, ranks(list(outcomes.values())), strict=True))
        return self._ranks
