"""Grid search takes every point of the grid once, in a seeded order."""

import json

import pytest
from ConfigSpace import ConfigurationSpace, EqualsCondition, ForbiddenAndConjunction, ForbiddenEqualsClause
from ConfigSpace.hyperparameters import CategoricalHyperparameter, OrdinalHyperparameter, UniformFloatHyperparameter
from ConfigSpace.util import generate_grid

import searchspaces
from experiments.engine.strategies.grid import Grid
from searchspaces import Space

HUGE = searchspaces.load(["encoder", "optimization"])


def conditional():
    space = ConfigurationSpace()
    optimizer = CategoricalHyperparameter("optimizer", ["adamw", "sgd"])
    momentum = OrdinalHyperparameter("momentum", [0.0, 0.5, 0.9])
    rate = UniformFloatHyperparameter("rate", 1e-4, 1e-1, log=True)
    space.add(optimizer, momentum, rate, EqualsCondition(momentum, optimizer, "sgd"))
    space.add(ForbiddenAndConjunction(ForbiddenEqualsClause(momentum, 0.9), ForbiddenEqualsClause(optimizer, "sgd")))
    return space


SPACE = Space(conditional(), "s")


def taken(grid, first=()):
    points = list(first)
    for trial, point in enumerate(first):
        grid.started(trial, point)
    while (point := grid.propose(len(points), 0)) is not None:
        grid.started(len(points), point)
        points.append(point)
    return points


def text(point):
    return json.dumps(point, sort_keys=True)


def test_every_point_is_taken_once_and_then_nothing_is_left():
    points = taken(Grid(Grid.Config(steps=4), SPACE, 0))
    theirs = [dict(found) for found in generate_grid(conditional(), {"rate": 4})]
    assert len(points) == len({text(point) for point in points}) == len(theirs) == 12
    assert {point["rate"] for point in points} == {1e-4, 1e-3, 1e-2, 1e-1}
    assert all(SPACE.legal(point) for point in points)


def test_the_order_depends_on_the_seed_and_shows_all_of_the_grid_early():
    first, again, other = (taken(Grid(Grid.Config(steps=4), SPACE, seed)) for seed in (1, 1, 2))
    assert first == again != other
    space = searchspaces.load("subnet")
    early = taken(Grid(Grid.Config(), space, 0))[:40]
    assert all(len({point[name] for point in early}) > 3 for name in space.names)


def test_points_tried_before_and_refused_ones_are_not_proposed():
    grid = Grid(Grid.Config(steps=4), SPACE, 0)
    refused = grid.propose(0, 0)
    grid.started(-1, refused)
    grid.observed(-1, refused, 0.0, None)
    points = taken(grid, first=[SPACE.point({"rate": 1e-2}), SPACE.point({"rate": 0.05})])
    assert len(points) == 12  # without the refused one, and with one that is not on the grid
    assert points.count(SPACE.point({"rate": 1e-2})) == 1
    assert refused not in points


def test_attempts_pass_over_what_is_next():
    grid = Grid(Grid.Config(steps=4), SPACE, 0)
    offered = [grid.propose(0, attempt) for attempt in range(13)]
    assert offered[12] is None
    assert len({text(point) for point in offered[:12]}) == 12


def test_of_a_huge_grid_points_are_drawn_from_anywhere():
    grid = Grid(Grid.Config(steps=3), HUGE, 0)
    points = [grid.propose(trial, 0) for trial in range(60)]
    rates = sorted({point["learning_rate"] for point in points})
    assert rates == sorted({point["learning_rate"] for point in HUGE.fix(fixed()).grid(3)})
    assert len(rates) == 3
    assert len({text(point) for point in points}) == 60
    assert {point["d_model"] for point in points} == {64, 96, 128, 192, 256}
    assert all(HUGE.legal(point) for point in points)
    assert grid.propose(0, 1) != points[0] == Grid(Grid.Config(steps=3), HUGE, 0).propose(0, 0)


def fixed():
    return {name: value for name, value in HUGE.default().items() if name != "learning_rate"}


def test_impossible_steps_are_refused():
    with pytest.raises(ValueError, match="greater than or equal to 2"):
        Grid.Config(steps=1)
