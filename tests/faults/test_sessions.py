"""Sessions of a run: interrupted, started twice, started with other things (F10, F11, F22 to F26)."""

import shutil
import signal
import time

import psutil
import pytest

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(300)]

# Until everything of an interrupted run has ended; the machine may be busy.
GRACE_S = 10


def watches(driver):
    """Whether it has taken the signals over: that needs a thread."""
    return psutil.Process(driver.pid).num_threads() > 1


def in_finalists(toy):
    return any(b'"stage":"finalists"' in path.read_bytes() for path in toy.storage.glob("*/ledger.jsonl"))


MOMENTS = {
    "imports": lambda toy, driver: watches(driver),
    "opened": lambda toy, driver: toy.lines() >= 1,
    "trials": lambda toy, driver: len(toy.epochs()) >= 3,
    "finalists": lambda toy, driver: in_finalists(toy),
}


def interrupted(toy, driver, number, grace=GRACE_S):
    """Ends in time by this signal, says so in a line, leaves no process."""
    sent = time.monotonic()
    driver.send_signal(number)
    assert driver.wait(2 * grace) == 128 + number
    assert not toy.processes()
    assert time.monotonic() - sent < grace
    assert toy.printed("err").count("\n") == 1
    assert f"interrupted by {signal.Signals(number).name}" in toy.printed("err")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_at_any_moment_it_goes_on(experiment, number):
    toy = experiment(seconds=0.2)
    for moment, reached in MOMENTS.items():
        driver = toy.start()
        toy.wait(driver, lambda reached=reached, driver=driver: reached(toy, driver))
        interrupted(toy, driver, number)
        assert ("goes on from here" in toy.printed("err")) == (moment != "imports")
    toy.finish()
    assert toy.counts().keys() == {(trial, epoch) for trial in range(4) for epoch in (1, 2, 3)}
    assert toy.counts().total() <= 12 + 2 * 2
    assert toy.run().finished


@pytest.mark.parametrize("does", ["hang", "stop"])
def test_a_trial_that_hangs_does_not_hold_up_the_end(experiment, does):
    toy = experiment(faults={0: {"does": does, "at": 2}})
    driver = toy.start()
    toy.wait(driver, lambda: "fault" in toy.log.read_text() if toy.log.exists() else False)
    interrupted(toy, driver, signal.SIGTERM)


def test_a_second_signal_ends_at_once(experiment):
    toy = experiment(faults={0: {"does": "stop", "at": 2}})
    driver = toy.start()
    toy.wait(driver, lambda: "fault" in toy.log.read_text() if toy.log.exists() else False)
    driver.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    interrupted(toy, driver, signal.SIGTERM, grace=3)


def test_killed_in_its_first_seconds_it_begins_once(experiment):
    toy = experiment(trials=2)
    for wait in (0.5, 1.5, 2.5, 3.5):
        driver = toy.start()
        time.sleep(wait)
        driver.kill()
        driver.wait()
    driver = toy.start()
    toy.wait(driver, lambda: any(toy.storage.glob("*")))
    driver.kill()
    driver.wait()
    toy.finish()
    assert "finished" in toy.cli("runs", "list")
    assert len([line for line in toy.printed("out").splitlines() if line.startswith("toy-")]) == 1
    assert set(toy.counts()) == {(trial, epoch) for trial in range(2) for epoch in (1, 2, 3)}


def test_one_driver_at_a_time_and_at_once_after_a_kill(experiment):
    toy = experiment(trials=2, epochs=6, seconds=0.5)
    first = toy.start()
    toy.wait(first, lambda: len(toy.epochs()) >= 2)
    before = toy.lines()
    toy.finish(code=2)
    assert f"is already run by pid {first.pid} on " in toy.printed("err")
    assert toy.printed("err").count("\n") == 1
    assert first.poll() is None
    assert toy.lines() >= before
    first.kill()
    first.wait()
    toy.finish()
    assert set(toy.counts()) == {(trial, epoch) for trial in range(2) for epoch in range(1, 7)}
    assert toy.counts().total() <= 12 + 2


def test_a_finished_run_is_left_alone(experiment):
    toy = experiment(trials=1, epochs=1)
    toy.finish()
    before = toy.tree()
    toy.finish()
    assert len(list(toy.storage.glob("toy-*"))) == 2
    assert before.items() <= toy.tree().items()


