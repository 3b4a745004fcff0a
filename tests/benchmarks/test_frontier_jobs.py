"""Many trainings at once: what is finished is not done again, what fails says why, and the others go on."""

import json
import subprocess
import sys
import time

import psutil
import pytest

from benchmarks import frontier_jobs
from benchmarks.frontier_jobs import Job, check, done, lines, main, read, run
from tests.trainables.teaching import SHAPE, text_task


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    monkeypatch.setenv("FITFORMER_CACHE", str(tmp_path / "cache"))
    shared = {"task": text_task(tmp_path, n=60), "precision": "fp32", "epochs": 1}
    return [
        Job(name="teacher", routine="train", config={**SHAPE, **shared}, save=True),
        Job(
            name="large",
            routine="distill",
            config={**shared, "teacher": "jobs.teacher", "student": "slices", "n_layers": 9},
        ),
        Job(
            name="small",
            routine="distill",
            config={**shared, "teacher": "jobs.teacher", "student": "slices", "n_layers": 2},
            test=True,
        ),
        Job(name="after", routine="train", config={**SHAPE, **shared}, after=("large",)),
    ]


@pytest.mark.slow
def test_jobs_wait_for_each_other_and_are_not_done_twice(jobs, tmp_path):
    out = tmp_path / "out"
    assert run(jobs, out, processes=1, device="cpu") == ["large", "after"]
    found = done(out)
    assert set(found) == {"teacher", "small"}
    assert 0 <= found["small"]["test_accuracy"] <= 1
    assert found["small"]["training_flops"] > 3 * 48 * found["small"]["flops"] / 2
    first, second = [line for line in lines(out) if "error" in line]
    assert second == {"name": "after", "error": "it needs large, which failed"}
    assert first == {"name": "large", "error": "Infeasible: n_layers is 9, must be at most the teacher's 4; lower it"}
    before = (out / frontier_jobs.LOG).read_bytes()
    assert run([jobs[0], jobs[2]], out, processes=1, device="cpu") == []
    assert (out / frontier_jobs.LOG).read_bytes() == before


def test_a_job_that_runs_when_the_time_is_up_is_ended_and_told(jobs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(frontier_jobs, "_PAUSE_S", 0.05)
    path = tmp_path / "jobs.json"
    jobs[0].config["epochs"] = 100_000
    path.write_text(json.dumps([job.model_dump() for job in jobs]))
    assert main([str(path), "--out", str(tmp_path / "out"), "--seconds", "0.5"]) == 1
    told = [line for line in lines(tmp_path / "out") if "train_loss" not in line]
    assert told == [{"name": "teacher", "error": "it ran when the time was up"}]
    assert capsys.readouterr().out.splitlines() == [
        "0 of 4 jobs are done",
        "not done: teacher (it ran when the time was up)",
        *(f"not done: {name} (it did not begin)" for name in ("large", "small", "after")),
    ]


def test_a_line_cut_short_hides_no_other(tmp_path):
    (tmp_path / "jobs.jsonl").write_text('{"name": "a", "done": true, "epochs": 2}\n{"name": "b", "do')
    assert run([Job(name="a", routine="train", config={})], tmp_path, processes=1, device="cpu") == []
    frontier_jobs._say(tmp_path, {"name": "c", "done": True})
    assert set(done(tmp_path)) == {"a", "c"}


ENDLESS = """
import os, pathlib, time
from pydantic import BaseModel
class Endless:
    class Config(BaseModel):
        place: str
    def __init__(self, config, workspace):
        self.place = pathlib.Path(config.place)
    def advance(self):
        self.place.write_text(str(os.getpid()))
        time.sleep(60)
"""


@pytest.mark.slow
def test_a_job_ends_with_a_killed_parent(tmp_path):
    (tmp_path / "endless.py").write_text(ENDLESS)
    place = tmp_path / "pid"
    job = {"name": "a", "routine": f"{tmp_path}/endless.py:Endless", "config": {"place": str(place)}}
    (tmp_path / "jobs.json").write_text(json.dumps([job]))
    command = [sys.executable, "-m", "benchmarks.frontier_jobs", str(tmp_path / "jobs.json"), "--out", str(tmp_path)]
    parent = subprocess.Popen(command)
    try:
        wait(lambda: place.exists() and place.read_text())
    finally:
        parent.kill()
        parent.wait()
    wait(lambda: not psutil.pid_exists(int(place.read_text())))


def wait(done):
    end = time.monotonic() + 20
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("jobs", "said"),
    [
        ([("a", {}), ("a", {})], "job 'a' is there 2 times, must be once; rename one"),
        (
            [("a", {"after": ["b"]}), ("b", {})],
            "job 'a' needs 'b', which must come before it in the list; add or move it",
        ),
        ([("a", {"after": ["z"]})], "job 'a' needs 'z', which must come before it in the list; add or move it"),
        (
            [("a", {}), ("b", {"config": {"x": ["jobs.a"]}})],
            "job 'b' takes 'a', which must be saved; add save: true to it",
        ),
    ],
)
def test_jobs_that_make_no_sense_are_refused(jobs, said):
    with pytest.raises(ValueError) as fault:
        check([Job(**{"name": name, "routine": "train", "config": {}, **more}) for name, more in jobs])
    assert str(fault.value) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read (No such file or directory); give a file with a list of jobs"),
        ('[{"name": "../a", "routine": "train", "config": {}}]', "0.name: String should match pattern"),
        ('{"name": 1}', "the file: Input should be a valid"),
    ],
)
def test_a_file_that_is_no_list_of_jobs_is_refused(tmp_path, text, said, capsys):
    path = tmp_path / "jobs.json"
    if text:
        path.write_text(text)
    with pytest.raises(ValueError, match="jobs.json") as fault:
        read(path)
    assert said in str(fault.value)
    assert main([str(path), "--out", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()
