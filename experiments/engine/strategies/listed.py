"""A fixed list of configurations, run in its order: what stages such as the finalists need."""

from collections.abc import Sequence

from experiments.engine.events import Config, Metrics, Verdict
from experiments.engine.strategies import Proposal, Signal


class Listed:
    """One trial a configuration, numbered from `first` on, each for its `epochs` (left out: one)."""

    def __init__(self, configs: Sequence[Config], first: int = 0, epochs: Sequence[float] | None = None) -> None:
        self._configs = list(configs)
        self._epochs = list(epochs or [1] * len(configs))
        self._first = first
        self._started = 0
        self._live: set[int] = set()

    def ask(self) -> Proposal | Signal:
        """The next of the list."""
        if self._started < len(self._configs):
            return Proposal(self._first + self._started, self._configs[self._started], self._epochs[self._started])
        return "wait" if self._live else "done"

    def refused(self, config: Config) -> None:
        """Nothing of a list is passed over."""

    def started(self, trial: int, config: Config) -> None:
        """One more is running."""
        self._started += 1
        self._live.add(trial)

    def reported(self, trial: int, epochs: float, metrics: Metrics) -> Verdict:
        """Nothing ends early."""
        return "continue"

    def paused(self, trial: int) -> None:
        """Nothing pauses."""

    def dropped(self) -> Sequence[int]:
        """Nothing pauses."""
        return ()

    def ended(self, trial: int, failed: bool) -> None:
        """One fewer is running."""
        self._live.discard(trial)
