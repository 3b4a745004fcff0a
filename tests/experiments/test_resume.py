"""What a resume takes over, checks and refuses; the engine's pieces without Ray."""

import pytest

from experiments.engine import run as running
from experiments.engine import runs
from experiments.engine.director import Director, Stage
from experiments.engine.events import Expired, Reported, Segment, Started, to_record
from experiments.engine.ledger import LedgerError
from experiments.engine.outcome import Outcome
from experiments.engine.strategies.asha import Asha
from experiments.engine.strategies.listed import Listed
from experiments.engine.strategies.pair import Pair
from experiments.engine.strategies.random import Random
from trainables.parsing import ParseError
from trainables.store import Store


def director():
    def plan(_):
        return Pair(
            searcher=Random(Random.Config(), None, 0),
            scheduler=Asha(Asha.Config(eta=2), 4),
            first=[{"height": 0.9}, {"height": 0.1}, {"height": 0.2}],
            trials=3,
            epochs=4,
            outcome=lambda metrics: Outcome((metrics["score"],)),
        )

    return Director([Stage("search", "toy", plan, watched=("score",))])


def recorded(verdict):
    """The default trial reported 0.9 after an epoch, the next one 0.1: what was decided of that is `verdict`."""
    events = [
        (Started(Segment(0, "search", 0, 0, {"height": 0.9}, 4)), "continue"),
        (Reported(0, 1, {"score": 0.9}), "continue"),
        (Started(Segment(1, "search", 1, 0, {"height": 0.1}, 4)), "continue"),
        (Reported(1, 1, {"score": 0.1}), verdict),
    ]
    return [{**to_record(event), "verdict": told, "at": 1.0} for event, told in events]


def test_replay_comes_to_the_same_state():
    made = director()
    running.replay(made, recorded("stop"))
    assert [trial.status for trial in made.trials.values()] == ["running", "stopped"]
    assert made.in_flight == {0}


def test_verdict_that_comes_out_otherwise_is_refused_by_name():
    with pytest.raises(LedgerError, match="record 4 of the ledger holds the verdict 'continue', this code decides 'st"):
        running.replay(director(), recorded("continue"))


def test_with_accepted_changes_what_was_recorded_holds():
    made = director()
    running.replay(made, recorded("continue"), checked_from=4)
    assert [trial.status for trial in made.trials.values()] == ["running", "running"]
    assert made.in_flight == {0, 1}


@pytest.mark.parametrize(
    ("records", "begin"),
    [
        ([{"event": "opened", "spec": {}}, {"event": "started"}], 0),
        ([{"event": "opened", "spec": {}}, {"event": "started"}, {"event": "resumed"}], 0),
        ([{"event": "opened", "spec": {}}, {"event": "started"}, {"event": "resumed", "spec": {}}, {"event": "x"}], 2),
    ],
)
def test_verdicts_are_checked_from_the_last_change_on(records, begin):
    assert running._decided_from(records) == begin


def test_time_counts_across_sessions_and_not_between_them():
    records = [
        {"event": "opened", "at": 100.0},
        {"event": "started", "at": 110.0},
        {"event": "resumed", "at": 500.0},
        {"event": "accepted", "at": 500.5},
        {"event": "reported", "at": 503.0},
    ]
    assert running.used(records) == 13.0
    assert running.used(records[:1]) == 0.0


def known(tmp_path, fingerprint):
    return runs.Run(Store(tmp_path / "tiny-20260101-abcd"), [{"event": "opened", "fingerprint": fingerprint}])


NOW = {"spec": {"seed": 1}, "spaces": {}, "data": "d", "code": {}, "versions": {}}


def test_changes_are_refused_one_line_each_with_the_way_out(tmp_path):
    before = known(tmp_path, {**NOW, "spec": {"seed": 0}, "data": "c"})
    with pytest.raises(ParseError) as refused:
        running._accepted(before, NOW, running.Options())
    assert refused.value.faults == [
        "seed: 0 → 1",
        "data: 'c' → 'd'",
        "run tiny-20260101-abcd was begun otherwise; go on all the same with --accept-changes, or start with --new",
    ]
    assert running._accepted(before, NOW, running.Options(accept_changes=True)) == ["seed: 0 → 1", "data: 'c' → 'd'"]
    assert running._accepted(known(tmp_path, NOW), NOW, running.Options()) == []


@pytest.mark.parametrize(
    ("given_up", "chosen", "code"), [("", object(), 0), ("", None, 4), ("search: 3 of 4", None, 3)]
)
def test_the_end_says_how_it_came(monkeypatch, given_up, chosen, code):
    class Book(list):
        pass

    class Trial:
        id = "finalists-000"

    class Plan:
        class spec:  # noqa: N801
            resolved = dict

    book, said = Book(), []
    monkeypatch.setattr(running, "chosen", lambda *_: Trial() if chosen else None)
    made = Director([Stage("search", "toy", lambda _: Listed([]))])
    made.given_up = given_up
    assert running._finish(Plan, made, book, 3.21, said.append) == code
    (record,) = book
    assert (record["event"], record["code"], record["lag"]) == ("finished", code, 3.2)
    assert said == ([f"given up: {given_up}"] if given_up else [])


def test_a_budget_that_was_used_up_stays_so():
    made = director()
    running.replay(made, [{**to_record(Expired("time")), "verdict": "continue", "at": 1.0}])
    assert made.expired == "time"
