"""What searchers do with a space: into [0, 1] and back, neighbours, one parameter drawn anew, the grid."""

import json
from itertools import islice

import numpy as np
import pytest
from ConfigSpace import (
    Configuration,
    ConfigurationSpace,
    EqualsCondition,
    ForbiddenAndConjunction,
    ForbiddenEqualsClause,
    ForbiddenGreaterThanRelation,
)
from ConfigSpace.hyperparameters import (
    CategoricalHyperparameter,
    Constant,
    OrdinalHyperparameter,
    UniformFloatHyperparameter,
    UniformIntegerHyperparameter,
)
from ConfigSpace.util import generate_grid, get_one_exchange_neighbourhood

import searchspaces
from searchspaces import Space, SpaceError, parameters


def finite():
    """Two conditions, one below the other, and a clause."""
    space = ConfigurationSpace()
    a = UniformIntegerHyperparameter("a", 1, 3)
    b = CategoricalHyperparameter("b", ["x", "y"])
    c = OrdinalHyperparameter("c", [1, 2, 4])
    d = CategoricalHyperparameter("d", [True, [4, 2], None])
    space.add(a, b, c, d, EqualsCondition(c, b, "y"), EqualsCondition(d, c, 4))
    space.add(ForbiddenAndConjunction(ForbiddenEqualsClause(a, 3), ForbiddenEqualsClause(b, "x")))
    return Space(space, "s")


def ranges():
    space = ConfigurationSpace()
    space.add(UniformFloatHyperparameter("rate", 1e-5, 1e-1, log=True), UniformIntegerHyperparameter("units", 1, 1000))
    space.add(UniformFloatHyperparameter("share", -1, 3), Constant("fixed", 7))
    return Space(space, "s")


def all_of(space):
    points = {text(space.draw(0, index)): space.draw(0, index) for index in range(400)}
    return list(points.values())


def text(point):
    return json.dumps(point, sort_keys=True)


def faults(call, *args):
    with pytest.raises(SpaceError) as raised:
        call(*args)
    return raised.value.faults


SPACES = [finite(), ranges(), searchspaces.load(["encoder", "optimization"])]


@pytest.mark.parametrize("space", SPACES, ids=["finite", "ranges", "encoder"])
def test_every_point_comes_back_from_its_numbers(space):
    for index in range(100):
        point = space.draw(1, index)
        numbers = space.unit(point)
        assert numbers.keys() == point.keys()
        assert all(0 <= number <= 1 for number in numbers.values())
        assert space.from_unit(numbers) == point


def test_numbers_are_shares_of_the_range_on_its_own_scale_and_of_the_choices():
    assert ranges().unit({"rate": 1e-4, "units": 1000, "share": 0.0, "fixed": 7}) == pytest.approx(
        {"rate": 0.25, "units": 1.0, "share": 0.25, "fixed": 0.0}
    )
    assert finite().unit({"a": 2, "b": "y", "c": 4, "d": [4, 2]}) == pytest.approx(
        {"a": 0.5, "b": 1 / 2, "c": 2 / 3, "d": 1 / 3}
    )


def test_numbers_between_two_values_go_to_the_nearest_and_those_outside_to_the_ends():
    assert ranges().from_unit({"rate": 0.5, "units": 0.12345, "share": 7.0}) == {
        "rate": 1e-3,
        "units": 124,
        "share": 3.0,
        "fixed": 7,
    }
    assert finite().from_unit({"a": -1, "b": 0.45, "c": 0.9, "d": 0.2}) == {"a": 1, "b": "y", "c": 4, "d": [4, 2]}


def test_inactive_numbers_are_left_out_and_missing_ones_take_defaults():
    assert finite().from_unit({"b": 0.0, "c": 0.7, "d": 0.7}) == {"a": 2, "b": "x"}
    assert finite().from_unit({"b": 0.5}) == {"a": 2, "b": "y", "c": 1}


def test_wrong_numbers_are_refused_all_at_once():
    assert faults(finite().from_unit, {"a": 1.0, "b": 0.0}, "explore") == [
        "explore: the space forbids (a == 3 && b == 'x')"
    ]
    assert faults(finite().from_unit, {"e": 0.1, "a": float("nan")}) == [
        "unit.a must be a number, got nan",
        "unit.e: the space s has no 'e'; it has: a, b, c, d",
    ]


@pytest.mark.parametrize("space", SPACES, ids=["finite", "ranges", "encoder"])
def test_neighbours_are_legal_differ_in_one_parameter_and_come_in_a_seeded_order(space):
    for index in range(20):
        point = space.draw(2, index)
        found = space.neighbours(point, 0, index)
        assert len({text(other) for other in found} | {text(point)}) == len(found) + 1
        assert all(space.legal(other) for other in found)
        for other in found:
            differing = [name for name in point.keys() & other.keys() if point[name] != other[name]]
            assert len(differing) == 1
        assert found == space.neighbours(point, 0, index)
        assert found != space.neighbours(point, 0, index + 1) or len(found) < 3


def test_neighbours_are_those_of_configspaces_own_local_search():
    space = finite()
    for point in all_of(space):
        configuration = Configuration(space.configspace, values=point)
        theirs = get_one_exchange_neighbourhood(configuration, seed=0, num_neighbors=20)
        plain = {text({name: parameters.plain(value) for name, value in dict(other).items()}) for other in theirs}
        # An integer's are drawn, so only the rest must be the same.
        ours = {text(other) for other in space.neighbours(point, 0, 0) if other["a"] == point["a"]}
        assert ours == {other for other in plain if json.loads(other)["a"] == point["a"]}


