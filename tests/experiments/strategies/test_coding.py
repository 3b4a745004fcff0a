"""Points as the numbers of a model, and what a model suggests as points."""

import pytest
from ConfigSpace import ConfigurationSpace
from ConfigSpace.hyperparameters import OrdinalHyperparameter

from experiments.engine import strategies
from experiments.engine.outcome import Outcome
from experiments.engine.strategies.coding import Coding
from searchspaces import Space
from tests.experiments.strategies import conditional

SPACE = conditional.space()


@pytest.fixture
def coding():
    return Coding(SPACE)


def test_dimensions_are_levels_or_ranges(coding):
    found = {d.name: (d.levels, d.ordered, d.conditional) for d in coding.dimensions}
    assert found == {
        "kind": (3, False, False),
        "width": (4, True, False),
        "depth": (4, True, False),
        "units": (0, True, False),  # too many values to be levels
        "rate": (0, True, False),
        "slope": (0, True, True),
    }


def test_points_survive(coding):
    for index in range(200):
        point = SPACE.draw(0, index)
        numbers = coding.numbers(point)
        assert ("slope" in numbers) == (point["kind"] == "b")
        assert coding.point(coding.completed(point)) == point
        assert coding.completed(point).keys() == {d.name for d in coding.dimensions}


def test_numbers_are_indices_and_places_on_a_ranges_own_scale(coding):
    point = {"kind": "c", "width": 32, "depth": 5, "units": 1000, "rate": 1e-3, "fixed": 7}
    numbers = coding.numbers(point)
    assert numbers.pop("rate") == pytest.approx(1 / 3)
    assert numbers.pop("units") == pytest.approx(1.0, abs=1e-4)
    assert numbers == {"kind": 2, "width": 2, "depth": 3}
    assert coding.completed(point)["slope"] == 0.25


def test_many_steps_are_a_range():
    declared = ConfigurationSpace()
    declared.add(OrdinalHyperparameter("step", [5 * k for k in range(100)]))
    space = Space(declared, "steps")
    [dimension] = Coding(space).dimensions
    assert dimension.levels == 0
    for k in (0, 1, 50, 99):
        assert Coding(space).point(Coding(space).numbers({"step": 5 * k})) == {"step": 5 * k}
    assert Coding(space).point({"step": 1.0}) == {"step": 495}


def test_what_a_clause_forbids_is_asked_for_again(coding):
    forbidden = coding.completed({**SPACE.default(), "kind": "c"}) | {"width": 3}
    legal = {**forbidden, "width": 2}
    assert coding.point(forbidden) is None
    answers = iter([forbidden, forbidden, legal])
    assert coding.proposed(0, 5, 0, lambda _: next(answers)) == coding.point(legal)
    asked = []
    assert SPACE.legal(coding.proposed(0, 5, 0, lambda decision: asked.append(decision) or forbidden))
    assert len(asked) == len(set(asked)) == 8


def test_a_model_that_repeats_itself_gives_way_to_random_draws(coding):
    numbers = coding.completed(SPACE.default())
    proposed = [coding.proposed(3, 7, attempt, lambda _: numbers) for attempt in range(10)]
    assert proposed[:4] == [SPACE.default()] * 4
    assert len({point["rate"] for point in proposed[4:]}) == 6
    assert coding.proposed(3, 7, 0, lambda _: None) not in proposed


def test_a_space_of_one_point_has_nothing_to_model():
    space = Space.empty()
    assert Coding(space).dimensions == []
    assert Coding(space).proposed(0, 0, 0, lambda _: {}) == {}
    fixed = SPACE.fix(dict(SPACE.default()))
    assert Coding(fixed).proposed(0, 0, 0, lambda _: {}) == SPACE.default()


@pytest.mark.parametrize("name", ["tpe", "bohb", "optuna"])
def test_searchers_with_nothing_to_model(name):
    for space in (Space.empty(), SPACE.fix(dict(SPACE.default()))):
        kind = strategies.load(name, "SEARCHER")
        found = kind(kind.Config(), space, 0)
        for trial in range(30):
            found.started(trial, space.default())
            found.observed(trial, space.default(), 1, Outcome((float(trial),)))
        assert found.propose(30, 0) == space.default()


@pytest.mark.parametrize("name", ["tpe", "bohb", "optuna"])
def test_refused_configurations_have_numbers_below_0(name):
    kind = strategies.load(name, "SEARCHER")
    found = kind(kind.Config(), SPACE, 0)
    for trial in range(40):
        point = SPACE.draw(0, trial)
        number = trial if conditional.value(point) > 0.1 else -trial
        found.started(number, point)
        found.observed(number, point, 1, conditional.outcome(point) if number >= 0 else None)
    assert SPACE.legal(found.propose(40, 0))
