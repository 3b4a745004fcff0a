"""What deciding costs, at a size that takes a second."""

import pytest

from benchmarks import driver_cost
from experiments.engine import strategies


def test_hundreds_and_suggestions_are_timed():
    found = driver_cost.grown("evolution", 220)
    assert found["growth"] == pytest.approx(found["last_hundred_s"] / found["first_hundred_s"])
    assert found["last_hundred_s"] > 0 < found["suggestion_ms"]
    assert found["bound_ms"] == 20


def test_what_is_not_ours_may_take_longer():
    bounds = {name: driver_cost.bound_ms(name) for name in strategies.find("SEARCHER")}
    assert {name for name, bound in bounds.items() if bound == 100} == {"tpe", "optuna"}
