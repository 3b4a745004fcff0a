"""Stages that hand on, on virtual time: what is proposed, what a segment is told, what stays on disk."""

import copy
import itertools

import pytest

from experiments.engine import checks, history, references, spec
from experiments.engine.director import Director
from experiments.engine.events import Expired, Failed, Reported, Segment, Started, to_record
from experiments.engine.ledger import Ledger
from experiments.engine.plan import Plan
from experiments.engine.retention import Retention
from experiments.engine.simulator import Curve, simulate
from trainables.parsing import ParseError
from trainables.store import Store

VALUES = {
    "name": "handing",
    "task": {"name": "image_classification", "data": "digits"},
    "stages": [
        {"name": "teacher", "space": "optimization", "trials": 3, "epochs": 1},
        {
            "name": "search",
            "routine": "subnet",
            "space": "subnet",
            "options": {"supernet": "stages.teacher"},
            "trials": 12,
            "epochs": 1,
        },
        {
            "name": "final",
            "routine": "distill",
            "space": "distillation",
            "options": {"teacher": "stages.teacher"},
            "each": {"stage": "search", "option": "student", "count": 3, "apart": 1.3},
            "epochs": 2,
        },
    ],
    "finalists": {"count": 2},
}


def with_(stage=2, **changes):
    made = copy.deepcopy(VALUES)
    made["stages"][stage] |= changes
    return made


def planned(values=VALUES):
    found = spec.checked(values)
    return Plan(found, {stage.name: stage.search_space() for stage in found.stages}, None)


def curve(config):
    """Bigger is better and slower; a point's number of units is all that counts."""
    if "configs" in config:
        shape = {"part": "layer", "of": len(config["configs"])}
        return Curve(lambda _: {"table": {"target": {}, "length": 8, "parts": [{"shape": shape, "ms": 1.0}]}})
    size = config.get("d_ff", 1) * config.get("n_layers", 1)
    return Curve(lambda _: {"val_accuracy": 1 - 1 / size, "latency_ms": float(size)})


@pytest.fixture(scope="module")
def ended():
    plan = planned()
    director = Director(plan.steps())
    return plan, director, [event for _, event in simulate(director, curve, 2)]


def test_stages_run_in_order_and_layers_are_measured_before_what_depends_on_an_earlier_one(ended):
    _, _, events = ended
    order = dict.fromkeys(event.segment.stage for event in events if isinstance(event, Started))
    beside = [name for name in order if name != "classical"]
    assert beside == ["layers", "teacher", "layers.search", "search", "layers.final", "final", "finalists"]


def test_each_pick_is_taken_up_once_best_first_and_apart_in_latency(ended):
    plan, director, _ = ended
    trials = director.of_stage("search")
    taken = [trial.config["student"] for trial in director.of_stage("final")]
    picked = [director.trials["search", int(name.rsplit(".", 1)[1])] for name in taken]
    latencies = [trial.metrics["latency_ms"] for trial in picked]
    assert latencies[0] == max(trial.metrics["latency_ms"] for trial in trials)
    assert len(picked) == 3
    assert all(high / low >= 1.3 for high, low in itertools.pairwise(latencies))
    close = planned(with_(each={"stage": "search", "option": "student", "count": 9}))
    assert len(references.picks(close.spec.resolved()["stages"][2], director, close.spec.resolved())) > 3
    default = plan.spaces["final"].default()
    assert all(trial.config == {**default, "student": trial.config["student"]} for trial in director.of_stage("final"))
    assert all(trial.epochs == 2 for trial in director.of_stage("final"))


def test_segment_is_told_which_checkpoints_its_references_stand_for(ended):
    plan, director, _ = ended
    told = plan.job(director, "/runs/x", {"cpu": 1, "gpu": 0})
    first = next(segment for segment in director.segments.values() if segment.stage == "final")
    job = told(first)
    student = director.trials["search", int(first.config["student"].rsplit(".", 1)[1])]
    assert job["values"]["teacher"] == "stages.teacher"
    assert job["references"] == {
        "stages.teacher": director.trials["teacher", 0].checkpoint.path,
        first.config["student"]: student.checkpoint.path,
    }
    parts = job["inputs"]["layer_table"]["parts"]
    assert sorted(part["shape"]["of"] for part in parts) == [3, 12]
    table = next(segment for segment in director.segments.values() if segment.stage == "layers.final")
    assert told(table)["references"].keys() >= {"stages.teacher", "stages.search.0"} - {"stages.search.0"}
    assert len(told(table)["references"]) == 4


