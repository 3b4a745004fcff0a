"""Smaller spaces: parameters fixed or narrowed, conditions and clauses simplified to what can still happen.

Works on ConfigSpace's own serialized form, so that nothing here depends on the insides of its classes.
"""

import contextlib
import copy
import io
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from ConfigSpace import ConfigurationSpace
from ConfigSpace.exceptions import ForbiddenValueError
from numpy.typing import NDArray

from searchspaces import parameters
from searchspaces.parameters import Parameter

Vector = NDArray[np.float64]
Item = dict[str, Any]
# True: always holds; False: never; an item: still depends.
Folded = Item | bool

# So many draws without a legal point, and a space counts as having none.
DRAWS = 1000
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "EQ": operator.eq,
    "EQUALS": operator.eq,
    "NEQ": operator.ne,
    "LT": operator.lt,
    "CLAUSE_LT": operator.lt,
    "CLAUSE_LE": operator.le,
    "GT": operator.gt,
    "CLAUSE_GT": operator.gt,
    "CLAUSE_GE": operator.ge,
    "IN": lambda value, values: value in values,
}


class SpaceError(ValueError):
    """What is wrong with a space or with a point of it, one line a fault."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = list(faults)
        super().__init__("\n".join(self.faults))

    def __reduce__(self) -> tuple[type["SpaceError"], tuple[list[str]]]:
        return SpaceError, (self.faults,)  # crosses process borders with its list, not its joined text


def first_line(error: BaseException) -> str:
    """Other people's messages can be long."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def declaration(space: ConfigurationSpace) -> Item:
    """Hyperparameters, conditions and forbidden clauses as plain data."""
    parts = space.to_serialized_dict()
    for item in parts["hyperparameters"]:
        item.pop("meta", None)
    return {key: parts[key] for key in ("hyperparameters", "conditions", "forbiddens")}


def forbids(clause: Any, vector: Vector) -> bool:
    """Whether a clause forbids a point. (ConfigSpace 1.2.2's check of many points at once takes <= for >=.)"""
    with _silent():
        return bool(clause.is_forbidden_vector(vector))


def unrestrained(space: ConfigurationSpace) -> ConfigurationSpace:
    """The space without its forbidden clauses: ConfigSpace would draw for ever where no point is legal."""
    return _built({**declaration(space), "forbiddens": []})


def joined(spaces: Sequence[ConfigurationSpace]) -> ConfigurationSpace:
    """One space with the parameters, conditions and clauses of all. Names do not clash."""
    declarations = [declaration(space) for space in spaces]
    return _built({key: [item for d in declarations for item in d[key]] for key in declarations[0]})


def restricted(
    space: ConfigurationSpace,
    chosen: Mapping[str, Sequence[Any]],
    ranges: Mapping[str, Sequence[Any]],
    path: str,
) -> ConfigurationSpace:
    """The space with some parameters limited to chosen values (one: fixed) or to a range [lowest, highest]."""
    plan = declaration(space)
    faults: list[str] = []
    changed: dict[str, Item] = {}
    for item in plan["hyperparameters"]:
        name = item["name"]
        try:
            if name in chosen:
                changed[name] = _chosen(space[name], item, chosen[name])
            elif name in ranges:
                changed[name] = _ranged(space[name], item, ranges[name])
        except ValueError as error:
            faults.append(f"{path}.{name} {error}")
    if faults:
        raise SpaceError(faults)
    return _legal(_Folding(space, plan, changed, path).result(), path)


def _chosen(parameter: Parameter, item: Item, values: Sequence[Any]) -> Item:
    given = _listed(values)
    numbers = [parameters.number(parameter, value) for value in given]
    if len(given) == 1:
        return {"type": "constant", "name": item["name"], "value": parameters.value(parameter, numbers[0])}
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"must not repeat a value, got {given!r}")
    rank = sorted(int(number) for number in numbers)
    at = parameters.default(parameter)
    key = "sequence" if item["type"] == "ordinal" else "choices"
    smaller = {**item, key: [item[key][i] for i in rank]}
    if item.get("weights"):
        smaller["weights"] = [item["weights"][i] for i in rank]
    return {**smaller, "default_value": item[key][min(rank, key=lambda other: abs(other - at))]}


def _listed(values: Sequence[Any]) -> list[Any]:
    if not isinstance(values, list | tuple) or not values:
        raise ValueError(f"must be a list of values, got {values!r}")
    return list(values)


def _ranged(parameter: Parameter, item: Item, values: Sequence[Any]) -> Item:
    ends = _listed(values)
    if len(ends) != 2:
        raise ValueError(f"must be [lowest, highest], got {ends!r}")
    for end in ends:
        parameters.number(parameter, end)
    lower, upper = ends
    if lower > upper:
        raise ValueError(f"must be [lowest, highest], got {ends!r}")
    if lower == upper:
        return {"type": "constant", "name": item["name"], "value": lower}
    return {**item, "lower": lower, "upper": upper, "default_value": min(max(item["default_value"], lower), upper)}


