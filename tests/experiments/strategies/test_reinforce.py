"""REINFORCE: gradients as torch's autograd has them, rewards and baseline by hand, and a policy that learns."""

import itertools

import numpy as np
import pytest
import torch
from ConfigSpace import ConfigurationSpace, EqualsCondition, ForbiddenAndConjunction, ForbiddenEqualsClause
from ConfigSpace.hyperparameters import (
    CategoricalHyperparameter,
    Constant,
    OrdinalHyperparameter,
    UniformFloatHyperparameter,
    UniformIntegerHyperparameter,
)

from experiments.engine.outcome import Outcome
from experiments.engine.strategies.reinforce import Arms, Policy, Reinforce
from searchspaces import Space


def declared():
    space = ConfigurationSpace()
    optimizer = CategoricalHyperparameter("optimizer", ["adamw", "sgd"])
    momentum = OrdinalHyperparameter("momentum", [0.0, 0.5, 0.9])
    space.add(optimizer, momentum, UniformFloatHyperparameter("rate", 1e-5, 1e-1, log=True))
    space.add(UniformIntegerHyperparameter("n_layers", 1, 5), UniformIntegerHyperparameter("units", 1, 1000, log=True))
    space.add(Constant("epochs", 3), EqualsCondition(momentum, optimizer, "sgd"))
    return space


SPACE = Space(declared(), "s")


def policy(space=SPACE, bins=4):
    return Policy([Arms(row, space, bins) for row in space.describe()])


def softmaxes(logits, counts):
    return [part.log_softmax(0) for part in logits.split(counts)]


def test_choices_and_short_ranges_have_an_arm_a_value_and_long_ranges_bins():
    counts = {arms.name: arms.count for arms in policy(bins=8).arms}
    assert counts == {"optimizer": 2, "momentum": 3, "rate": 8, "n_layers": 5, "units": 8, "epochs": 1}


def test_a_drawn_place_is_credited_to_its_own_arm():
    for arms in policy(bins=6).arms:
        for arm, within in itertools.product(range(arms.count), (0.0, 0.3, 0.999)):
            assert arms.arm(arms.place(arm, within)) == arm
    rate = next(arms for arms in policy().arms if arms.name == "rate")
    assert [rate.arm(SPACE.unit({"rate": value})["rate"]) for value in (1e-5, 0.9e-4, 1.1e-4, 1e-2, 1e-1)] == [
        0,
        0,
        1,
        3,
        3,
    ]


@pytest.mark.parametrize("seed", range(3))
def test_gradients_are_those_of_autograd(seed):
    ours = policy()
    logits = torch.randn(ours.size, generator=torch.manual_seed(seed), dtype=torch.float64, requires_grad=True)
    counts = [arms.count for arms in ours.arms]
    point = SPACE.unit(SPACE.draw(seed, 0))
    chosen = [
        log[arms.arm(point[arms.name])]
        for arms, log in zip(ours.arms, softmaxes(logits, counts), strict=True)
        if arms.name in point
    ]
    (score,) = torch.autograd.grad(torch.stack(chosen).sum(), logits)
    entropy = -sum((log.exp() * log).sum() for log in softmaxes(logits, counts))
    (exploring,) = torch.autograd.grad(entropy, logits)
    probabilities = ours.probabilities(logits.detach().numpy())
    np.testing.assert_allclose(probabilities, torch.cat(softmaxes(logits, counts)).exp().detach(), atol=1e-12)
    np.testing.assert_allclose(ours.score(probabilities, point), score, atol=1e-12)
    np.testing.assert_allclose(ours.entropy_gradient(probabilities), exploring, atol=1e-12)


def test_the_policy_after_some_trials_is_a_sum_of_their_steps():
    """Against torch: each trial's loss at the policy it began with, rewards and baselines worked out by hand."""
    found = Reinforce(Reinforce.Config(learning_rate=0.7, entropy=0.1, decay=0.8, bins=4), SPACE, 0)
    points = [SPACE.default(), *(SPACE.draw(4, index) for index in range(3))]
    scores = [0.3, 0.9, 0.1, 0.5]
    rewards = [0.5, 1.0, 0.0, 2 / 3]  # the share of those before that each is better than
    baselines = [0.5, 0.5, 0.8 * 0.5 + 0.2 * 1.0, 0.8 * 0.6 + 0.2 * 0.0]
    ours, counts = policy(), [arms.count for arms in policy().arms]
    logits = torch.zeros(ours.size, dtype=torch.float64, requires_grad=True)
    for trial, (point, score) in enumerate(zip(points, scores, strict=True)):
        np.testing.assert_allclose(found.probabilities(), np.concatenate(probabilities(logits, counts)), atol=1e-12)
        place = SPACE.unit(point)
        logs = softmaxes(logits, counts)
        chosen = [log[a.arm(place[a.name])] for a, log in zip(ours.arms, logs, strict=True) if a.name in place]
        entropy = -sum((log.exp() * log).sum() for log in logs)
        loss = -(rewards[trial] - baselines[trial]) * torch.stack(chosen).sum() - 0.1 * entropy
        (gradient,) = torch.autograd.grad(loss, logits)
        found.started(trial, point)
        found.observed(trial, point, 1.0, Outcome((score,)))
        logits = (logits - 0.7 * gradient).detach().requires_grad_()
    np.testing.assert_allclose(found.probabilities(), np.concatenate(probabilities(logits, counts)), atol=1e-12)


