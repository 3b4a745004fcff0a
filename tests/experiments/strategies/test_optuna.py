"""Suggestions are optuna's own, from a study of its own that went the same way."""

import hashlib
import json
import math

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import create_trial

from experiments.engine import spec
from experiments.engine.outcome import Outcome
from experiments.engine.strategies import optuna as ours_module
from experiments.engine.strategies.observations import Observations
from experiments.engine.strategies.optuna import Optuna, gaussian_process
from experiments.engine.strategies.study import Sampling
from tests.experiments.strategies import conditional
from trainables.parsing import ParseError

SPACE = conditional.space()
FLAT = SPACE.fix({"kind": "a"})
DISTRIBUTIONS = {
    "kind": CategoricalDistribution(range(3)),
    "width": IntDistribution(0, 3),
    "depth": IntDistribution(0, 3),
    "units": FloatDistribution(0, 1),
    "rate": FloatDistribution(0, 1),
    "slope": FloatDistribution(0, 1),
}


optuna.logging.set_verbosity(optuna.logging.ERROR)


def searcher(trials=0, space=SPACE, outcome=conditional.outcome, seed=0, **options):
    found = Optuna(Optuna.Config(**options), space, seed)
    for trial in range(trials):
        point = space.draw(1, trial)
        found.started(trial, point)
        found.observed(trial, point, 1, outcome(point))
    return found


def seed_of(decision):
    return int.from_bytes(hashlib.sha256(decision.encode()).digest()[:4])


def suggested(trial, name):
    """As a user of optuna writes it."""
    distribution = DISTRIBUTIONS[name]
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(name, distribution.low, distribution.high)
    return trial.suggest_float(name, distribution.low, distribution.high)


def asked(study, sampler, coding):
    """Define-by-run: the slope is there where the kind is b."""
    study.sampler = sampler
    trial = study.ask()
    numbers = {d.name: suggested(trial, d.name) for d in coding.dimensions if d.name != "slope"}
    if numbers.get("kind") == 1:
        numbers["slope"] = suggested(trial, "slope")
    return trial, coding.point({**numbers, "slope": numbers.get("slope", 0.0)})


def test_nsga2_goes_through_its_generations_as_a_study_of_optunas_own():
    """Six a generation; parents, crossover, mutation. Beyond 220 trials the first are forgotten, and it goes on so."""
    ours, study = searcher(space=FLAT, sampler="nsga2", population=6), optuna.create_study(directions=["maximize"] * 2)
    generations = set()
    for number in range(250):
        sampler = NSGAIISampler(seed=seed_of(f"0/{number}/0/0"), population_size=6)
        trial, point = asked(study, sampler, ours._coding)
        assert ours.propose(number, 0) == ours.propose(number, 0) == point
        ours.started(number, point)
        outcome = conditional.outcome(point, 2)
        ours.observed(number, point, 1, outcome)
        study.tell(trial, list(outcome.values))
        generations.add(study.trials[-1].system_attrs["NSGAIISampler:generation"])
    assert len(generations) == 42


def test_the_search_of_the_gaussian_process_is_the_short_one():
    ours, optunas = gaussian_process(0), GPSampler(seed=0)
    assert (ours._n_preliminary_samples, ours._n_local_search) == (256, 2)
    assert (optunas._n_preliminary_samples, optunas._n_local_search) == (2048, 10)


def told(found, points, outcome, directions):
    """A study of optuna's own with the same trials."""
    study = optuna.create_study(directions=directions)
    for point in points:
        numbers = {n: v if n in ("units", "rate", "slope") else int(v) for n, v in found._coding.numbers(point).items()}
        distributions = {name: DISTRIBUTIONS[name] for name in numbers}
        values, constraints = list(outcome(point).values), {"size": outcome(point).violation}
        study.add_trial(
            create_trial(params=numbers, distributions=distributions, values=values, constraints=constraints)
        )
    return study


