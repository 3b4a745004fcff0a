"""Population based training (Jaderberg et al. 2017, arXiv 1711.09846), asynchronous, searcher and scheduler at once.

Every `interval` epochs a member of the population is ranked among the others' newest outcomes. One in the lower
quantile ends, and its place is taken by a new trial that goes on from the newest checkpoint of one in the upper
quantile (exploit) with that one's configuration changed (explore). So each trial has one configuration, and a line of
trials, each begun from the last, is a schedule of them (`engine.schedule`). Which members end is as Ray's
`PopulationBasedTraining` has it; besides, the place of a failed member is taken as that of a poor one.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from experiments.engine.events import Config as Point
from experiments.engine.events import Metrics, Verdict
from experiments.engine.outcome import Outcome, ranks
from experiments.engine.strategies import Proposal, Signal, given, index, key
from experiments.engine.strategies.random import Random

# After so many explorations that had been tried, one that was is taken up again: its weights are others.
_EXPLORED = 50


class Space(Protocol):
    """What exploring needs of a search space."""

    def draw(self, seed: int, index: int) -> Point: ...

    def describe(self) -> list[dict[str, Any]]: ...

    def unit(self, point: Mapping[str, Any]) -> dict[str, float]: ...

    def from_unit(self, numbers: Mapping[str, float]) -> Point: ...

    def changed(self, point: Mapping[str, Any], name: str, seed: int, index: int) -> Point: ...


@dataclass
class Member:
    """One place in the population: the trial that has it, and what that was worth when it was last ranked.

    vacant: its trial is over, a new one takes its place.
    """

    trial: int
    ranked: float = 0.0
    outcome: Outcome | None = None
    state: Literal["trains", "pauses", "vacant"] = "trains"


class Pbt:
    """A strategy: see `engine.strategies`. At most `trials` configurations are trained, those explored included."""

    class Config(BaseModel):
        """Defaults of the three last are those of Ray's."""

        model_config = ConfigDict(frozen=True, extra="forbid")
        population: int = Field(8, ge=2, description="how many train side by side")
        interval: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = Field(
            1.0, description="epochs after which a member is ranked again"
        )
        quantile: float = Field(0.25, gt=0.0, le=0.5, description="share that ends, and share that is gone on from")
        resample: float = Field(0.25, ge=0.0, le=1.0, description="how often a parameter is drawn anew, not perturbed")
        factors: tuple[Annotated[float, Field(gt=0.0, allow_inf_nan=False)], ...] = Field(
            (0.8, 1.2), min_length=1, description="by one of these a number of a range is multiplied"
        )

    @staticmethod
    def check(config: Config, space: Space, trials: int | None, epochs: float) -> None:
        """Raises ValueError where the options do not go with the stage's numbers."""
        faults = []
        if trials is not None and config.population > trials:
            faults.append(f"searcher.population must be at most trials, got {config.population} above {trials}")
        if config.interval >= epochs:
            faults.append(f"searcher.interval must be below epochs, got {config.interval:g} of {epochs:g}")
        if faults:
            raise ValueError("\n".join(faults))

    def __init__(
        self,
        config: Config,
        space: Space,
        seed: int,
        *,
        first: Sequence[Point],
        trials: int | None,
        epochs: float,
        outcome: Callable[[Metrics], Outcome],
        admit: Callable[[Point], str | None] = lambda _: None,
        advised: Sequence[Point] = (),
    ) -> None:
        self._config = config
        self._space = space
        self._rows = space.describe()
        self._seed = seed
        self._first = list(first)
        self._advised = list(advised)
        self._trials = trials
        self._epochs = epochs
        self._outcome = outcome
        self._admit = admit
        self._draws = Random(Random.Config(), space, seed)
        self._configs: list[Point] = []
        self._tried: set[str] = set()
        self._members: list[Member] = []

    def ask(self) -> Proposal | Signal:
        """The first population, then what takes the place of those that ended."""
        trial = len(self._configs)
        if trial < self._config.population:
            config = given(trial, self._first, self._advised)
            return Proposal(trial, config or self._untried(trial, self._draws.propose), self._epochs)
        place = self._next()
        if place is None:
            return "wait" if any(member.state == "trains" for member in self._members) else "done"
        donor = self._donor(place)
        if place.state == "pauses" or donor is None:
            return Proposal(place.trial, self._configs[place.trial], self._epochs, start=place.trial)
        config = self._untried(trial, partial(self._explored, self._configs[donor.trial]))
        return Proposal(trial, config, self._epochs, start=donor.trial)

    def refused(self, config: Point) -> None:
        """Nothing is: see `_untried`."""

    def started(self, trial: int, config: Point) -> None:
        """The population grows, a pause ends, or a vacant place is taken: ranked as the one it begins from was."""
        if trial < len(self._configs):
            self._member(trial).state = "trains"
            return
        place = self._next() if trial >= self._config.population else None
        donor = self._donor(place) if place and place.state == "vacant" else None
        self._configs.append(config)
        self._tried.add(key(config))
        if place is None or donor is None:
            self._members.append(Member(trial))
        else:
            place.trial, place.ranked, place.state = trial, donor.ranked, "trains"

    def reported(self, trial: int, epochs: float, metrics: Metrics) -> Verdict:
        """Ranks the member when it is time; in the lower quantile it stops, else those go on that have no slot."""
        member = self._member(trial)
        if epochs - member.ranked < self._config.interval:
            return "continue"
        member.ranked, member.outcome = epochs, self._outcome(metrics)
        if epochs >= self._epochs:
            return "stop"
        if self._more() and member in self._quantiles()[0]:
            member.state = "vacant"
            return "stop"
        queue = len(self._configs) < self._config.population or any(m.state == "pauses" for m in self._members)
        return "pause" if queue else "continue"

    def paused(self, trial: int) -> None:
        """Fewer slots than members: those farthest behind go on first."""
        self._member(trial).state = "pauses"

    def dropped(self) -> Sequence[int]:
        """Who pauses goes on."""
        return ()

    def ended(self, trial: int, failed: bool) -> None:
        """A member that failed makes room; one that is done leaves."""
        member = self._member(trial)
        if member.state == "vacant":
            return
        if failed and self._more():
            member.state, member.outcome = "vacant", None
        else:
            self._members.remove(member)

    def _member(self, trial: int) -> Member:
        return next(member for member in self._members if member.trial == trial)

    def _next(self) -> Member | None:
        """The one farthest behind of those that pause and the vacant places that somebody can be cloned into."""
        queue = [m for m in self._members if m.state == "pauses" or (m.state == "vacant" and self._donor(m))]
        return min(queue, key=lambda member: (member.ranked, member.trial), default=None)

    def _more(self) -> bool:
        """Whether one more trial may start, beside those that are to."""
        coming = sum(member.state == "vacant" for member in self._members)
        started = max(len(self._configs), self._config.population)
        return self._trials is None or started + coming < self._trials

    def _quantiles(self) -> tuple[list[Member], list[Member]]:
        """The worst and the best of those that were ranked."""
        ranked = [member for member in self._members if member.outcome]
        count = min(-int(-len(ranked) * self._config.quantile // 1), len(ranked) // 2)
        places = dict(zip((member.trial for member in ranked), ranks([m.outcome for m in ranked]), strict=True))
        ordered = sorted(ranked, key=lambda member: -places[member.trial])
        return ordered[:count], ordered[len(ordered) - count :]

    def _donor(self, place: Member) -> Member | None:
        """One of the upper quantile that still trains, else the best that does; None where there is none."""
        training = [member for member in self._quantiles()[1] if member.state != "vacant"]
        if not training:
            others = [member for member in self._members if member.outcome and member.state != "vacant"]
            places = ranks([member.outcome for member in others])
            training = [member for member, rank in zip(others, places, strict=True) if rank == 0]
        name = f"{self._seed} exploit {place.trial} {len(self._configs)}"
        return random.Random(name).choice(training) if training else None

    def _untried(self, trial: int, propose: Callable[[int, int], Point]) -> Point:
        """The first proposal that nobody has tried and no constraint refuses; else the first."""
        found = (propose(trial, attempt) for attempt in range(_EXPLORED))
        fresh = (point for point in found if key(point) not in self._tried and self._admit(point) is None)
        return next(fresh, None) or propose(trial, 0)

    def _explored(self, point: Point, trial: int, attempt: int) -> Point:
        """Each parameter drawn anew, or moved a step: by a factor within its range, to the next ordinal."""
        drawn = random.Random(f"{self._seed} explore {trial} {attempt}")
        for row in self._rows:
            resample, step = drawn.random() < self._config.resample, drawn.random()
            if row["name"] not in point or row["kind"] == "fixed":
                continue
            try:
                if resample:
                    point = self._space.changed(point, row["name"], self._seed, index(trial, attempt))
                else:
                    point = self._moved(point, row, step)
            except ValueError:  # no other value of it is legal
                continue
        return point

    def _moved(self, point: Point, row: Mapping[str, Any], step: float) -> Point:
        """`step` in [0, 1) says which way. A choice has no next one and stays."""
        name, value = row["name"], point[row["name"]]
        if row["kind"] == "choice":
            return point
        if row["kind"] == "ordinal":
            values = row["range"]
            other = values[min(max(values.index(value) + (1 if step >= 0.5 else -1), 0), len(values) - 1)]
        else:
            other = value * self._config.factors[int(step * len(self._config.factors))]
            other = round(other) if isinstance(value, int) else other
            other = type(value)(min(max(other, row["range"][0]), row["range"][1]))
        return self._space.from_unit({**self._space.unit(point), **self._space.unit({name: other})})


STRATEGY = Pbt
