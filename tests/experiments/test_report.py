"""What a report says of failures, changes and a storage that was behind."""

import io

import pytest
from rich.console import Console

from experiments.engine import history
from experiments.engine.events import Failed, Lost, Reported, Segment, Started, to_record
from experiments.engine.report.live import LiveView
from experiments.engine.report.summary import summary
from experiments.engine.report.text import _reasons, print_report, why_nothing

SPEC = {
    "name": "tiny",
    "stages": [{"name": "search", "trials": 3, "epochs": 1}],
    "objectives": {"val_accuracy": "max"},
    "constraints": {},
    "choose": {"max": "val_accuracy"},
    "finalists": {"count": 1},
    "max_failed": 0.5,
}
TRACE = "Traceback\n  File x\n    one()\n  File y\n    two()\nValueError: bad\n"
EVENTS = [
    Started(Segment(0, "search", 0, 0, {}, 1)),
    Started(Segment(1, "search", 1, 0, {}, 1)),
    Failed(0, "error", "ValueError: bad", TRACE, "host-a"),
    Lost(1, "preempted", "its node was taken back", "host-b"),
    Started(Segment(2, "search", 1, 1, {}, 1)),
    Lost(2, "process", "its process was killed", "host-a"),
    Started(Segment(3, "search", 1, 2, {}, 1)),
    Lost(3, "driver", "the driver ended"),
    Started(Segment(4, "search", 1, 3, {}, 1)),
    Reported(4, 1, {"val_accuracy": 0.5}),
]


@pytest.fixture(scope="module")
def told():
    records = [{"event": "opened", "spec": SPEC, "data": {}}]
    records += [
        {**to_record(event), "verdict": "stop" if isinstance(event, Reported) else "continue"} for event in EVENTS
    ]
    found = summary({"spec": SPEC, "data": {}}, history.fold(records), "s3://bucket/tiny-20260101-abcd")
    return {
        **found,
        "changes": ["seed: 0 → 1"],
        "given_up": "",
        "lag": 12.0,
        "finished": True,
        "picture": "tiny-20260101-abcd/frontier.png",
    }


@pytest.fixture(scope="module")
def text(told):
    out = io.StringIO()
    print_report(told, Console(file=out, width=140))
    return out.getvalue()


def test_failures_are_told_by_class_with_attempt_node_and_trace(text):
    assert "error (1): the code raised; not tried again\n" in text
    told = text.split("search-000, attempt 1 on host-a: ")[1].splitlines()[:5]
    assert [line.strip() for line in told] == ["ValueError: bad", "one()", "File y", "two()", "ValueError: bad"]
    assert "preempted (1): the node was taken back; tried again without counting\n" in text
    assert "  search-001, attempt 1 on host-b: its node was taken back\n" in text
    assert "process (1): the process ended by itself; tried again\n" in text
    assert "  search-001, attempt 2 on host-a: its process was killed\n" in text
    assert "driver (1): the driver ended; the trial went on in the next session\n" in text


def test_summary_holds_them_whole(told):
    assert [(f["class"], f["id"], f["attempt"], f["node"]) for f in told["failures"]] == [
        ("driver", "search-001", 2, ""),
        ("error", "search-000", 0, "host-a"),
        ("preempted", "search-001", 0, "host-b"),
        ("process", "search-001", 1, "host-a"),
    ]
    assert told["failures"][1]["trace"] == TRACE
    assert told["run"] == "tiny-20260101-abcd"
    assert [trial["attempts"] for trial in told["stages"][0]["trials"]] == [1, 4]


def test_accepted_changes_and_a_lag_are_told(text):
    assert "went on with accepted changes:\n  seed: 0 → 1\n" in text
    assert "the storage lagged up to 12 s behind\n" in text


def test_picture_is_named_where_there_is_one(told, text):
    assert "\nfrontier: tiny-20260101-abcd/frontier.png\n" in text
    out = io.StringIO()
    print_report({**told, "picture": None}, Console(file=out, width=140))
    assert "frontier:" not in out.getvalue()


