import json

import pytest

from experiments.engine.director import MAX_ATTEMPTS, Director, Stage
from experiments.engine.events import (
    Cancelled,
    Expired,
    Failed,
    Lost,
    Reported,
    Segment,
    Started,
    from_record,
    to_record,
)
from experiments.engine.outcome import Outcome
from experiments.engine.strategies.listed import Listed
from experiments.engine.strategies.none import Unscheduled
from experiments.engine.strategies.pair import Pair
from tests.experiments import toy


def searching(trials=3, epochs=2):
    def plan(_):
        return Pair(
            searcher=toy.Random(toy.Random.Config(), toy.Heights(), 0),
            scheduler=Unscheduled(Unscheduled.Config(), epochs),
            first=[toy.Heights().default()],
            trials=trials,
            epochs=epochs,
            outcome=lambda metrics: Outcome((metrics["score"],)),
        )

    return plan


def director(trials=3, max_failed=1.0, **stages):
    search = Stage(
        "search", "toy", searching(trials), watched=("score",), timed=True, trials=trials, max_failed=max_failed
    )
    return Director([search, *stages.values()])


def finalists(count=2):
    return Stage("finalists", "toy", lambda _: Listed([{"pick": k} for k in range(count)]), after=("search",))


def begin(director):
    segment = director.ask()
    assert isinstance(segment, Segment)
    director.tell(Started(segment))
    return segment


def report(director, segment, epochs, score=0.5, checkpoint=None):
    return director.tell(Reported(segment.number, epochs, {"score": score}, checkpoint))


def test_runs_every_trial_to_its_budget_then_is_done():
    d = director()
    for trial in range(3):
        segment = begin(d)
        assert (segment.trial, segment.attempt, segment.start) == (trial, 0, None)
        assert report(d, segment, 1) == "continue"
        assert report(d, segment, 2) == "stop"
    assert d.ask() == "done"
    assert [trial.status for trial in d.trials.values()] == ["completed"] * 3


def test_asking_changes_nothing():
    d = director()
    assert d.ask() == d.ask()
    begin(d)
    assert d.ask().trial == 1


def test_waits_while_the_last_trials_run():
    d = director()
    last = [begin(d) for _ in range(3)][-1]
    assert d.ask() == "wait"
    report(d, last, 2)
    assert d.ask() == "wait"


def test_lost_segment_goes_on_from_its_last_checkpoint():
    d = director()
    segment = begin(d)
    report(d, segment, 1, checkpoint="there")
    d.tell(Lost(segment.number, "node", "node gone"))
    retry = begin(d)
    assert (retry.trial, retry.attempt, retry.start.path, retry.start.epochs) == (0, 1, "there", 1)
    assert retry.config == segment.config
    assert report(d, retry, 2) == "stop"
    assert len(d.of_stage("search")[0].reports) == 2


def test_report_repeated_by_a_retry_is_told_once():
    d = director()
    segment = begin(d)
    report(d, segment, 1, score=0.7)
    d.tell(Lost(segment.number, "node", "node gone"))
    retry = begin(d)
    assert report(d, retry, 1, score=0.1) == "continue"
    assert [r.metrics["score"] for r in d.of_stage("search")[0].reports] == [0.7]


def test_retries_are_bounded_but_not_those_the_driver_caused():
    d = director()
    for _ in range(5):
        d.tell(Lost(begin(d).number, "driver", "driver ended"))
        d.tell(Lost(begin(d).number, "preempted", "node taken back"))
    for _ in range(MAX_ATTEMPTS):
        d.tell(Lost(begin(d).number, "node", "node gone"))
    trial = d.of_stage("search")[0]
    assert (trial.status, trial.reason) == ("lost", "node gone (3 times)")
    assert d.ask().trial == 1


@pytest.mark.parametrize(
    ("metrics", "reason"),
    [
        ({"score": float("nan")}, "score is nan at epoch 1; it must be a finite number"),
        ({"score": float("-inf")}, "score is -inf at epoch 1; it must be"),
        ({"score": None}, "score is None at epoch 1; it must be"),
        ({"score": "good"}, "score is 'good' at epoch 1; it must be"),
        ({"other": 1.0}, "score was not reported \\(reported: other\\) at epoch 1; it must be a finite number"),
    ],
)
def test_objective_that_is_no_number_ends_the_trial_at_once(metrics, reason):
    d = director()
    segment = begin(d)
    assert d.tell(Reported(segment.number, 1, metrics)) == "stop"
    trial = d.of_stage("search")[0]
    assert trial.status == "diverged"
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(trial.reason)


