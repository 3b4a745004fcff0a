"""`Space`: a ConfigurationSpace seen as plain dicts of active parameters."""

import difflib
import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from ConfigSpace import ConfigurationSpace

from searchspaces import parameters, restriction
from searchspaces.restriction import SpaceError

Point = dict[str, Any]
Vector = restriction.Vector

_COUNTED = 10_000


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
        digest = hashlib.sha256(f"{seed} draw {index}".encode()).digest()
        words = np.frombuffer(digest, dtype=np.uint32)
        self._free.random = np.random.RandomState(words)
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
            conditions = self.configspace.parent_conditions_of[name]
            if all(condition.satisfied_by_vector(vector) for condition in conditions):
                vector[index] = numbers.get(name, parameters.default(parameter))
        return vector

    def _forbidden(self, vector: Vector) -> str:
        return next((_clause(c) for c in self.configspace.forbidden_clauses if restriction.forbids(c, vector)), "")

    def _point(self, vector: Vector) -> Point:
        active = zip(self.configspace.items(), vector.tolist(), strict=True)
        return {
            name: parameters.value(parameter, entry) for (name, parameter), entry in active if not math.isnan(entry)
        }


def _when(condition: Any) -> str:
    return str(condition).split(" | ", 1)[-1]


def _clause(clause: Any) -> str:
    return str(clause).replace("Forbidden: ", "")
