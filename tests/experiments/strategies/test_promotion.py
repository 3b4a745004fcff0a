"""Asynchronous successive halving that promotes: by the paper's algorithm, written out as it stands there."""

import itertools
import math
import random

import pytest

from experiments.engine.director import Director, Stage
from experiments.engine.events import Reported, Started
from experiments.engine.outcome import Outcome, ranks
from experiments.engine.simulator import Curve, simulate
from experiments.engine.strategies.pair import Pair
from experiments.engine.strategies.promotion import Promotion, Rung
from experiments.engine.strategies.random import Random

EPOCHS = 27


class Heights:
    """A space of one number; after `count` draws the same come again."""

    def __init__(self, count=math.inf):
        self._count = count

    def default(self):
        return {"height": 0.5}

    def draw(self, seed, index):
        return {"height": random.Random(f"{seed} {index % self._count}").random()}


def search(trials, heights=None, epochs=EPOCHS):
    def plan(_):
        return Pair(
            searcher=Random(Random.Config(), heights or Heights(), 0),
            scheduler=Promotion(Promotion.Config(), epochs),
            first=[Heights().default()],
            trials=trials,
            epochs=epochs,
            outcome=lambda metrics: Outcome((metrics["score"],)),
        )

    return Director([Stage("search", "", plan, watched=("score",))])


def curve(config):
    return Curve(lambda epoch: {"score": config["height"] * (1 - 0.7**epoch)}, seconds=1 + config["height"])


def get_job(recorded, promoted, eta):
    """Algorithm 2 of the paper: the trial and its rung, None where a new one is to begin."""
    for rung in reversed(range(len(recorded) - 1)):
        there = recorded[rung]
        places = dict(zip(there, ranks(list(there.values())), strict=True))
        candidates = sorted(places, key=places.get)[: int(len(there) / eta)]
        promotable = [trial for trial in candidates if trial not in promoted[rung]]
        if promotable:
            return promotable[0], rung
    return None


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("objectives", [1, 2])
@pytest.mark.parametrize("constrained", [False, True])
def test_decides_as_the_papers_algorithm(seed, objectives, constrained):
    rng, milestones = random.Random(seed), [1, 3, 9, 27]
    ours = Promotion(Promotion.Config(), EPOCHS)
    recorded, promoted = [{} for _ in milestones], [set() for _ in milestones]
    going, new, again = {}, itertools.count(), 0
    for _ in range(150):
        if len(going) < 4:
            job, found = get_job(recorded, promoted, 3), ours.promoted("trials")
            assert found == (job and (job[0], milestones[job[1] + 1]))
            trial, rung = (job[0], job[1] + 1) if job else (next(new), 0)
            if job:
                promoted[job[1]].add(trial)
                again += 1
            ours.started(trial)
            going[trial] = rung
            continue
        trial = rng.choice(list(going))
        rung = going.pop(trial)
        values = tuple(round(rung + rng.random(), 1) for _ in range(objectives))  # rounded: ties; better than before
        outcome = Outcome(values, rng.choice([0.0, 0.5]) if constrained and not rung else 0.0)
        assert ours.judge(trial, milestones[rung], outcome) == ("stop" if rung == 3 else "pause")
        kept = recorded[rung - 1][trial] if rung else outcome
        best = tuple(map(max, kept.values, outcome.values))
        recorded[rung][trial] = Outcome(best, min(kept.violation, outcome.violation))
    assert again > 20


def test_a_trial_counts_by_the_best_that_it_reported():
    ours = Promotion(Promotion.Config(grace_period=3), 9)
    for trial, values in enumerate([(0.9, 0.1, 0.2), (0.1, 0.2, 0.5), (0.1, 0.2, 0.6)]):
        ours.started(trial)
        verdicts = [ours.judge(trial, epoch, Outcome((value,))) for epoch, value in enumerate(values, 1)]
        assert verdicts == ["continue", "continue", "pause"]
    assert ours.promoted("trials") == (0, 9)


def test_who_was_passed_over_goes_on_once_more_have_come_that_are_worse():
    ours = Promotion(Promotion.Config(), 9)
    for trial, value in enumerate([0.5, 0.4, 0.3]):
        ours.started(trial)
        ours.judge(trial, 1, Outcome((value,)))
    ours.started(0)
    assert ours.promoted("trials") is None
    for trial in range(3, 6):
        ours.started(trial)
        ours.judge(trial, 1, Outcome((0.1,)))
    assert ours.promoted("trials") == (1, 3)
    ours.ended(1)  # cancelled
    assert ours.promoted("trials") is None


def test_what_is_advised_first_pauses_at_the_second_rung():
    ours = Promotion(Promotion.Config(), 9)
    assert (ours.budget(), ours.budget(advised=True)) == (1, 3)
    for trial in (0, 1, 2):
        ours.started(trial, advised=True)
        outcome = Outcome((trial / 100,))
        assert [ours.judge(trial, epoch, outcome) for epoch in (1, 2, 3)] == ["continue", "continue", "pause"]
    for trial in (3, 4, 5):  # they are better after an epoch, and compete among themselves
        ours.started(trial)
        assert ours.judge(trial, 1, Outcome((trial / 10,))) == "pause"
    assert ours.promoted("trials") == (2, 9)
    ours.started(2)
    assert ours.promoted("trials") == (5, 3)
    assert Promotion(Promotion.Config(grace_period=9), 9).budget(advised=True) == 9


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("trials", [1, 2, 12, 60])
def test_one_at_least_trains_to_the_end_and_the_others_end_with_the_search(trials, workers):
    director = search(trials)
    events = [event for _, event in simulate(director, curve, workers)]
    statuses = [trial.status for trial in director.trials.values()]
    assert len(statuses) == trials
    assert set(statuses) <= {"completed", "stopped"}
    best = max(director.trials.values(), key=lambda trial: trial.config["height"])
    assert (best.status, best.epochs) == ("completed", EPOCHS)
    assert sum(isinstance(event, Reported) for event in events) <= trials * EPOCHS / (1 if trials < 12 else 4)
    again = [event.segment.start.epochs for event in events if isinstance(event, Started) and event.segment.start]
    assert set(again) <= {1, 3, 9}


def test_with_time_left_all_train_to_the_end_the_best_first():
    director = search(None, Heights(count=8))
    ends = []
    for _, event in simulate(director, curve, 1):
        if isinstance(event, Reported) and event.epochs == EPOCHS:
            ends.append(director.trial_of(event.segment).config["height"])
    assert len(ends) == len(director.trials) == 9
    assert max(ends) in ends[:2]
    assert {trial.status for trial in director.trials.values()} == {"completed"}


def test_an_undefined_value_is_the_last():
    rung = Rung(1)
    for trial, value in enumerate([math.nan, 0.1]):
        rung.record(trial, Outcome((value,)))
        rung.paused.add(trial)
    assert rung.first() == (0.5, 1)


@pytest.mark.parametrize("numbers", [{"eta": 1}, {"grace_period": 0}, {"eta": float("inf")}])
def test_impossible_numbers_are_refused(numbers):
    with pytest.raises(ValueError, match=r"greater than|finite"):
        Promotion.Config(**numbers)


def test_grace_period_above_the_budget_is_refused():
    with pytest.raises(ValueError, match="scheduler.grace_period must be at most epochs, got 5 above 4"):
        Promotion(Promotion.Config(grace_period=5), 4)