def test_failure_ends_the_trial_and_the_search_goes_on():
    d = director()
    d.tell(Failed(begin(d).number, "infeasible", "out of memory"))
    assert d.of_stage("search")[0].failed
    assert begin(d).trial == 1


def test_expired_budget_ends_searches_but_not_later_stages():
    d = director(finalists=finalists(1))
    running = begin(d)
    d.tell(Expired("time is up"))
    assert d.ask() == "wait"
    assert report(d, running, 1) == "stop"
    assert (running.trial, d.of_stage("search")[0].status) == (0, "expired")
    last = begin(d)
    assert last.stage == "finalists"
    report(d, last, 1)
    assert d.ask() == "done"


def test_expired_budget_leaves_no_search_running_beside_a_result():
    d = director()
    first, second = begin(d), begin(d)
    d.tell(Expired("time is up"))
    assert d.overdue() == []  # nothing to show yet
    report(d, first, 1)
    assert d.overdue() == [second.number]
    d.tell(Lost(second.number, "time", "ended by the watch"))
    assert [(t.status, t.reason) for t in d.of_stage("search")] == [("expired", "time is up")] * 2
    assert d.ask() == "done"


def test_trial_that_reported_before_the_budget_expired_keeps_its_result():
    d = director()
    segment = begin(d)
    report(d, segment, 1, score=0.7, checkpoint="there")
    d.tell(Expired("time is up"))
    assert d.overdue() == [segment.number]
    d.tell(Lost(segment.number, "time", "ended by the watch"))
    trial = d.of_stage("search")[0]
    assert (trial.status, trial.failed) == ("expired", False)
    assert (trial.metrics["score"], trial.checkpoint.path) == (0.7, "there")


def test_trial_to_be_tried_again_is_over_with_the_budget():
    d = director()
    done, again = begin(d), begin(d)
    report(d, done, 2)
    d.tell(Lost(again.number, "node", "node gone"))
    d.tell(Expired("time is up"))
    assert d.of_stage("search")[1].status == "expired"
    assert d.ask() == "done"


def test_hung_trial_is_not_tried_again_after_the_budget():
    d = director()
    segment = begin(d)
    d.tell(Expired("time is up"))
    d.tell(Lost(segment.number, "hung", "no report for 3 s"))
    assert d.of_stage("search")[0].status == "expired"
    assert d.ask() == "done"


def test_final_deadline_lets_a_stage_end_with_its_first_result():
    d = director(trials=1, finalists=finalists(3))
    report(d, begin(d), 2)
    d.tell(Expired("time is up"))
    first, second = begin(d), begin(d)
    d.tell(Expired("time is up", final=True))
    assert d.overdue() == []
    assert begin(d).config == {"pick": 2}
    report(d, first, 1)
    assert d.overdue() == [second.number, second.number + 1]
    d.tell(Lost(second.number, "time", "ended by the watch"))
    d.tell(Lost(second.number + 1, "time", "ended by the watch"))
    assert d.ask() == "done"
    assert [trial.status for trial in d.of_stage("finalists")] == ["completed", "expired", "expired"]


def test_damaged_checkpoint_lets_the_retry_begin_anew():
    d = director()
    segment = begin(d)
    report(d, segment, 1, score=0.7, checkpoint="there")
    d.tell(Lost(segment.number, "process", "killed"))
    damaged = begin(d)
    d.tell(Lost(damaged.number, "storage", "there is damaged", checkpoint=False))
    anew = begin(d)
    assert (anew.start, d.of_stage("search")[0].checkpoint) == (None, None)
    assert report(d, anew, 1, score=0.1, checkpoint="new") == "continue"
    assert d.of_stage("search")[0].checkpoint.path == "new"
    assert [r.metrics["score"] for r in d.of_stage("search")[0].reports] == [0.7]


def test_trial_out_of_memory_is_tried_once_more_alone_then_infeasible():
    d = director()
    big, beside = begin(d), begin(d)
    d.tell(Lost(big.number, "memory", "the node ran out of memory"))
    assert d.ask() == "wait"
    report(d, beside, 2)
    alone = begin(d)
    assert (alone.trial, d.ask()) == (0, "wait")
    d.tell(Lost(alone.number, "memory", "the node ran out of memory"))
    assert d.of_stage("search")[0].status == "infeasible"
    assert begin(d).trial == 2


def test_cancelled_trial_ends_in_flight_and_between_attempts():
    d = director()
    begin(d)
    d.tell(Cancelled("search", 0, "by the user"))
    d.tell(Lost(begin(d).number, "node", "node gone"))
    d.tell(Cancelled("search", 1, "by the user"))
    report(d, begin(d), 2)
    d.tell(Cancelled("search", 2, "too late"))
    assert d.ask() == "done"
    assert [(t.status, t.failed) for t in d.of_stage("search")] == [("cancelled", True)] * 2 + [("completed", False)]


