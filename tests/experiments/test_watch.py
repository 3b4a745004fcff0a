import json
import signal
import threading
import time

import pytest

from experiments.engine.events import Expired, Lost
from experiments.engine.watch import Cancel, Watch
from trainables.store import StorageError, Store


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def ended():
    return []


def at(watch, clock, now):
    clock.now = now
    watch.look()
    watch.answer()
    return list(watch.news())


def test_segment_that_reports_nothing_is_ended_and_told_once(clock, ended):
    watch = Watch(silence=5, clock=clock)
    watch.runs(7, lambda: ended.append(7))
    assert at(watch, clock, 105.0) == []
    assert at(watch, clock, 105.5) == [Lost(7, "hung", "no report for 5 s")]
    assert at(watch, clock, 200.0) == []
    assert ended == [7]


def test_each_report_begins_the_silence_anew(clock, ended):
    watch = Watch(silence=5, clock=clock)
    watch.runs(7, lambda: ended.append(7))
    clock.now = 104.0
    watch.heard(7)
    watch.runs(7, lambda: ended.append("again"))
    assert at(watch, clock, 109.0) == []
    assert len(at(watch, clock, 109.5)) == 1
    assert ended == [7]


def test_segments_that_are_over_or_wait_for_resources_are_let_be(clock, ended):
    watch = Watch(silence=5, clock=clock)
    watch.runs(7, lambda: ended.append(7))
    watch.left(7)
    watch.heard(8)
    assert at(watch, clock, 200.0) == []
    assert ended == []


def test_without_a_limit_silence_is_golden(clock, ended):
    watch = Watch(clock=clock)
    watch.runs(7, lambda: ended.append(7))
    assert at(watch, clock, 1e9) == []


def test_segment_can_be_ended_by_order(clock, ended):
    watch = Watch(clock=clock)
    watch.runs(7, lambda: ended.append(7))
    watch.end(7)
    watch.end(7)
    assert ended == [7]


def test_both_deadlines_are_told_once(clock):
    watch = Watch(search_seconds=8, seconds=10, clock=clock)
    assert at(watch, clock, 107.9) == []
    assert at(watch, clock, 108.0) == [Expired("the time budget was used up", final=False)]
    assert at(watch, clock, 111.0) == [Expired("the time budget was used up", final=True)]
    assert at(watch, clock, 200.0) == []


def test_deadline_that_earlier_sessions_used_up_is_over_at_once(clock):
    watch = Watch(search_seconds=-3, seconds=-1, clock=clock)
    assert [event.final for event in at(watch, clock, 100.0)] == [False, True]


def test_request_is_taken_once(clock, tmp_path):
    requests = Store(tmp_path / "requests")
    requests.write("a.json", json.dumps({"cancel": "search-003"}).encode())
    watch = Watch(requests=requests, clock=clock)
    assert at(watch, clock, 100.0) == [Cancel("search-003")]
    assert requests.names() == []
    assert at(watch, clock, 101.0) == []


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"3", b"{}", b'{"cancel": 3}', b"\xff\xfe", b'{"cancel": []}'])
def test_request_without_sense_does_nothing(clock, tmp_path, text):
    requests = Store(tmp_path / "requests")
    requests.write("a.json", text)
    assert at(Watch(requests=requests, clock=clock), clock, 100.0) == []


def test_request_for_the_whole_run_is_a_signal_to_this_process(clock, tmp_path):
    requests = Store(tmp_path / "requests")
    requests.write("a.json", b'{"cancel": null}')
    got = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: got.append((number, requests.names())))
    try:
        Watch(requests=requests, clock=clock).answer()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert got == [(signal.SIGTERM, [])]


def test_storage_that_fails_for_a_moment_is_looked_at_again(clock, tmp_path, monkeypatch):
    requests = Store(tmp_path / "requests")
    requests.write("a.json", json.dumps({"cancel": "search-003"}).encode())
    watch = Watch(requests=requests, clock=clock)
    with monkeypatch.context() as broken:
        broken.setattr(Store, "read", lambda *_: (_ for _ in ()).throw(StorageError("storage: gone")))
        assert at(watch, clock, 100.0) == []
    assert at(watch, clock, 101.0) == [Cancel("search-003")]


def test_superseded_follows_the_lease():
    lost = threading.Event()
    watch = Watch(superseded=lost)
    assert not watch.superseded
    lost.set()
    assert watch.superseded


def test_watch_looks_by_itself():
    ended = threading.Event()
    with Watch(silence=0.1) as watch:
        watch.runs(1, ended.set)
        assert ended.wait(10)
        until = time.monotonic() + 10
        while not (news := list(watch.news())):
            assert time.monotonic() < until
    assert [event.kind for event in news] == ["hung"]
