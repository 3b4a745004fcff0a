"""PBT ends and clones those that Ray's `PopulationBasedTraining` does; what it explores stays in the space."""

import math
import os
import random
from collections import Counter
from types import SimpleNamespace

import pytest
from ConfigSpace import ConfigurationSpace, EqualsCondition
from ConfigSpace.hyperparameters import (
    CategoricalHyperparameter,
    Constant,
    OrdinalHyperparameter,
    UniformFloatHyperparameter,
    UniformIntegerHyperparameter,
)

os.environ.setdefault("RAY_AUTH_MODE", "token")

from ray.tune.schedulers import PopulationBasedTraining

from experiments.engine.director import Director, Stage
from experiments.engine.events import Failed, Reported, Segment, Started
from experiments.engine.outcome import Outcome
from experiments.engine.simulator import Curve, simulate
from experiments.engine.strategies.pbt import Pbt
from searchspaces import Space

EPOCHS = 12


def space():
    declared = ConfigurationSpace(name="toy")
    kind = CategoricalHyperparameter("kind", ("a", "b", "c"), default_value="a")
    extra = UniformFloatHyperparameter("extra", 0.1, 0.9, default_value=0.5)
    declared.add(
        UniformFloatHyperparameter("rate", 1e-4, 1e-1, default_value=1e-2, log=True),
        UniformIntegerHyperparameter("count", 2, 40, default_value=10),
        OrdinalHyperparameter("size", (16, 32, 64), default_value=32),
        Constant("held", 3),
        kind,
        extra,
    )
    declared.add(EqualsCondition(extra, kind, "b"))
    return Space(declared, "toy")


SPACE = space()


def pbt(trials=40, epochs=EPOCHS, seed=0, first=(), advised=(), **options):
    return Pbt(
        Pbt.Config(**options),
        SPACE,
        seed,
        first=[SPACE.default(), *first],
        trials=trials,
        epochs=epochs,
        outcome=lambda metrics: Outcome((metrics["score"],)),
        advised=advised,
    )


def director(**options):
    return Director([Stage("search", "", lambda _: pbt(**options), watched=("score",))])


class RayTrial:
    """As much of a trial as Ray's scheduler looks at."""

    def __init__(self, name):
        self.trial_id, self.status, self.config, self.over = name, "RUNNING", {"rate": 1.0}, False
        kept = SimpleNamespace(checkpoint_config=SimpleNamespace(num_to_keep=None))
        self.run_metadata = SimpleNamespace(checkpoint_manager=kept)
        self.evaluated_params, self.experiment_tag = {}, ""

    def is_finished(self):
        return self.over


class Recorded(PopulationBasedTraining):
    """Ray's, that writes down whom it would clone and clones nobody."""

    def __init__(self, interval, quantile):
        super().__init__(
            time_attr="epoch",
            metric="score",
            mode="max",
            perturbation_interval=interval,
            quantile_fraction=quantile,
            hyperparam_mutations={"rate": [1.0, 2.0]},
        )
        self.cloned = None

    def _checkpoint_or_exploit(self, trial, tune_controller, upper_quantile, lower_quantile):
        """Where the one it would clone was not saved yet, Ray does nothing; our trials are, at each report."""
        self.cloned = [each.trial_id for each in upper_quantile] if trial in lower_quantile else None


class Controller:
    """Has nothing else to run."""

    search_alg = None

    def get_trials(self):
        return []


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("size", "interval", "quantile"), [(4, 1, 0.25), (8, 2, 0.25), (7, 3, 0.5), (5, 1, 0.1)])
def test_ends_and_goes_on_from_whom_rays_does(seed, size, interval, quantile):
    rng = random.Random(seed)
    ours = pbt(trials=None, seed=seed, population=size, interval=interval, quantile=quantile)
    rays = Recorded(interval, quantile)
    place = {}  # our trial → its place in the population, which is Ray's trial
    for trial in range(size):
        place[trial] = RayTrial(trial)
        rays.on_trial_add(Controller(), place[trial])
        ours.started(trial, ours.ask().config)
    epochs = dict.fromkeys(range(size), 0)
    exploits = 0
    while epochs:
        trial = rng.choice(list(epochs))
        epochs[trial] += 1
        score = rng.random()
        rays.cloned = None
        rays.on_trial_result(Controller(), place[trial], {"epoch": epochs[trial], "score": score})
        if epochs[trial] == EPOCHS:  # Ray's own stopping ends it before anybody is cloned
            place[trial].over = True
            ours.reported(trial, epochs.pop(trial), {"score": score})
            ours.ended(trial, False)
            continue
        verdict = ours.reported(trial, epochs[trial], {"score": score})
        assert (verdict == "stop") == (rays.cloned is not None)
        if verdict == "stop":
            exploits += 1
            upper = rays.cloned
            ours.ended(trial, False)
            proposal = ours.ask()
            assert place[proposal.start].trial_id in upper
            ours.started(proposal.trial, proposal.config)
            place[proposal.trial] = place.pop(trial)
            epochs[proposal.trial] = epochs[proposal.start]
            del epochs[trial]
            member = ours._member(proposal.trial)
            rays._trial_state[place[proposal.trial]].last_perturbation_time = member.ranked
    assert exploits >= 2


def test_explored_points_are_perturbed_or_drawn_anew_within_the_space():
    made = pbt(resample=0.0)
    point = SPACE.point({"rate": 0.09, "count": 3, "size": 64, "kind": "b", "extra": 0.8})
    found = [made._explored(point, trial, 0) for trial in range(200)]
    assert all(SPACE.legal(each) for each in found)
    assert {each["rate"] for each in found} == {0.072, 0.1}
    assert {each["count"] for each in found} == {2, 4}
    assert {each["size"] for each in found} == {32, 64}
    assert {each["extra"] for each in found} == {0.64, 0.9}
    assert {(each["kind"], each["held"]) for each in found} == {("b", 3)}


