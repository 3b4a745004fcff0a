"""Regularised evolution: tournaments, one change a child, and age."""

from collections import Counter
from math import comb

import pytest
from ConfigSpace import ConfigurationSpace, EqualsCondition
from ConfigSpace.hyperparameters import CategoricalHyperparameter, Constant, OrdinalHyperparameter

from experiments.engine.outcome import Outcome
from experiments.engine.strategies.evolution import Evolution
from searchspaces import Space


def space(letters=40):
    """Every point can be told from its letter, whatever else is changed; the letter itself is changed seldom."""
    declared = ConfigurationSpace()
    declared.add(OrdinalHyperparameter("letter", list(range(letters)), default_value=0), Constant("depth", 2))
    for name in ("a", "b", "c"):
        declared.add(OrdinalHyperparameter(name, [0, 1, 2], default_value=0))
    return Space(declared, "s")


SPACE = space()


def point(letter):
    return {"letter": letter, "depth": 2, "a": 0, "b": 0, "c": 0}


def evolved(outcomes, *, population=4, tournament=4, seed=0):
    """One trial an outcome, trial number k with the letter k."""
    found = Evolution(Evolution.Config(population=population, tournament=tournament), SPACE, seed)
    for trial, outcome in enumerate(outcomes):
        found.started(trial, point(trial))
        found.observed(trial, point(trial), 1.0, outcome)
    return found


def parents(found, trial, draws=60):
    """The letters of those that children were made of, in attempts 0 … of a trial."""
    children = [found.propose(trial, attempt) for attempt in range(draws)]
    assert all(SPACE.legal(child) for child in children)
    assert all(
        sum(child[name] != 0 for name in "abc") == 1 for child in children if child["a"] + child["b"] + child["c"]
    )
    return Counter(child["letter"] for child in children if child["a"] + child["b"] + child["c"])


def values(*numbers):
    return [None if number is None else Outcome((float(number),)) for number in numbers]


def test_the_first_population_is_random_searchs():
    found = evolved(values(1, 2, 3))
    assert found.propose(3, 0) == SPACE.draw(0, 3)
    assert evolved(values(None, None, None, None)).propose(4, 0) == SPACE.draw(0, 4)


def test_a_tournament_of_all_is_won_by_the_best_and_its_child_differs_in_one_parameter():
    found = evolved(values(5, 9, 7, 8))
    assert set(parents(found, 4)) == {1}
    children = [found.propose(4, attempt) for attempt in range(60)]
    changed = Counter(name for child in children for name in child if child[name] != point(1)[name])
    assert changed.keys() == {"letter", "a", "b", "c"}
    assert changed.total() == 60
    assert all(count > 5 for count in changed.values())


def test_the_oldest_leaves_however_good_it_is():
    assert set(parents(evolved(values(9, 1, 2, 3)), 4)) == {0}
    assert set(parents(evolved(values(9, 1, 2, 3, 0)), 5)) == {3}
    assert set(parents(evolved(values(9, 1, 2, 3, 0, 0, 0)), 7)) == {3}
    assert set(parents(evolved(values(9, 1, 2, 3, 0, 0, 0, 0)), 8)) == {4}  # ties keep their order


def test_age_is_the_order_of_first_reports():
    found = evolved(values(9, 1, 2, 3))
    found.observed(0, point(0), 5.0, Outcome((0.5,)))  # no younger by it, and worth less now
    assert set(parents(found, 4)) == {3}
    found.observed(4, point(4), 1.0, Outcome((0.0,)))
    found.observed(0, point(0), 6.0, Outcome((50.0,)))
    assert set(parents(found, 5)) == {3}


def test_what_failed_is_no_parent_and_takes_nobodys_place():
    found = evolved(values(9, 1, None, 2, 3))
    assert set(parents(found, 5)) == {0}
    found.observed(0, point(0), 2.0, None)
    assert set(parents(found, 5)) == {4}


def test_tournaments_are_won_as_often_as_combinatorics_says():
    population, few = 6, 3
    found = evolved(values(*range(population)), population=population, tournament=few)
    won: Counter[int] = Counter()
    for trial in range(population, population + 10):
        won += parents(found, trial, 100)
    for place in range(population):  # the best of `few` out of all is number `place` from the top
        expected = comb(population - 1 - place, few - 1) / comb(population, few)
        assert won[population - 1 - place] / won.total() == pytest.approx(expected, abs=0.05)


def test_constraints_and_several_objectives_rank_the_population():
    broken = [Outcome((9.0,), violation=1.0), Outcome((1.0,)), Outcome((8.0,), violation=0.1), Outcome((0.5,))]
    assert set(parents(evolved(broken), 4)) == {1}
    front = [Outcome((9.0, 0.0)), Outcome((0.0, 9.0)), Outcome((5.0, 5.0)), Outcome((4.0, 4.0))]
    won = parents(evolved(front, tournament=2), 4)
    assert min(won[0], won[1]) > 5  # both ends of the front have children
    assert won[3] == 0


def test_what_a_change_makes_active_is_drawn_too():
    declared = ConfigurationSpace()
    optimizer, momentum = CategoricalHyperparameter("o", ["adamw", "sgd"]), OrdinalHyperparameter("m", [1, 2, 3])
    declared.add(optimizer, momentum, EqualsCondition(momentum, optimizer, "sgd"))
    found = Evolution(Evolution.Config(population=2, tournament=2), Space(declared, "s"), 0)
    for trial in range(2):
        found.observed(trial, {"o": "adamw"}, 1.0, Outcome((1.0,)))
    children = [found.propose(2, attempt) for attempt in range(60)]
    assert {(child["o"], child["m"]) for child in children} == {("sgd", 1), ("sgd", 2), ("sgd", 3)}


def test_where_all_children_had_been_tried_the_whole_space_is_drawn_from():
    found = evolved(values(5, 9, 7, 8))
    late = [found.propose(4, attempt) for attempt in range(100, 140)]
    assert late == [SPACE.draw(0, 4 + 1_000_003 * attempt) for attempt in range(100, 140)]


def test_a_space_of_one_point_does_not_break_it():
    only = SPACE.fix(point(3))
    found = Evolution(Evolution.Config(population=2), only, 0)
    found.observed(0, only.default(), 1.0, Outcome((1.0,)))
    assert found.propose(2, 0) == only.default()


@pytest.mark.parametrize("options", [{"population": 1}, {"tournament": 0}])
def test_impossible_numbers_are_refused(options):
    with pytest.raises(ValueError, match="greater than or equal to"):
        Evolution.Config(**options)