@pytest.mark.parametrize(("max_failed", "started"), [(0.5, 3), (0.25, 2), (0.0, 1), (1.0, 4)])
def test_experiment_is_given_up_when_too_many_trials_fail(max_failed, started):
    d = director(4, max_failed, finalists=finalists())
    while d.ask() != "done" and len(d.trials) < 5:
        segment = begin(d)
        if segment.stage == "search":
            d.tell(Failed(segment.number, "error", "ValueError: no"))
    assert len(d.of_stage("search")) == started
    assert (f"search: {started} of 4" in d.given_up) == (max_failed < 1)
    assert bool(d.of_stage("finalists")) == (max_failed == 1)


def test_given_up_experiment_ends_what_runs_and_what_waits():
    d = director(4, 0.25)
    runs, waits, *bad = [begin(d) for _ in range(4)]
    d.tell(Lost(waits.number, "node", "node gone"))
    for segment in bad:
        d.tell(Failed(segment.number, "error", "ValueError: no"))
    assert [t.status for t in d.of_stage("search")] == ["running", "lost", "error", "error"]
    assert report(d, runs, 1) == "stop"
    assert d.ask() == "done"


def test_infeasible_and_diverged_trials_give_nothing_up():
    d = director(3, 0.0)
    d.tell(Failed(begin(d).number, "infeasible", "out of memory"))
    report(d, begin(d), 1, score=float("nan"))
    assert d.given_up == ""
    assert begin(d).trial == 2


def test_every_failure_is_kept_with_its_attempt_and_node():
    d = director()
    d.tell(Lost(begin(d).number, "process", "killed", node="a"))
    d.tell(Lost(begin(d).number, "preempted", "taken back", node="b"))
    d.tell(Failed(begin(d).number, "error", "ValueError: no", "File x, line 1", node="c"))
    failures = d.of_stage("search")[0].failures
    kept = [(f.attempt, f.kind, f.node) for f in failures]
    assert kept == [(0, "process", "a"), (1, "preempted", "b"), (2, "error", "c")]
    assert (failures[-1].trace, d.of_stage("search")[0].losses) == ("File x, line 1", 1)


@pytest.mark.parametrize(("recorded", "status"), [("continue", "running"), ("stop", "stopped")])
def test_recorded_verdict_is_applied_and_the_own_one_returned(recorded, status):
    for epochs, score, own in ((1, 0.5, "continue"), (1, float("nan"), "stop"), (2, 0.5, "stop")):
        d = director()
        segment = begin(d)
        event = Reported(segment.number, epochs, {"score": score})
        assert d.tell(event, recorded) == own
        found = d.of_stage("search")[0].status
        assert (found == "running") == (recorded == "continue")
        assert found == status or own == "stop"


def test_events_survive_the_ledger():
    events = [
        Reported(1, 2.0, {"score": 0.5}, "there", node="a", size=9),
        Failed(1, "error", "no", "trace", "a"),
        Lost(1, "storage", "no", "a", checkpoint=False),
        Cancelled("search", 0, "by the user"),
        Expired("time is up", final=True),
    ]
    assert [from_record(json.loads(json.dumps(to_record(event)))) for event in events] == events


def test_stage_alone_has_nothing_beside_it():
    alone = Stage("alone", "toy", lambda _: Listed([{"n": 1}, {"n": 2}]), alone=True)
    d = Director([alone, Stage("search", "toy", searching(), after=("alone",))])
    first = begin(d)
    assert first.stage == "alone"
    assert d.ask() == "wait"
    report(d, first, 1)
    second = begin(d)
    assert second.config == {"n": 2}
    report(d, second, 1)
    assert begin(d).stage == "search"


def test_replay_at_any_event_goes_on_identically():
    def run(d, events):
        while not isinstance(answer := d.ask(), str):
            events.append(Started(answer))
            d.tell(events[-1])
            for epoch in (1, 2):
                events.append(Reported(answer.number, epoch, {"score": answer.config["height"] * epoch}))
                d.tell(events[-1])
        return events

    whole = run(director(), [])
    for cut in range(len(whole)):
        d = director()
        for event in whole[:cut]:
            d.tell(event)
        for number in sorted(d.in_flight):
            d.tell(Lost(number, "driver", "driver ended"))
        run(d, [])
        again = director()
        for event in whole:
            again.tell(event)
        configs = [trial.config for trial in d.trials.values()]
        assert configs == [trial.config for trial in again.trials.values()]
        assert [t.status for t in d.trials.values()] == [t.status for t in again.trials.values()]
