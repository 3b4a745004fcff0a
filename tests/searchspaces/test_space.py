import json
import math
import subprocess
import sys

import numpy as np
import pytest
from ConfigSpace import ConfigurationSpace, EqualsCondition, ForbiddenAndConjunction, ForbiddenEqualsClause
from ConfigSpace.forbidden import ForbiddenGreaterThanEqualsClause, ForbiddenLessThanRelation
from ConfigSpace.hyperparameters import (
    CategoricalHyperparameter,
    Constant,
    NormalFloatHyperparameter,
    OrdinalHyperparameter,
    UniformFloatHyperparameter,
    UniformIntegerHyperparameter,
)
from ConfigSpace.util import generate_grid

import searchspaces
from searchspaces import Space, SpaceError


def conditional():
    space = ConfigurationSpace()
    optimizer = CategoricalHyperparameter("optimizer", ["adamw", "sgd"])
    momentum = OrdinalHyperparameter("momentum", [0.0, 0.9])
    rate = UniformFloatHyperparameter("rate", 1e-5, 1e-1, log=True)
    rank = OrdinalHyperparameter("rank", [8, 64, None], default_value=None)
    heads = CategoricalHyperparameter("heads", [4, (4, 2), True])
    space.add(optimizer, momentum, rate, rank, heads, EqualsCondition(momentum, optimizer, "sgd"))
    return space


def finite():
    space = ConfigurationSpace()
    a = UniformIntegerHyperparameter("a", 1, 3)
    b = CategoricalHyperparameter("b", ["x", "y"])
    c = OrdinalHyperparameter("c", [1, 2, 4])
    space.add(a, b, c, EqualsCondition(c, b, "y"))
    space.add(ForbiddenAndConjunction(ForbiddenEqualsClause(a, 3), ForbiddenEqualsClause(b, "x")))
    return space


def faults(call, *args):
    with pytest.raises(SpaceError) as raised:
        call(*args)
    return raised.value.faults


def test_draws_depend_on_seed_and_index_alone():
    forwards, backwards = Space(conditional(), "s"), Space(conditional(), "s")
    points = [forwards.draw(7, index) for index in range(20)]
    assert [backwards.draw(7, index) for index in reversed(range(20))] == points[::-1]
    assert len({json.dumps(point) for point in points}) > 15
    assert forwards.draw(8, 0) != points[0]


def test_draws_are_the_same_in_another_process():
    code = "import searchspaces, json; print(json.dumps(searchspaces.load('optimization').draw(3, 5)))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(other) == searchspaces.load("optimization").draw(3, 5)


def test_draws_follow_the_declared_distribution():
    space = Space(conditional(), "s")
    rates = np.log10([space.draw(0, index)["rate"] for index in range(400)])
    shares = np.histogram(rates, bins=4, range=(-5, -1))[0] / 400
    assert np.all(np.abs(shares - 0.25) < 0.08)


def test_points_are_plain_and_hold_active_parameters_only():
    space = Space(conditional(), "s")
    for index in range(60):
        point = space.draw(0, index)
        assert json.loads(json.dumps(point)) == point
        assert ("momentum" in point) == (point["optimizer"] == "sgd")
        assert {type(value) for value in point.values()} <= {int, float, str, bool, list, type(None)}
        assert point["rate"] == float(f"{point['rate']:.6g}")


def test_the_default_is_the_declared_one():
    assert Space(conditional(), "s").default() == {"heads": 4, "optimizer": "adamw", "rank": None, "rate": 0.001}


@pytest.mark.parametrize(("lower", "upper"), [(1e-12, 1e-9), (0.1234567891, 0.1234567899), (1e5, 1e12)])
def test_rounding_keeps_floats_within_their_range(lower, upper):
    space = ConfigurationSpace()
    space.add(UniformFloatHyperparameter("rate", lower, upper, log=True))
    for index in range(20):
        point = Space(space, "s").draw(0, index)
        assert lower - 1e-13 <= point["rate"] <= upper
        assert Space(space, "s").legal(point)


def test_legal_is_what_configspace_takes():
    space = Space(finite(), "s")
    listed = [dict(configuration) for configuration in generate_grid(finite(), {"a": 3})]
    assert all(space.legal({**point, "a": int(point["a"])}) for point in listed)
    assert not space.legal({"a": 3, "b": "x"})  # a clause forbids it
    assert not space.legal({"a": 1, "b": "x", "c": 1})  # c is inactive
    assert not space.legal({"a": 1, "b": "y"})  # c is missing
    assert not space.legal({"a": 1.0, "b": "x"})
    assert not space.legal({"a": True, "b": "x"})