def test_a_moved_run_goes_on_where_it_lies(experiment, tmp_path):
    toy = experiment(seconds=0.2)
    assert toy.kill_at(toy.start(), epochs=4)
    toy.clear()
    shutil.copytree(toy.storage, tmp_path / "elsewhere")
    before, toy.storage = toy.tree(), tmp_path / "elsewhere"
    toy.finish()
    assert toy.counts().keys() == {(trial, epoch) for trial in range(4) for epoch in (1, 2, 3)}
    toy.storage = tmp_path / "results"
    assert toy.tree() == before


# Other things than before

SPACE = """from ConfigSpace import ConfigurationSpace
from ConfigSpace.hyperparameters import UniformFloatHyperparameter
SPACE = ConfigurationSpace(space={{"height": UniformFloatHyperparameter("height", 0.0, {}, default_value=0.5)}})
"""


@pytest.fixture
def broken_off(experiment, tmp_path):
    """A run that was killed, of a space of the user's own."""
    (tmp_path / "own.py").write_text(SPACE.format(1.0))
    toy = experiment(seconds=0.2, stage={"space": f"{tmp_path / 'own.py'}:SPACE"})
    assert toy.kill_at(toy.start(), epochs=3)
    toy.clear()
    return toy


def test_other_things_are_refused_by_name_and_accepted_on_demand(broken_off, tmp_path):
    toy = broken_off
    before = toy.tree()
    toy.spec["stages"][0]["epochs"] = 2
    toy.spec["task"]["seed"] = 7
    toy.write()
    (tmp_path / "own.py").write_text(SPACE.format(0.99))
    toy.finish(code=2)
    told = toy.printed("err")
    assert "stages.search.epochs: 3 → 2" in told
    assert "task.seed: (not there) → 7" in told
    assert "space search: height changed" in told
    assert f"code: {tmp_path / 'own.py'} changed" in told
    assert "--accept-changes" in told
    assert all(line.startswith("fitformer: ") for line in told.splitlines())
    assert toy.tree() == before
    toy.finish("--accept-changes")
    assert {trial.number for trial in toy.trials()} == set(range(4))
    assert "stages.search.epochs: 3 → 2" in toy.cli("report")
    assert len(list(toy.storage.glob("toy-*"))) == 1


def test_trials_time_and_resources_may_change(experiment):
    toy = experiment(drawn=True, seconds=0.2)
    assert toy.kill_at(toy.start(), epochs=3)
    toy.finish("--set", "stages.search.trials=6", "--set", "time=1h", "--set", "max_failed=0.9")
    assert sorted(trial.number for trial in toy.trials()) == list(range(6))
    assert set(toy.counts().values()) <= {1, 2}
    assert len(list(toy.storage.glob("toy-*"))) == 1


# What can never work is refused before anything is written


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"resources": {"gpu": 8}}, "resources.gpu must be at most what one node has, got 8 with "),
        ({"resources": {"cpu": 999, "gpu": 0}}, "resources.cpu must be at most what one node has, got 999 with "),
        ({"disk": "1000TB"}, "disk is 1000000.0 GB, and "),
    ],
)
def test_what_can_never_work_is_refused_at_once(experiment, changes, line):
    toy = experiment(trials=1, epochs=1, **changes)
    toy.finish(code=2)
    assert line in toy.printed("err")
    assert toy.printed("err").count("\n") == 1
    assert not toy.storage.exists()


def test_waiting_for_nodes_has_an_end(experiment):
    toy = experiment(resources={"cpu": 999, "gpu": 0})
    begun = time.monotonic()
    toy.finish("--wait", "5s", code=2)
    assert time.monotonic() - begun > 5
    assert "waits for a node with cpu 999 and gpu 0; gives up in " in toy.printed("out") + toy.printed("err")
    assert "got 999 with " in toy.printed("err")
    assert not toy.storage.exists()


def test_cancelling_a_trial_and_then_the_run(experiment):
    toy = experiment(trials=2, epochs=100, seconds=0.3)
    driver = toy.start()
    toy.wait(driver, lambda: len({line["height"] for line in toy.epochs()}) == 2)
    name = toy.run().name
    toy.cli("runs", "cancel", name, "search-001")
    toy.wait(driver, lambda: toy.trials()[1].status == "cancelled")
    assert toy.trials()[0].status == "running"
    toy.cli("runs", "cancel", name, "search-001", code=2)
    assert "search-001" in toy.printed("err")
    toy.cli("runs", "cancel", name)
    assert driver.wait(2 * GRACE_S) == 143
    toy.cli("runs", "cancel", name, code=2)
    assert not toy.run().finished
