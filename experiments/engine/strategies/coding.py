"""A space as the flat list of numbers that a model of it works on: the compiler that all model-based searchers share.

Ranges are numbers in [0, 1] on their own scale, all else is the index of a level. What the libraries lack is settled
here: all parameters are suggested, and those that a condition makes inactive are dropped (a model only ever saw the
active ones, so each is as in nested spaces), what a clause forbids is drawn again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from experiments.engine.events import Config as Point
from experiments.engine.strategies import index
from searchspaces import Space, SpaceError

# Integers and ordinals of up to so many values are levels, as a density over a range prefers what is between two;
# those of more are ranges, as few of their values would ever be seen.
_LEVELS = 20
# So many suggestions are asked of a model before a random draw takes their place: where nearly all that it suggests is
# forbidden, and where (as a converged model of a small space does) it suggests what had been tried.
_SUGGESTIONS = 8
_ATTEMPTS = 4
# Numbers for a decision of this name, on which alone their randomness depends; None asks for a random draw.
Suggest = Callable[[str], Mapping[str, float] | None]


@dataclass(frozen=True)
class Dimension:
    """One parameter: a range, or the places that its levels have in [0, 1]."""

    name: str
    kind: str
    places: tuple[float, ...] = ()
    conditional: bool = False

    @property
    def levels(self) -> int:
        """How many; 0 for a range."""
        return len(self.places)

    @property
    def ordered(self) -> bool:
        """Whether near levels are alike."""
        return self.kind != "choice"

    def typed(self, number: float) -> float:
        """An int where it is a level's."""
        return int(number) if self.places else float(number)


class Coding:
    """Between points and the numbers of their dimensions. Parameters of one value have none."""

    def __init__(self, space: Space) -> None:
        self._space = space
        found = [_dimension(space, row) for row in space.describe()]
        self.dimensions = [dimension for dimension in found if dimension.levels != 1]
        self._index = {d.name: {place: k for k, place in enumerate(d.places)} for d in self.dimensions}
        self._defaults = {d.name: self._number(d.name, place) for d, place in self._default_places()}

    def _default_places(self) -> list[tuple[Dimension, float]]:
        rows = {row["name"]: row["default"] for row in self._space.describe()}
        return [(d, self._space.unit({d.name: rows[d.name]})[d.name]) for d in self.dimensions]

    def numbers(self, point: Point) -> dict[str, float]:
        """Of the active parameters: an index of a level, or a place in [0, 1]."""
        places = self._space.unit(point)
        return {name: self._number(name, places[name]) for name in self._index if name in places}

    def completed(self, point: Point) -> dict[str, float]:
        """Of all parameters, inactive ones at their defaults."""
        return {**self._defaults, **self.numbers(point)}

    def _number(self, name: str, place: float) -> float:
        levels = self._index[name]
        return levels[place] if levels else place

    def point(self, numbers: Mapping[str, float]) -> Point | None:
        """The point of such numbers, active parameters alone; None where a clause forbids it."""
        places = {d.name: d.places[int(numbers[d.name])] if d.levels else numbers[d.name] for d in self.dimensions}
        try:
            return self._space.from_unit(places)
        except SpaceError:
            return None

    def proposed(self, seed: int, trial: int, attempt: int, suggest: Suggest) -> Point:
        """The first legal one of a few suggestions, else a random draw."""
        for nth in range(_SUGGESTIONS if attempt < _ATTEMPTS and self.dimensions else 0):
            numbers = suggest(f"{seed}/{trial}/{attempt}/{nth}")
            if numbers is None:
                break
            if (point := self.point(numbers)) is not None:
                return point
        return self._space.draw(seed, index(trial, attempt))


def _dimension(space: Space, row: Mapping[str, object]) -> Dimension:
    name, kind, values = str(row["name"]), str(row["kind"]), row["range"]
    assert isinstance(values, list)
    if kind.endswith("int") and values[1] - values[0] < _LEVELS:
        values = list(range(values[0], values[1] + 1))
    elif kind.endswith(("int", "float")) or (kind == "ordinal" and len(values) > _LEVELS):
        values = []
    places = tuple(space.unit({name: value})[name] for value in values)
    return Dimension(name, kind, places, row["condition"] is not None)
