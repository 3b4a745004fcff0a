"""A finished experiment goes on with more trials, and its finalists are picked anew."""

import json
from dataclasses import replace

import pytest

from experiments import __main__ as command_line
from experiments.engine import extension, history, plan, run, spec, stage
from experiments.engine.director import Director
from experiments.engine.events import Expired, Reported, Segment, Started, to_record
from experiments.engine.ledger import Ledger
from experiments.engine.report.summary import FINALISTS, chosen
from trainables.parsing import ParseError
from trainables.store import Store

TASK = {"name": "image_classification", "data": "digits"}
STAGE = {"name": "search", "space": ["encoder"], "options": {"patch": 2}, "trials": 4, "epochs": 1}
VALUES = {
    "name": "tiny",
    "task": TASK,
    "stages": [STAGE],
    "objectives": {"val_accuracy": "max"},
    "finalists": {"count": 1},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return plan.prepare(spec.checked(VALUES), tmp_path_factory.mktemp("cache"))


def accuracy(segment):
    """The fourth trial is the best of the first four, the seventh of all."""
    number = int(segment.config["trial"].split("-")[1]) if segment.stage == FINALISTS else segment.trial
    return 0.1 * (number if number < 4 else 5 if number == 6 else 0)


def worked(director, records):
    """Runs until nothing more is to do; the records that came to be."""
    while isinstance(segment := director.ask(), Segment):
        told = {"val_accuracy": accuracy(segment), "artifact": "there"}
        reported = Reported(segment.number, 1, told, f"{segment.stage}/{segment.trial}")
        for event in (Started(segment), reported):
            records.append({**to_record(event), "verdict": director.tell(event), "at": 1.0})
    return records


def opened(made):
    return {"event": "opened", "spec": made.spec.resolved(), "data": {}, "at": 0.0}


def extended(made, records, more):
    """As `run` does it: a new session, which replays, extends and works."""
    longer = extension.extended(made, records, more)
    director = Director(longer.steps())
    records = [*records, {"event": "resumed", "spec": longer.spec.resolved(), "at": 2.0}]
    run.replay(director, records, checked_from=len(records))
    event = extension.event(longer, more)
    records.append({**to_record(event), "verdict": director.tell(event), "at": 2.0})
    return director, worked(director, records)


def test_more_trials_then_finalists_anew(made):
    before = Director(made.steps())
    records = [opened(made), *worked(before, [])]
    assert [len(before.of_stage(name)) for name in ("search", FINALISTS)] == [4, 1]
    assert chosen(before, made.spec.resolved()).config["trial"] == "search-003"
    director, records = extended(made, records, 3)
    assert [len(director.of_stage(name)) for name in ("search", FINALISTS)] == [7, 2]
    assert [trial.number for trial in director.of_stage(FINALISTS)] == [0, 1]
    assert chosen(director, made.spec.resolved()).config["trial"] == "search-006"
    configs = [json.dumps(trial.config) for trial in director.of_stage("search")]
    assert len({*configs}) == 7
    assert configs[:4] == [json.dumps(trial.config) for trial in before.of_stage("search")]


def test_it_is_what_a_longer_search_would_have_tried(made):
    whole = Director(extension.extended(made, [], 3).steps())
    worked(whole, [])
    director, _ = extended(made, [opened(made), *worked(Director(made.steps()), [])], 3)
    assert [t.config for t in whole.of_stage("search")] == [t.config for t in director.of_stage("search")]


def test_what_was_exported_is_not_exported_again(made):
    director, _ = extended(made, [opened(made), *worked(Director(made.steps()), [])], 1)
    assert len(director.of_stage("search")) == 5
    assert len(director.of_stage(FINALISTS)) == 1


def test_replayed_at_any_record_it_goes_on_identically(made):
    whole, records = extended(made, [opened(made), *worked(Director(made.steps()), [])], 3)
    cut = next(index for index, record in enumerate(records) if record["event"] == "extended")
    longer = extension.extended(made, records, 0)
    assert longer.spec.stages[0].trials == 7
    for end in range(cut + 1, len(records), 4):
        director = Director(longer.steps())
        run.replay(director, records[:end])
        rest = [record for record in records[end:] if record["event"] == "started"]
        if records[end]["event"] == "started":
            assert to_record(Started(director.ask())) == {key: rest[0][key] for key in ("event", "segment")}
    told = history.fold(records)
    assert {key: trial.status for key, trial in told.trials.items()} == {
        key: trial.status for key, trial in whole.trials.items()
    }


def test_time_that_was_up_begins_anew(made):
    director = Director(made.steps())
    records = [opened(made), *worked(director, [])]
    event = Expired("time is up", final=True)
    records.append({**to_record(event), "verdict": director.tell(event), "at": 1.5})
    director, records = extended(made, records, 2)
    assert (director.expired, len(director.of_stage("search"))) == ("", 6)
    assert run.used([*records, {"event": "reported", "at": 7.0}]) == 5.0


def test_only_a_last_stage_of_a_fixed_number_of_trials_can_be(made):
    stages = made.spec.stages
    for change, reason in (
        ({"trials": None}, "search searches until the time is up"),
        ({"space": ()}, "search searches nothing"),
        ({"search": stage.Search(searcher="pbt")}, "search is of pbt, whose trials come to their end together"),
    ):
        other = replace(made, spec=made.spec.model_copy(update={"stages": (stages[0].model_copy(update=change),)}))
        with pytest.raises(ParseError, match=f"--extend 5: adds trials to the last stage, and {reason}; leave it out"):
            extension.extended(other, [], 5)


def remember(place, *events):
    with Ledger(place / "tiny-20260101-abcd") as book:
        for event in events:
            book.append({"event": event, "spec": {"name": "tiny"}, "at": 1.0})


def test_there_must_be_a_finished_run(tmp_path):
    with pytest.raises(ParseError, match="--extend: there is no run of tiny under"):
        extension.finished(Store(tmp_path), "tiny")
    remember(tmp_path, "opened")
    with pytest.raises(ParseError, match="--extend: tiny-20260101-abcd has not come to its end; go on with it without"):
        extension.finished(Store(tmp_path), "tiny")
    remember(tmp_path, "finished")
    assert extension.finished(Store(tmp_path), "tiny").name == "tiny-20260101-abcd"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--extend", "0"], "--extend must be at least 1 trial, got 0"),
        (["--extend", "3"], "--extend: there is no run of tiny under"),
        (["--extend", "3", "--new"], "--extend goes on with a finished run, --new starts another; give one of them"),
    ],
)
def test_bad_input_is_one_line_and_code_two(tmp_path, monkeypatch, capsys, arguments, line):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FITFORMER_CACHE", str(tmp_path / "cache"))
    (tmp_path / "e.yaml").write_text(json.dumps(VALUES))
    assert command_line.main(["run", "e.yaml", *arguments]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert line in said
    assert not (tmp_path / "results").exists()
