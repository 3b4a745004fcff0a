"""What holds for every searcher and scheduler that is found, and for every legal pair of them."""

import json
import math

import pytest
from ConfigSpace import (
    AndConjunction,
    ConfigurationSpace,
    EqualsCondition,
    ForbiddenAndConjunction,
    ForbiddenEqualsClause,
    GreaterThanCondition,
)
from ConfigSpace.hyperparameters import (
    CategoricalHyperparameter,
    Constant,
    OrdinalHyperparameter,
    UniformFloatHyperparameter,
    UniformIntegerHyperparameter,
)

import searchspaces
from experiments.engine import checks, strategies
from experiments.engine.director import Director, Stage
from experiments.engine.events import Lost, Reported, Segment, Started
from experiments.engine.outcome import outcome
from experiments.engine.simulator import Curve, simulate
from experiments.engine.strategies.named import named

EPOCHS = 9
TRIALS = 24
# A replay searches nothing.
SEARCHERS = [name for name in checks.searchers() if name != "replay"]
PAIRS = [(s, k) for s in SEARCHERS for k in strategies.find("SCHEDULER") if checks.legal(s, k)]
# A searcher's other way, named after it. A Gaussian process takes too long; CMA-ES has no choices, as these spaces do.
PAIRS += [("optuna nsga2", "none"), ("optuna nsga2", "promotion")]
# So that what is learned matters within few trials.
SMALL = {"n_startup": 3, "population": 4, "tournament": 2, "random_fraction": 0.1}
OBJECTIVES = {"score": "max", "latency_ms": "min"}

of_pairs = pytest.mark.parametrize(("searcher", "scheduler"), PAIRS, ids=["-".join(pair) for pair in PAIRS])


def conditional():
    """Choices, ordinals, log ranges, conditions on conditions, a constant, and combinations that are forbidden."""
    space = ConfigurationSpace(name="conditional")
    kind = CategoricalHyperparameter("kind", ("sgd", "adam", "none"), default_value="adam")
    depth = UniformIntegerHyperparameter("depth", 1, 6, default_value=2)
    width = OrdinalHyperparameter("width", (16, 32, 64), default_value=32)
    momentum = UniformFloatHyperparameter("momentum", 0.1, 0.99, default_value=0.9)
    nesterov = CategoricalHyperparameter("nesterov", (True, False), default_value=False)
    space.add(
        UniformFloatHyperparameter("rate", 1e-5, 1e-1, default_value=1e-3, log=True),
        *(kind, depth, width, momentum, nesterov, Constant("version", 3)),
    )
    space.add(
        EqualsCondition(momentum, kind, "sgd"),
        AndConjunction(EqualsCondition(nesterov, kind, "sgd"), GreaterThanCondition(nesterov, depth, 1)),
    )
    space.add(ForbiddenAndConjunction(ForbiddenEqualsClause(kind, "none"), ForbiddenEqualsClause(width, 64)))
    return searchspaces.Space(space, "conditional")


SPACES = {"flat": searchspaces.load(["encoder", "optimization"]), "conditional": conditional()}


def value(config, epochs):
    """A closed-form learning curve: best at some rate, with much of the first size that there is."""
    distance = abs(math.log10(config.get("learning_rate", config.get("rate"))) + 3) + 0.5 * config.get("dropout", 0)
    return (1 - 0.6**epochs) * math.exp(-distance) * (size(config) / 256) ** 0.2


def size(config):
    return config["d_model"] if "d_model" in config else config["width"]


def curve(config):
    layers = config.get("n_layers", config.get("depth"))
    return Curve(
        lambda epochs: {"score": value(config, epochs), "latency_ms": layers * size(config) / 64}, seconds=1 + layers
    )


def search(searcher, scheduler, *, seed=0, trials=TRIALS, space="flat", objectives=None, bounds=None, few=True):
    def plan(_):
        return named(
            (searcher.split()[0], options(searcher, few)),
            (scheduler, {}),
            SPACES[space],
            seed,
            first=[SPACES[space].default()],
            trials=trials,
            epochs=EPOCHS,
            outcome=lambda metrics: outcome(metrics, objectives or {"score": "max"}, bounds or {}),
        )

    return Director([Stage("search", "", plan, watched=("score",))])


def options(searcher, few):
    """Of a searcher, or of one and its sampler."""
    name, *sampler = searcher.split()
    role = "STRATEGY" if name in strategies.find("STRATEGY") else "SEARCHER"
    known = strategies.options(name, role).model_fields
    small = {name: value for name, value in SMALL.items() if few and name in known}
    return {**small, **({"sampler": sampler[0]} if sampler else {})}


def run(director, workers=4):
    return [event for _, event in simulate(director, curve, workers)]


def result(director):
    return [(trial.config, trial.status, trial.epochs) for trial in director.trials.values()]


def key(config):
    return json.dumps(config, sort_keys=True)


@of_pairs
@pytest.mark.parametrize("space", SPACES)
def test_every_point_is_legal_plain_and_tried_once(searcher, scheduler, space):
    director = search(searcher, scheduler, space=space)
    run(director)
    configs = [trial.config for trial in director.trials.values()]
    assert len(configs) == TRIALS or searcher == "pbt"
    assert configs[0] == SPACES[space].default()
    for config in configs:
        assert SPACES[space].legal(config)
        assert json.loads(json.dumps(config)) == config
    assert len(set(map(key, configs))) == len(configs)
    assert all(trial.ended and not trial.failed for trial in director.trials.values())


