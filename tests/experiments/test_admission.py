"""Configurations that are refused before training by what they cost, and constraints that nothing meets."""

from dataclasses import replace

import pytest

from experiments.engine import admission, handed, plan, spec
from experiments.engine.director import Director
from experiments.engine.events import Extended, Reported, Segment, Started
from experiments.engine.report.summary import CLASSICAL, summary
from trainables import routine
from trainables.data import prepare

TASK = {"name": "image_classification", "data": "digits"}
STAGE = {"name": "search", "space": ["encoder"], "options": {"patch": 2}, "trials": 6, "epochs": 1}
MOST = 60_000
SMALLEST = {"d_model": 64, "n_heads": 1, "d_head": 16, "d_ff": 64, "positions": "sinusoidal"}


def checked(**changes):
    return spec.checked(
        {"name": "tiny", "task": TASK, "stages": [STAGE], "objectives": {"val_accuracy": "max"}, **changes}
    )


@pytest.fixture
def made(tmp_path):
    return plan.prepare(checked(constraints={"params": {"max": MOST}}), tmp_path)


def test_what_is_known_is_what_the_trial_reports(tmp_path):
    data, values = (
        prepare(TASK, tmp_path),
        {"task": TASK, "patch": 2, "n_layers": 1, "epochs": 0.1, "report_every": 0.1},
    )
    known = routine.known("train", values, data, {})
    kind = routine.load("train")
    report = kind(kind.Config(**values), routine.Workspace(tmp_path, tmp_path)).advance()
    assert {"params", "flops", "size_mb"} == set(known)
    assert {name: report[name] for name in known} == known


def test_of_a_network_of_the_users_own_nothing_is_known(tmp_path):
    values = {"task": TASK, "model": "own.py:build"}
    assert routine.known("train", values, prepare(TASK, tmp_path), {}) == {}


@pytest.mark.parametrize(
    ("bounds", "reason"),
    [
        ({"params": {"max": 1000, "min": None}}, "params is 1,234, must be at most 1,000"),
        ({"params": {"max": None, "min": 2e6}}, "params is 1,234, must be at least 2e+06"),
        ({"params": {"max": 1234}, "latency_ms": {"max": 0.1}, "val_accuracy": {"min": 0.9}}, None),
    ],
)
def test_a_reason_names_metric_value_and_bound(bounds, reason):
    assert admission.reason({"params": 1234}, bounds) == reason


def searched(made, *before):
    """Every trial of the stages reports at once; the director, and its records."""
    steps = {step.name: replace(step, after=()) for step in made.steps()}
    director = Director([steps[name] for name in (*before, "search")])
    events = []
    while isinstance(segment := director.ask(), Segment):
        for event in (Started(segment), Reported(segment.number, 1, {"val_accuracy": 0.5, "params": 1})):
            director.tell(event)
            events.append(event)
    return director, events


def test_no_such_trial_starts_and_the_spared_are_counted(made):
    director, _ = searched(made)
    trials = director.of_stage("search")
    known = admission.known(made.spec.stages[0], made.common(made.spec.stages[0]), made.data, {})
    assert len(trials) == 6
    assert all(known(trial.config)["params"] <= MOST for trial in trials[1:])
    refused = [config for segment in director.segments.values() for config in segment.refused]
    assert refused
    assert all(known(config)["params"] > MOST for config in refused)
    told = summary({"spec": made.spec.resolved(), "data": {}}, director, "here")
    assert told["stages"][0]["spared"] == len(refused)


def test_replayed_it_refuses_the_same(made):
    director, events = searched(made)
    again = Director([step for step in made.steps() if step.name == "search"])
    again.stages["search"] = director.stages["search"]
    for event in events:
        if isinstance(event, Started):
            assert again.ask() == event.segment
        again.tell(event)


def test_a_constraint_out_of_reach_is_refused_with_the_least_there_is(tmp_path):
    with pytest.raises(
        ValueError,
        match=r"constraints.params: must be at most 100, got [\d,]+ as the least found in the space of stages.search",
    ):
        plan.prepare(checked(constraints={"params": {"max": 100}}), tmp_path)


def test_constraints_that_exclude_each_other_are_refused(tmp_path):
    with pytest.raises(
        ValueError,
        match=r"constraints: must be met together, and no point was found in the space of stages.search that comes "
        r"near: of the nearest flops is [\d.e+]+, must be at least 5e\+07; loosen one, or search another space",
    ):
        plan.prepare(checked(constraints={"params": {"max": 60_000}, "flops": {"min": 5e7}}), tmp_path)
    plan.prepare(checked(constraints={"params": {"max": 60_000}, "flops": {"max": 5e7}}), tmp_path)


