"""Plain values in, a typed frozen Config out; every fault in one line that names subject, value and rule.

pydantic does the checking, in its strict JSON mode: a bool is no int, "5" is no number, a list serves as a tuple.
"""

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

C = TypeVar("C", bound=BaseModel)
Location = tuple[int | str, ...]

_SHOWN = 60
_LISTED = 12


class ParseError(ValueError):
    """Faults of one document or config, one line each."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = list(faults)
        super().__init__("\n".join(self.faults))

    def __reduce__(self) -> tuple[type["ParseError"], tuple[list[str]]]:
        return ParseError, (self.faults,)  # crosses process borders with its list, not its joined text


def parse(config: type[C], values: Mapping[str, Any], subject: str = "", whole: str = "the experiment") -> C:
    """The config that `values` describe; `subject` opens the path in each message ("task", "train"), and where there is
    none, `whole` is what has no such name.

    Raises ParseError with all faults: unknown names with the nearest known one, missing values, wrong types, values
    out of range.
    """
    try:
        text = json.dumps(values)
    except (TypeError, ValueError) as error:
        raise ParseError(
            [f"{subject or 'the config'} must hold plain values (numbers, text, lists): {error}"]
        ) from None
    try:
        return config.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise ParseError(_faults(config, values, error, subject, whole)) from None


def suggestion(name: str, known: Iterable[str]) -> str:
    """The way out for an unknown name: "; did you mean 'x'?", or the known names when none is near."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    listed = ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")
    return f"; known: {listed}" if names else ""


def shown(value: Any) -> str:
    """A value as the user wrote it (true, null), shortened."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=repr, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def dotted(values: Any, location: Location, subject: str = "") -> str:
    """The path of a location, list entries by their `name` where they have one: stages.search.trials."""
    path = subject
    for part in location:
        values = _child(values, part)
        name = values.get("name") if isinstance(part, int) and isinstance(values, Mapping) else None
        step = name if isinstance(name, str) and name else part
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return path


def _faults(config: type[BaseModel], values: Any, error: ValidationError, subject: str, whole: str) -> list[str]:
    """One line a place: the members of a union report one by one, and only the deepest complaint helps."""
    rules: dict[Location, list[str]] = {}
    for detail in error.errors(include_url=False):
        location = _location(values, detail)
        known = rules.setdefault(location, [])
        known += [rule for rule in _rule(config, location, detail).splitlines() if rule not in known]
    deepest = [place for place in rules if not any(_inside(other, place) for other in rules)]
    return [line for place in deepest for line in _lines(values, place, rules[place], subject, whole)]


def _inside(inner: Location, outer: Location) -> bool:
    return len(inner) > len(outer) and inner[: len(outer)] == outer


def _lines(values: Any, place: Location, rules: list[str], subject: str, whole: str) -> list[str]:
    path = dotted(values, place, subject) or "the config"
    if rules[0].startswith("has no "):  # said of the parent: "loss has no 'temprature'"
        return [f"{dotted(values, place[:-1], subject) or whole} {rules[0]}"]
    if rules[0].startswith("is missing"):
        return [f"{path} {rules[0]}"]
    if not rules[0].startswith("must "):  # a validator's own words
        return [f"{path}: {rule}" for rule in rules]
    alternatives = " or ".join([rules[0], *(rule.removeprefix("must be ") for rule in rules[1:])])
    got = "" if ", got " in alternatives else f", got {shown(_at(values, place))}"
    return [f"{path} {alternatives}{got}"]


def _location(values: Any, detail: ErrorDetails) -> Location:
    """pydantic's location without the names of union members, which are no part of the document."""
    kept: Location = ()
    for part in detail["loc"]:
        child = _child(values, part)
        if child is not _ABSENT:
            kept, values = (*kept, part), child
    return (*kept, detail["loc"][-1]) if detail["type"] == "missing" else kept


_ABSENT = object()


def _child(values: Any, part: int | str) -> Any:
    if isinstance(values, Mapping):
        return values.get(part, _ABSENT)
    if isinstance(values, list | tuple) and isinstance(part, int) and part < len(values):
        return values[part]
    return _ABSENT


def _at(values: Any, location: Location) -> Any:
    for part in location:
        values = _child(values, part)
    return values


_TYPES = {
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping of names to values",
    "model": "a mapping of names to values",
    "none": "null",
    "finite": "a finite number",
}
_BOUNDS = {
    "greater_than_equal": ("ge", "must be at least {}"),
    "greater_than": ("gt", "must be above {}"),
    "less_than_equal": ("le", "must be at most {}"),
    "less_than": ("lt", "must be below {}"),
    "too_short": ("min_length", "must have at least {} entries"),
    "too_long": ("max_length", "must have at most {} entries"),
    "string_too_short": ("min_length", "must have at least {} characters"),
    "string_too_long": ("max_length", "must have at most {} characters"),
    "literal_error": ("expected", "must be {}"),
    "enum": ("expected", "must be {}"),
    "value_error": ("error", "{}"),
    "string_pattern_mismatch": ("pattern", "must match {}"),
}


def _rule(config: type[BaseModel], location: Location, detail: ErrorDetails) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return f"has no {str(location[-1])!r}{suggestion(str(location[-1]), _known(config, location[:-1]))}"
    if kind == "missing":
        return f"is missing{_purpose(config, location)}"
    if kind in _BOUNDS:
        key, form = _BOUNDS[kind]
        limit = context[key]
        return form.format(f"{limit:g}" if isinstance(limit, float) else limit)
    word = _TYPES.get(kind.split("_")[0])
    return f"must be {word}" if word else f"must satisfy: {detail['msg']}"


def _known(config: type[BaseModel], location: Location) -> list[str]:
    owner = _owner(config, location)
    return list(owner.model_fields) if owner else []


def _purpose(config: type[BaseModel], location: Location) -> str:
    owner = _owner(config, location[:-1])
    field = owner.model_fields.get(str(location[-1])) if owner else None
    return f" ({field.description})" if field and field.description else ""


def _owner(config: type[BaseModel], location: Location) -> type[BaseModel] | None:
    """The model that declares the fields at a location."""
    annotation: Any = config
    for part in location:
        model = _model(annotation)
        if model is not None and part in model.model_fields:
            annotation = model.model_fields[str(part)].annotation
        elif get_args(annotation):
            annotation = get_args(annotation)[1 if get_origin(annotation) is dict else 0]
    return _model(annotation)


def _model(annotation: Any) -> type[BaseModel] | None:
    if get_origin(annotation) in (Union, UnionType):
        return next((model for member in get_args(annotation) if (model := _model(member))), None)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
