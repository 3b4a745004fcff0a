import pytest

from experiments.engine.director import MAX_ATTEMPTS, Director, Stage
from experiments.engine.events import Expired, Failed, Lost, Reported, Segment, Started
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
            score=lambda metrics: metrics["score"],
        )

    return plan


def director(**stages):
    return Director([Stage("search", "toy", searching(), watched=("score",), timed=True), *stages.values()])


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
    d.tell(Lost(segment.number, "node gone"))
    retry = begin(d)
    assert (retry.trial, retry.attempt, retry.start.path, retry.start.epochs) == (0, 1, "there", 1)
    assert retry.config == segment.config
    assert report(d, retry, 2) == "stop"
    assert len(d.of_stage("search")[0].reports) == 2


def test_report_repeated_by_a_retry_is_told_once():
    d = director()
    segment = begin(d)
    report(d, segment, 1, score=0.7)
    d.tell(Lost(segment.number, "node gone"))
    retry = begin(d)
    assert report(d, retry, 1, score=0.1) == "continue"
    assert [r.metrics["score"] for r in d.of_stage("search")[0].reports] == [0.7]


def test_retries_are_bounded_but_not_those_the_driver_caused():
    d = director()
    for _ in range(5):
        d.tell(Lost(begin(d).number, "driver ended", counted=False))
    for _ in range(MAX_ATTEMPTS):
        d.tell(Lost(begin(d).number, "node gone"))
    trial = d.of_stage("search")[0]
    assert (trial.status, trial.reason) == ("lost", "node gone (3 times)")
    assert d.ask().trial == 1


@pytest.mark.parametrize(
    ("metrics", "reason"),
    [
        ({"score": float("nan")}, "score is not finite after 1 epochs"),
        ({"score": float("-inf")}, "score is not finite after 1 epochs"),
        ({"score": None}, "score is not finite after 1 epochs"),
        ({"other": 1.0}, "score was not reported \\(reported: other\\) after 1 epochs"),
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
    finalists = Stage("finalists", "toy", lambda _: Listed([{"pick": 1}]), after=("search",), alone=True)
    d = director(finalists=finalists)
    running = begin(d)
    d.tell(Expired("time is up"))
    assert d.ask() == "wait"
    assert report(d, running, 1) == "stop"
    assert (running.trial, d.of_stage("search")[0].status) == (0, "expired")
    last = begin(d)
    assert last.stage == "finalists"
    report(d, last, 1)
    assert d.ask() == "done"


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
            d.tell(Lost(number, "driver ended", counted=False))
        run(d, [])
        again = director()
        for event in whole:
            again.tell(event)
        configs = [trial.config for trial in d.trials.values()]
        assert configs == [trial.config for trial in again.trials.values()]
        assert [t.status for t in d.trials.values()] == [t.status for t in again.trials.values()]
