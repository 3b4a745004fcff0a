"""`Space`: a ConfigurationSpace seen as plain dicts of active parameters."""

import difflib
import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from ConfigSpace import ConfigurationSpace

from searchspaces import parameters, restriction
from searchspaces.restriction import SpaceError

Point = dict[str, Any]
Vector = restriction.Vector

_COUNTED = 10_000
# So often one parameter is drawn anew until the point is another and legal.
_REDRAWS = 100


def nearest(name: str, known: Iterable[str]) -> str:
    """ "; did you mean 'x'?", or nothing when no known name is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


class Space:
    """The points a stage may try. Immutable: `fix` and `narrow` give new ones.

    Every point is JSON-able, equal after a JSON round trip, and holds active parameters only.
    """

    def __init__(self, declared: ConfigurationSpace, name: str) -> None:
        self.configspace = declared
        self.name = name
        self._free = restriction.unrestrained(declared) if declared.forbidden_clauses else declared
        if faults := self._faults():
            raise SpaceError(faults)
        self.draw(0, 0)

    @classmethod
    def empty(cls) -> "Space":
        """Without a parameter, and so of one point."""
        return cls(ConfigurationSpace(), "")

    def _faults(self) -> list[str]:
        if not len(self.configspace) and self.name:
            return [f"space {self.name} declares no parameter"]
        return [
            f"space {self.name}: {parameter.name} offers {entry!r}, which is no plain value (number, text, list)"
            for parameter in self.configspace.values()
            for entry in parameters.unplain(parameter)
        ]

    @property
    def names(self) -> list[str]:
        """All parameters, those that are sometimes inactive included."""
        return list(self.configspace)

    def default(self) -> Point:
        """The declared defaults: the baseline every search has to beat."""
        return self.point({})

    def draw(self, seed: int, index: int) -> Point:
        """Random point number `index`: depends on (seed, index) alone, not on what was drawn before."""
        self._free.random = _random(f"{seed} draw {index}")
        for _ in range(restriction.DRAWS):
            point = self._point(self._free.sample_configuration().get_array())
            if self.legal(point):  # no clause forbids it, and rounding a float did not cross a condition's bound
                return point
        raise SpaceError([f"space {self.name} has no legal point in {restriction.DRAWS} draws; loosen its clauses"])

    def point(self, values: Mapping[str, Any], path: str = "initial") -> Point:
        """The point with the given values, defaults for the rest. Raises SpaceError naming each wrong one."""
        known = self.configspace
        faults = [f"{path}.{name}: {self._no(name)}" for name in values if name not in known]
        numbers: dict[str, float] = {}
        for name in values.keys() & known.keys():
            try:
                numbers[name] = parameters.number(known[name], values[name])
            except ValueError as error:
                faults.append(f"{path}.{name} {error}")
        vector = self._completed(numbers)
        faults += [f"{path}.{name}: {self._idle(name)}" for name in numbers if math.isnan(self._number(vector, name))]
        if not faults and (clause := self._forbidden(vector)):
            faults.append(f"{path}: the space forbids {clause}")
        if faults:
            raise SpaceError(sorted(faults))
        return self._point(vector)

    def points(self, listed: Sequence[Mapping[str, Any]]) -> list[Point]:
        """An experiment's `initial` points, completed. Raises SpaceError with the faults of all of them."""
        found: list[Point] = []
        faults: list[str] = []
        for index, values in enumerate(listed):
            try:
                found.append(self.point(values, f"initial[{index}]"))
            except SpaceError as error:
                faults += error.faults
        if faults:
            raise SpaceError(faults)
        return found

    def legal(self, config: Mapping[str, Any]) -> bool:
        """Whether the config is a point of this space: every active parameter, no other, all in range."""
        try:
            return self.point(config).keys() == config.keys()
        except SpaceError:
            return False

    def unit(self, point: Mapping[str, Any]) -> dict[str, float]:
        """The point's parameters in [0, 1]: ranges on their own scale (log ranges are logs), choice k of n as k / n."""
        return {name: parameters.unit(self.configspace[name], value) for name, value in point.items()}

    def from_unit(self, numbers: Mapping[str, float], path: str = "unit") -> Point:
        """The nearest point to such numbers: those of inactive parameters are left out, missing ones take defaults.

        Raises SpaceError: a name the space lacks, a number that is none, a clause that forbids the point.
        """
        faults = [f"{path}.{name}: {self._no(name)}" for name in numbers if name not in self.configspace]
        faults += [f"{path}.{name} must be a number, got {n}" for name, n in numbers.items() if not math.isfinite(n)]
        if faults:
            raise SpaceError(sorted(faults))
        known = self.configspace
        vector = self._completed({name: parameters.nearest_number(known[name], n) for name, n in numbers.items()})
        if clause := self._forbidden(vector):
            raise SpaceError([f"{path}: the space forbids {clause}"])
        return self._point(vector)

    def neighbours(self, point: Mapping[str, Any], seed: int, index: int) -> list[Point]:
        """Legal points that differ in one parameter, and in what becomes active (at its default) or inactive by it.

        All other choices, the next ordinals and integers, a few values near by on a range; in an order, and with near
        values, that depend on (seed, index).
        """
        random = _random(f"{seed} neighbours {index}")
        numbers = self._places(point)
        moved = [
            self._completed({**numbers, name: other})
            for name, place in numbers.items()
            for other in parameters.neighbours(self.configspace[name], place, random)
        ]
        found = [self._point(vector) for vector in moved if not self._forbidden(vector)]
        return [found[place] for place in random.permutation(len(found))]

    def changed(self, point: Mapping[str, Any], name: str, seed: int, index: int) -> Point:
        """The point with one of its parameters drawn anew, never the same; what becomes active by it is drawn too.

        Raises SpaceError where the parameter is inactive, or no other value is legal.
        """
        random = _random(f"{seed} change {name} {index}")
        numbers = self._places(point)
        if name not in numbers:
            raise SpaceError([f"change.{name}: {self._idle(name) if name in self.configspace else self._no(name)}"])
        anew = [other for other in self.names if other == name or other not in numbers]
        for _ in range(_REDRAWS if len(parameters.choices(self.configspace[name]) or "many") > 1 else 0):
            places = {**numbers, **{other: parameters.drawn(self.configspace[other], random) for other in anew}}
            vector = self._completed(places)
            if places[name] != numbers[name] and not self._forbidden(vector):
                return self._point(vector)
        raise SpaceError([f"change.{name}: no other value is legal beside the rest of the point"])

    def grid(self, steps: int, seed: int | None = None, index: int = 0) -> Iterator[Point]:
        """Every legal point once: all choices, ranges in up to `steps` values, even on their scale with both ends; one
        step is the default. The last parameter changes fastest; with a seed, values come in an order that depends on
        (seed, index), so that the first point is any one.
        """
        if steps < 1:
            raise SpaceError([f"steps must be at least 1, got {steps}"])
        ranges = [parameters.steps(parameter, steps) for parameter in self.configspace.values()]
        if seed is not None:
            random = _random(f"{seed} grid {index}")
            ranges = [random.permutation(places).tolist() for places in ranges]
        return self._grid(np.full(len(ranges), np.nan), 0, ranges)

    def _grid(self, vector: Vector, index: int, ranges: Sequence[Sequence[float]]) -> Iterator[Point]:
        if index == len(ranges):
            yield self._point(vector)
            return
        for place in ranges[index] if self._active(vector, self.names[index]) else [math.nan]:
            vector[index] = place
            if not self._forbidden(vector):  # what the first parameters break no later one mends
                yield from self._grid(vector, index + 1, ranges)
        vector[index] = math.nan

    def _places(self, point: Mapping[str, Any]) -> dict[str, float]:
        return {name: parameters.number(self.configspace[name], value) for name, value in point.items()}

    def size(self) -> float:
        """Number of points: an int; above 10,000 and with conditions or clauses an upper bound; inf for floats."""
        bound = self.configspace.estimate_size() if self.names else 1
        plain = not self.configspace.conditions and not self.configspace.forbidden_clauses
        return bound if plain or bound > _COUNTED else self._count()

    def _count(self) -> int:
        ranges = [self._numbers(parameter) for parameter in self.configspace.values()]
        vectors = (self._completed(dict(zip(self.names, row, strict=True))) for row in itertools.product(*ranges))
        return len({vector.tobytes() for vector in vectors if not self._forbidden(vector)})

    def _numbers(self, parameter: parameters.Parameter) -> list[float]:
        values = parameters.choices(parameter)
        lower, upper = (0, 0) if values is not None else parameters.bounds(parameter)
        return [parameters.number(parameter, entry) for entry in values or range(lower, upper + 1)]

    def fix(self, values: Mapping[str, Any]) -> "Space":
        """The space with these parameters at one value each."""
        return self._restricted("fix", {name: [value] for name, value in values.items()}, {})

    def narrow(self, ranges: Mapping[str, Sequence[Any]]) -> "Space":
        """The space with [lowest, highest] for a range of numbers, or a part of the values for choices and ordinals."""
        lists = {n for n in ranges.keys() & self.configspace.keys() if parameters.choices(self.configspace[n])}
        chosen = {name: values for name, values in ranges.items() if name in lists}
        return self._restricted("narrow", chosen, {n: v for n, v in ranges.items() if n not in lists})

    def _restricted(
        self, path: str, chosen: Mapping[str, Sequence[Any]], ranges: Mapping[str, Sequence[Any]]
    ) -> "Space":
        unknown = sorted((chosen.keys() | ranges.keys()) - self.configspace.keys())
        if unknown:
            raise SpaceError([f"{path}.{name}: {self._no(name)}" for name in unknown])
        return Space(restriction.restricted(self.configspace, chosen, ranges, path), self.name)

    def describe(self) -> list[dict[str, Any]]:
        """A row a parameter: name, kind, range (values, or [lowest, highest]), default, condition (text or None)."""
        return [self._row(name) for name in sorted(self.names, key=self._depth)]

    def _row(self, name: str) -> dict[str, Any]:
        parameter = self.configspace[name]
        conditions = self.configspace.parent_conditions_of[name]
        return {
            "name": name,
            "kind": parameters.kind(parameter),
            "range": parameters.choices(parameter) or list(parameters.bounds(parameter)),
            "default": parameters.value(parameter, parameters.default(parameter)),
            "condition": " and ".join(_when(condition) for condition in conditions) or None,
        }

    def _depth(self, name: str) -> tuple[bool, int]:
        return bool(self.configspace.parents_of[name]), self.names.index(name)

    def to_json(self) -> str:
        """Canonical text of the declaration, for a fingerprint: equal spaces give equal text."""
        return json.dumps(restriction.declaration(self.configspace), sort_keys=True, default=parameters.plain)

    def _no(self, name: str) -> str:
        near = nearest(name, self.names) or f"; it has: {', '.join(self.names)}"
        return f"the space {self.name} has no {name!r}{near}"

    def _idle(self, name: str) -> str:
        conditions = self.configspace.parent_conditions_of[name]
        return f"is inactive here; it counts only when {' and '.join(_when(condition) for condition in conditions)}"

    def _number(self, vector: Vector, name: str) -> float:
        return float(vector[self.configspace.index_of[name]])

    def _completed(self, numbers: Mapping[str, float]) -> Vector:
        """Parents before children: the given number or the default where active, NaN elsewhere."""
        vector = np.full(len(self.configspace), np.nan)
        for index, (name, parameter) in enumerate(self.configspace.items()):
            if self._active(vector, name):
                vector[index] = numbers[name] if name in numbers else parameters.default(parameter)
        return vector

    def _active(self, vector: Vector, name: str) -> bool:
        return all(condition.satisfied_by_vector(vector) for condition in self.configspace.parent_conditions_of[name])

    def _forbidden(self, vector: Vector) -> str:
        return next((_clause(c) for c in self.configspace.forbidden_clauses if restriction.forbids(c, vector)), "")

    def _point(self, vector: Vector) -> Point:
        active = zip(self.configspace.items(), vector.tolist(), strict=True)
        return {
            name: parameters.value(parameter, entry) for (name, parameter), entry in active if not math.isnan(entry)
        }


def _random(text: str) -> np.random.RandomState:
    """What comes of it depends on the text alone."""
    return np.random.RandomState(np.frombuffer(hashlib.sha256(text.encode()).digest(), dtype=np.uint32))


def _when(condition: Any) -> str:
    return str(condition).split(" | ", 1)[-1]


def _clause(clause: Any) -> str:
    return str(clause).replace("Forbidden: ", "")
