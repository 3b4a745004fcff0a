"""Fixing and narrowing against enumeration: ConfigSpace lists the points of both spaces."""

import itertools

import pytest
from ConfigSpace import (
    AndConjunction,
    ConfigurationSpace,
    EqualsCondition,
    ForbiddenAndConjunction,
    ForbiddenEqualsClause,
    ForbiddenInClause,
    GreaterThanCondition,
    InCondition,
    LessThanCondition,
    NotEqualsCondition,
    OrConjunction,
)
from ConfigSpace.forbidden import (
    ForbiddenEqualsRelation,
    ForbiddenGreaterThanClause,
    ForbiddenLessThanEqualsClause,
    ForbiddenOrConjunction,
)
from ConfigSpace.hyperparameters import (
    CategoricalHyperparameter,
    OrdinalHyperparameter,
    UniformFloatHyperparameter,
    UniformIntegerHyperparameter,
)
from ConfigSpace.util import generate_grid

from searchspaces import Space, SpaceError


def parents():
    space = ConfigurationSpace()
    a = UniformIntegerHyperparameter("a", 1, 4, default_value=2)
    b = CategoricalHyperparameter("b", ["x", "y", "z"])
    c = OrdinalHyperparameter("c", ["low", "mid", "high"], default_value="mid")
    d = OrdinalHyperparameter("d", [1, 2, 3])
    e = CategoricalHyperparameter("e", ["p", "q"], weights=[0.3, 0.7])
    space.add(a, b, c, d, e)
    return space, a, b, c, d, e


def chain():
    space, a, b, _, d, e = parents()
    space.add(EqualsCondition(d, b, "y"), GreaterThanCondition(e, d, 1), NotEqualsCondition(b, a, 4))
    return space


def joint():
    space, a, b, c, d, e = parents()
    space.add(AndConjunction(InCondition(d, a, [2, 3, 4]), LessThanCondition(d, c, "high")))
    space.add(OrConjunction(EqualsCondition(e, b, "x"), EqualsCondition(e, b, "y"), GreaterThanCondition(e, a, 3)))
    return space


def clauses():
    space, a, b, c, d, e = parents()
    space.add(InCondition(d, b, ["x", "y"]))
    space.add(
        ForbiddenAndConjunction(ForbiddenEqualsClause(a, 1), ForbiddenInClause(b, ["x", "z"])),
        ForbiddenAndConjunction(ForbiddenGreaterThanClause(a, 3), ForbiddenEqualsClause(e, "q")),
        ForbiddenAndConjunction(ForbiddenLessThanEqualsClause(c, "low"), ForbiddenEqualsClause(d, 3)),
        ForbiddenOrConjunction(ForbiddenEqualsClause(c, "high"), ForbiddenEqualsRelation(a, d)),
    )
    return space


def listed(space):
    grid = generate_grid(space, {"a": len(whole(space, "a"))} if "a" in space else None)
    return {frozenset((name, str(value)) for name, value in configuration.items()) for configuration in grid}


def whole(space, name):
    parameter = space[name]
    return range(parameter.lower, parameter.upper + 1) if hasattr(parameter, "lower") else [parameter.default_value]


def kept(space, limits):
    """The points of the space whose limited parameters, where active, hold an allowed value."""
    allowed = {name: {str(value) for value in values} for name, values in limits.items()}
    return {point for point in listed(space) if all(value in allowed[name] for name, value in point if name in allowed)}


VALUES = {"a": [1, 2, 3, 4], "b": ["x", "y", "z"], "c": ["low", "mid", "high"], "d": [1, 2, 3], "e": ["p", "q"]}
FIXES = [{name: value} for name, values in VALUES.items() for value in values]
PAIRS = [
    {one: x, other: y}
    for (one, xs), (other, ys) in itertools.combinations(VALUES.items(), 2)
    for x, y in [(xs[0], ys[-1]), (xs[-1], ys[0])]
]
NARROWS = [
    {"a": [1, 3]},
    {"a": [3, 4]},
    {"b": ["x", "z"]},
    {"b": ["y", "x"]},
    {"c": ["low", "high"]},
    {"d": [2, 3], "a": [2, 4]},
    {"b": ["y", "z"], "c": ["mid", "high"], "d": [1, 3]},
    {"a": [2, 2]},
    {"e": ["q"]},
]


@pytest.mark.parametrize("make", [chain, joint, clauses])
def test_fixing_keeps_exactly_the_points_that_fit(make):
    for fixed in FIXES + PAIRS:
        expected = kept(make(), {name: [value] for name, value in fixed.items()})
        if expected:
            assert listed(Space(make(), "s").fix(fixed).configspace) == expected, fixed
        else:
            with pytest.raises(SpaceError, match="fix leaves no legal point"):
                Space(make(), "s").fix(fixed)


@pytest.mark.parametrize("make", [chain, joint, clauses])
@pytest.mark.parametrize("limits", NARROWS, ids=str)
def test_narrowing_keeps_exactly_the_points_that_fit(make, limits):
    values = {name: list(range(v[0], v[-1] + 1)) if name == "a" else v for name, v in limits.items()}
    small = Space(make(), "s").narrow(limits)
    assert listed(small.configspace) == kept(make(), values)
    assert small.legal(small.default())


def test_a_parameter_that_can_never_be_active_is_gone():
    assert Space(chain(), "s").fix({"b": "x"}).names == ["a", "c", "b"]