@pytest.mark.parametrize("objectives", [1, 2])
@pytest.mark.parametrize(
    ("sampler", "make", "space", "proposals"),
    [("tpe", TPESampler, SPACE, 20), ("gp", gaussian_process, FLAT, 1)],
    ids=["tpe", "gp"],
)
def test_suggestions_are_as_in_a_study_of_optunas_own(sampler, make, space, proposals, objectives):
    """With constraints, and (tpe) a condition; what a clause forbids was drawn again."""

    def outcome(point):
        return conditional.outcome(point, objectives, limit=100)

    ours = searcher(30, space, outcome, sampler=sampler)
    study = told(ours, [space.draw(1, trial) for trial in range(30)], outcome, ["maximize"] * objectives)
    compared = 0
    for number in range(30, 30 + proposals):
        trial, point = asked(study, make(seed=seed_of(f"0/{number}/0/0")), ours._coding)
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        if point is not None:
            assert ours.propose(number, 0) == point
            compared += 1
    assert compared > proposals / 2


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_it_looks_where_good_trials_are(sampler):
    found = searcher(60, sampler=sampler, **({"population": 10} if sampler == "nsga2" else {}))
    late = [found.propose(trial, 0) for trial in range(60, 100)]
    assert all(SPACE.legal(point) for point in late)
    assert np.mean([conditional.value(point) for point in late]) > 1.3 * np.mean(
        [conditional.value(SPACE.draw(2, trial)) for trial in range(300)]
    )


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_failed_trials_and_broken_constraints_are_the_last(sampler):
    """Half of the points fail, or are too large: hardly any of those proposed is."""
    options = {"population": 10} if sampler == "nsga2" else {}

    def large(point):
        return point["depth"] * point["width"] > 60

    def failing(point):
        return None if large(point) else conditional.outcome(point, 2)

    for outcome in (failing, lambda point: conditional.outcome(point, 2, limit=60)):
        found = searcher(60, outcome=outcome, sampler=sampler, **options)
        proposed = [found.propose(trial, 0) for trial in range(60, 90)]
        drawn = [SPACE.draw(1, trial) for trial in range(60)]
        assert np.mean([large(point) for point in proposed]) < 0.5 * np.mean([large(point) for point in drawn])


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_a_proposal_changes_nothing_and_repeats(sampler):
    one, two = searcher(30, sampler=sampler), searcher(30, sampler=sampler)
    for trial, attempt in ((30, 0), (31, 0), (30, 1)):
        one.propose(trial, attempt)
    for found in (one, two):
        found.started(30, SPACE.draw(1, 30))
        found.observed(30, SPACE.draw(1, 30), 1, Outcome((0.5,)))
    assert [one.propose(31, attempt) for attempt in range(6)] == [two.propose(31, attempt) for attempt in range(6)]
    assert searcher(30, seed=1, sampler=sampler).propose(30, 0) != searcher(30, sampler=sampler).propose(30, 0)


def test_before_anything_is_known_and_where_all_failed_it_is_random():
    for found in (
        searcher(),
        searcher(20, outcome=lambda _: None),
        searcher(20, outcome=lambda _: Outcome((math.nan,))),
    ):
        assert SPACE.legal(found.propose(20, 0))
        assert found.propose(20, 0) != found.propose(21, 0)


def test_a_sampler_gets_what_is_remembered_and_what_is_in_flight():
    class Seen(RandomSampler):
        def sample_relative(self, study, trial, search_space):
            seen.append(study.trials)
            return {}

    seen = []
    dimensions = searcher()._coding.dimensions
    sampling, observations = Sampling(lambda seed: Seen(seed), dimensions), Observations(most=6)
    for number in range(12):
        sampling.started(number, {"rate": number / 12}, "")
        if number < 10:
            observations.observed(number, 1, Outcome((float(-number),)))
            sampling.observed(observations)
    sampling.suggested("")
    assert [round(trial.params["rate"] * 12) for trial in seen[-1]] == [0, 1, 2, 7, 8, 9, 10, 11]


