"""Greedy search: hill climbing over one-parameter neighbours from the default, then from random points.

The first better neighbour moves the climb; with several objectives the neighbours of all that is non-dominated are
tried in turn (Pareto local search, Paquete et al. 2004, LNEMS 535). A neighbour differs in one parameter, as in the
local search of SMAC (Hutter et al. 2011, LION 5). A climb without untried neighbours is over; the next begins at a
random point.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
from pydantic import BaseModel, ConfigDict

from experiments.engine.events import Config as Point
from experiments.engine.outcome import Outcome, fronts
from experiments.engine.strategies import Space, key
from experiments.engine.strategies.random import Random


class Climb:
    """Trials from one origin, each worth what it was at its newest epochs; None: it failed, nothing climbs from it."""

    def __init__(self) -> None:
        self._points: dict[int, Point] = {}
        self._outcomes: dict[int, Outcome | None] = {}
        self._moves: Counter[int] = Counter()
        self._best: list[int] = []

    def __contains__(self, trial: int) -> bool:
        return trial in self._points

    def start(self, trial: int, point: Point, centre: int | None) -> None:
        """One more trial, a neighbour of `centre` (None: of nobody)."""
        self._points[trial] = point
        self._moves.update([] if centre is None else [centre])

    def observe(self, trial: int, outcome: Outcome | None) -> None:
        """What a trial is worth now. All are compared only where one of the best got worse."""
        before = self._outcomes.get(trial)
        self._outcomes[trial] = outcome
        fallen = trial in self._best and (before is None or outcome is None or not _no_worse(outcome, before))
        self._best = self._undominated(self._outcomes if fallen else dict.fromkeys([*self._best, trial]))

    def centres(self) -> list[tuple[int, Point]]:
        """Where to climb from: the non-dominated, those whose neighbours were tried least often first."""
        # Nobody waits for the origin's first report.
        best = self._best or [trial for trial in self._points if trial not in self._outcomes][:1]
        return [(trial, self._points[trial]) for trial in sorted(best, key=lambda trial: (self._moves[trial], trial))]

    def _undominated(self, trials: Iterable[int]) -> list[int]:
        there = [(trial, outcome) for trial in trials if (outcome := self._outcomes[trial]) is not None]
        least = min((outcome.violation for _, outcome in there), default=0.0)
        level = [(trial, outcome.values) for trial, outcome in there if outcome.violation == least]
        if not level:
            return []
        return [level[place][0] for place in next(fronts(np.array([values for _, values in level])))]


def _no_worse(now: Outcome, before: Outcome) -> bool:
    pairs = zip(now.values, before.values, strict=True)
    return now.violation <= before.violation and all(new >= old for new, old in pairs)


class Greedy:
    """Climbs one after the other; an earlier one is taken up again where a late report gives it a new best."""

    class Config(BaseModel):
        """Greedy search has no options."""

        model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, config: Config, space: Space, seed: int) -> None:
        self._space = space
        self._seed = seed
        self._draws = Random(Random.Config(), space, seed)
        self._climbs: list[Climb] = []
        self._tried: set[str] = set()
        self._untried: dict[int, dict[str, Point]] = {}

    def propose(self, trial: int, attempt: int) -> Point:
        """A neighbour of the best of the first climb that has one untried; where there is none, a random point."""
        neighbours = (point for _, _, untried in self._open() for point in untried.values())
        return next(islice(neighbours, attempt, None), None) or self._draws.propose(trial, attempt)

    def started(self, trial: int, config: Point) -> None:
        """A neighbour belongs to its climb; another point to the newest, or begins one where all are over."""
        name = key(config)
        if trial >= 0:
            climb, centre = self._origin(name)
            climb.start(trial, config, centre)
        self._tried.add(name)
        for untried in self._untried.values():
            untried.pop(name, None)

    def observed(self, trial: int, config: Point, epochs: float, outcome: Outcome | None) -> None:
        """The climb may have a new best."""
        for climb in self._climbs:
            if trial in climb:
                climb.observe(trial, outcome)

    def _origin(self, name: str) -> tuple[Climb, int | None]:
        """The climb that a point belongs to, and whose neighbour it is."""
        found = list(self._open())
        for climb, centre, untried in found:
            if name in untried:
                return climb, centre
        if not found:
            self._climbs.append(Climb())
        return self._climbs[-1], None

    def _open(self) -> Iterator[tuple[Climb, int, dict[str, Point]]]:
        """Climbs and their centres that have untried neighbours, with these."""
        for climb in self._climbs:
            for trial, point in climb.centres():
                if trial not in self._untried:
                    around = {key(other): other for other in self._space.neighbours(point, self._seed, trial)}
                    self._untried[trial] = {name: other for name, other in around.items() if name not in self._tried}
                if self._untried[trial]:
                    yield climb, trial, self._untried[trial]


SEARCHER = Greedy
