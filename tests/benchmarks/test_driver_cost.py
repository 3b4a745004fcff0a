"""What deciding costs, at a size that takes a second."""

import pytest

from benchmarks import driver_cost, surfaces
from experiments.engine import strategies


def test_hundreds_and_suggestions_are_timed():
    found = driver_cost.grown("evolution", 220)
    assert found["growth"] == pytest.approx(found["last_hundred_s"] / found["first_hundred_s"])
    assert found["last_hundred_s"] > 0 < found["suggestion_ms"]
    assert found["bound_ms"] == 20


def test_what_is_not_ours_may_take_longer():
    bounds = {name: driver_cost.bound_ms(name) for name in strategies.find("SEARCHER")}
    assert {name for name, bound in bounds.items() if bound == 100} == {"tpe", "optuna"}


def test_a_sampler_of_optunas_is_named_after_it():
    surface = surfaces.closed("ridge", 3)
    assert driver_cost.searcher("optuna nsga2", surface).propose(0, 0).keys() >= {"n_layers", "d_model"}
    assert driver_cost.bound_ms("optuna gp") == 100
    with pytest.raises(ValueError, match="sampler"):
        driver_cost.searcher("optuna best", surface)
