"""Suggestions are hyperopt's, told the same by its own means."""

import hashlib

import numpy as np
import pytest
from ConfigSpace import ConfigurationSpace, EqualsCondition
from ConfigSpace.hyperparameters import CategoricalHyperparameter, UniformFloatHyperparameter
from hyperopt import hp, tpe
from hyperopt.base import Domain, trials_from_docs

from experiments.engine.outcome import Outcome
from experiments.engine.strategies.tpe import Tpe
from searchspaces import Space
from tests.experiments.strategies import conditional

SPACE = conditional.space()


def searcher(trials, outcome=conditional.outcome, seed=0, **options):
    found = Tpe(Tpe.Config(**options), SPACE, seed)
    for trial in range(trials):
        point = SPACE.draw(1, trial)
        found.started(trial, point)
        found.observed(trial, point, 1, outcome(point))
    return found


def nested():
    """A parameter that one of three choices has, as a user of hyperopt would write it, and in our space. (hyperopt
    draws what comes last in the alphabet first; here that is the parent in both.)
    """
    theirs = hp.choice("z", [{"z": "a"}, {"z": "b", "slope": hp.uniform("slope", -1, 3)}, {"z": "c"}])
    declared = ConfigurationSpace()
    kind = CategoricalHyperparameter("z", ("a", "b", "c"))
    slope = UniformFloatHyperparameter("slope", -1.0, 3.0)
    declared.add(kind, slope, EqualsCondition(slope, kind, "b"))
    return theirs, Space(declared, "nested")


def documents(points, losses):
    """Trials as hyperopt keeps them."""
    for trial, (point, loss) in enumerate(zip(points, losses, strict=True)):
        values = {"z": ["abc".index(point["z"])], "slope": [point["slope"]] if "slope" in point else []}
        misc = {"tid": trial, "cmd": None, "vals": values, "idxs": {n: [trial] if v else [] for n, v in values.items()}}
        empty = dict.fromkeys(("spec", "exp_key", "owner", "version", "book_time", "refresh_time"))
        yield {**empty, "tid": trial, "state": 2, "result": {"status": "ok", "loss": loss}, "misc": misc}


def test_conditions_are_as_hyperopts_nested_choices():
    declared, space = nested()
    ours, random = Tpe(Tpe.Config(n_startup=5), space, 0), np.random.default_rng(0)
    points = [space.draw(1, trial) for trial in range(40)]
    losses = [abs(point.get("slope", 2.5) - 1) + random.random() / 10 for point in points]
    for trial, (point, loss) in enumerate(zip(points, losses, strict=True)):
        ours.started(trial, point)
        ours.observed(trial, point, 1, Outcome((-loss,)))
    theirs = trials_from_docs(list(documents(points, losses)))
    kinds = []
    for trial in range(40, 80):
        seed = int.from_bytes(hashlib.sha256(f"0/{trial}/0/0".encode()).digest()[:4])
        [document] = tpe.suggest([40], Domain(lambda _: 0.0, declared), theirs, seed, n_startup_jobs=5, verbose=False)
        values = document["misc"]["vals"]
        point = ours.propose(trial, 0)
        kinds.append(point["z"])
        assert kinds[-1] == "abc"[values["z"][0]]
        assert point.get("slope", 0.0) == pytest.approx((values["slope"] or [0.0])[0], rel=1e-4, abs=1e-4)
    assert kinds.count("b") > 20


def test_it_looks_where_good_trials_are():
    late = [searcher(60).propose(trial, 0) for trial in range(60, 90)]
    assert np.mean([conditional.value(point) for point in late]) > 2 * np.mean(
        [conditional.value(SPACE.draw(2, trial)) for trial in range(300)]
    )


def test_a_proposal_changes_nothing_and_repeats():
    one, two = searcher(30), searcher(30)
    for trial, attempt in ((30, 0), (31, 0), (30, 1)):
        one.propose(trial, attempt)
    assert [one.propose(30, attempt) for attempt in range(6)] == [two.propose(30, attempt) for attempt in range(6)]
    assert one.propose(30, 0) != one.propose(30, 1)
    assert searcher(30, seed=1).propose(30, 0) != one.propose(30, 0)


def test_trials_in_flight_and_failed_ones_count_as_bad():
    best = max((SPACE.draw(1, trial) for trial in range(40)), key=conditional.value)
    flying, failed, without = (searcher(40) for _ in range(3))
    for trial in range(40, 60):
        for found in (flying, failed):
            found.started(trial, {**best, "units": trial})
        failed.observed(trial, {**best, "units": trial}, 0.0, None)
    proposed = [[found.propose(trial, 0) for trial in range(60, 120)] for found in (flying, failed, without)]
    near = [sum(0.8 < point["rate"] / best["rate"] < 1.25 for point in points) for points in proposed]
    assert proposed[0] == proposed[1]
    assert near[0] < near[2] / 2


def test_constraints_and_several_objectives_matter():
    def tight(point):
        return conditional.outcome(point, 2, limit=40)

    free, held = searcher(60), searcher(60, tight)
    sizes = [
        np.mean([p["depth"] * p["width"] for p in (s.propose(trial, 0) for trial in range(60, 90))])
        for s in (held, free)
    ]
    assert sizes[0] < 0.7 * sizes[1]


@pytest.mark.parametrize("option", [{"n_startup": 0}, {"n_candidates": 0}, {"gamma": 0.0}, {"prior_weight": 0.0}])
def test_impossible_numbers_are_refused(option):
    with pytest.raises(ValueError, match="greater than"):
        Tpe.Config(**option)
