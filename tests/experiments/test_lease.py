import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from experiments.engine import lease as leases
from experiments.engine.lease import Held, Lease
from trainables.store import StorageError, Store

TAKES = """
import sys, time
from experiments.engine.lease import Lease
from trainables.store import Store
lease = Lease.take(Store(sys.argv[1]))
child = __import__("subprocess").Popen(["sleep", "60"])
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def run(tmp_path):
    (tmp_path / "tiny-20261120-abcd").mkdir()
    return Store(tmp_path / "tiny-20261120-abcd")


@pytest.fixture
def remote(bucket, monkeypatch):
    for name, value in {"_BEAT_S": 0.06, "_STALE_S": 20.0, "_PAUSE_S": 0.1}.items():
        monkeypatch.setattr(leases, name, value)
    return Store(bucket) / "tiny-20261120-abcd"


@pytest.fixture(params=["run", "remote"])
def store(request):
    return request.getfixturevalue(request.param)


def test_second_driver_is_told_who_has_it(store):
    assert Lease.holder(store) is None
    with Lease.take(store):
        with pytest.raises(Held) as caught:
            Lease.take(store)
        assert Lease.holder(store)["pid"] == os.getpid()
    since = rf"pid {os.getpid()} on host \S+ since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\+00:00"
    assert caught.match(
        rf"run tiny-20261120-abcd is already run by {since}; wait for it, "
        r"cancel it with `runs cancel tiny-20261120-abcd`, or start another with --new"
    )
    assert Lease.holder(store) is None
    Lease.take(store).close()


def test_killed_driver_has_it_no_more_though_its_child_lives(run):
    with subprocess.Popen([sys.executable, "-c", TAKES, run.uri], stdout=subprocess.PIPE, text=True) as driver:
        child = int(driver.stdout.readline())
        try:
            with pytest.raises(Held, match=f"pid {driver.pid} on host"):
                Lease.take(run)
            driver.kill()
            driver.wait()
            assert Lease.holder(run) is None
            Lease.take(run).close()
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("text", [b"", b"{", b"[1]", b"\xff"])
def test_damaged_file_is_no_obstacle(run, text):
    run.write("lease.json", text)
    assert Lease.holder(run) is None
    with Lease.take(run):
        assert Lease.holder(run)["pid"] == os.getpid()
        run.local.joinpath("lease.json").write_bytes(text)
        with pytest.raises(Held, match=r"already run by pid \? on host \? since \?; wait for it"):
            Lease.take(run)


def test_heartbeat_read_while_it_is_written_is_read_again(remote, monkeypatch):
    whole, turns = Store.read, itertools.count()

    def cut_short(store, name):
        data = whole(store, name)
        return data[:-1] if next(turns) % 2 else data

    with Lease.take(remote):
        monkeypatch.setattr(Store, "read", cut_short)
        for _ in range(2):
            assert Lease.holder(remote)["pid"] == os.getpid()
        with pytest.raises(Held, match=f"pid {os.getpid()} on host"):
            Lease.take(remote)


def test_lock_that_fails_is_told(tmp_path):
    with pytest.raises(StorageError, match="gone/lease.json could not be locked .No such file"):
        Lease.take(Store(tmp_path / "gone"))


def abandoned(store, monkeypatch):
    """A lease whose driver stands still, for long enough."""
    monkeypatch.setattr(leases, "_STALE_S", 0.5)
    lease = Lease.take(store)
    lease._hold._released.set()
    lease._hold._thread.join()
    return lease


def revived(lease):
    lease._hold._released.clear()
    threading.Thread(target=lease._hold._go_on, daemon=True).start()


def test_heartbeat_that_stands_still_is_taken_over(remote, monkeypatch):
    old = abandoned(remote, monkeypatch)
    assert not old.lost.is_set()
    with Lease.take(remote):
        assert [name.partition("-")[0] for name in remote.names("lease")] == ["lease/00002"]
        revived(old)  # it comes back to life
        assert old.lost.wait(5)
    old.close()


def test_superseded_driver_finds_out_even_when_the_other_has_ended(remote, monkeypatch):
    old = abandoned(remote, monkeypatch)
    Lease.take(remote).close()
    assert remote.names("lease") == []
    revived(old)
    assert old.lost.wait(5)


def test_of_two_claims_at_once_one_wins(remote):
    outcomes = []

    def take():
        try:
            outcomes.append(Lease.take(remote))
        except Held:
            outcomes.append(None)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    time.sleep(3 * leases._BEAT_S)
    winners = [lease for lease in outcomes if lease and not lease.lost.is_set()]
    assert len(winners) == 1
    for lease in filter(None, outcomes):
        lease.close()


def test_claim_that_another_cleared_away_while_it_paused_is_given_up(remote, monkeypatch):
    monkeypatch.setattr(leases.time, "sleep", lambda _: [remote.delete(name) for name in remote.names("lease")])
    with pytest.raises(Held):
        Lease.take(remote)


def test_lease_outlives_a_server_that_is_away(remote, s3):
    with Lease.take(remote) as lease:
        s3.stop()
        time.sleep(5 * leases._BEAT_S)
        s3.start()
        with pytest.raises(Held):
            Lease.take(remote)
        assert not lease.lost.is_set()


def test_holder_of_old_is_none(remote):
    remote.write("lease/00001-0123abcd.json", json.dumps({"pid": 1, "at": time.time() - 60}).encode())
    assert Lease.holder(remote) is None
