"""A flat dict of `ray.tune` domains as a ConfigurationSpace. Ray itself is not imported: its domains name themselves.

`uniform`, `loguniform`, `quniform`, `randint`, `lograndint`, `qrandint` and `choice` are taken, and constants.
`grid_search`, `sample_from`, `randn`, log steps and nested dicts are refused by name.
"""

import math
from collections.abc import Mapping
from typing import Any

from ConfigSpace import ConfigurationSpace
from ConfigSpace.hyperparameters import (
    CategoricalHyperparameter,
    Constant,
    OrdinalHyperparameter,
    UniformFloatHyperparameter,
    UniformIntegerHyperparameter,
)

from searchspaces.parameters import Parameter
from searchspaces.restriction import SpaceError, first_line

_STEPS = 1000


def converted(domains: Mapping[str, Any], name: str) -> ConfigurationSpace:
    """The same space in ConfigSpace's language. Raises SpaceError, one line a parameter that cannot be taken."""
    space = ConfigurationSpace()
    faults = []
    for key, domain in domains.items():
        try:
            space.add(_parameter(str(key), domain))
        except ValueError as error:
            faults.append(f"space {name}: {key} {first_line(error)}")
    if faults:
        raise SpaceError(faults)
    return space


def _parameter(key: str, domain: Any) -> Parameter:
    if isinstance(domain, Mapping):
        raise ValueError(_refused_mapping(domain))
    if isinstance(domain, list | tuple):
        raise ValueError("is a plain list; use tune.choice for values to choose from")
    if not type(domain).__module__.startswith("ray.tune."):
        return Constant(key, domain)
    kind = type(domain).__name__
    if kind == "Function":
        raise ValueError("uses sample_from, which is code without a range; use a domain, or a ConfigurationSpace")
    sampler = domain.get_sampler()
    step = getattr(sampler, "q", None)
    shape = type(sampler.sampler if step is not None else sampler).__name__.lstrip("_")
    if kind == "Categorical":
        return _choice(key, domain, shape)
    return _range(key, domain, shape, step)


def _refused_mapping(domain: Mapping[Any, Any]) -> str:
    if "grid_search" in domain:
        return "uses grid_search; use tune.choice"
    return "is a nested dict; spaces are flat: give each parameter the name of a field of the routine"


def _choice(key: str, domain: Any, shape: str) -> Parameter:
    if shape == "Grid":
        raise ValueError("uses grid_search; use tune.choice")
    values = list(domain.categories)
    if not values:
        raise ValueError("must offer at least one value, got choice([])")
    if any(isinstance(entry, Mapping) or type(entry).__module__.startswith("ray.tune.") for entry in values):
        raise ValueError(
            "offers domains within a choice; spaces are flat: give each parameter a name of its own, or declare "
            "conditions in a ConfigurationSpace"
        )
    return CategoricalHyperparameter(key, values)


def _range(key: str, domain: Any, shape: str, step: float | None) -> Parameter:
    if shape == "Normal":
        raise ValueError("uses randn, which has no bounds; use tune.uniform or tune.loguniform")
    whole, log = type(domain).__name__ == "Integer", shape == "LogUniform"
    # Ray's integer ranges leave the upper bound out, unless they go in steps.
    lower, upper = domain.lower, domain.upper - 1 if whole and step in (None, 1) else domain.upper
    _check_bounds(lower, upper, log)
    if step is not None and not (whole and step == 1):
        return _steps(key, lower, upper, step, log)
    if lower == upper:
        return Constant(key, lower)
    if whole:
        return UniformIntegerHyperparameter(key, lower, upper, log=log)
    return UniformFloatHyperparameter(key, lower, upper, log=log)


def _check_bounds(lower: float, upper: float, log: bool) -> None:
    if not (math.isfinite(lower) and math.isfinite(upper)):
        raise ValueError(f"must have finite bounds, got {lower:g} and {upper:g}")
    if lower > upper:
        raise ValueError(f"must have a lower bound below the upper one, got {lower:g} and {upper:g}")
    if log and lower <= 0:
        raise ValueError(f"must have a lower bound above 0 on a log scale, got {lower:g}")


def _steps(key: str, lower: float, upper: float, step: float, log: bool) -> Parameter:
    if log:
        raise ValueError("uses steps on a log scale; use tune.choice with the values you want")
    if step <= 0:
        raise ValueError(f"must have a step above 0, got {step:g}")
    first, last = math.ceil(lower / step - 1e-9), math.floor(upper / step + 1e-9)
    if not 0 < last - first + 1 <= _STEPS:
        raise ValueError(f"must have 1 to {_STEPS} steps of {step:g} from {lower:g} to {upper:g}")
    values = [step * k if isinstance(step, int) else round(step * k, 12) for k in range(first, last + 1)]
    return OrdinalHyperparameter(key, values, default_value=values[len(values) // 2])