def test_a_narrow_band_is_not_refused_as_it_may_be_met_where_nobody_looked(made, tmp_path):
    space, stage = made.spaces["search"], made.spec.stages[0]
    met = admission.known(stage, made.common(stage), made.data, {})(space.draw(5, 5))["params"]
    plan.prepare(checked(constraints={"params": {"min": met, "max": met}}), tmp_path)


def test_what_no_draw_meets_but_a_point_near_them_is_not_refused(made, tmp_path):
    space, stage = made.spaces["search"], made.spec.stages[0]
    known = admission.known(stage, made.common(stage), made.data, {})
    drawn = min(known(space.draw(0, index))["params"] for index in range(100))
    least = known(space.point({**SMALLEST, "n_layers": 1}))["params"]
    assert least < drawn
    plan.prepare(checked(constraints={"params": {"max": least}}), tmp_path)
    with pytest.raises(ValueError, match=f"must be at most {least - 1:,}, got {least:,} as the least found"):
        plan.prepare(checked(constraints={"params": {"max": least - 1}}), tmp_path)


@pytest.fixture
def timed(monkeypatch):
    """Layers are measured: a layer takes a millisecond. Before that no latency is known."""
    monkeypatch.setattr(plan.Plan, "_inputs", lambda *_: {"layers": "measured"})
    monkeypatch.setattr(
        routine, "known", lambda _, values, __, inputs: {"latency_ms": values["n_layers"]} if inputs else {}
    )


@pytest.mark.parametrize(("most", "started"), [(0.5, 0), (1, 6)])
def test_a_latency_out_of_reach_by_the_measured_layers_ends_the_search_before_it_trains(tmp_path, timed, most, started):
    spec = checked(constraints={"latency_ms": {"max": most}}, objectives={"val_accuracy": "max", "latency_ms": "min"})
    director, _ = searched(plan.prepare(spec, tmp_path), CLASSICAL)
    assert len(director.of_stage("search")) == started
    assert len(director.of_stage(CLASSICAL)) == bool(started)
    assert director.unreachable == (
        ""
        if started
        else "constraints.latency_ms: must be at most 0.5, got 1 as the least found in the space of stages.search; "
        "loosen it, or search another space"
    )
    director.tell(Extended("search", 2))
    assert not director.unreachable


def test_a_teacher_need_not_meet_the_constraints():
    teacher = {**STAGE, "name": "teacher", "trials": 1}
    student = {**STAGE, "routine": "distill", "options": {"patch": 2, "teacher": "stages.teacher"}}
    made = checked(stages=[teacher, student], constraints={"params": {"max": 9}})
    assert [bool(handed.bounds(made.resolved(), stage.name)) for stage in made.stages] == [False, True]


def test_what_gives_its_architecture_meets_them():
    first = {**STAGE, "name": "architecture"}
    second = {**STAGE, "name": "tuning", "space": "optimization", "options": {"like": "stages.architecture"}}
    made = checked(stages=[first, second], constraints={"params": {"max": 9}})
    assert [bool(handed.bounds(made.resolved(), stage.name)) for stage in made.stages] == [True, True]


def test_a_point_that_makes_no_config_is_left_to_its_trial(made):
    stage = made.spec.stages[0]
    assert admission.known(stage, made.common(stage), made.data, {})({"n_layers": -1}) == {}


def test_what_begins_as_an_earlier_stages_network_is_known_once_that_is_there(tmp_path, monkeypatch):
    monkeypatch.setenv("FITFORMER_CACHE", str(tmp_path))
    sizes = {"n_layers": 2, "d_model": 128, "n_heads": 2, "d_head": 8, "d_ff": 256}
    kind = routine.load("train")
    kind(kind.Config(task=TASK, patch=2, **sizes), routine.Workspace(tmp_path, tmp_path)).save(tmp_path)
    subnets = {**STAGE, "routine": "subnet", "space": ["subnet"], "options": {"supernet": "stages.whole"}}
    made = plan.prepare(
        checked(stages=[{**STAGE, "name": "whole", "trials": 1}, subnets], constraints={"params": {"max": 150_000}}),
        tmp_path / "cache",
    )
    monkeypatch.setattr(plan.references, "paths", lambda *_: {"stages.whole": "."})
    one, two = ({"n_layers": n, "d_model": 128, "n_heads": 2, "d_ff": 256} for n in (1, 2))
    stage, director = made.spec.stages[1], Director([])
    assert made._admit(stage, director)(two) is None
    admit = replace(made, folder=tmp_path)._admit(stage, director)
    assert admit(one) is None
    assert admit(two).startswith("params is ")
