"""What a searcher was told, and who is before whom in it."""

from experiments.engine.outcome import Outcome, ranks


class Observations:
    """Each trial's outcome at the highest epochs it reached, in the order in which trials first reported."""

    def __init__(self) -> None:
        self._latest: dict[int, tuple[float, Outcome | None]] = {}
        self._ranks: dict[int, int] | None = None

    def observed(self, trial: int, epochs: float, outcome: Outcome | None) -> None:
        """A report; None: the trial failed, whatever it reported before."""
        self._ranks = None
        before, known = self._latest.get(trial, (0.0, outcome))
        if outcome is None or (known is not None and epochs >= before):
            self._latest[trial] = epochs, outcome

    @property
    def outcomes(self) -> dict[int, Outcome | None]:
        """Of the trials that reported (or, None, failed)."""
        return {trial: outcome for trial, (_, outcome) in self._latest.items()}

    def ranks(self) -> dict[int, int]:
        """Of the same trials; 0 is the best."""
        if self._ranks is None:
            outcomes = self.outcomes
            self._ranks = dict(zip(outcomes, ranks(list(outcomes.values())), strict=True))
        return self._ranks