def test_a_trial_that_failed_and_was_forgotten_is_not_in_flight():
    class Seen(RandomSampler):
        def sample_relative(self, study, trial, search_space):
            seen.append(study.trials)
            return {}

    seen = []
    sampling, observations = Sampling(lambda seed: Seen(seed), searcher()._coding.dimensions), Observations(most=2)
    for number in range(6):
        sampling.started(number, {"rate": number / 6}, "")
        observations.observed(number, 1, Outcome((1.0,)) if number == 5 else None)
        sampling.observed(observations)
    sampling.suggested("")
    assert {trial.state.name for trial in seen[-1]} == {"COMPLETE"}
    assert len(seen[-1]) == len(observations.outcomes) == 2


def test_cmaes_is_refused_what_it_cannot_search(monkeypatch):
    monkeypatch.setattr(ours_module.importlib.util, "find_spec", lambda _: object())
    expected = (
        "searcher.sampler is cmaes, which has no choices and no conditions, got kind, slope; fix what is one of these, "
        "or take the sampler tpe, nsga2 or gp, or another searcher: "
        "bohb, evolution, greedy, grid, random, reinforce, tpe"
    )
    with pytest.raises(ValueError, match=expected):
        searcher(sampler="cmaes")


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (
            "optuna",
            "searcher is optuna, which is not installed; .*python.* -m pip install optuna cmaes, or take tpe or bohb",
        ),
        (
            "cmaes",
            "searcher.sampler is cmaes, which needs the package cmaes; .* -m pip install cmaes, or take tpe, nsga2",
        ),
    ],
)
def test_what_is_not_installed_is_told(monkeypatch, missing, message):
    monkeypatch.setattr(ours_module.importlib.util, "find_spec", lambda name: None if name == missing else object())
    with pytest.raises(ValueError, match=message):
        searcher(space=FLAT, sampler="cmaes")


@pytest.mark.parametrize(
    ("searcher", "message"),
    [
        (
            {"name": "optuna", "sampler": "cmaes"},
            "searcher.sampler is cmaes, which has no choices and no conditions, got",
        ),
        ({"name": "optuna", "sampler": "tip"}, "searcher.sampler must be 'tpe', 'nsga2', 'gp' or 'cmaes', got 'tip'"),
        ({"name": "tpe", "n_start": 3}, "searcher has no 'n_start'; did you mean 'n_startup'"),
        ({"name": "bohb", "good": 2}, "searcher.good must be below 1, got 2"),
    ],
)
def test_an_experiment_is_told_before_it_starts(monkeypatch, searcher, message):
    monkeypatch.setattr(ours_module.importlib.util, "find_spec", lambda _: object())
    with pytest.raises(ParseError, match=f"stages.search.search.{message}"):
        spec.load("quickstart", [f"stages.search.search.searcher={json.dumps(searcher)}"])


def test_cmaes_climbs():
    pytest.importorskip("cmaes")
    found = searcher(space=FLAT, sampler="cmaes", n_startup=1)
    points = []
    for trial in range(80):
        points.append(found.propose(trial, 0))
        assert points[-1] == found.propose(trial, 0)
        found.started(trial, points[-1])
        found.observed(trial, points[-1], 1, conditional.outcome(points[-1]))
    values = [conditional.value(point) for point in points]
    drawn = [conditional.value(FLAT.draw(0, index)) for index in range(80)]
    assert np.mean(values[-20:]) > 2 * np.mean(drawn)
    assert np.mean(values[-20:]) > np.mean(values[:20])


@pytest.mark.parametrize("option", [{"n_startup": 0}, {"population": 1}])
def test_impossible_numbers_are_refused(option):
    with pytest.raises(ValueError, match="greater than"):
        Optuna.Config(**option)


def test_an_unknown_sampler_is_refused():
    with pytest.raises(ValueError, match="'tpe', 'nsga2', 'gp' or 'cmaes'"):
        Optuna.Config(sampler="tpi")
