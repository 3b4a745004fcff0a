"""The bridge and Ray's word for a loss, without a cluster: Ray's trials and actors are stand-ins."""

import json
import threading
from types import SimpleNamespace

import pytest
from ray.air.execution._internal import RayActorManager
from ray.exceptions import ActorDiedError, OutOfMemoryError, RayActorError

from experiments.engine import bridge as bridges
from experiments.engine import loss as losses
from experiments.engine.bridge import Bridge
from experiments.engine.events import Reported, Started, from_record
from experiments.engine.watch import Watch
from tests.experiments.test_director import director
from trainables.store import StorageError, Store


class Book:
    """A ledger in memory; `fault` is what the storage says to the next record."""

    def __init__(self):
        self.records, self.fault = [], None

    def append(self, record):
        if self.fault is not None:
            raise self.fault
        self.records.append(record)

    def kinds(self):
        return [(record["event"], record.get("kind", "")) for record in self.records]


class Run:
    """A bridge over the toy's director, and what it did to Ray."""

    def __init__(self, folder, monkeypatch, slots=2, **watched):
        self.clock, self.now = lambda: self.now, 0.0
        self.requests = Store(folder / "requests")
        self.watch = Watch(clock=self.clock, requests=self.requests, **watched)
        self.book, self.ended, self.dequeued, self.asked = Book(), [], [], 0
        self.slots = slots
        self.bridge = Bridge(
            director(), self.book, lambda segment: {"n": segment.number}, slots=self._slots, watch=self.watch
        )
        self.bridge.dequeue = self.dequeued.append
        monkeypatch.setattr(bridges, "end", self.ended.append)
        monkeypatch.setattr(bridges, "draining", set)
        monkeypatch.setattr(bridges, "host", lambda actor: f"host of {actor}")

    def _slots(self):
        self.asked += 1
        return self.slots

    def begin(self, name, actor=None):
        self.bridge.suggest(name)
        trial = SimpleNamespace(trial_id=name, temporary_state=SimpleNamespace(ray_actor=actor))
        self.bridge.added(trial)
        self.bridge.sweep()
        return trial

    def report(self, name, epochs, checkpoint=None):
        report = {"epochs": epochs, "metrics": {"score": 0.5}, "checkpoint": checkpoint, "node": "reported host"}
        return self.bridge.result(name, {"reported": json.dumps(report)})

    def look(self, now):
        self.now = now
        self.watch.look()
        self.watch.answer()
        self.bridge.sweep()


@pytest.fixture
def run(tmp_path, monkeypatch):
    return lambda **options: Run(tmp_path, monkeypatch, **options)


def test_silent_segment_is_ended_and_recorded_once(run):
    r = run(silence=5)
    trial = r.begin("a", actor="actor")
    assert r.report("a", 1) == "continue"
    r.look(6)
    assert r.ended == ["actor"]
    r.bridge.lost(trial)
    assert r.book.kinds() == [("started", ""), ("reported", ""), ("lost", "hung")]
    assert r.book.records[-1]["node"] == "reported host"
    assert r.report("a", 2) == "stop"


def test_end_by_the_watch_is_told_as_such_even_if_ray_is_first_to_say_it(run):
    r = run(silence=5)
    trial = r.begin("a", actor="actor")
    r.now = 6
    r.watch.look()
    r.bridge.lost(trial)
    assert r.book.kinds()[-1] == ("lost", "hung")
    assert r.book.records[-1]["node"] == "host of actor"


def test_segment_that_waits_for_resources_is_not_silent(run):
    r = run(silence=5)
    r.begin("a")
    r.look(100)
    assert r.book.kinds() == [("started", "")]


def test_cancelled_segments_end_their_process_or_their_waiting(run):
    r = run()
    r.begin("a", actor="actor")
    waiting = r.begin("b")
    for trial in (0, 1):
        r.requests.write(f"{trial}.json", json.dumps({"cancel": f"search-{trial:03d}"}).encode())
    r.requests.write("x.json", b'{"cancel": "search-007"}')
    r.look(1)
    assert (r.ended, r.dequeued) == (["actor"], [waiting])
    assert [trial.status for trial in r.bridge.director.trials.values()] == ["cancelled"] * 2
    assert r.bridge.director.in_flight == set()


def test_search_that_is_out_of_time_is_ended_beside_its_result(run):
    r = run(search_seconds=10, seconds=20)
    r.begin("a", actor="one")
    r.begin("b", actor="two")
    r.look(10)
    assert r.ended == []
    assert r.report("a", 1) == "stop"
    r.bridge.sweep()
    assert r.ended == ["two"]
    assert r.book.kinds()[-1] == ("lost", "time")
    assert r.bridge.suggest("c") == "FINISHED"
    r.look(30)
    assert [record["final"] for record in r.book.records if record["event"] == "expired"] == [False, True]


