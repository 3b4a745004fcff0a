"""From one run to the next, without Ray: what the ledger keeps, what an extension and a warm start make of it."""

import json

import pytest

from experiments import __main__ as command_line
from experiments.engine import run, runs
from experiments.engine.director import Director, Unreachable
from experiments.engine.events import Reported, Segment, Started, to_record
from trainables.store import Store

TASK = {"name": "image_classification", "data": "digits"}
STAGE = {"name": "search", "space": ["encoder"], "options": {"patch": 2}, "trials": 4, "epochs": 1}
VALUES = {"task": TASK, "stages": [STAGE], "objectives": {"val_accuracy": "max"}, "finalists": {"count": 1}}

FIGURES = {"name": "none", "artifact": "there", "validation": {}, "test": {}, "predictions": []}
FIGURES |= {"params": 1, "size_mb": 1.0, "latency_ms": 1.0}


def work(session, director, _):
    """Every segment reports once, at the smaller an accuracy the wider the model."""
    while isinstance(segment := director.ask(), Segment):
        told = {**FIGURES, "val_accuracy": 1 - segment.config.get("d_model", 0) / 1000}
        for event in (Started(segment), Reported(segment.number, 1, told, f"{segment.stage}/{segment.trial}")):
            session.book.append({**to_record(event), "verdict": director.tell(event), "at": 1.0})
    return 0.0


@pytest.fixture
def cli(capsys, tmp_path, monkeypatch):
    """Runs an experiment named so, with changes and arguments: (exit code, lines that were said, its newest run)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FITFORMER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(run.launch, "connect", lambda _: None)
    monkeypatch.setattr(run.precheck, "check", lambda *_, **__: None)
    monkeypatch.setattr(run.Session, "work", work)
    monkeypatch.setattr(run, "_draw", lambda *_: None)
    monkeypatch.setattr("experiments.engine.report.text.print_report", lambda *_: None)

    def started(name, *arguments, **changes):
        (tmp_path / "e.yaml").write_text(json.dumps({"name": name, **VALUES, **changes}))
        code = command_line.main(["run", "e.yaml", *arguments])
        said = capsys.readouterr()
        newest = next((each for each in runs.every(Store("results")) if each.experiment == name), None)
        return code, (said.out + said.err).splitlines(), newest

    return started


def configs(found):
    segments = [record["segment"] for record in found.records if record["event"] == "started"]
    return [segment["config"] for segment in segments if segment["stage"] == "search"]


def test_extended_it_goes_on_in_the_same_run(cli):
    code, _, first = cli("tiny")
    assert (code, len(configs(first))) == (0, 4)
    code, said, second = cli("tiny", "--extend", "3")
    assert (code, second.name, len(configs(second))) == (0, first.name, 7)
    assert any(line.startswith("resumes ") for line in said)
    assert second.finished
    assert second.spec["stages"][0]["trials"] == 7
    third = cli("tiny", "--extend", "2")[2]
    assert (third.name, len(configs(third))) == (first.name, 9)


def test_an_extension_is_of_the_run_as_it_ran_and_need_not_be_told_how(cli):
    settings = ("--set", "stages.search.trials=2", "--set", "seed=3")
    first = cli("tiny", *settings)[2]
    for trials in (4, 6):
        code, said, found = cli("tiny", "--extend", "2")
        assert (code, found.name, len(configs(found)), found.spec["seed"]) == (0, first.name, trials, 3), said


def test_an_extension_that_was_interrupted_goes_on_with_the_plain_command(cli, monkeypatch):
    cli("tiny")
    limited = {"asked": 0}
    ask = Director.ask

    def interrupted(director):
        limited["asked"] += 1
        return ask(director) if limited["asked"] <= 2 else "done"

    with monkeypatch.context() as patched:
        patched.setattr(Director, "ask", interrupted)
        patched.setattr(run, "_finish", lambda *_: 0)
        half = cli("tiny", "--extend", "5")[2]
    assert (len(configs(half)), half.finished) == (6, False)
    code, said, whole = cli("tiny", "--extend", "5")
    assert code == 2
    assert "has not come to its end; go on with it without --extend first" in said[-1]
    code, _, whole = cli("tiny")
    assert (code, whole.name, len(configs(whole)), whole.finished) == (0, half.name, 9, True)


def test_a_run_whose_constraints_are_out_of_reach_ends_with_code_two(cli, monkeypatch):
    def out_of_reach(*_):
        raise Unreachable("constraints.latency_ms: must be at most 1")

    monkeypatch.setattr("experiments.engine.plan.Plan._check_reach", out_of_reach)
    code, said, found = cli("tiny")
    assert (code, configs(found), found.finished) == (2, [], True)
    assert "given up: constraints.latency_ms: must be at most 1" in said
    assert found.records[-1]["given_up"] == "constraints.latency_ms: must be at most 1"


def test_a_warm_start_tries_the_best_of_other_runs_and_stays_what_it_was(cli):
    old = cli("old")[2]
    best = sorted(configs(old)[1:], key=lambda config: config["d_model"])
    code, said, found = cli("new", warm_start="auto", seed=1)
    assert code == 0
    past = f"{old.name}/search"
    assert f"warm start: search tries, in turns with its searcher, 1 configurations that were good in {past}" in said
    assert configs(found)[1]["d_model"] == best[0]["d_model"]
    assert found.records[0]["advised"]["search"] == configs(found)[1:2]
    assert found.records[0]["advised_by"] == {"search": [past]}
    assert found.records[0]["data"]["features"]["classes"] == 10
    cli("old", "--new", seed=5)  # the library grows
    extended = cli("new", "--extend", "2", warm_start="auto", seed=1)[2]
    assert configs(extended)[:4] == configs(found)
    assert extended.records[0]["advised"] == found.records[0]["advised"]


def test_what_constraints_refuse_is_kept_and_reported(cli, capsys):
    found = cli("small", constraints={"params": {"max": 60_000}})[2]
    refused = [record["segment"]["refused"] for record in found.records if record["event"] == "started"]
    assert sum(map(len, refused)) > 0
    assert command_line.main(["report", found.name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["stages"][0]["spared"] == sum(map(len, refused))