def test_a_run_that_goes_on_with_another_target_mixes_no_tables(ended):
    _, director, _ = ended
    first = next(segment for segment in director.segments.values() if segment.stage == "final")
    told = planned(VALUES | {"target": {"precision": "int8"}}).job(director, "/runs/x", {"cpu": 1, "gpu": 0})
    assert told(first)["inputs"] == {}


def test_resumed_at_the_begin_of_any_stage_it_goes_on_the_same_way(ended):
    plan, _, events = ended
    begins = [k for k, event in enumerate(events) if isinstance(event, Started) and event.segment.trial == 0]
    assert len(begins) == 8
    for begin in begins:
        again = Director(plan.steps())
        for event in events[:begin]:
            again.tell(event)
        assert again.ask() == events[begin].segment


def test_history_reads_it_from_the_ledger_alone(ended):
    plan, director, events = ended
    records = [{"event": "opened", "spec": plan.spec.resolved()}]
    records += [{**to_record(event), "verdict": verdict(event, director)} for event in events]
    past = history.fold(records)
    assert {key: trial.status for key, trial in past.trials.items()} == {
        key: trial.status for key, trial in director.trials.items()
    }


def verdict(event, director):
    over = isinstance(event, Reported) and event.epochs >= director.segments[event.segment].epochs
    return "stop" if over else "continue"


def test_stage_whose_teacher_failed_proposes_nothing():
    plan = planned(with_(0, trials=1))
    director = Director(plan.steps())
    while isinstance(segment := director.ask(), Segment):
        director.tell(Started(segment))
        if segment.stage == "teacher":
            director.tell(Failed(segment.number, "infeasible", "too large"))
        else:
            director.tell(Reported(segment.number, 1, curve(segment.config).metrics(1)))
    assert {trial.stage for trial in director.trials.values()} == {"layers", "teacher", "classical"}


def test_time_that_is_up_before_the_last_stage_leaves_the_picks_of_the_one_before():
    plan = planned()
    director = Director(plan.steps())
    while isinstance(segment := director.ask(), Segment):
        director.tell(Started(segment))
        number = segment.number
        director.tell(Reported(number, 1, curve(segment.config).metrics(1), checkpoint=f"{number}/1"))
        if (segment.stage, segment.trial) == ("search", 5):
            director.tell(Expired("10 minutes are up"))
    assert {trial.stage for trial in director.trials.values()}.isdisjoint({"layers.final", "final"})
    exported = [trial.config["trial"] for trial in director.of_stage("finalists")]
    assert len(exported) == 2
    assert all(name.startswith("search-") for name in exported)


def test_what_a_later_stage_takes_stays_above_the_budget_until_that_has_ended(tmp_path):
    values = {**VALUES, "disk": 1e6, "choose": {"max": "val_accuracy"}, "finalists": {"count": 1}}
    plan = planned(values)
    director, store = Director(plan.steps()), Store(tmp_path / "run")
    there = {}
    with Ledger(store) as book:
        keep = Retention(director, book, store, plan.spec.objectives, spec=plan.spec.resolved())
        for _, event in simulate(director, curve, 1):
            if isinstance(event, Reported):
                store.write(f"{event.checkpoint}/model", b"x")
                keep(Reported(event.segment, event.epochs, event.metrics, event.checkpoint, size=1e6), "continue")
            else:
                book.sync()
                there[event.segment.stage] = {name.split("/")[0] for name in store.names() if name.endswith("/model")}
    segments = {key: trial.reports[-1].segment for key, trial in director.trials.items()}
    taken = {("search", int(trial.config["student"].rsplit(".", 1)[1])) for trial in director.of_stage("final")}
    assert {str(segments[key]) for key in {*taken, ("teacher", 0)}} <= there["final"]
    assert str(segments["teacher", 0]) in there["search"]
    unwanted = {str(segments[key]) for key in segments if key[0] == "search" and key not in taken}
    assert not unwanted & there["final"]
    assert len(taken) == 3
    assert sum(str(segments[key]) in there["finalists"] for key in taken) == 1


def test_an_architecture_that_is_handed_on_meets_the_constraints_a_teacher_need_not(ended):
    plan, director, _ = ended
    limited = {**plan.spec.resolved(), "constraints": {"latency_ms": {"max": 300.0, "min": None}}}
    like, teacher = (references.paths({name: "stages.search"}, director, limited) for name in ("like", "teacher"))
    best = max(director.of_stage("search"), key=lambda trial: trial.metrics["val_accuracy"])
    fit = [trial for trial in director.of_stage("search") if trial.metrics["latency_ms"] <= 300]
    best_fit = max(fit, key=lambda trial: trial.metrics["val_accuracy"])
    assert best not in fit
    assert teacher == {"stages.search": best.checkpoint.path}
    assert like == {"stages.search": best_fit.checkpoint.path}
    nothing = {**limited, "constraints": {"latency_ms": {"max": 0.0, "min": None}}}
    assert references.paths({"like": "stages.search"}, director, nothing) == {}


