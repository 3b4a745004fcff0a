"""The driver killed, interrupted, started twice, started with other things (F8 to F11, F22 to F26), by whole runs."""

import contextlib
import io
import json
import os
import random
import time

import pytest

from experiments.__main__ import main
from experiments.engine import checks, strategies
from experiments.engine.director import Director
from experiments.engine.events import Lost, Reported, Started, from_record
from experiments.engine.plan import prepare
from experiments.engine.spec import load

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

SLOTS = os.cpu_count() or 1
# Each searcher with one scheduler, each scheduler with one searcher.
SEARCHERS = [name for name in checks.searchers() if name != "replay"]
PAIRS = [(name, "asha" if checks.legal(name, "asha") else "none") for name in SEARCHERS]
PAIRS += [("random", name) for name in strategies.find("SCHEDULER") if name != "asha"]


# Killed at random moments


def test_killed_twice_it_ends_as_if_nothing_had_happened(experiment):
    toy = experiment(trials=5, epochs=4, drawn=True, stage={"search": {"scheduler": {"name": "asha", "eta": 2}}})
    assert killed(toy, 2, random.Random(time.time_ns()), blind=0.0) == 2
    toy.finish()
    as_it_had_to_be(toy, kills=2)


@pytest.mark.faults
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("searcher", "scheduler"), PAIRS)
def test_killed_at_twenty_random_moments(experiment, searcher, scheduler):
    search = {"searcher": searcher, "scheduler": scheduler}
    toy = experiment(trials=16, epochs=9, drawn=True, seconds=0.05, stage={"search": search})
    assert killed(toy, 20, random.Random(time.time_ns())) == 20
    toy.finish()
    as_it_had_to_be(toy, kills=20)


def killed(toy, times, moments, blind=0.25):
    """How often a driver was killed before its end: soon after one to three more records, some blindly at any time."""
    count = 0
    for _ in range(times):
        driver, known = toy.start(), toy.lines()
        if moments.random() < blind:
            time.sleep(moments.uniform(0.0, 4.0))
        else:
            toy.wait_or_end(driver, lambda known=known: toy.lines() >= known + 2 + moments.randint(1, 3))
            time.sleep(moments.uniform(0.0, 0.3))
        count += driver.poll() is None
        driver.kill()
        driver.wait()
    return count


def as_it_had_to_be(toy, kills):
    """One run with exactly its trials; each decision the uninterrupted fold's; no work repeated but what was lost."""
    run, trials = toy.run(), toy.trials()
    assert run.finished
    wanted = toy.spec["stages"][0]["trials"]
    clones = any(event.segment.start and not event.segment.attempt for event in starts(run))
    assert sorted(trial.number for trial in trials) == list(range(len(trials) if clones else wanted))
    assert len({json.dumps(trial.config) for trial in trials}) == len(trials)
    assert {trial.status for trial in trials} <= {"completed", "stopped"}
    events = [(event, record["verdict"]) for record in run.records if (event := from_record(record))]
    same_decisions(toy, events)
    from_the_last_checkpoint(events)
    counts = toy.counts()
    assert counts.keys() == {(trial.number, report.epochs) for trial in trials for report in trial.reports}
    assert all(whole(trial.reports) for trial in trials)
    assert counts.total() - len(counts) <= kills * SLOTS
    valid_frontier(toy, trials)


def starts(run):
    return [event for record in run.records if isinstance(event := from_record(record), Started)]


def whole(reports):
    """Whether no epoch is missing among them."""
    return [report.epochs for report in reports] == [reports[0].epochs + i for i in range(len(reports))]


def same_decisions(toy, events):
    """Asked at each start, a director decides as recorded; one that hears of no interruption says the same."""
    plan = prepare(load(str(toy.file)), toy.cache)
    again, smooth = Director(plan.steps()), Director(plan.steps())
    first, told = {}, set()
    for event, verdict in events:
        if isinstance(event, Started):
            assert again.ask() == event.segment
        assert again.tell(event) == verdict
        if isinstance(event, Started) and event.segment.attempt == 0:
            first[event.segment.stage, event.segment.trial] = event.segment.number
            smooth.tell(event)
        if isinstance(event, Reported):
            segment = again.segments[event.segment]
            key = segment.stage, segment.trial, event.epochs
            if key not in told:
                told.add(key)
                smooth_event = Reported(first[key[:2]], event.epochs, event.metrics, event.checkpoint)
                assert smooth.tell(smooth_event) == verdict


def from_the_last_checkpoint(events):
    """Every retry of a search begins at the last epoch its trial had reported, or where the trial itself began."""
    reached, of_segment = {}, {}
    for event, _ in events:
        if isinstance(event, Started):
            of_segment[event.segment.number] = key = (event.segment.stage, event.segment.trial)
            start = event.segment.start
            if event.segment.attempt and event.segment.stage == "search":
                assert (start.epochs if start else 0) == reached.get(key, 0)
            reached.setdefault(key, start.epochs if start else 0)
        if isinstance(event, Reported):
            reached[of_segment[event.segment]] = event.epochs
        if isinstance(event, Lost):
            assert event.kind == "driver"


def valid_frontier(toy, trials):
    """The report's frontier is the best of the curves known in closed form, and it is what was shipped."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(["report", "--json", "--storage", str(toy.storage)]) == 0
    report = json.loads(out.getvalue())
    scores = {trial.id: trial.config["height"] * (1 - 0.5**trial.epochs) for trial in trials}
    best = max(scores, key=scores.get)
    assert report["stages"][0]["frontier"] == [best]
    assert report["chosen"]["trial"] == best
