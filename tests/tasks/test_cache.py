import json
import os
import threading
import time

import pytest

from tasks import cache


@pytest.fixture
def settled(tmp_path):
    """A file that was written a while ago."""
    path = tmp_path / "data.csv"
    path.write_text("one")
    age(path, 100)
    return path


def age(path, seconds):
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_a_remembered_file_is_not_read_again(settled, tmp_path):
    folder = tmp_path / "cache"
    first = cache.digest(settled, folder)
    cache.remember({settled: first}, folder)
    stat = settled.stat()
    settled.write_text("two")  # content without a trace: only memory can answer "one"
    os.utime(settled, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert cache.digest(settled, folder) == first


@pytest.mark.parametrize("change", ["other", "two"])
def test_a_changed_file_is(settled, tmp_path, change):
    folder = tmp_path / "cache"
    first = cache.digest(settled, folder)
    cache.remember({settled: first}, folder)
    settled.write_text(change)
    assert cache.digest(settled, folder) != first


def test_a_young_file_is_not_remembered(tmp_path):
    """Its time may stay the same through the next change."""
    path = tmp_path / "data.csv"
    path.write_text("one")
    cache.remember({path: cache.digest(path, tmp_path / "cache")}, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_digesting_writes_nothing(settled, tmp_path):
    cache.digest(settled, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_broken_memory_is_no_memory(settled, tmp_path):
    folder = tmp_path / "cache"
    first = cache.digest(settled, folder)
    cache.remember({settled: first}, folder)
    for memory in (folder / "hashes").iterdir():
        memory.write_text("{")
    assert cache.digest(settled, folder) == first


def test_fingerprints_differ_with_every_part():
    parts = {"a": 1, "b": [1, 2]}
    assert cache.fingerprint(parts) == cache.fingerprint({"b": [1, 2], "a": 1})
    assert len({cache.fingerprint(x) for x in (parts, parts | {"a": 2}, parts | {"c": None})}) == 3


def test_a_failed_build_leaves_nothing(tmp_path):
    def build(folder):
        (folder / "half").write_text("x")
        raise KeyError("stop")

    with pytest.raises(KeyError):
        cache.stored(tmp_path / "made", build)
    assert list(tmp_path.iterdir()) == []


def test_builders_at_once_agree(tmp_path):
    """All build, since none sees the folder; one wins, and all get a whole one."""
    barrier, seen = threading.Barrier(4), []

    def build(folder):
        barrier.wait()
        (folder / "record.json").write_text(json.dumps([1]))

    def prepare():
        seen.append((cache.stored(tmp_path / "made", build) / "record.json").read_text())

    threads = [threading.Thread(target=prepare) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == ["[1]"] * 4
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_what_is_there_is_not_built_again(tmp_path):
    (tmp_path / "made").mkdir()
    assert cache.stored(tmp_path / "made", lambda folder: pytest.fail("built")) == tmp_path / "made"
