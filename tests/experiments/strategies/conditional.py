"""A small space with all that a space can have, and a surface over it that several objectives can be read from."""

import math

from ConfigSpace import ConfigurationSpace, EqualsCondition, ForbiddenAndConjunction, ForbiddenEqualsClause
from ConfigSpace.hyperparameters import (
    CategoricalHyperparameter,
    Constant,
    OrdinalHyperparameter,
    UniformFloatHyperparameter,
    UniformIntegerHyperparameter,
)

from experiments.engine.outcome import Outcome
from searchspaces import Space


def space():
    declared = ConfigurationSpace()
    kind = CategoricalHyperparameter("kind", ("a", "b", "c"), default_value="a")
    width = OrdinalHyperparameter("width", (8, 16, 32, 64), default_value=16)
    depth = UniformIntegerHyperparameter("depth", 2, 5, default_value=3)
    units = UniformIntegerHyperparameter("units", 1, 1000, default_value=100, log=True)
    rate = UniformFloatHyperparameter("rate", 1e-4, 1e-1, default_value=1e-2, log=True)
    slope = UniformFloatHyperparameter("slope", -1.0, 3.0, default_value=0.0)
    declared.add(kind, width, depth, units, rate, slope, Constant("fixed", 7))
    declared.add(EqualsCondition(slope, kind, "b"))
    declared.add(ForbiddenAndConjunction(ForbiddenEqualsClause(kind, "c"), ForbiddenEqualsClause(width, 64)))
    return Space(declared, "small")


def value(point):
    """Best with kind b, a slope of 1, 32 wide and a rate of 1e-3."""
    near = abs(math.log10(point["rate"]) + 3) + abs(math.log2(point["width"] / 32)) / 2
    return math.exp(-near) * (1.0 - abs(point["slope"] - 1) / 4 if "slope" in point else 0.6)


def outcome(point, objectives=1, limit=math.inf):
    """The second objective is to be small; a product of depth and width above the limit breaks a constraint."""
    size = point["depth"] * point["width"]
    return Outcome((value(point), -float(size))[:objectives], max(0.0, size / limit - 1))
