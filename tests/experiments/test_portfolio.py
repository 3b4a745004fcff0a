"""The greedy portfolio against a table worked by hand, and against brute force; similarity of data sets."""

import itertools

import numpy as np
import pytest
from ConfigSpace import ConfigurationSpace
from ConfigSpace.hyperparameters import CategoricalHyperparameter, UniformFloatHyperparameter

import searchspaces
from experiments.engine import portfolio as made
from experiments.engine.outcome import Outcome
from experiments.engine.portfolio import Search, distances, portfolio
from searchspaces import Space

SAME = {"examples": 1000.0, "classes": 10.0}


@pytest.fixture
def space():
    declared = ConfigurationSpace()
    declared.add(
        UniformFloatHyperparameter("x", 0, 1, default_value=0.5),
        CategoricalHyperparameter("kind", ("a", "b", "c"), default_value="a"),
    )
    return Space(declared, "toy")


def point(x, kind="a"):
    return {"x": x, "kind": kind}


def search(scores, features=SAME, name="past"):
    """Points on x, with what each came to."""
    values = [None if score is None else Outcome((score,)) for score in scores.values()]
    return Search(name, features, [point(x) for x in scores], values)


def test_of_one_past_search_its_best_come_first_in_order(space):
    past = search({0.1: 0.3, 0.2: 0.9, 0.3: 0.7, 0.4: 0.5})
    assert portfolio(space, SAME, [past], 3) == [point(0.2), point(0.3)]  # of the worse half none


def test_neither_failed_ones_nor_the_default_are_advised(space):
    past = search({0.5: 0.9, 0.1: None, 0.2: 0.1})
    assert portfolio(space, SAME, [past], 5) == [point(0.2)]
    assert portfolio(space, SAME, [search({0.5: 0.9})], 5) == []
    assert portfolio(space, SAME, [], 5) == []


def test_first_what_is_good_everywhere_then_what_helps_where_that_was_not_best(space):
    """Shares of the places, by hand: x = 0.2 has 1/3 twice; 0.1 has 0 and 1, 0.3 has 1 and 0, 0.4 2/3 twice."""
    one = search({0.1: 9, 0.2: 8, 0.3: 1, 0.4: 2})
    other = search({0.1: 1, 0.2: 8, 0.3: 9, 0.4: 2})
    assert [each["x"] for each in portfolio(space, SAME, [one, other], 3)] == [0.2, 0.1, 0.3]


def test_similar_data_decide(space):
    far = {"examples": 1e6, "classes": 2.0}
    there, elsewhere = search({0.1: 9, 0.9: 1}), search({0.1: 1, 0.9: 9}, far)
    assert portfolio(space, SAME, [elsewhere, there], 1) == [point(0.1)]
    assert portfolio(space, far, [elsewhere, there], 1) == [point(0.9)]


def test_distances_are_of_logs_over_their_range_and_of_what_both_have():
    now = {"examples": 1000.0, "classes": 10.0}
    past = [{"examples": 1000.0}, {"examples": 100_000.0, "classes": 10.0}, {"examples": 10_000.0, "classes": 10.0}, {}]
    assert distances(now, past) == [0, 0.5, 0.25, 1]


def test_an_untried_point_has_the_rank_of_its_neighbours(space):
    past = search({0.0: 9, 0.01: 8, 0.02: 7, 0.97: 3, 0.98: 2, 0.99: 1})
    shares = made._shares(past.outcomes)
    low, high = made._expected(space, [point(0.015), point(0.975)], past, shares)
    assert low < 0.4
    assert high > 0.6
    assert made._expected(space, [point(0.01)], past, shares)[0] == pytest.approx(0.2, abs=1e-4)


def test_greedy_is_near_the_best_set_there_is():
    """Greedy reaches 1 - 1/e of what the best set of the same size gains (Nemhauser et al. 1978)."""
    random = np.random.default_rng(0)
    for _ in range(20):
        shares_SP, weights_S = random.random((3, 7)), np.full(3, 1 / 3)

        def gain(chosen, shares_SP=shares_SP, weights_S=weights_S):
            return float(weights_S @ (1 - shares_SP[:, list(chosen)].min(1)))

        best = max(map(gain, itertools.combinations(range(7), 3)))
        assert gain(made._greedy(shares_SP, weights_S, 3)) >= (1 - 1 / np.e) * best


def test_choices_differ_or_not_whatever_their_order(space):
    apart = made._apart(space, [point(0.2, "a")], [point(0.2, "b"), point(0.2, "c"), point(0.7, "a")])
    assert apart[0] == pytest.approx([0.5, 0.5, 0.25])


def surface(size):
    """A closed-form score on the joint space: the best learning rate falls with the data's size, as its width grows."""

    def score(config):
        rate = abs(np.log10(config["learning_rate"]) + 3.3 - 0.3 * (5 - np.log10(size)))
        wide = abs(np.log2(config["d_model"]) - (np.log10(size) + 2.5)) / 3
        return -rate - wide - 0.3 * config["dropout"] - 0.1 * (config["schedule"] == "linear")

    return score


def trials_to(target, score, configs):
    return next((n for n, config in enumerate(configs, 1) if score(config) >= target), len(configs))


def test_one_task_left_out_half_the_trials_are_saved():
    space = searchspaces.load(["encoder", "optimization"])
    saved = []
    sizes = [2_000, 5_000, 20_000, 60_000, 100_000]
    for seed, size in enumerate(sizes * 3):
        past = []
        for other in {*sizes} - {size}:
            points = [space.draw(seed + other, index) for index in range(40)]
            worth = [Outcome((surface(other)(each),)) for each in points]
            past.append(Search(str(other), {"examples": other, "classes": 10.0}, points, worth))
        drawn = [space.draw(1000 + seed, index) for index in range(60)]
        score = surface(size)
        target = sorted(map(score, drawn))[-4]  # what takes random search some 15 trials
        first = portfolio(space, {"examples": size, "classes": 10.0}, past, 8)
        saved.append(trials_to(target, score, [*first, *drawn]) / trials_to(target, score, drawn))
    assert np.median(saved) <= 0.5
