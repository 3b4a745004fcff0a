"""Finalists over seeds: trained again as the search trained them, and chosen by the lower end of the interval."""

import json

import pytest
from scipy import stats

from experiments.engine import spec
from experiments.engine.director import Director
from experiments.engine.events import Expired, Failed, Reported, Segment, Started
from experiments.engine.interval import interval
from experiments.engine.plan import Plan
from experiments.engine.report.summary import FINALISTS, chosen, summary
from trainables.parsing import ParseError

STAGE = {"name": "search", "space": "encoder", "trials": 4, "epochs": 3}
VALUES = {
    "name": "tiny",
    "task": {"name": "image_classification", "data": "digits"},
    "stages": [STAGE],
    "objectives": {"val_accuracy": "max", "params": "min"},
    "finalists": {"count": 2, "seeds": 3, "precision": ["fp32", "int8"]},
}


def planned(**finalists):
    found = spec.checked({**VALUES, "finalists": {**VALUES["finalists"], **finalists}})
    return Plan(found, {stage.name: stage.search_space() for stage in found.stages}, None)


def metrics(segment):
    """The later a trial the larger and the better, so that all of them are on the frontier."""
    found = {"val_accuracy": 0.1 * (1 + segment.trial), "params": 1 + segment.trial}
    return found | {"name": "linear", "validation": {}, "test": {}, "artifact": "there"}


def ran(plan, at=None, reported=metrics):
    """To the end; at: what is told, once, in place of the reports of a segment or (`Expired`) of its start."""
    director, at = Director(plan.steps()), dict(at or {})
    while isinstance(segment := director.ask(), Segment):
        told = at.pop((segment.stage, segment.trial), None)
        if isinstance(told, Expired):
            director.tell(told)
            continue
        director.tell(Started(segment))
        if told is not None:
            director.tell(told(segment.number))
            continue
        for epoch in range(1, int(segment.epochs) + 1):
            place = f"{segment.stage}/{segment.trial}/{epoch}"
            director.tell(Reported(segment.number, epoch, reported(segment), checkpoint=place))
    return director


def test_each_finalist_is_trained_anew_with_further_seeds_as_its_search_trained_it():
    plan = planned()
    director = ran(plan)
    best = [director.trials["search", number] for number in (3, 2)]
    again = director.of_stage("seeds.search")
    assert [trial.config for trial in again] == [best[0].config, best[0].config, best[1].config, best[1].config]
    assert all((trial.status, trial.epochs) == ("completed", 3) for trial in again)
    told = plan.job(director, "/runs/x", {"cpu": 1, "gpu": 0})
    jobs = [told(segment) for segment in director.segments.values() if "search" in segment.stage]
    assert {job["routine"] for job in jobs} == {"train"}
    assert all(job["checkpoints"] for job in jobs)
    assert len({job["values"]["seed"] for job in jobs}) == len(jobs) == 8
    exported = [trial.config for trial in director.of_stage(FINALISTS)]
    places = [[f"seeds.search/{2 * k}/3", f"seeds.search/{2 * k + 1}/3"] for k in (0, 0, 1, 1)]
    assert [config["repeats"] for config in exported] == places
    order = list(dict.fromkeys(segment.stage for segment in director.segments.values()))
    assert order[-2:] == ["seeds.search", FINALISTS]


def test_with_one_seed_nothing_is_trained_again():
    director = ran(planned(seeds=1))
    assert {stage for stage, _ in director.trials} == {"classical", "search", FINALISTS}
    assert all("repeats" not in trial.config for trial in director.of_stage(FINALISTS))


def test_time_that_is_up_leaves_finalists_with_the_seeds_that_are_there():
    director = ran(planned(), at={("seeds.search", 0): Expired("10 minutes are up")})
    assert director.of_stage("seeds.search") == []
    assert len(director.of_stage(FINALISTS)) == 4
    assert all("repeats" not in trial.config for trial in director.of_stage(FINALISTS))


def test_a_repeat_that_fails_counts_no_more():
    director = ran(planned(count=1), at={("seeds.search", 0): lambda number: Failed(number, "error", "bad")})
    assert not director.given_up
    assert [trial.config["repeats"] for trial in director.of_stage(FINALISTS)] == [["seeds.search/1/3"]] * 2


def seeded(*accuracies):
    return [{"validation": {"accuracy": value}, "test": {"accuracy": value - 0.1}} for value in accuracies]


def test_the_lower_end_chooses_not_the_luckiest_seed():
    plan, scores = planned(precision=["fp32"]), [seeded(0.9, 0.6, 0.75), seeded(0.8, 0.79, 0.81)]

    def reported(segment):
        if segment.stage != FINALISTS:
            return metrics(segment)
        seeds = scores[segment.trial]
        rest = {"size_mb": 1.0, "latency_ms": 1.0, "predictions": []}
        return {**metrics(segment), **rest, "val_accuracy": seeds[0]["validation"]["accuracy"], "seeds": seeds}

    director, values = ran(plan, reported=reported), plan.spec.resolved()
    assert chosen(director, values).config["trial"] == "search-002"
    report = summary({"spec": values, "data": {}}, director, "/runs/tiny")
    mean, low, high = interval([0.7, 0.69, 0.71])
    assert report["chosen"]["seeds"]["n"] == 3
    assert report["chosen"]["seeds"]["test"]["accuracy"] == pytest.approx({"mean": mean, "low": low, "high": high})
    assert json.dumps(report["finalists"])


def test_interval_is_students():
    values = [0.861, 0.866, 0.859, 0.871]
    low, high = stats.t.interval(0.95, 3, loc=sum(values) / 4, scale=stats.sem(values))
    assert interval(values) == pytest.approx((sum(values) / 4, low, high))


def test_what_follows_a_schedule_has_one_seed():
    stage = {**STAGE, "space": "finetuning", "options": {"n_layers": 1}, "search": {"searcher": "pbt"}}
    with pytest.raises(ParseError) as refused:
        spec.checked({**VALUES, "stages": [stage]})
    assert (
        "finalists.seeds is 3, must be 1 for stage search, whose searcher pbt trains by a schedule; leave it out, or "
        "take another searcher: bohb, evolution, greedy, grid, optuna, random, reinforce, tpe"
    ) in refused.value.faults
