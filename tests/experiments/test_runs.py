import os
import shutil
from pathlib import Path

import pytest

from experiments.engine import runs
from experiments.engine.ledger import FILE, Ledger, LedgerError
from trainables.store import Store


@pytest.fixture(params=["disk", "bucket"])
def place(request, tmp_path):
    return Store(tmp_path / "results" if request.param == "disk" else request.getfixturevalue("bucket"))


def opened(place, name="tiny", at=0.0, more=()):
    store = runs.create(place, name)
    with Ledger(store) as ledger:
        for record in ({"event": "opened", "fingerprint": "f", "spec": {"name": name}, "at": at}, *more):
            ledger.append(record)
    return store


FINISHED = {"event": "finished", "code": 0, "at": 9.0}


def test_runs_are_found_by_name_newest_first(place):
    old, new = opened(place, at=1.0), opened(place, "other", at=2.0)
    place.write("notes/README", b"")
    place.write("x-20261120-zzzz/README", b"")
    assert [run.name for run in runs.every(place)] == [new.name, old.name]
    assert runs.find(place, None).name == new.name
    assert runs.find(place, old.name).spec == {"name": "tiny"}
    with pytest.raises(ValueError) as caught:
        runs.find(place, "tiny-20200101-0000")
    there = f"there are {new.name}, {old.name}"
    assert str(caught.value) == f"run 'tiny-20200101-0000' does not exist under {place.shown}; {there}"


def test_run_is_deleted_with_all_it_holds(place):
    store, other = opened(place), opened(place)
    store.write("trials/a/log.txt", b"")
    runs.delete(runs.find(place, store.name))
    assert [run.name for run in runs.every(place)] == [other.name]
    assert not place.exists(store.name)


def test_run_that_moved_is_found_by_its_path(tmp_path):
    store = opened(Store(tmp_path / "results"))
    shutil.copytree(store.local, tmp_path / "elsewhere")
    assert (
        runs.find(tmp_path / "results", str(tmp_path / "elsewhere")).records == runs.find(tmp_path, store.uri).records
    )


def test_newest_is_the_one_used_last_whatever_the_files_say(tmp_path):
    older, newer = opened(Store(tmp_path), at=100.0), opened(Store(tmp_path), at=200.0)
    os.utime(older.local / FILE, (9e9, 9e9))
    os.utime(newer.local / FILE, (1, 1))
    assert runs.unfinished(tmp_path, "tiny").name == newer.name


def test_unfinished_run_of_that_experiment_is_found(place):
    opened(place, more=[FINISHED])
    assert runs.unfinished(place, "tiny") is None
    store = opened(place)
    assert runs.unfinished(place, "tiny").name == store.name
    assert runs.unfinished(place, "other") is None


def test_header_has_the_newest_spec_and_fingerprint(tmp_path):
    newer = [
        {"event": "resumed", "at": 1, "spec": {"name": "tiny", "time": 5}},
        {"event": "accepted", "at": 2, "spec": {"name": "tiny", "time": 6}, "fingerprint": "g", "changes": ["x"]},
    ]
    run = runs.find(tmp_path, opened(Store(tmp_path), more=newer).name)
    assert (run.spec["time"], run.header["fingerprint"], run.header["event"]) == (6, "g", "opened")


# Damage


@pytest.fixture
def damaged(tmp_path):
    """A sound run, and a newer one whose second line has another letter."""
    place = Store(tmp_path / "results")
    sound = opened(place, at=1.0)
    broken = opened(place, at=2.0, more=[{"event": "session", "at": 3.0}])
    broken.write(FILE, broken.read(FILE).replace(b"session", b"sessiom"))
    return place, sound, broken


def test_damaged_run_is_listed_and_stops_no_other(damaged):
    place, sound, broken = damaged
    other = opened(place, "other", at=0.0)
    fault = f"{broken.local}/{FILE}: line 2 is damaged (its checksum does not match); restore it"
    assert [(run.name, run.fault.startswith(fault)) for run in runs.every(place)] == [
        (broken.name, True),
        (sound.name, False),
        (other.name, False),
    ]
    assert runs.find(place, None).name == sound.name
    assert runs.unfinished(place, "other").name == other.name


def test_damaged_run_is_refused_by_name_and_can_be_deleted(damaged):
    place, sound, broken = damaged
    before = broken.read(FILE)
    for use in (lambda: runs.find(place, broken.name), lambda: runs.unfinished(place, "tiny")):
        with pytest.raises(LedgerError, match=f"{broken.name}/ledger.jsonl: line 2 is damaged"):
            use()
    assert broken.read(FILE) == before
    runs.delete(runs.find(place, broken.name, damaged=True))
    assert runs.unfinished(place, "tiny").name == sound.name


@pytest.mark.parametrize("content", [None, b"", b'1234 {"torn'])
def test_run_without_records_is_passed_over_unless_it_has_trials(place, content):
    store = runs.create(place, "tiny")
    if content is not None and place.local:
        store.write(FILE, content)
    assert list(runs.every(place)) == []
    store.write("trials/search-000/log.txt", b"")
    (run,) = runs.every(place)
    assert run.fault == (
        f"{store.shown}: the ledger is empty or missing, but there are trials; "
        "restore it from a copy, or start another run with --new"
    )
    with pytest.raises(LedgerError, match="the ledger is empty or missing"):
        runs.unfinished(place, "tiny")


def test_ledger_of_something_else_is_damaged(tmp_path):
    store = runs.create(tmp_path, "tiny")
    with Ledger(store) as ledger:
        ledger.append({"event": "session", "at": 1})
    with pytest.raises(LedgerError, match="the ledger does not begin with what was opened"):
        runs.find(tmp_path, store.name)


# Storage


def test_object_store_is_storage_once_it_can_be_written(bucket, s3):
    store = runs.storage(bucket)
    assert (store.shown, store.names()) == ("s3://runs/results", [])
    s3.refuses = lambda method, path: "AccessDenied" if method == "PUT" else None
    with pytest.raises(ValueError, match="storage 's3://runs/results' must be writable, but is not .*ACCESS_DENIED"):
        runs.storage(bucket)


def test_missing_bucket_is_refused(bucket):
    with pytest.raises(
        ValueError, match="storage 's3://absent/x' must be writable, but is not .*NO_SUCH_BUCKET.*; cho"
    ):
        runs.storage(bucket.replace("runs/results", "absent/x"))


def test_storage_is_results_here_or_the_home_of_a_job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert runs.storage(None).local == tmp_path / "results"
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert runs.default_storage() == str(Path.home() / "fitformer-results")