@of_pairs
def test_seeded_search_repeats(searcher, scheduler):
    first, second, other = (search(searcher, scheduler, seed=seed) for seed in (1, 1, 2))
    assert run(first) == run(second)
    run(other)
    assert result(first) == result(second)
    assert result(first) != result(other) or searcher == "grid"  # which has no randomness


@of_pairs
@pytest.mark.parametrize("workers", [1, 3])
def test_replayed_at_any_event_it_goes_on_identically(searcher, scheduler, workers):
    whole = search(searcher, scheduler, trials=10)
    events = run(whole, workers)
    for cut in range(0, len(events), 7):
        director = search(searcher, scheduler, trials=10)
        for event in events[:cut]:
            director.tell(event)
        assert goes_on(director, events[cut:]) == result(whole)


def goes_on(director, expected):
    """Asks where a segment began before, tells what was reported then."""
    for event in expected:
        if isinstance(event, Started):
            assert director.ask() == event.segment
        director.tell(event)
    assert director.ask() == "done"
    return result(director)


@of_pairs
def test_asking_changes_nothing(searcher, scheduler):
    asked, plain = search(searcher, scheduler, trials=10), search(searcher, scheduler, trials=10)
    expected = run(plain, workers=2)
    for event in expected:
        asked.ask(), asked.ask()
        asked.tell(event)
    assert result(asked) == result(plain)


@of_pairs
def test_lost_segments_change_no_decision(searcher, scheduler):
    plain, troubled = search(searcher, scheduler, trials=10), search(searcher, scheduler, trials=10)
    run(plain, workers=1)
    while isinstance(segment := troubled.ask(), Segment):
        troubled.tell(Started(segment))
        if segment.attempt == 0 and segment.trial % 2:
            troubled.tell(Lost(segment.number, "preempted", "the node goes"))
            assert troubled.ask().trial == segment.trial
            continue
        for epochs in range(int(segment.start.epochs if segment.start else 0) + 1, EPOCHS + 1):
            metrics = curve(segment.config).metrics(epochs)
            report = Reported(segment.number, epochs, metrics, checkpoint=f"{segment.number}/{epochs}")
            if troubled.tell(report) != "continue":
                break
    assert sorted(result(troubled), key=str) == sorted(result(plain), key=str)


@of_pairs
def test_failed_trials_end_nothing_but_themselves(searcher, scheduler):
    director = search(searcher, scheduler)
    broken = {3, 4, 11}
    for _, event in simulate(director, lambda config: failing(config, director, broken), 4):
        assert event is not None
    statuses = [trial.status for trial in director.trials.values()]
    diverged = {number for number, status in enumerate(statuses) if status == "diverged"}
    assert diverged == {number for number in broken if number < len(statuses)}
    assert len(statuses) == TRIALS or searcher == "pbt"
    assert all(trial.ended for trial in director.trials.values())


def failing(config, director, broken):
    number = next(trial.number for trial in director.trials.values() if trial.config == config)
    return Curve(lambda epochs: {"score": math.nan if number in broken else value(config, epochs)})


@of_pairs
def test_several_objectives_and_a_constraint(searcher, scheduler):
    several = {"objectives": OBJECTIVES, "bounds": {"latency_ms": {"max": 6.0}}, "space": "conditional"}
    director, again = search(searcher, scheduler, **several), search(searcher, scheduler, **several)
    run(director)
    run(again)
    assert result(director) == result(again)
    assert all(SPACES["conditional"].legal(trial.config) for trial in director.trials.values())
    whole = [trial for trial in director.trials.values() if trial.epochs == EPOCHS]
    assert any(trial.metrics["latency_ms"] <= 6.0 for trial in whole)


def trials(searcher, scheduler, seed, curve=curve):
    director = search(searcher, scheduler, seed=seed, trials=60, few=False)
    for _ in simulate(director, curve, 1):
        pass
    return list(director.trials.values())


# bohb needs several budgets, so both have the same scheduler.
LEARN = [pair for pair in PAIRS if pair[1] == "none" and pair[0] not in ("random", "grid", "pbt")] + [
    ("bohb", "promotion")
]
learners = pytest.mark.parametrize(("searcher", "scheduler"), LEARN, ids=["-".join(pair) for pair in LEARN])


@learners
def test_beats_random_search(searcher, scheduler):
    def found(name):
        return sum(max(t.metrics["score"] for t in trials(name, scheduler, seed)) for seed in range(4))

    assert found(searcher) > found("random")


@learners
def test_turns_away_from_what_fails(searcher, scheduler):
    """A choice that changes nothing else fails: with failures ranked last it is taken less often."""

    def fails(config):
        return config["positions"] == "sinusoidal"

    def broken(config):
        return Curve(lambda epochs: {"score": math.nan if fails(config) else value(config, epochs)})

    def failed(name):
        return sum(fails(t.config) for seed in range(4) for t in trials(name, scheduler, seed, broken)[30:])

    assert failed(searcher) < 0.9 * failed("random")