def probabilities(logits, counts):
    return [log.exp().detach().numpy() for log in softmaxes(logits, counts)]


def bandit():
    space = ConfigurationSpace()
    space.add(CategoricalHyperparameter("arm", ["a", "b", "c", "d"]), UniformFloatHyperparameter("rate", 0, 1))
    return Space(space, "bandit")


def learnt(value, trials, *, space=None, seed=0):
    found = Reinforce(Reinforce.Config(), space or bandit(), seed)
    for trial in range(trials):
        point = found.propose(trial, 0)
        found.started(trial, point)
        found.observed(trial, point, 1.0, value(point))
    return found


def test_a_later_report_replaces_the_earlier_one():
    once, twice = (Reinforce(Reinforce.Config(), bandit(), 0) for _ in range(2))
    points = [bandit().draw(0, index) for index in range(4)]
    for trial, point in enumerate(points):
        once.started(trial, point)
        twice.started(trial, point)
    for trial, score in enumerate([1.0, 2.0, 3.0]):
        once.observed(trial, points[trial], 1.0, Outcome((score,)))
        twice.observed(trial, points[trial], 1.0, Outcome((score,)))
    once.observed(3, points[3], 9.0, Outcome((2.5,)))
    twice.observed(3, points[3], 1.0, Outcome((0.0,)))
    early = twice.probabilities()
    twice.observed(3, points[3], 9.0, Outcome((2.5,)))
    assert np.array_equal(once.probabilities(), twice.probabilities())
    assert not np.allclose(early, twice.probabilities())


def test_it_learns_the_best_arm_and_range_and_goes_on_exploring():
    found = learnt(lambda point: Outcome((2.0 * (point["arm"] == "c") + (0.5 < point["rate"] < 0.75),)), 150)
    arm, rate = found.probabilities()[:4], found.probabilities()[4:]
    assert arm.argmax() == 2
    assert arm[2] > 0.6
    assert rate[4:6].sum() > 0.6
    assert arm.min() > 1e-4


def test_scale_and_offset_of_a_metric_do_not_matter():
    plain = learnt(lambda point: Outcome((point["rate"],)), 40)
    scaled = learnt(lambda point: Outcome((1e6 * point["rate"] - 7e6,)), 40)
    assert np.array_equal(plain.probabilities(), scaled.probabilities())


def test_what_fails_is_the_worst_and_becomes_unlikely():
    found = learnt(lambda point: None if point["arm"] in "ab" else Outcome((0.5 + point["rate"],)), 100)
    assert found.probabilities()[:2].sum() < 0.15


def test_what_breaks_a_constraint_becomes_unlikely_however_good_it_is():
    found = learnt(lambda point: Outcome((9.0,), 1.0) if point["arm"] == "a" else Outcome((point["rate"],)), 100)
    assert found.probabilities()[0] < 0.1


def test_draws_follow_the_policy_and_the_conditions_and_clauses_of_the_space():
    space = declared()
    space.add(
        ForbiddenAndConjunction(
            ForbiddenEqualsClause(space["optimizer"], "adamw"), ForbiddenEqualsClause(space["n_layers"], 5)
        )
    )
    found = Reinforce(Reinforce.Config(), Space(space, "s"), 0)
    points = [found.propose(trial, 0) for trial in range(300)]
    assert all(Space(space, "s").legal(point) for point in points)
    shares = [sum(point.get("momentum") == value for point in points) / 300 for value in (0.0, 0.5, 0.9, None)]
    assert shares[:3] == pytest.approx([5 / 27] * 3, abs=0.07)  # the clause takes a tenth of the draws
    layers = [sum(point["n_layers"] == value for point in points) / 300 for value in range(1, 6)]
    assert layers == pytest.approx([2 / 9] * 4 + [1 / 9], abs=0.07)


def test_where_its_draws_had_been_tried_the_whole_space_is_drawn_from():
    found = learnt(lambda point: Outcome((point["rate"],)), 5)
    assert found.propose(5, 100) == bandit().draw(0, 5 + 100 * 1_000_003)


@pytest.mark.parametrize("options", [{"learning_rate": 0}, {"entropy": -0.1}, {"decay": 1}, {"bins": 1}])
def test_impossible_numbers_are_refused(options):
    with pytest.raises(ValueError, match="than"):
        Reinforce.Config(**options)
