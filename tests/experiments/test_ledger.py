import errno
import json
import os
import resource
import threading
import time

import pytest

from experiments.engine import ledger as ledgers
from experiments.engine.ledger import FILE, Ledger, LedgerError, read
from trainables.store import StorageError, Store

RECORDS = [{"event": "a", "n": i, "text": "é\n", "value": 0.1 * i} for i in range(20)]


@pytest.fixture
def disk(tmp_path):
    return Store(tmp_path / "run")


@pytest.fixture(params=["disk", "bucket"])
def store(request):
    found = request.getfixturevalue(request.param)
    return Store(found) if request.param == "bucket" else found


def written(store, records=RECORDS, each=lambda ledger: None):
    with Ledger(store) as ledger:
        for record in records:
            ledger.append(record)
            each(ledger)
    return store


def file_of(store):
    return store.local / FILE


def test_records_come_back_in_order(store):
    assert read(store) == []
    assert read(written(store)) == RECORDS


def test_reopened_ledger_goes_on(store):
    written(store)
    with Ledger(store) as ledger:
        assert ledger.records == RECORDS
        ledger.append({"event": "more"})
        ledger.sync()
        ledger.append({"event": "most"})
    assert read(store) == [*RECORDS, {"event": "more"}, {"event": "most"}]


def test_opening_writes_nothing(store):
    written(store)
    before = {name: store.read(name) for name in store.names()}
    with Ledger(store):
        pass
    assert {name: store.read(name) for name in store.names()} == before


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_torn_last_line_is_cut_off(disk, cut):
    path = file_of(written(disk))
    path.write_bytes(path.read_bytes()[:-cut])
    assert read(disk) == RECORDS[:-1]
    with Ledger(disk) as ledger:
        ledger.append(RECORDS[-1])
    assert read(disk) == RECORDS


def test_every_flipped_byte_is_found(disk, tmp_path):
    whole = file_of(written(disk, RECORDS[:4])).read_bytes()
    lines = len(whole.splitlines())
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        file_of(disk).write_bytes(bytes(damaged))
        try:
            survived = read(disk)
        except LedgerError as error:
            assert f"{tmp_path}/run/ledger.jsonl: line " in str(error)
            assert "is damaged (its checksum does not match); restore it from a copy, or start" in str(error)
            assert error.records == RECORDS[: len(error.records)]
        else:  # only a last line without its newline looks like what a crash leaves
            assert place == len(whole) - 1
            assert len(survived) == lines - 1


@pytest.mark.parametrize(
    ("lines", "line"),
    [([0, 2, 3], 2), ([1, 2, 3], 1), ([0, 2, 1, 3], 2), ([0, 1, 1, 2, 3], 3)],
    ids=["missing", "first missing", "swapped", "repeated"],
)
def test_lines_that_do_not_follow_are_found(disk, lines, line):
    whole = file_of(written(disk, RECORDS[:4])).read_bytes().splitlines(keepends=True)
    file_of(disk).write_bytes(b"".join(whole[i] for i in lines))
    with pytest.raises(LedgerError, match=f"line {line} is damaged"):
        read(disk)


@pytest.mark.parametrize("content", [b"[1]", b"{", b"[" * 100_000])
def test_right_checksum_does_not_make_a_record(disk, content):
    disk.write(FILE, ledgers.chain.encode(content, 0)[0])
    with pytest.raises(LedgerError, match="line 1 is damaged"):
        read(disk)


def test_a_ledger_that_was_deleted_is_a_failed_storage(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.append({"event": "a"})
    (tmp_path / "ledger.jsonl").unlink()
    with pytest.raises(StorageError, match="ledger.jsonl was deleted while the run went on; start another with --new"):
        ledger.sync()
    with pytest.raises(StorageError, match="was deleted"):
        ledger.append({"event": "b"})


def test_nan_is_kept(store):
    written(store, [{"value": float("nan")}])
    assert json.dumps(read(store)) == '[{"value": NaN}]'


def test_actions_wait_for_the_disk(disk, monkeypatch):
    order = []
    with Ledger(disk) as ledger:
        ledger.append({"event": "a"})
        monkeypatch.setattr("os.fsync", lambda _: order.append("disk"))
        ledger.when_durable(lambda: order.append("deleted"))
        ledger.sync()
        assert order == ["disk", "deleted"]


def test_ten_thousand_trials_are_read(disk):
    records = [{"event": "reported", "segment": i, "metrics": {"val_accuracy": 0.5}, "at": i} for i in range(30_000)]
    assert read(written(disk, records)) == records


# A disk that fails


def append_and_sync(ledger, record, action):
    ledger.append(record)
    ledger.when_durable(action)
    ledger.sync()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("call", ["write", "fsync"])
def test_failed_disk_is_told_at_once_and_ever_after(disk, monkeypatch, call, code):
    written(disk, RECORDS[:3])

    def failing(*_):
        raise OSError(code, os.strerror(code))

    ledger = Ledger(disk)
    deleted = []
    with monkeypatch.context() as patch:
        patch.setattr(f"os.{call}", failing)
        with pytest.raises(StorageError, match=f"ledger.jsonl could not be written .{os.strerror(code)}.; "):
            append_and_sync(ledger, RECORDS[3], lambda: deleted.append(1))
    with pytest.raises(StorageError, match=os.strerror(code)):
        ledger.append(RECORDS[4])
    with pytest.raises(StorageError, match=os.strerror(code)):
        ledger.close()
    assert read(disk)[:3] == RECORDS[:3]
    assert not deleted


def test_file_that_may_not_grow_keeps_what_was_there(disk):
    written(disk, RECORDS[:3])
    size = file_of(disk).stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ledger = Ledger(disk)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 30, before[1]))
    try:
        with pytest.raises(StorageError, match="File too large.; raise the limit on the size of files"):
            ledger.append(RECORDS[3])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert file_of(disk).stat().st_size == size + 30  # the first part of the line, as a crash leaves it
    assert read(disk) == RECORDS[:3]
    with pytest.raises(StorageError):
        ledger.close()