class _Folding:
    """What conditions and clauses come to once some parameters can take fewer values."""

    def __init__(self, space: ConfigurationSpace, plan: Item, changed: Mapping[str, Item], path: str) -> None:
        self._path = path
        self._space = space
        self._plan = plan
        self._changed = changed
        self._absent: set[str] = set()
        self._conditions: dict[str, Item] = {}

    def result(self) -> Item:
        """The smaller plan: parameters that can never be active are gone."""
        given = {item["child"]: item for item in self._plan["conditions"]}
        for name in self._space:  # parents come before children
            if name in given:
                self._condition(name, self._fold(given[name]))
        forbidden = [self._fold(item) for item in self._plan["forbiddens"]]
        if True in forbidden:
            raise SpaceError([f"{self._path} leaves no legal point: the space forbids {self._first(forbidden)}"])
        return {
            "hyperparameters": [
                self._changed.get(item["name"], item)
                for item in self._plan["hyperparameters"]
                if item["name"] not in self._absent
            ],
            "conditions": list(self._conditions.values()),
            "forbiddens": [item for item in forbidden if not isinstance(item, bool)],
        }

    def _first(self, forbidden: list[Folded]) -> str:
        return str(self._space.forbidden_clauses[forbidden.index(True)]).replace("Forbidden: ", "")

    def _condition(self, child: str, folded: Folded) -> None:
        if folded is False:
            self._absent.add(child)
        elif folded is not True:
            assert isinstance(folded, dict)
            self._conditions[child] = folded

    def _fold(self, item: Item) -> Folded:
        kind = item["type"]
        if kind in ("AND", "OR"):
            return self._fold_all(item, empty=kind == "AND")
        if kind.startswith("RELATION"):
            return False if {item["left"], item["right"]} & self._absent else item
        name = item["parent"] if "parent" in item else item["name"]
        if name in self._absent:
            return False
        if name not in self._changed:
            return item
        folded = self._fold_one(item, name)
        if folded is True and name in self._conditions and "child" in item:
            return _of_child(self._conditions[name], item["child"])  # holds whenever its parent is active
        return folded

    def _fold_all(self, item: Item, *, empty: bool) -> Folded:
        key = "conditions" if "conditions" in item else "clauses"
        parts = [self._fold(part) for part in item[key]]
        if (not empty) in parts:
            return not empty
        rest = [part for part in parts if not isinstance(part, bool)]
        if len(rest) < 2:
            return rest[0] if rest else empty
        return {**item, key: rest}

    def _fold_one(self, item: Item, name: str) -> Folded:
        """Compare every value that is left (both ends of a range) with the item's own."""
        target = item["values"] if item["type"] == "IN" else item["value"]
        smaller = self._changed[name]
        if "lower" in smaller:
            return _fold_range(item, smaller["lower"], smaller["upper"], target)
        values = smaller.get("sequence") or smaller.get("choices") or [smaller["value"]]
        rank = self._rank(name)
        right = [rank(entry) for entry in target] if item["type"] == "IN" else rank(target)
        holding = [value for value in values if _OPERATORS[item["type"]](rank(value), right)]
        sometimes = name in self._conditions and "name" in item  # a clause on a parameter that can be inactive
        if not holding or (len(holding) == len(values) and not sometimes):
            return bool(holding)
        subject: Item = {key: item[key] for key in ("child", "parent", "name") if key in item}
        return {"type": "IN", **subject, "values": holding}

    def _rank(self, name: str) -> Callable[[Any], Any]:
        """Ordinals and choices compare by their place in the declaration, numbers by themselves."""
        known = parameters.choices(self._space[name])
        return (lambda value: value) if known is None else (lambda value: known.index(parameters.plain(value)))


def _fold_range(item: Item, lower: Any, upper: Any, target: Any) -> Folded:
    if item["type"] == "IN":
        kept = [value for value in target if lower <= value <= upper]
        return {**item, "values": kept} if kept else False
    if lower <= target <= upper:
        return item
    return _OPERATORS[item["type"]](lower, target)


def _of_child(condition: Item, child: str) -> Item:
    parts = {"conditions": [_of_child(part, child) for part in condition.get("conditions", [])]}
    return {**condition, "child": child, **(parts if "conditions" in condition else {})}


def _legal(plan: Item, path: str) -> ConfigurationSpace:
    """The built space; where the defaults are forbidden together, a drawn legal point replaces them."""
    try:
        return _built(plan)
    except ForbiddenValueError:
        pass
    except (ValueError, TypeError) as error:
        raise SpaceError([f"{path} does not go with a condition of the space: {first_line(error)}"]) from error
    free = _built({**plan, "forbiddens": []})
    free.seed(0)
    for configuration in free.sample_configuration(DRAWS):
        try:
            return _built(_with_defaults(plan, dict(configuration)))
        except ForbiddenValueError:
            continue
    raise SpaceError([f"{path} leaves no legal point: none in {DRAWS} draws"])


def _with_defaults(plan: Item, values: Mapping[str, Any]) -> Item:
    items = [
        {**item, "default_value": values[item["name"]]} if "default_value" in item and item["name"] in values else item
        for item in plan["hyperparameters"]
    ]
    return {**plan, "hyperparameters": items}


def _built(plan: Item) -> ConfigurationSpace:
    with _silent():
        return ConfigurationSpace.from_serialized_dict(copy.deepcopy(plan))


def _silent() -> contextlib.AbstractContextManager[Any]:
    """ConfigSpace 1.2.2 prints while it checks a >= clause."""
    return contextlib.redirect_stdout(io.StringIO())