def test_the_default_moves_to_the_nearest_value_left():
    space = ConfigurationSpace()
    space.add(
        UniformFloatHyperparameter("rate", 1e-5, 1e-1, default_value=1e-3, log=True),
        UniformIntegerHyperparameter("layers", 1, 8, default_value=2),
        OrdinalHyperparameter("width", [64, 96, 128, 256], default_value=128),
        CategoricalHyperparameter("act", ["gelu", "relu", "silu"]),
    )
    small = Space(space, "s").narrow(
        {"rate": [1e-2, 1e-1], "layers": [4, 6], "width": [64, 96], "act": ["silu", "relu"]}
    )
    assert small.default() == {"act": "relu", "layers": 4, "rate": 0.01, "width": 96}
    assert all(1e-2 <= small.draw(0, index)["rate"] <= 1e-1 for index in range(20))


def test_weights_follow_the_choices_that_are_left():
    space = ConfigurationSpace()
    space.add(CategoricalHyperparameter("act", ["gelu", "relu", "silu"], weights=[0.98, 0.01, 0.01]))
    small = Space(space, "s").narrow({"act": ["gelu", "silu"]})
    assert sum(small.draw(0, index)["act"] == "gelu" for index in range(100)) > 90


def test_forbidden_defaults_give_way_to_a_legal_point():
    space = ConfigurationSpace()
    a = OrdinalHyperparameter("a", [1, 2, 3])
    b = OrdinalHyperparameter("b", [1, 2, 3])
    space.add(a, b)
    space.add(ForbiddenAndConjunction(ForbiddenEqualsClause(a, 2), ForbiddenInClause(b, [1, 2])))
    assert Space(space, "s").fix({"a": 2}).default() == {"a": 2, "b": 3}
    space.add(ForbiddenAndConjunction(ForbiddenEqualsClause(a, 3), ForbiddenInClause(b, [2, 3])))
    with pytest.raises(SpaceError, match=r"^narrow leaves no legal point: none in 1000 draws$"):
        Space(space, "s").fix({"b": 2}).narrow({"a": [2, 3]})


def test_a_clause_that_always_holds_is_named():
    space = ConfigurationSpace()
    a = OrdinalHyperparameter("a", [1, 2, 3])
    space.add(a)
    space.add(ForbiddenEqualsClause(a, 3))
    with pytest.raises(SpaceError, match=r"^fix leaves no legal point: the space forbids a == 3$"):
        Space(space, "s").fix({"a": 3})


def test_floats_keep_the_conditions_that_still_matter():
    def declared():
        space = ConfigurationSpace()
        rate = UniformFloatHyperparameter("rate", 0, 1)
        warmup = UniformFloatHyperparameter("warmup", 0, 1)
        space.add(rate, warmup, GreaterThanCondition(warmup, rate, 0.5))
        return Space(space, "s")

    assert declared().narrow({"rate": [0.0, 0.4]}).names == ["rate"]
    assert declared().narrow({"rate": [0.6, 1.0]}).configspace.conditions == []
    points = [declared().narrow({"rate": [0.4, 0.6]}).draw(0, index) for index in range(30)]
    assert {("warmup" in point, point["rate"] > 0.5) for point in points} == {(True, True), (False, False)}


@pytest.mark.parametrize(
    ("limits", "lines"),
    [
        ({"aa": [1, 2]}, ["narrow.aa: the space s has no 'aa'; did you mean 'a'?"]),
        ({"a": [3, 1]}, ["narrow.a must be [lowest, highest], got [3, 1]"]),
        ({"a": [1, 2, 3]}, ["narrow.a must be [lowest, highest], got [1, 2, 3]"]),
        ({"a": [1, 9]}, ["narrow.a must be an integer from 1 to 4, got 9"]),
        ({"a": [1, 2.5]}, ["narrow.a must be an integer from 1 to 4, got 2.5"]),
        ({"a": []}, ["narrow.a must be a list of values, got []"]),
        ({"b": "x"}, ["narrow.b must be a list of values, got 'x'"]),
        ({"b": ["x", "w"], "c": ["low", "low"]}, [
            "narrow.b must be one of x, y, z, got 'w'",
            "narrow.c must not repeat a value, got ['low', 'low']",
        ]),
    ],
)  # fmt: skip
def test_wrong_limits_are_refused_all_at_once(limits, lines):
    with pytest.raises(SpaceError) as raised:
        Space(joint(), "s").narrow(limits)
    assert raised.value.faults == lines


def test_fixing_outside_the_range_is_refused():
    with pytest.raises(SpaceError) as raised:
        Space(joint(), "s").fix({"a": 9, "b": True, "zzz": 1})
    assert raised.value.faults == ["fix.zzz: the space s has no 'zzz'; it has: a, b, c, d, e"]
    with pytest.raises(SpaceError) as raised:
        Space(joint(), "s").fix({"a": 9, "b": True})
    assert raised.value.faults == [
        "fix.a must be an integer from 1 to 4, got 9",
        "fix.b must be one of x, y, z, got True",
    ]


@pytest.mark.parametrize("make", [chain, joint, clauses])
def test_draws_reach_every_point_and_no_other(make):
    space = Space(make(), "s")
    drawn = {frozenset((name, str(value)) for name, value in space.draw(0, i).items()) for i in range(900)}
    assert drawn <= listed(make())
    assert len(drawn) > 0.9 * len(listed(make()))
    assert space.size() == len(listed(make()))
