import re

import pytest

from experiments.engine import history
from experiments.engine.chain import LedgerError
from experiments.engine.events import Cancelled, Expired, Failed, Lost, Reported, Segment, Started, to_record

HEADER = {
    "event": "opened",
    "spec": {
        "stages": [{"name": "search", "trials": 4}],
        "objectives": {"score": "max"},
        "max_failed": 0.25,
    },
}


def records(*events):
    return [HEADER, *({**to_record(event), "verdict": verdict} for event, verdict in events)]


def started(number, trial, attempt=0):
    return Started(Segment(number, "search", trial, attempt, {"n": trial}, 2)), "continue"


def test_state_is_read_from_the_records_alone():
    d = history.fold(
        records(
            started(0, 0),
            started(1, 1),
            (Reported(0, 1, {"score": 0.5}, "there"), "stop"),
            (Lost(1, "node", "node gone"), "continue"),
            started(2, 1, attempt=1),
            (Reported(2, 1, {"score": float("nan")}), "stop"),
            started(3, 2),
            (Cancelled("search", 2, "by the user"), "continue"),
            (Expired("time is up"), "continue"),
        )
    )
    assert [t.status for t in d.of_stage("search")] == ["stopped", "diverged", "cancelled"]
    assert d.of_stage("search")[0].checkpoint.path == "there"
    assert [f.kind for f in d.of_stage("search")[1].failures] == ["node", "diverged"]
    assert (d.expired, d.in_flight) == ("time is up", set())


def test_share_of_failures_is_that_of_the_spec():
    failed = [(Failed(n, "error", "ValueError: no"), "continue") for n in range(2)]
    assert "2 of 4" in history.fold(records(started(0, 0), started(1, 1), *failed)).given_up
    assert history.fold(records(started(0, 0), started(1, 1), *failed[:1])).given_up == ""


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (records((Reported(7, 1, {}), "stop")), "record 2 of the ledger cannot be followed (KeyError(7)): other code"),
        ([*records(started(0, 0)), {"event": "reported", "segment": 0}], "record 3 of the ledger cannot be followed"),
        ([{**HEADER, "spec": {}}], "the ledger cannot be followed (KeyError('stages')): other code wrote it"),
        ([HEADER, {"what": "is this"}], "the ledger cannot be followed (KeyError('event')): other code wrote it"),
    ],
)
def test_records_that_other_code_wrote_are_refused_by_number(found, reason):
    with pytest.raises(LedgerError, match=re.escape(reason)):
        history.fold(found)


def test_paused_trials_go_on_or_have_ended_with_the_run():
    past = records(
        started(0, 0),
        (Reported(0, 1, {"score": 0.5}, "a"), "pause"),
        started(1, 1),
        (Reported(1, 1, {"score": 0.7}, "b"), "pause"),
        started(2, 1),
    )
    d = history.fold(past)
    assert [(trial.status, trial.ended) for trial in d.trials.values()] == [("paused", False), ("running", False)]
    d = history.fold(
        [*past, {**to_record(Reported(2, 2, {"score": 0.8}, "c")), "verdict": "stop"}, {"event": "finished"}]
    )
    assert [trial.status for trial in d.trials.values()] == ["stopped", "completed"]
