"""Every space in `searchspaces/`: what a stage relies on. Found, not listed."""

import json

import pytest

import searchspaces
from experiments.engine import spec
from models.architecture import Architecture
from tasks import load as load_task
from trainables import routine
from trainables.parsing import parse

DRAWS = 50
PLAIN = {int, float, str, bool, type(None)}


@pytest.fixture(params=searchspaces.find(), scope="module")
def space(request):
    return searchspaces.load(request.param)


def test_draws_are_legal_plain_and_equal_after_json(space):
    for index in range(DRAWS):
        point = space.draw(0, index)
        assert space.legal(point)
        assert {type(value) for value in point.values()} <= PLAIN
        assert json.loads(json.dumps(point)) == point == space.draw(0, index)


def test_the_default_is_legal_plain_and_complete(space):
    default = space.default()
    assert space.legal(default)
    assert {type(value) for value in default.values()} <= PLAIN
    assert default == {row["name"]: row["default"] for row in space.describe() if row["name"] in default}


def test_every_parameter_varies(space):
    points = [space.draw(0, index) for index in range(DRAWS)]
    for name in space.names:
        assert len({point.get(name) for point in points}) > 1, name


def test_architectures_are_legal(space):
    """Every point whose parameters are an encoder's builds one, whatever the draw."""
    fields = set(Architecture.model_fields)
    for index in range(DRAWS):
        shape = {name: value for name, value in space.draw(1, index).items() if name in fields}
        assert Architecture(**shape).model_dump(include=set(shape)) == shape


@pytest.mark.parametrize("name", spec.find())
def test_every_draw_of_an_experiment_is_a_config_of_its_routine(name):
    """Also: no parameter, option or task setting is unknown to who gets it."""
    found = spec.load(name)
    task = {"name": found.task.name, **found.task.options}
    parse(load_task(found.task.name).Config, found.task.options, "task")
    for stage in found.stages:
        space, kind = stage.search_space(), routine.load(stage.routine)
        common = {**stage.options, "task": task, "epochs": stage.epochs}
        for point in [space.default(), *(space.draw(found.seed, index) for index in range(DRAWS))]:
            config = parse(kind.Config, {**common, **point}, stage.routine)
            assert {field: getattr(config, field) for field in point} == point