def test_loss_by_storage_comes_from_the_trial_itself(run):
    r = run()
    r.begin("a", actor="actor")
    r.report("a", 1, checkpoint="there")
    lost = {"kind": "storage", "reason": "there is damaged", "node": "a", "checkpoint": False}
    assert r.bridge.result("a", {"lost": json.dumps(lost)}) == "stop"
    assert r.bridge.director.trials["search", 0].checkpoint is None
    assert r.bridge.director.ask().start is None


def test_cluster_is_asked_for_its_slots_now_and_then(run, monkeypatch):
    r = run(slots=1)
    monkeypatch.setattr(bridges.time, "monotonic", lambda: r.now)
    r.now = 100.0
    r.begin("a")
    assert r.bridge.suggest("b") is None
    assert r.asked == 1
    r.slots, r.now = 2, 105.0
    assert r.bridge.suggest("b") == {"n": 1}
    assert r.asked == 2


def test_storage_that_fails_ends_the_loop_as_itself(run):
    r = run()
    r.begin("a")
    r.book.fault = StorageError("storage: full")
    with pytest.raises(StorageError, match="storage: full"):
        r.report("a", 1)
    assert r.bridge.fault is r.book.fault


def test_superseded_driver_stops(run):
    superseded = threading.Event()
    r = run(superseded=superseded)
    r.bridge.sweep()
    superseded.set()
    with pytest.raises(StorageError, match="another driver has taken this run over"):
        r.bridge.sweep()
    assert isinstance(r.bridge.fault, StorageError)


# What Ray says

WORDS = {
    "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker "
    "unexpectedly exits with a connection error code 2. End of file.": ("process", "its process was killed"),
    "Worker exit type: INTENDED_USER_EXIT Worker exit detail: Worker exits with an exit code 3.": (
        "process",
        "its process ended with exit code 3",
    ),
    "1 worker(s) were killed due to the node running low on memory.": (
        "memory",
        "its process was ended because the node ran out of memory",
    ),
    "The actor died because its node has died. Node Id: 1": ("node", "its node was lost"),
    "The actor 3c is unavailable: The actor is temporarily unavailable: RpcError": ("node", "its node was lost"),
    "The actor is dead because it was killed by `ray.kill`.": (
        "driver",
        "the process it was given had been ended for another trial",
    ),
}


@pytest.mark.parametrize(("words", "expected"), WORDS.items())
def test_losses_are_told_apart_by_rays_words(tmp_path, words, expected):
    (tmp_path / "error.txt").write_text(f"Failure # 1 (occurred at 2026-01-01)\n{words}\n")
    trial = SimpleNamespace(run_metadata=SimpleNamespace(num_failures=1), error_file=str(tmp_path / "error.txt"))
    assert losses.loss(trial, None, ()) == expected


def test_what_ray_does_not_count_was_announced():
    trial = SimpleNamespace(run_metadata=SimpleNamespace(num_failures=0), error_file=None)
    assert losses.loss(trial, None, ())[0] == "preempted"


@pytest.mark.parametrize(("announced", "kind"), [({"n1"}, "preempted"), ({"n2"}, "process"), (set(), "process")])
def test_node_that_was_announced_to_go_is_known_before_ray_counts(monkeypatch, announced, kind):
    trial = SimpleNamespace(run_metadata=SimpleNamespace(num_failures=1), error_file=None)
    monkeypatch.setattr(losses, "_node", lambda actor: "n1")
    assert losses.loss(trial, "actor", announced)[0] == kind


def test_announcement_is_remembered(run, monkeypatch):
    r = run()
    trial = r.begin("a", actor="actor")
    trial.run_metadata, trial.error_file = SimpleNamespace(num_failures=1), None
    monkeypatch.setattr(losses, "_node", lambda actor: "n1")
    for second, nodes in ((1e9, {"n1"}), (2e9, set())):
        monkeypatch.setattr(bridges.time, "monotonic", lambda second=second: second)
        monkeypatch.setattr(bridges, "draining", lambda nodes=nodes: nodes)
        r.bridge.sweep()
    r.bridge.lost(trial)
    assert r.book.kinds()[-1] == ("lost", "preempted")


@pytest.mark.parametrize(
    ("error", "passed"), [(OutOfMemoryError("low on memory"), RayActorError), (ActorDiedError(), ActorDiedError)]
)
def test_errors_unknown_to_tune_are_the_loss_of_an_actor(monkeypatch, error, passed):
    got = []
    monkeypatch.setattr(RayActorManager, "_actor_task_failed", lambda *arguments: got.append(arguments[2]))
    losses.survive_losses()
    losses.survive_losses()
    RayActorManager._actor_task_failed(None, tracked_actor_task="task", exception=error)
    assert [type(one) for one in got] == [passed]
    assert str(error) in str(got[0])


def test_records_of_a_run_are_events(run):
    r = run()
    r.begin("a")
    r.report("a", 1)
    assert [type(from_record(record)) for record in r.book.records] == [Started, Reported]