def test_finalists_come_of_the_stages_named_in_each_precision():
    values = {**VALUES, "finalists": {"count": 2, "of": ["search", "final"], "precision": ["fp32", "int8"]}}
    plan = planned(values)
    director = ran(plan)
    told = [(trial.config["trial"], trial.config["precision"]) for trial in director.of_stage("finalists")]
    best = references.ranked([*director.of_stage("search"), *director.of_stage("final")], plan.spec.resolved())
    assert told == [(trial.id, precision) for trial in best[:2] for precision in ("fp32", "int8")]
    assert plan.expected()["finalists"] == 4
    last = ran(planned()).of_stage("finalists")
    assert {(trial.config["trial"][:6], trial.config["precision"]) for trial in last} == {("final-", "fp32")}


def test_stage_without_a_space_is_one_trial_or_one_a_pick():
    values = copy.deepcopy(VALUES)
    values["stages"][0] = {"name": "teacher", "epochs": 1, "options": {"n_layers": 3}}
    del values["stages"][2]["space"]
    plan = planned(values)
    director = ran(plan)
    assert [trial.config for trial in director.of_stage("teacher")] == [{}]
    assert [list(trial.config) for trial in director.of_stage("final")] == [["student"]] * 3
    assert [stage.most for stage in plan.spec.stages] == [1, 12, 3]
    assert [stage.search_space().size() for stage in plan.spec.stages] == [1, 1400, 1]
    folded = history.fold([{"event": "opened", "spec": plan.spec.resolved()}])
    assert [stage.trials for stage in folded.stages.values()] == [1, 12, 3]


def ran(plan):
    director = Director(plan.steps())
    list(simulate(director, curve, 2))
    return director


@pytest.mark.parametrize(
    ("values", "lines"),
    [
        (
            with_(options={"teacher": "stages.techer"}),
            [
                "stages.final.options.teacher is 'stages.techer', must be of a stage before this one; "
                "did you mean 'teacher'?"
            ],
        ),
        (
            with_(1, options={"supernet": "stages.final"}),
            ["stages.search.options.supernet is 'stages.final', must be of a stage before this one; known: teacher"],
        ),
        (
            with_(0, options={"choices": {"deep": ["stages.teacher"]}}),
            [
                "stages.teacher.options.choices.deep is 'stages.teacher', must be of a stage before this one; "
                "there is none"
            ],
        ),
        (
            with_(each={"stage": "serch", "option": "teacher"}, trials=3, initial=[{}], search={"searcher": "x"}),
            [
                f"stages.final.search.searcher 'x' does not exist; known: {', '.join(checks.searchers())}",
                "stages.final.trials must be left out, as each says which trials there are",
                "stages.final.initial must be left out, as each says which trials there are",
                "stages.final.search.searcher must be left out, as each says which trials there are",
                "stages.final.each.option is 'teacher', which options gives already; give it once",
                "stages.final.each.stage is 'serch', must be of a stage before this one; did you mean 'search'?",
            ],
        ),
        (
            with_(each={"stage": "search", "option": "temperature"}),
            ["stages.final.each.option is 'temperature', which is a parameter of the space; choose another space"],
        ),
        (
            with_(each={"stage": "search", "option": "student", "apart": 0.5}),
            ["stages.final.each.apart must be at least 1, got 0.5"],
        ),
        (
            {**VALUES, "finalists": {"of": "fianl", "precision": "int8"}},
            ["finalists.of is 'fianl', must be of a stage; did you mean 'final'?"],
        ),
    ],
)
def test_faults_are_told_before_anything_runs(values, lines):
    with pytest.raises(ParseError) as raised:
        spec.checked(values)
    assert raised.value.faults == lines


@pytest.mark.parametrize(("ends", "draws"), [({"trials": 40}, 39), ({"trials": 500}, 192), ({}, 32)])
def test_layers_of_a_search_are_measured_of_all_its_draws_or_of_few_where_time_alone_ends_it(ends, draws):
    stage = {"name": "search", "space": "encoder", "epochs": 1, **ends}
    plan = planned(VALUES | {"stages": [stage], "time": "10m"})
    first = Director(plan.steps()).ask()
    assert first.stage == "layers"
    assert len(first.config["configs"]) == 1 + draws  # the default is the first