def test_failure_found_by_the_flusher_reaches_the_next_append(disk, monkeypatch):
    monkeypatch.setattr(ledgers, "_LAG_S", 0.01)
    ledger = Ledger(disk)
    ledger.append(RECORDS[0])
    with monkeypatch.context() as patch:
        failed = threading.Event()

        def failing(_):
            failed.set()
            raise OSError(errno.EIO, "Input/output error")

        patch.setattr("os.fsync", failing)
        ledger.append(RECORDS[1])
        assert failed.wait(10)
        ledger._flusher.join(10)
    with pytest.raises(StorageError, match="Input/output error"):
        ledger.append(RECORDS[2])
    assert ledger.lag > 0
    with pytest.raises(StorageError):
        ledger.close()


# An object store


def segments(store, **changes):
    """Names of the segments that three flushes make."""
    written(store, RECORDS[:3], each=Ledger.sync)
    return store.names("ledger")


def test_segments_name_generation_number_and_writer(bucket):
    store = Store(bucket)
    names = segments(store)
    assert [name.split("-")[:2] for name in names] == [["ledger/00001", f"000000{i}"] for i in range(3)]
    assert len({name.split("-")[2] for name in names}) == 1
    header = json.loads(store.read(names[1]).splitlines()[0][9:])["segment"]
    assert names[1] == f"ledger/{header['generation']:05d}-{header['number']:07d}-{header['writer']}.jsonl"


def test_what_a_writer_wrote_after_another_took_over_is_ignored(bucket):
    store = Store(bucket)
    with Ledger(store) as first:
        first.append(RECORDS[0])
        first.sync()
        with Ledger(store) as second:
            second.append(RECORDS[1])
            second.sync()
            first.append({"event": "late"})
            first.sync()
    assert read(store) == RECORDS[:2]


@pytest.mark.parametrize("place", [0, 1])
def test_gap_between_segments_is_refused(bucket, place):
    store = Store(bucket)
    names = segments(store)
    store.delete(names[place])
    with pytest.raises(LedgerError, match=rf"s3://runs/results/ledger/00001-000000{place}-\w+.jsonl is missing"):
        read(store)


def test_fork_is_refused(bucket):
    store = Store(bucket)
    first, second = Ledger(store), Ledger(store)
    for ledger in (first, second):
        ledger.append(RECORDS[0])
        ledger.close()
    with pytest.raises(LedgerError, match=r"s3://runs/results/ledger: generation 1 has writers \w+, \w+; restore"):
        Ledger(store)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_damaged_segment_is_refused(bucket, number):
    store = Store(bucket)
    names = segments(store)
    whole = store.read(names[number])
    for damaged in (whole[:-1], b"", whole[:20], whole.replace(b"a", b"b", 1), store.read(names[number - 1])):
        store.write(names[number], damaged)
        with pytest.raises(LedgerError, match=rf"{names[number]}(: line \d)? is damaged"):
            read(store)
        store.write(names[number], whole)
    assert read(store) == RECORDS[:3]


def test_records_wait_while_the_server_is_away(bucket, s3, monkeypatch):
    monkeypatch.setattr(ledgers, "_LAG_S", 0.01)
    store = Store(bucket)
    with Ledger(store) as ledger:
        ledger.append(RECORDS[0])
        ledger.sync()
        assert ledger.lag == 0
        s3.stop()
        for record in RECORDS[1:]:
            ledger.append(record)
        time.sleep(0.3)
        assert ledger.lag > 0.25
        s3.start()
        ledger.sync()
        assert ledger.lag == 0
        assert ledger.worst_lag > 0.25
    assert read(store) == RECORDS


def test_server_that_refuses_is_told(bucket, s3):
    ledger = Ledger(Store(bucket))
    s3.refuses = lambda method, path: "AccessDenied" if method == "PUT" else None
    ledger.append(RECORDS[0])
    with pytest.raises(StorageError, match="could not be written .*ACCESS_DENIED.*; see to bucket, credentials"):
        ledger.sync()
    with pytest.raises(StorageError, match="ACCESS_DENIED"):
        ledger.append(RECORDS[1])
    with pytest.raises(StorageError):
        ledger.close()
