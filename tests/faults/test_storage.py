"""Storage that is damaged, fails or goes away (F13, F20, F21, F24, F33), by whole runs."""

import os
import time
from collections import Counter

import pytest

from experiments.engine import history, ledger, runs
from trainables.store import Store

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(900)]

TRIALS, EPOCHS = 4, 3


def complete(toy):
    """Every trial of the search has ended once at its epochs, and a model was chosen."""
    trials = toy.trials()
    assert [(trial.number, trial.status, trial.epochs) for trial in trials] == [
        (number, "completed", EPOCHS) for number in range(TRIALS)
    ]
    assert all([report.epochs for report in trial.reports] == [1, 2, 3] for trial in trials)
    assert toy.run().records[-1]["chosen"]


def excess(toy):
    """Epochs done more than once, with how often more."""
    return {what: times - 1 for what, times in toy.counts().items() if times > 1}


# Files


@pytest.fixture
def killed(experiment):
    """A run whose driver was killed in the middle."""
    toy = experiment(trials=TRIALS, epochs=EPOCHS, seconds=0.2)
    assert toy.kill_at(toy.start(), epochs=5)
    toy.clear()  # its workers live on for a while, and write
    (folder,) = toy.storage.iterdir()
    return toy, folder


def truncated(path):
    path.write_bytes(path.read_bytes()[:-9])


def emptied(path):
    path.write_bytes(b"")


def flipped(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def deleted(path):
    path.unlink()


def last_line_lost(path):
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def test_ledger_damaged_beyond_its_end_is_refused_by_name(killed):
    toy, folder = killed
    path = folder / ledger.FILE
    whole = path.read_bytes()
    for damage, message in {emptied: "is empty", deleted: "is empty or missing", flipped: "is damaged"}.items():
        path.write_bytes(whole)
        damage(path)
        before = toy.tree()
        toy.finish(code=2)
        (line,) = toy.printed("err").splitlines()
        assert str(folder) in line
        assert message in line
        assert "restore it from a copy, or start another run with --new" in line
        assert toy.tree() == before
        assert folder.name in toy.cli("runs", "list")
    path.write_bytes(whole)
    toy.finish(timeout=300)
    complete(toy)


@pytest.mark.parametrize("damage", [truncated, last_line_lost])
def test_ledger_whose_end_is_lost_is_recovered(killed, damage):
    toy, folder = killed
    damage(folder / ledger.FILE)
    toy.finish(timeout=300)
    complete(toy)


@pytest.mark.parametrize("damage", [truncated, emptied, flipped, deleted])
def test_other_files_of_a_run_are_no_obstacle(killed, damage):
    toy, folder = killed
    files = [folder / "experiment.yaml", folder / "lease.json", *folder.glob("trials/*/log.txt")]
    assert len(files) >= 4
    for path in files:
        damage(path)
    toy.finish(timeout=300)
    complete(toy)
    assert sum(excess(toy).values()) <= os.cpu_count()


@pytest.mark.parametrize(
    ("write", "fault", "way_out"),
    [(1, "EROFS", "mount it for writing"), (8, "ENOSPC", "make room there"), (14, "EIO", "see to the disk")],
)
def test_disk_that_fails_at_the_kth_write_is_told_and_the_run_goes_on_afterwards(experiment, write, fault, way_out):
    toy = experiment(trials=TRIALS, epochs=EPOCHS)
    toy.spec["stages"][0]["space"] = toy.spec["stages"][0]["space"].replace("heights.py", "failing.py")
    toy.write()
    toy.environment["FAILING_WRITE"] = f"{write}:{fault}"
    toy.finish(code=5, timeout=300)
    (line,) = toy.printed("err").splitlines()
    assert "/ledger.jsonl could not be written (" in line
    assert f"); {way_out}, then run the same command again" in line
    before = toy.lines()
    assert before == write - 1
    del toy.environment["FAILING_WRITE"]
    toy.finish(timeout=300)
    complete(toy)
    assert sum(excess(toy).values()) <= os.cpu_count()


# Object stores


@pytest.fixture
def remote(experiment, bucket):
    """A toy experiment whose runs lie in an object store."""

    def make(**changes):
        toy = experiment(trials=TRIALS, epochs=EPOCHS, **changes)
        toy.storage = bucket
        toy.environment |= {name: os.environ[name] for name in os.environ if name.startswith("AWS_")}
        return toy

    return make


def recorded(toy):
    """How many records there are in the store."""
    (name,) = Store(toy.storage).folders() or [""]
    return len(ledger.read(Store(toy.storage) / name)) if name else 0


def test_run_in_an_object_store_is_killed_and_goes_on(remote):
    toy = remote(seconds=0.4)
    driver = toy.start()
    toy.wait(driver, lambda: recorded(toy) > 8, seconds=300)
    driver.kill()
    driver.wait()
    toy.finish(timeout=300)
    complete(toy)
    # What was not durable yet, a second at most, is lost with the driver.
    assert sum(excess(toy).values()) <= 3 * os.cpu_count()
    told = toy.cli("report", "--json")
    assert '"finished": true' in told
    store = toy.run().store
    assert store.names("artifacts")
    assert "finished" in toy.cli("runs", "list")
    toy.cli("runs", "delete", toy.run().name)
    assert Store(toy.storage).names() == []


def test_server_that_goes_away_for_a_while_costs_no_trial(remote, s3):
    toy = remote(seconds=0.4)
    driver = toy.start()
    toy.wait(driver, lambda: recorded(toy) > 6, seconds=300)
    s3.stop()
    time.sleep(8)
    assert driver.poll() is None
    s3.start()
    toy.end(driver, timeout=300)
    complete(toy)
    assert not excess(toy)


def test_second_driver_in_an_object_store_is_refused_until_the_first_is_dead(remote):
    toy = remote(seconds=0.6)
    first = toy.start()
    toy.wait(first, lambda: recorded(toy) > 3, seconds=300)
    toy.finish(code=2)
    (line,) = toy.printed("err").splitlines()
    assert f"is already run by pid {first.pid} on host" in line
    first.kill()
    first.wait()
    toy.finish(timeout=300)
    complete(toy)


def test_server_that_refuses_ends_the_run_with_code_5(remote, s3):
    toy = remote(seconds=0.4)
    driver = toy.start()
    toy.wait(driver, lambda: recorded(toy) > 6, seconds=300)
    s3.refuses = lambda method, path: "AccessDenied" if method in ("PUT", "POST") else None
    toy.end(driver, code=5, timeout=300)
    assert "ACCESS_DENIED" in toy.printed("err").splitlines()[-1]
    s3.refuses = lambda method, path: None
    toy.finish(timeout=300)
    complete(toy)


def test_damaged_segment_is_refused_by_name(remote):
    toy = remote(seconds=0.3)
    driver = toy.start()
    toy.wait(driver, lambda: recorded(toy) > 6, seconds=300)
    driver.kill()
    driver.wait()
    toy.clear()  # its workers live on for a while, and write
    store = next(iter(runs.every(toy.storage))).store
    name = store.names("ledger")[0]
    whole = store.read(name)
    store.write(name, whole[:-9])
    before = {name: store.read(name) for name in store.names()}
    toy.finish(code=2)
    assert f"{store.shown}/{name} is damaged" in toy.printed("err")
    assert {name: store.read(name) for name in store.names()} == before
    store.write(name, whole)
    toy.finish(timeout=300)
    complete(toy)
    assert Counter(trial.status for trial in history.fold(toy.run().records).of_stage("search"))["completed"] == TRIALS