def test_view_says_when_the_storage_is_behind_and_has_caught_up():
    out, lags = io.StringIO(), iter([0.0, 8.0, 9.0, 0.0])
    director = history.fold([{"event": "opened", "spec": SPEC}])
    view = LiveView(director, {"search": 1}, ("val_accuracy", "max"), Console(file=out), lag=lambda: next(lags))
    event = Started(Segment(0, "search", 0, 0, {}, 1))
    director.tell(event)
    for _ in range(4):
        view(event, "continue")
    said = [line.split("  ", 2)[-1] for line in out.getvalue().splitlines() if "storage" in line]
    assert said == ["the storage is 8 s behind; trials go on", "the storage has caught up"]
    assert view.worst_lag == 9.0


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        (
            {"finished": False},
            "Unfinished: nothing was chosen yet. Repeat the command to go on.",
        ),
        ({"given_up": "too many"}, "Nothing was chosen: the run was given up."),
        ({}, "Nothing was chosen: no finalist was valid."),
        ({"constraints": {"params": {"max": 1}}}, "Nothing was chosen: no finalist meets the constraints."),
        ({"stages": []}, "Nothing was chosen: no trial was valid."),
    ],
)
def test_why_nothing_was_chosen(told, changed, line):
    assert why_nothing({**told, **changed}) == line


CONSTRAINED = {**SPEC, "constraints": {"params": {"max": 50, "min": None}}}


def folded(spec, rows):
    """A director that was told of trials, each with its metrics."""
    events = [{"event": "opened", "spec": spec, "data": {}}]
    for number, metrics in enumerate(rows):
        events.append({**to_record(Started(Segment(number, "search", number, 0, {}, 1))), "verdict": "continue"})
        events.append({**to_record(Reported(number, 1, metrics)), "verdict": "stop"})
    return history.fold(events)


def reported(values):
    """The summary of trials of (accuracy, params), and it as text."""
    director = folded(CONSTRAINED, [{"val_accuracy": accuracy, "params": params} for accuracy, params in values])
    header = {"spec": CONSTRAINED, "data": {}, "advised_by": {"search": ["old-1/search"]}}
    found = summary(header, director, "runs/tiny-1")
    out = io.StringIO()
    more = {"changes": [], "given_up": "", "lag": 0.0, "finished": True, "picture": None}
    print_report({**found, **more}, Console(file=out, width=140))
    return found, out.getvalue()


def test_where_the_same_holds_of_many_trials_it_is_said_once():
    def ended(count):
        return [{"id": f"search-{n:03d}", "status": "expired", "reason": "time", "failed": False} for n in range(count)]

    assert list(_reasons(ended(2))) == ["search-000, search-001 expired: time"]
    assert list(_reasons(ended(9))) == ["9 trials expired: time"]
    assert list(_reasons([{**ended(1)[0], "failed": True}, {**ended(1)[0], "reason": ""}])) == []


def test_what_breaks_a_constraint_is_on_no_frontier_and_marked():
    found, out = reported([(0.9, 100), (0.5, 40), (0.6, 50)])
    [stage] = found["stages"]
    assert (stage["frontier"], stage["hypervolume"]) == (["search-002"], 0.6)
    assert [trial["breaks"] for trial in stage["trials"]] == [["params"], [], []]
    assert "constraints: params at most 50\n" in out
    assert "warm start: search tried, in turns with its searcher, what was good in old-1/search\n" in out
    assert "default, breaks params" in out
    assert "no trial met" not in out
    assert "only" not in out


def test_where_nothing_meets_the_constraints_the_frontier_is_empty():
    found, out = reported([(0.9, 100), (0.5, 60)])
    assert (found["stages"][0]["frontier"], found["stages"][0]["hypervolume"]) == ([], 0.0)
    assert "no trial met the constraints\n" in out
    assert "only 2 of 3 trials: 200 proposals in a row had been tried or were known to break a constraint\n" in out


def test_random_search_is_read_off_a_searchs_own_draws_alone():
    director = folded(SPEC, [{"val_accuracy": accuracy} for accuracy in (0.9, 0.5, 0.6)])

    def row(header=None, **search):
        stages = [{**SPEC["stages"][0], **search}]
        given = {"spec": {**SPEC, "stages": stages}, "data": {}, **(header or {})}
        return summary(given, director, "runs/tiny-1")["baselines"]["random"]

    assert (row()["trial"], row()["draws"]) == ("search-002", 3)
    assert row(initial=[{}])["trial"] == "search-002"
    assert row(initial=[{}, {}]) is None
    assert row(search={"searcher": {"name": "bohb"}}) is None
    assert row({"advised": {"search": [{}]}}) is None