def test_size_counts_points():
    assert Space(finite(), "s").size() == len(generate_grid(finite(), {"a": 3})) == 11
    assert Space(conditional(), "s").size() == math.inf
    assert searchspaces.load("encoder").size() == 4 * 5 * 4 * 3 * 7 * 2 * 3 * 2


def test_initial_points_are_completed_with_defaults():
    space = Space(conditional(), "s")
    assert space.points([{"optimizer": "sgd"}, {"heads": [4, 2], "rate": 1e-2}]) == [
        {"heads": 4, "momentum": 0.0, "optimizer": "sgd", "rank": None, "rate": 0.001},
        {"heads": [4, 2], "optimizer": "adamw", "rank": None, "rate": 0.01},
    ]


def test_wrong_points_are_refused_all_at_once():
    space = Space(conditional(), "the.py:SPACE")
    assert faults(space.points, [{"rate": 1, "ranks": 8, "heads": 1}, {"momentum": 0.9}, {"rank": True}]) == [
        "initial[0].heads must be one of 4, [4, 2], true, got 1",
        "initial[0].ranks: the space the.py:SPACE has no 'ranks'; did you mean 'rank'?",
        "initial[0].rate must be a number from 1e-05 to 0.1, got 1",
        "initial[1].momentum: is inactive here; it counts only when optimizer == 'sgd'",
        "initial[2].rank must be one of 8, 64, null, got True",
    ]
    assert faults(Space(finite(), "s").point, {"a": 3}) == ["initial: the space forbids (a == 3 && b == 'x')"]
    assert faults(Space(finite(), "s").point, {"a": float("nan")}) == [
        "initial.a must be an integer from 1 to 3, got nan"
    ]


def test_describe_gives_a_row_a_parameter():
    rows = {row["name"]: row for row in Space(conditional(), "s").describe()}
    assert rows["rate"] == {
        "name": "rate",
        "kind": "log float",
        "range": [1e-5, 1e-1],
        "default": 0.001,
        "condition": None,
    }
    assert rows["momentum"] == {
        "name": "momentum",
        "kind": "ordinal",
        "range": [0.0, 0.9],
        "default": 0.0,
        "condition": "optimizer == 'sgd'",
    }
    assert rows["heads"]["kind"] == "choice"
    assert rows["heads"]["range"] == [4, [4, 2], True]
    assert [row["kind"] for row in Space(finite(), "s").fix({"a": 2}).describe()] == ["fixed", "choice", "ordinal"]


def test_to_json_is_equal_for_equal_spaces_and_differs_otherwise():
    text = Space(conditional(), "one").to_json()
    assert text == Space(conditional(), "two").to_json()
    assert json.loads(text)["conditions"] == [
        {"type": "EQ", "child": "momentum", "parent": "optimizer", "value": "sgd"}
    ]
    assert text != Space(conditional(), "one").fix({"rank": 8}).to_json()
    assert text != Space(conditional(), "one").narrow({"rate": [1e-4, 1e-1]}).to_json()


def test_a_space_where_next_to_nothing_is_legal_is_refused():
    space = ConfigurationSpace()
    left = UniformFloatHyperparameter("left", 0, 1, default_value=0.0)
    right = UniformFloatHyperparameter("right", 0, 1e6, default_value=0.0)
    space.add(left, right)
    space.add(ForbiddenLessThanRelation(left, right))
    assert faults(Space, space, "s") == ["space s has no legal point in 1000 draws; loosen its clauses"]


def test_a_space_without_parameters_or_with_values_that_are_not_plain_is_refused():
    assert faults(Space, ConfigurationSpace(), "s") == ["space s declares no parameter"]
    space = ConfigurationSpace()
    space.add(CategoricalHyperparameter("act", [math.inf, "gelu"]), Constant("layer", {1, 2}))
    assert sorted(faults(Space, space, "s")) == [
        "space s: act offers inf, which is no plain value (number, text, list)",
        "space s: layer offers {1, 2}, which is no plain value (number, text, list)",
    ]


def test_bounded_normals_are_drawn_within_their_bounds():
    space = ConfigurationSpace()
    space.add(NormalFloatHyperparameter("rate", mu=0.5, sigma=0.1, lower=0.4, upper=0.6))
    assert all(0.4 <= Space(space, "s").draw(0, index)["rate"] <= 0.6 for index in range(30))
    assert Space(space, "s").default() == {"rate": 0.5}


def test_nothing_is_printed_by_configspaces_own_checks(capsys):
    space = ConfigurationSpace()
    a = UniformIntegerHyperparameter("a", 1, 9, default_value=2)
    space.add(a)
    space.add(ForbiddenGreaterThanEqualsClause(a, 8))
    capsys.readouterr()
    small = Space(space, "s").narrow({"a": [2, 9]})
    assert {small.draw(0, index)["a"] for index in range(50)} == set(range(2, 8))
    assert capsys.readouterr().out == ""
