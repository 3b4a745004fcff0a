"""ASHA decides exactly as Ray's own scheduler that is fed the same results."""

import os
import random
from types import SimpleNamespace

import numpy as np
import pytest

os.environ.setdefault("RAY_AUTH_MODE", "token")

from ray.tune.schedulers import AsyncHyperBandScheduler

from experiments.engine.outcome import Outcome, ranks
from experiments.engine.strategies.asha import Asha, quantile


def interleaved(rng, trials, max_epochs):
    """Reports of many trials in some order, each trial's epochs in theirs, until it is stopped."""
    going = dict.fromkeys(range(trials), 0)
    while going:
        trial = rng.choice(list(going))
        going[trial] += 1
        stopped = yield trial, going[trial]
        if stopped:
            del going[trial]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("max_epochs", "eta", "grace"), [(9, 3, 1), (10, 4, 1), (27, 3, 1), (16, 2, 2), (5, 2.5, 1)])
def test_decides_as_rays_scheduler(seed, max_epochs, eta, grace):
    rng = random.Random(seed)
    ours = Asha(Asha.Config(eta=eta, grace_period=grace), max_epochs)
    rays = AsyncHyperBandScheduler("epoch", "score", "max", max_t=max_epochs, grace_period=grace, reduction_factor=eta)
    heights = {trial: rng.random() for trial in range(40)}
    for trial in heights:
        rays.on_trial_add(None, SimpleNamespace(trial_id=trial))
    reports = interleaved(rng, 40, max_epochs)
    trial, epoch = next(reports)
    stops = 0
    while True:
        score = round(heights[trial] * (1 - 0.7**epoch) + rng.gauss(0, 0.05), 2)  # rounded: ties happen
        result = {"epoch": epoch, "score": score}
        expected = rays.on_trial_result(None, SimpleNamespace(trial_id=trial), result)
        verdict = ours.judge(trial, epoch, Outcome((score,)))
        assert verdict.upper() == expected
        if verdict == "stop":
            rays.on_trial_complete(None, SimpleNamespace(trial_id=trial), result)
            stops += 1
        try:
            trial, epoch = reports.send(verdict == "stop")
        except StopIteration:
            break
    assert stops == 40
    recorded = [
        (rung.epochs, {trial: found.values[0] for trial, found in rung.outcomes.items()}) for rung in ours.rungs
    ]
    assert recorded == [(m, dict(s)) for m, s in rays._brackets[0]._rungs]


@pytest.mark.parametrize(("eta", "grace"), [(1.0, 1), (0.5, 1), (3, 0)])
def test_impossible_numbers_are_refused(eta, grace):
    with pytest.raises(ValueError, match="greater than"):
        Asha.Config(eta=eta, grace_period=grace)


def test_grace_period_above_the_budget_is_refused():
    with pytest.raises(ValueError, match="scheduler.grace_period must be at most epochs, got 5 above 4"):
        Asha(Asha.Config(grace_period=5), 4)


def test_quantile_is_numpys_to_the_last_bit():
    rng = random.Random(0)
    for size in (*range(1, 40), 1000):
        values = [rng.gauss(0, 1) for _ in range(size)]
        for eta in (1.5, 2.0, 2.5, 3.0, 4.0, 7.3):
            percent = (1 - 1 / eta) * 100
            assert quantile(sorted(values), percent / 100) == np.percentile(values, percent)


@pytest.mark.parametrize("constrained", [False, True])
def test_several_objectives_go_on_by_their_place_among_all_at_the_rung(constrained):
    rng = random.Random(3)
    asha = Asha(Asha.Config(eta=3), 9)
    there = []
    for trial in range(60):
        violation = rng.choice([0.0, 0.3]) if constrained else 0.0
        found = Outcome((round(rng.random(), 1), round(rng.random(), 1)), violation)
        there.append(found)
        goes_on = ranks(there)[-1] < len(there) / 3
        assert (asha.judge(trial, 1, found) == "continue") == goes_on
    assert sum(trial in asha.rungs[-1].outcomes for trial in range(60)) == 60


def test_what_breaks_a_constraint_comes_after_all_that_do_not():
    asha = Asha(Asha.Config(eta=2), 4)
    assert asha.judge(0, 1, Outcome((0.9,), 0.5)) == "continue"  # the first always does
    assert asha.judge(1, 1, Outcome((0.1,))) == "continue"
    assert asha.judge(2, 1, Outcome((0.95,), 0.2)) == "continue"  # the second of three
    assert asha.judge(3, 1, Outcome((0.99,), 0.4)) == "stop"
    assert asha.judge(4, 1, Outcome((0.0,))) == "continue"
