"""One parameter: between the plain value a trial gets and the number that ConfigSpace's vectors hold."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from ConfigSpace.hyperparameters import (
    CategoricalHyperparameter,
    Constant,
    FloatHyperparameter,
    Hyperparameter,
    IntegerHyperparameter,
    OrdinalHyperparameter,
)

Parameter = Hyperparameter[Any, Any]

# Enough digits for any rate, few enough to read: 0.000312346, not 0.00031234567890123.
_DIGITS = 6


def plain(value: Any) -> Any:
    """The value in plain Python: no NumPy scalars, lists for tuples."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return value


def choices(parameter: Parameter) -> list[Any] | None:
    """All values in order, or None for a range of numbers."""
    if isinstance(parameter, Constant):
        return [plain(parameter.value)]
    if isinstance(parameter, OrdinalHyperparameter):
        return [plain(value) for value in parameter.sequence]
    if isinstance(parameter, CategoricalHyperparameter):
        return [plain(value) for value in parameter.choices]
    return None


def bounds(parameter: Parameter) -> tuple[Any, Any]:
    """Lowest and highest value of a range."""
    lower, upper = parameter.lower, parameter.upper  # type: ignore[attr-defined]  # every numerical one has them
    cast = int if isinstance(parameter, IntegerHyperparameter) else float
    return cast(lower), cast(upper)


def value(parameter: Parameter, number: float) -> Any:
    """The plain value of a vector's number; floats to six significant digits."""
    values = choices(parameter)
    if values is not None:
        return values[0] if isinstance(parameter, Constant) else values[round(number)]
    lower, upper = bounds(parameter)
    exact = float(parameter.to_value(np.float64(number)))
    found = round(exact) if isinstance(parameter, IntegerHyperparameter) else float(f"{exact:.{_DIGITS}g}")
    return min(max(found, lower), upper)


def number(parameter: Parameter, given: Any) -> float:
    """The vector's number of a value. Raises ValueError that says the rule: "must be 1 to 4, got 9"."""
    rule = f"must be {range_text(parameter)}, got {given!r}"
    values = choices(parameter)
    if values is not None:
        index = next((i for i, known in enumerate(values) if same(known, plain(given))), None)
        if index is None:
            raise ValueError(rule)
        return 1.0 if isinstance(parameter, Constant) else float(index)
    lower, upper = bounds(parameter)
    if not _is_number(given, whole=isinstance(parameter, IntegerHyperparameter)) or not lower <= given <= upper:
        raise ValueError(rule)
    return float(parameter.to_vector(given))


def _is_number(given: Any, whole: bool) -> bool:
    return isinstance(given, int if whole else int | float) and not isinstance(given, bool)


def same(one: Any, other: Any) -> bool:
    """Equality that keeps true apart from 1."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def default(parameter: Parameter) -> float:
    """The vector's number of the declared default."""
    if isinstance(parameter, FloatHyperparameter):
        return float(parameter.to_vector(float(f"{parameter.default_value:.{_DIGITS}g}")))
    return number(parameter, plain(parameter.default_value))


def kind(parameter: Parameter) -> str:
    """In one or two words."""
    if isinstance(parameter, Constant):
        return "fixed"
    if isinstance(parameter, OrdinalHyperparameter):
        return "ordinal"
    if isinstance(parameter, CategoricalHyperparameter):
        return "choice"
    number_kind = "int" if isinstance(parameter, IntegerHyperparameter) else "float"
    return f"log {number_kind}" if getattr(parameter, "log", False) else number_kind


def range_text(parameter: Parameter) -> str:
    """What a value may be: "1 to 4", "one of 64, 96, 128"."""
    values = choices(parameter)
    if values is None:
        lower, upper = bounds(parameter)
        whole = "an integer from " if isinstance(parameter, IntegerHyperparameter) else "a number from "
        return f"{whole}{lower:g} to {upper:g}"
    return spelled(values)


def spelled(values: Sequence[Any]) -> str:
    """ "64" or "one of 64, 96, null"."""
    texts = [json.dumps(entry) if entry is None or isinstance(entry, bool) else str(entry) for entry in values]
    return texts[0] if len(texts) == 1 else f"one of {', '.join(texts)}"


def unplain(parameter: Parameter) -> list[Any]:
    """Values that would not survive a ledger: not equal to themselves after JSON."""
    return [entry for entry in choices(parameter) or [] if not _survives(entry)]


def _survives(entry: Any) -> bool:
    try:
        return bool(json.loads(json.dumps(entry, allow_nan=False)) == entry)
    except (TypeError, ValueError):
        return False
