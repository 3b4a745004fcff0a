"""Which parameters change the network is found by building, not listed."""

import pytest

import searchspaces
from experiments.engine import architectural, plan, spec
from trainables.parsing import ParseError

COMMON = {"task": {"name": ""}, "epochs": 3}


def test_parameters_of_the_encoder_change_it_and_those_of_training_do_not():
    space = searchspaces.load(["encoder", "optimization"])
    assert architectural.parameters("train", COMMON, space) == searchspaces.load("encoder").names


def test_what_is_held_at_one_value_changes_nothing():
    space = searchspaces.load(["encoder", "optimization"]).fix({"d_model": 64, "n_layers": 1})
    assert "d_model" not in architectural.parameters("train", COMMON, space)
    assert "n_heads" in architectural.parameters("train", COMMON, space)


def test_a_student_of_a_teacher_to_come_is_known_by_its_fields():
    space = searchspaces.load(["encoder", "distillation"])
    found = architectural.parameters("distill", {**COMMON, "teacher": "stages.teacher"}, space)
    assert found == searchspaces.load("encoder").names


def test_an_architecture_is_known_beforehand_where_the_space_holds_it():
    space, shape = searchspaces.load("optimization"), {"n_layers": 2, "d_model": 32, "n_heads": 2}
    found = architectural.fixed("train", {**COMMON, **shape}, space)
    assert found is not None
    assert (found.n_layers, found.d_model, found.n_heads) == (2, 32, 2)
    both = searchspaces.load(["encoder", "optimization"])
    assert architectural.fixed("train", COMMON, both) is None
    assert architectural.fixed("train", {**COMMON, "n_layers": 0}, space) is None
    assert architectural.fixed("train", {**COMMON, "model": "mine.py:network"}, space) is None


def test_pbt_is_refused_on_an_architecture(tmp_path):
    stage = {"name": "search", "space": ["encoder", "optimization"], "trials": 8, "epochs": 6}
    encoder = searchspaces.load("encoder").default()
    held = {name: encoder[name] for name in encoder if name != "d_ff"}
    values = {
        "name": "demo",
        "task": {"name": "text_classification", "data": "glosses"},
        "stages": [{**stage, "fix": held, "search": {"searcher": "pbt"}}],
    }
    line = (
        "stages.search: searcher pbt goes on from another trial's weights, and d_ff would make another network of "
        "them; fix them, or take another searcher: bohb, evolution, greedy, grid, optuna, random, reinforce, tpe"
    )
    with pytest.raises(ParseError) as raised:
        plan.prepare(spec.checked(values), tmp_path, known=["another fault"])
    assert line in raised.value.faults
