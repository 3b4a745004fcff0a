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
# Two far and two near neighbours of a range, as standard deviations on its scale; SMAC's local search (Hutter et al.
# 2011, LION) has four at 0.2.
_NEAR = (0.2, 0.2, 0.05, 0.05)


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


def unit(parameter: Parameter, given: Any) -> float:
    """The value in [0, 1]: on the range's own scale (a log range's is a log), or of n choices the k-th as k / n."""
    values = choices(parameter)
    if isinstance(parameter, Constant):
        return 0.0
    return number(parameter, given) / (len(values) if values else 1)


def nearest_number(parameter: Parameter, share: float) -> float:
    """The vector's number of the value nearest to what `unit` would give; beyond an end, the end."""
    values = choices(parameter)
    if values is None:
        return _rounded(parameter, share)
    index = min(max(round(share * len(values)), 0), len(values) - 1)
    return 1.0 if isinstance(parameter, Constant) else float(index)


def _rounded(parameter: Parameter, place: float) -> float:
    """The vector's number of a value that a trial can get, nearest to a place on a range."""
    return number(parameter, value(parameter, min(max(place, 0.0), 1.0)))


def neighbours(parameter: Parameter, place: float, random: np.random.RandomState) -> list[float]:
    """The vector's numbers of all other choices, the next ordinals and integers, a few drawn near on a range."""
    values = choices(parameter)
    if isinstance(parameter, OrdinalHyperparameter):
        found = [place - 1, place + 1]
    elif values is not None:
        found = [float(index) for index in range(len(values))] if len(values) > 1 else []
    else:
        found = [_rounded(parameter, place + random.normal(0, width)) for width in _NEAR]
        if isinstance(parameter, IntegerHyperparameter):
            at, (lower, upper) = value(parameter, place), bounds(parameter)
            found += [number(parameter, other) for other in (at - 1, at + 1) if lower <= other <= upper]
    last = 1.0 if values is None else len(values) - 1
    return [other for other in dict.fromkeys(found) if other != place and 0 <= other <= last]


def drawn(parameter: Parameter, random: np.random.RandomState) -> float:
    """The vector's number of a value drawn as declared."""
    if isinstance(parameter, Constant):
        return 1.0
    place = float(parameter.sample_vector(seed=random))
    return _rounded(parameter, place) if choices(parameter) is None else place


def steps(parameter: Parameter, count: int) -> list[float]:
    """Vector's numbers of all choices, or of up to `count` values of a range, evenly on its scale with both ends."""
    values = choices(parameter)
    if values is not None:
        return [number(parameter, entry) for entry in values]
    if count == 1:
        return [default(parameter)]
    return list(dict.fromkeys(_rounded(parameter, k / (count - 1)) for k in range(count)))


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
