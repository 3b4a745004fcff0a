"""`SegmentTrainable` in this process: what it reports, and what becomes of checkpoints."""

import errno
import json

import pytest

from trainables import manifest
from trainables.adapter import SegmentTrainable
from trainables.routine import Infeasible, Workspace
from trainables.store import StorageError, Store

ROUTINE = """
import json
from pydantic import BaseModel

class Config(BaseModel):
    seed: int = 0
    raises: str = ""
    taken: list[dict[str, str]] = []

class Count:
    Config = Config

    def __init__(self, config, workspace):
        self.config, self.epochs = config, 0
        for each in config.taken:
            self.epochs += json.loads(open(each["folder"] + "/state.json").read())
            if self.epochs > 2:
                raise ValueError(each["name"] + " tells other labels\\nreads too little")

    def advance(self):
        if self.config.raises:
            exec(self.config.raises)
        self.epochs += 1
        return {"epochs": self.epochs}

    def save(self, folder):
        (folder / "state.json").write_text(json.dumps(self.epochs))
        (folder / "weights.bin").write_bytes(bytes(1000))

    def load(self, folder):
        self.epochs = json.loads((folder / "state.json").read_text())
"""


@pytest.fixture
def job(tmp_path):
    (tmp_path / "count.py").write_text(ROUTINE)
    return {
        "segment": {"number": 3, "id": "search-001", "epochs": 4, "start": None},
        "routine": f"{tmp_path / 'count.py'}:Count",
        "values": {"seed": 1},
        "store": str(tmp_path / "run"),
        "inputs": {},
        "checkpoints": True,
        "resources": {"cpu": 1, "gpu": 0},
    }


def started(job):
    made = SegmentTrainable.__new__(SegmentTrainable)
    made._iteration = 0
    made.setup(job)
    return made


def step(trainable):
    ((name, text),) = trainable.step().items()
    return name, json.loads(text)


def goes_on(job, path):
    return started({**job, "segment": {**job["segment"], "number": 4, "start": {"path": path}}})


@pytest.fixture(params=["disk", "bucket"])
def place(request, job):
    if request.param == "bucket":
        job["store"] = request.getfixturevalue("bucket")
    return Store(job["store"])


def test_checkpoint_is_taken_up_wherever_the_run_lies(job, place):
    first = started(job)
    name, report = step(first)
    assert (name, report["epochs"], report["checkpoint"]) == ("reported", 1, "trials/search-001/00003/1")
    assert report["size"] > 1000
    assert report["node"]
    assert {"state.json", "weights.bin", manifest.NAME} <= {path.split("/")[-1] for path in place.names("trials")}
    second = goes_on(job, report["checkpoint"])
    assert step(second)[1]["epochs"] == 2
    assert any("log" in name for name in place.names("trials"))
    first.cleanup()
    second.cleanup()


def test_reference_is_the_checkpoint_that_it_stands_for_wherever_the_run_lies(job, place):
    first = started(job)
    path = step(first)[1]["checkpoint"]
    taken = [{"name": "student", "folder": "stages.student.1"}, {"name": "stages.x", "folder": "stages.student.1"}]
    second = started({**job, "values": {"taken": taken}, "references": {"stages.student.1": path}})
    assert step(second)[1]["epochs"] == 3  # one of each, and its own
    third = started({**job, "values": {"taken": taken * 2}, "references": {"stages.student.1": path}})
    name, failure = step(third)
    assert (name, failure["kind"]) == ("failed", "infeasible")
    assert failure["reason"] == "Infeasible: student tells other labels"
    gone = started({**job, "values": {"taken": taken}, "references": {"stages.student.1": "trials/search-009/1/1"}})
    name, lost = step(gone)
    assert (name, lost["kind"]) == ("lost", "storage")
    assert "trials/search-009/1/1 is missing" in lost["reason"]
    for each in (first, second, third, gone):
        each.cleanup()


def test_what_the_next_segment_wants_too_is_fetched_once(job, bucket, monkeypatch):
    job["store"] = bucket
    path = step(started(job))[1]["checkpoint"]
    fetched = []
    get = Store.get
    monkeypatch.setattr(Store, "get", lambda store, name: fetched.append(name) or get(store, name))
    values = {"taken": [{"name": "student", "folder": "stages.student.1"}]}
    again = started({**job, "values": values, "references": {"stages.student.1": path}})
    assert step(again)[1]["epochs"] == 2
    again.reset_config({**job, "values": values, "references": {"stages.student.1": path}})
    assert step(again)[1]["epochs"] == 2
    assert fetched == [path]
    (room,) = (folder.parent for folder in again._handed._fetched.values())
    again.reset_config({**job, "references": {}})
    assert step(again)[1]["epochs"] == 1
    assert not list(room.glob("*"))
    again.cleanup()
    assert not room.exists()


