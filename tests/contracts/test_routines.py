"""What every routine in `trainables/` keeps, found and not listed: a new file is tested without touching this one."""

import ast
import inspect
import sys

import pytest
from pydantic import BaseModel, ValidationError

from trainables import routine


@pytest.fixture(params=routine.find())
def kind(request):
    return routine.load(request.param)


def test_config_is_typed_frozen_and_refuses_unknown_keys(kind):
    assert issubclass(kind.Config, BaseModel)
    assert kind.Config.model_config["frozen"] is True
    assert kind.Config.model_config["extra"] == "forbid"


def test_config_has_a_seed_and_a_task(kind):
    assert {"seed", "task"} <= set(kind.Config.model_fields)


def test_every_parameter_is_explained(kind):
    fields = {name: field for name, field in kind.Config.model_fields.items() if name != "seed"}
    assert [name for name, field in fields.items() if not field.description] == []


def test_has_the_methods_of_a_routine(kind):
    for name, parameters in {"advance": 1, "save": 2, "load": 2, "__init__": 3}.items():
        assert len(inspect.signature(getattr(kind, name)).parameters) == parameters


def test_knows_nothing_of_ray(kind):
    tree = ast.parse(inspect.getsource(sys.modules[kind.__module__]))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {name for name in imported if name.split(".")[0] == "ray"}


def test_a_wrong_seed_is_refused(kind):
    required = {name: {} for name, field in kind.Config.model_fields.items() if field.is_required()}
    with pytest.raises(ValidationError, match="seed"):
        kind.Config.model_validate({**required, "seed": -1})


def test_an_unknown_routine_is_refused_with_what_there_is():
    with pytest.raises(ValueError, match=r"there is no routine 'tran'; there are: .*train"):
        routine.load("tran")
