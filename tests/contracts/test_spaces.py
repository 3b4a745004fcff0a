"""Every space in `searchspaces/`: what a stage relies on. Found, not listed."""

import json

import pytest

import searchspaces
from models.architecture import Architecture

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