def test_drawn_anew_takes_conditions_along():
    made = pbt(resample=1.0)
    found = [made._explored(SPACE.default(), trial, 0) for trial in range(100)]
    assert all(SPACE.legal(each) for each in found)
    assert Counter(each["kind"] for each in found).keys() == {"b", "c"}
    assert all(("extra" in each) == (each["kind"] == "b") for each in found)
    assert len({each["rate"] for each in found}) == 100


def gain(config):
    """Progress an epoch: best near a rate of 1e-2 with a small count."""
    return math.exp(-abs(math.log10(config["rate"]) + 2.5)) / (1 + config["count"] / 10)


def grown(conductor, workers=4, broken=()):
    """A simulation in which progress adds up along a line of trials; the score each trial ends with."""
    progress, scores = {}, {}
    while isinstance(segment := conductor.ask(), Segment):
        conductor.tell(Started(segment))
        scores[segment.number] = [segment, progress.get(segment.start.path, 0.0) if segment.start else 0.0]
        while len(conductor.in_flight) >= workers or (conductor.in_flight and conductor.ask() == "wait"):
            for number in sorted(conductor.in_flight):
                running, height = scores[number]
                if running.trial in broken:
                    conductor.tell(Failed(number, "diverged", "broken"))
                    continue
                epoch = conductor.trials["search", running.trial].epochs or (
                    running.start.epochs if running.start else 0
                )
                height += gain(running.config)
                scores[number][1] = progress[f"{number}/{epoch + 1:g}"] = height
                conductor.tell(Reported(number, epoch + 1, {"score": height}, checkpoint=f"{number}/{epoch + 1:g}"))
    return max(trial.metrics["score"] for trial in conductor.trials.values() if trial.reports)


def test_a_new_trial_begins_where_one_of_the_best_is():
    conductor = director(population=4)
    grown(conductor)
    later = [segment for segment in conductor.segments.values() if segment.trial >= 4]
    assert later
    assert all(segment.start is not None for segment in later)
    assert all(
        conductor.trials["search", segment.trial].reports[0].epochs == segment.start.epochs + 1 for segment in later
    )
    assert {trial.status for trial in conductor.trials.values()} <= {"stopped", "completed"}
    assert sum(trial.status == "completed" for trial in conductor.trials.values()) == 4


def test_no_more_trials_than_asked_for():
    conductor = director(population=4, trials=6)
    grown(conductor)
    assert len(conductor.trials) == 6


def test_of_the_first_population_one_in_three_is_advised():
    advised = [SPACE.draw(7, index) for index in range(3)]
    ours = pbt(population=5, advised=advised)
    for trial in range(5):
        ours.started(trial, ours.ask().config)
    drawn = [SPACE.draw(0, trial) for trial in range(5)]
    assert ours._configs == [SPACE.default(), advised[0], drawn[2], drawn[3], advised[1]]


def test_goes_further_than_a_population_that_is_left_alone():
    with_exploits = [grown(director(population=8, seed=seed, trials=60)) for seed in range(5)]
    alone = [grown(director(population=8, seed=seed, trials=8)) for seed in range(5)]
    assert sum(with_exploits) > 1.1 * sum(alone)


def test_with_fewer_slots_than_members_all_keep_pace():
    conductor = director(population=8, trials=8, interval=2)
    events = [event for _, event in simulate(conductor, steady, 3)]
    farthest = Counter()
    for event in events:
        if isinstance(event, Reported):
            farthest[conductor.trial_of(event.segment).number] = event.epochs
        if len(farthest) == 8 and not all(farthest[n] == EPOCHS for n in range(8)):
            assert max(farthest.values()) - min(farthest.values()) <= 4
    assert all(trial.status == "completed" for trial in conductor.trials.values())


def test_with_a_slot_each_nobody_pauses():
    conductor = director(population=4, trials=4)
    events = [event for _, event in simulate(conductor, steady, 4)]
    assert sum(isinstance(event, Started) for event in events) == 4


def test_the_place_of_a_failed_member_is_taken():
    conductor = director(population=4, trials=30)
    grown(conductor, broken={2})
    assert conductor.trials["search", 2].status == "diverged"
    assert sum(trial.status == "completed" for trial in conductor.trials.values()) == 4


def test_it_ends_where_all_fail():
    conductor = director(population=4)
    for _ in range(4):
        segment = conductor.ask()
        conductor.tell(Started(segment))
        conductor.tell(Failed(segment.number, "error", "broken"))
    assert conductor.ask() == "done"


def steady(config):
    return Curve(lambda epoch: {"score": gain(config) * epoch}, seconds=1 + config["count"])


def test_simulation_repeats():
    def course(seed):
        return list(simulate(director(seed=seed), steady, 4))

    assert course(1) == course(1) != course(2)


@pytest.mark.parametrize(
    "options",
    [{"population": 1}, {"interval": 0}, {"quantile": 0}, {"quantile": 0.6}, {"resample": 1.5}, {"factors": []}],
    ids=str,
)
def test_impossible_numbers_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Pbt.Config(**options)


def test_numbers_that_do_not_go_with_the_stage_are_refused():
    with pytest.raises(ValueError, match="searcher.population must be at most trials, got 8 above 6"):
        Pbt.check(Pbt.Config(), SPACE, 6, 9)
    with pytest.raises(ValueError, match="searcher.interval must be below epochs, got 3 of 3"):
        Pbt.check(Pbt.Config(interval=3), SPACE, None, 3)