def test_what_a_routine_publishes_lies_in_the_runs_folder(job, place, tmp_path):
    folder = place.local or tmp_path / "scratch"
    here = Workspace(tmp_path, folder, store=None if place.local else place)
    (folder / "artifacts" / "a").mkdir(parents=True)
    (folder / "artifacts" / "a" / "card.md").write_text("whole")
    manifest.write(folder / "artifacts" / "a")
    here.publish("artifacts/a")
    assert place.read("artifacts/a/card.md") == b"whole"
    assert (here.fetch("artifacts/a") / "card.md").read_text() == "whole"
    with pytest.raises(manifest.Damaged, match="artifacts/b"):
        here.fetch("artifacts/b")


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone", "manifest", "everything"])
def test_damaged_checkpoint_is_the_storages_fault(job, damage):
    report = step(started(job))[1]
    folder = Store(job["store"]).local / report["checkpoint"]
    weights = folder / "weights.bin"
    match damage:
        case "flipped":
            weights.write_bytes(b"\1" + bytes(999))
        case "cut":
            weights.write_bytes(bytes(999))
        case "gone":
            weights.unlink()
        case "manifest":
            (folder / manifest.NAME).write_text("[]")
        case "everything":
            Store(job["store"]).delete(report["checkpoint"])
    name, lost = step(goes_on(job, report["checkpoint"]))
    assert (name, lost["kind"], lost["checkpoint"]) == ("lost", "storage", False)
    assert "search-001/00003/1" in lost["reason"]


@pytest.mark.parametrize(
    ("raises", "kind", "reason"),
    [
        ("raise KeyError('no such column')", "error", "KeyError: 'no such column'"),
        ("raise SystemExit(3)", "error", "SystemExit: 3"),
        ("raise MemoryError('too large')", "infeasible", "MemoryError: too large"),
        ("raise RuntimeError(\"DefaultCPUAllocator: can't allocate memory\")", "infeasible", "RuntimeError: Default"),
        ("class OutOfMemoryError(RuntimeError): pass\nraise OutOfMemoryError('CUDA')", "infeasible", "Out"),
        (f"import {Infeasible.__module__} as r\nraise r.Infeasible('12 heads')", "infeasible", "Infeasible: 12"),
        ("raise OSError(2, 'No such file')", "error", "FileNotFoundError"),
    ],
)  # fmt: skip
def test_exception_is_a_result_of_its_class(job, raises, kind, reason):
    name, failed = step(started({**job, "values": {"raises": raises}}))
    assert (name, failed["kind"]) == ("failed", kind)
    assert failed["reason"].startswith(reason)
    assert "in advance" in failed["trace"]
    assert failed["node"]
    log = Store(job["store"]).read("trials/search-001/log.txt").decode()
    assert failed["reason"].split(":")[0] in log


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_full_or_broken_disk_is_not_the_routines_fault(job, number):
    name, lost = step(started({**job, "values": {"raises": f"raise OSError({number}, 'disk')"}}))
    assert (name, lost["kind"], lost["checkpoint"]) == ("lost", "storage", True)


def test_storage_that_takes_no_checkpoint_loses_the_segment_not_the_trial(job, monkeypatch):
    def refuse(*_):
        raise StorageError("storage: s3://runs/x could not be written (500); see to it")

    monkeypatch.setattr(Store, "put", refuse)
    name, lost = step(started(job))
    assert (name, lost["kind"], lost["checkpoint"]) == ("lost", "storage", True)
    assert lost["reason"].startswith("storage: s3://runs/x could not be written")


def test_metric_that_is_no_json_is_an_error_of_the_routine(job):
    job["values"] = {"raises": "import numpy\nself.epochs = numpy.float32(1)"}
    name, failed = step(started(job))
    assert (name, failed["kind"]) == ("failed", "error")
    assert "TypeError" in failed["reason"]


def test_scratch_goes_with_the_segment(job):
    trainable = started({**job, "checkpoints": False})
    step(trainable)
    before = trainable._scratch
    trainable.reset_config(job)
    assert not before.exists()
    trainable.cleanup()
    assert not trainable._scratch.exists()