def test_what_becomes_active_takes_its_default_and_what_becomes_inactive_goes():
    moved = finite().neighbours({"a": 1, "b": "y", "c": 2}, 0, 0)
    assert sorted(map(text, moved)) == sorted(
        map(
            text,
            [
                {"a": 2, "b": "y", "c": 2},
                {"a": 1, "b": "x"},
                {"a": 1, "b": "y", "c": 1},
                {"a": 1, "b": "y", "c": 4, "d": True},
            ]
            + [other for other in moved if other["a"] == 3],  # drawn near, or not
        )
    )


def test_neighbours_of_a_range_are_a_few_and_near():
    space = ranges()
    point = space.from_unit({"rate": 0.5, "units": 0.5, "share": 0.5})
    moved = [space.neighbours(point, 0, index) for index in range(100)]
    assert {len(found) for found in moved} <= {12, 13, 14}
    steps = [space.unit(o)["rate"] - 0.5 for found in moved for o in found if o["rate"] != point["rate"]]
    assert len(steps) == 400
    assert 0.1 < np.std(steps) < 0.2
    whole = {other["units"] for found in moved for other in found} - {point["units"]}
    assert {point["units"] - 1, point["units"] + 1} < whole


def test_a_fixed_or_empty_space_has_no_neighbours():
    assert Space.empty().neighbours({}, 0, 0) == []
    assert finite().fix({"a": 1, "b": "x"}).neighbours({"a": 1, "b": "x"}, 0, 0) == []


@pytest.mark.parametrize("space", SPACES, ids=["finite", "ranges", "encoder"])
def test_a_changed_point_is_legal_and_differs_in_that_parameter(space):
    for index in range(60):
        point = space.draw(3, index)
        for name in point:
            if name == "fixed" or (space is SPACES[0] and (point["a"], name) == (3, "b")):
                continue
            changed = space.changed(point, name, 0, index)
            assert space.legal(changed)
            assert [n for n in point.keys() & changed.keys() if point[n] != changed[n]] == [name]
            assert changed == space.changed(point, name, 0, index)


def test_changes_follow_the_declared_distribution_and_draw_what_becomes_active():
    rates = [ranges().changed(ranges().default(), "rate", 0, index)["rate"] for index in range(400)]
    shares = np.histogram(np.log10(rates), bins=4, range=(-5, -1))[0] / 400
    assert np.all(np.abs(shares - 0.25) < 0.08)
    opened = [finite().changed({"a": 1, "b": "x"}, "b", 0, index) for index in range(100)]
    assert {(point["c"], text(point.get("d"))) for point in opened} == {
        (1, "null"),
        (2, "null"),
        (4, "true"),
        (4, "[4, 2]"),
        (4, "null"),
    }


def test_what_cannot_change_is_refused():
    assert faults(finite().changed, {"a": 1, "b": "x"}, "c", 0, 0) == [
        "change.c: is inactive here; it counts only when b == 'y'"
    ]
    assert faults(finite().changed, {"a": 3, "b": "y", "c": 1}, "b", 0, 0) == [
        "change.b: no other value is legal beside the rest of the point"
    ]
    assert faults(ranges().changed, ranges().default(), "fixed", 0, 0) == [
        "change.fixed: no other value is legal beside the rest of the point"
    ]


def test_the_grid_is_every_legal_point_once():
    space = finite()
    grid = list(space.grid(3))
    theirs = [dict(configuration) for configuration in generate_grid(space.configspace, {"a": 3})]
    assert len(grid) == len({text(point) for point in grid}) == len(theirs) == space.size()
    assert {text(point) for point in grid} == {text(point) for point in all_of(space)}
    assert all(space.legal(point) for point in grid)


def test_the_grid_takes_ranges_in_even_steps_on_their_own_scale():
    grid = list(ranges().grid(5))
    assert len(grid) == 5**3
    assert sorted({point["rate"] for point in grid}) == [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
    assert sorted({point["units"] for point in grid}) == [1, 251, 500, 750, 1000]
    assert sorted({point["share"] for point in grid}) == [-1, 0, 1, 2, 3]
    assert {point["a"] for point in finite().grid(50)} == {1, 2, 3}
    assert list(ranges().grid(1)) == [ranges().default()]
    assert list(Space.empty().grid(4)) == [{}]
    assert faults(ranges().grid, 0) == ["steps must be at least 1, got 0"]


def test_the_grid_of_a_huge_space_begins_at_once():
    first = list(islice(SPACES[2].grid(3), 100))
    assert len({text(point) for point in first}) == 100
    assert all(SPACES[2].legal(point) for point in first)


def test_a_seeded_grid_is_the_same_points_and_begins_anywhere():
    plain, shuffled = list(finite().grid(3)), list(finite().grid(3, 5))
    assert plain != shuffled == list(finite().grid(3, 5))
    assert sorted(map(text, plain)) == sorted(map(text, shuffled))
    firsts = {text(next(finite().grid(3, 0, index))) for index in range(200)}
    assert firsts == {text(point) for point in plain}


def test_the_grid_leaves_out_what_a_relation_forbids():
    declared = ConfigurationSpace()
    low, high = UniformIntegerHyperparameter("low", 1, 9), UniformIntegerHyperparameter("high", 1, 9)
    declared.add(low, high)
    declared.add(ForbiddenGreaterThanRelation(low, high))
    pairs = [(point["low"], point["high"]) for point in Space(declared, "s").grid(9)]
    assert sorted(pairs) == [(low, high) for low in range(1, 10) for high in range(low, 10)]
