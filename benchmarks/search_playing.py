"""A search of another library as a strategy of ours: its code decides, our simulator's virtual workers do the work."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from benchmarks.surfaces import Nearest, Point, Surface
from experiments.engine.events import Metrics, Verdict
from experiments.engine.strategies import Proposal, Signal
from searchspaces import Space

_REDRAWS = 100_000


class Code(Protocol):
    """What another library decides. Its random searches have `independent`: they draw among a table's points."""

    independent: bool

    def wish(self, trial: int) -> Point:
        """What it wants to try."""
        ...

    def takes(self, trial: int, point: Point) -> None:
        """What is run: its wish, the recorded point nearest to it, or (trial 0) the default."""
        ...

    def goes_on(self, trial: int, epoch: int, metrics: Metrics) -> bool:
        """Whether the trial goes on after a report."""
        ...

    def ends(self, trial: int) -> None:
        """The trial is over."""
        ...


class Rival:
    """A strategy (see `experiments.engine.strategies.Strategy`) whose decisions another library takes."""

    def __init__(self, code: Code, surface: Surface) -> None:
        self._code, self._surface = code, surface
        self._nearest = Nearest(surface.space, surface.points) if surface.points else None
        self._tried: set[int] = set()
        self._live: set[int] = set()
        self._answer: Proposal | None = None
        self._count = 0

    def ask(self) -> Proposal | Signal:
        """Libraries change by being asked, so their answer is kept until it is taken."""
        if self._answer is None:
            point = self._surface.space.default() if self._count == 0 else self._wished()
            if point is None:
                return "wait" if self._live else "done"
            self._answer = Proposal(self._count, point, self._surface.epochs)
        return self._answer

    def _wished(self) -> Point | None:
        nearest = self._nearest
        if nearest is None:
            return self._code.wish(self._count)
        if len(self._tried) == len(nearest.points):
            return None
        if not self._code.independent:
            return nearest(self._code.wish(self._count), self._tried)
        wishes = (self._code.wish(self._count) for _ in range(_REDRAWS))
        return next((wish for wish in wishes if nearest.index(wish) not in self._tried), None)

    def started(self, trial: int, config: Point) -> None:
        """The library learns what is run."""
        self._answer = None
        self._count += 1
        self._live.add(trial)
        if self._nearest is not None:
            self._tried.add(self._nearest.index(config))
        self._code.takes(trial, config)

    def reported(self, trial: int, epochs: float, metrics: Metrics) -> Verdict:
        """Its decision."""
        return "continue" if self._code.goes_on(trial, int(epochs), metrics) else "stop"

    def ended(self, trial: int, failed: bool) -> None:
        """Whatever the reason."""
        self._live.discard(trial)
        self._code.ends(trial)

    def refused(self, config: Point) -> None:
        """Nothing is refused here."""

    def paused(self, trial: int) -> None:
        """Nothing is paused here."""

    def dropped(self) -> Sequence[int]:
        """Nothing is paused here."""
        return ()


class Flat:
    """A space as other libraries see it: `rows` of (name, kind, ends or values), ordinals as int."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._values: dict[str, list[Any]] = {}
        self.rows: list[tuple[str, str, list[Any]]] = []
        for row in space.describe():
            name, kind, values = row["name"], row["kind"], row["range"]
            if kind == "ordinal":
                self._values[name] = values
                kind, values = "int", [0, len(values) - 1]
            self.rows.append((name, kind, values))

    def point(self, numbers: Mapping[str, Any]) -> Point:
        """Of the numbers of all parameters."""
        return self.built(lambda name: numbers[name])

    def built(self, number: Callable[[str], Any]) -> Point:
        """Of a function that is asked for active parameters alone, parents first."""
        found: Point = {}
        for name in self._space.names:
            if name in self._space.point(found):
                value = number(name)
                found[name] = self._values[name][value] if name in self._values else value
        return self._space.point(found)

    def numbers(self, point: Point) -> dict[str, Any]:
        """Of the active parameters."""
        return {
            name: self._values[name].index(value) if name in self._values else value for name, value in point.items()
        }
