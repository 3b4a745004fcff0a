"""What the recorded benchmark trains: the default and random search's draws, on three tasks, in parts."""

import json

import numpy as np
import pytest

import searchspaces
from benchmarks import frontier_jobs, recorded
from experiments.engine.strategies.random import Random
from tasks.image_classification import ImageConfig
from trainables import routine
from trainables.parsing import parse


def test_the_points_are_the_default_and_random_searchs_own_draws():
    space = searchspaces.load("joint")
    points = recorded.points(60)
    random = Random(Random.Config(), space, recorded.SEED)
    assert points == [space.default(), *(random.propose(trial, 0) for trial in range(1, 60))]
    assert len({json.dumps(point, sort_keys=True) for point in points}) == 60
    assert all("mixup" not in point and "temperature" not in point for point in points if point["soft_weight"] == 0)
    assert sum("temperature" in point for point in points) > 30


def test_turned_images_of_one_split_are_of_no_other(tmp_path):
    path = recorded._turned(tmp_path / "turned.npz", 10, 5)
    found = np.load(path)
    assert dict(zip(*np.unique(found["split"], return_counts=True), strict=True)) == {
        "train": 40,
        "validation": 20,
        "test": 20,
    }
    images, labels = found["images"].reshape(4, 20, 8, 8), found["labels"].reshape(4, 20)
    assert (labels[1] == "90 degrees").all()
    np.testing.assert_array_equal(images[1, 3], np.rot90(images[0, 3]))
    assert (found["split"].reshape(4, 20) == found["split"][:20]).all()
    assert ImageConfig(data=str(path)).data == str(path)


def test_every_job_makes_a_config_of_its_routine_and_a_part_has_all_tasks(tmp_path):
    size = recorded.Size(configurations=5, part=2)
    given = recorded.tasks(size, tmp_path)
    parts = list(recorded.jobs(size, given, tmp_path))
    assert [place.name for place, _ in parts] == ["part-00", "part-01", "part-02"]
    assert [job.name for job in parts[2][1]] == ["glosses-004", "digits-004", "turned-004"]
    every = [*recorded.teachers(size, given), *(job for _, part in parts for job in part)]
    frontier_jobs.check(recorded.teachers(size, given))
    for job in every:
        config = parse(routine.load(job.routine).Config, job.config)
        assert (config.epochs, config.report_every) == (size.teacher_epochs if job.save else 27, 1)
    assert {job.config.get("patch") for job in parts[0][1]} == {None, 2}
    assert parts[0][1][0].config["teacher"] == str(tmp_path / "teachers" / "glosses")


def test_what_is_there_is_not_trained_again(tmp_path):
    size = recorded.Size(configurations=5, part=2)
    parts = recorded.jobs(size, recorded.tasks(size, tmp_path), tmp_path, there={0, 1, 4})
    assert [[job.name for job in part] for _, part in parts] == [
        [],
        [f"{name}-00{number}" for number in (2, 3) for name in ("glosses", "digits", "turned")],
        [],
    ]


def test_students_wait_for_their_teachers(tmp_path, monkeypatch):
    asked = []

    def run(jobs, folder, **_):
        asked.append(folder.name)
        return ["digits"] if folder.name == "teachers" else []

    monkeypatch.setattr(frontier_jobs, "run", run)
    assert recorded.run(recorded.SMOKE, tmp_path, processes=1, seconds=9) == ["digits"]
    assert asked == ["teachers"]


def test_the_estimate_counts_operations_and_steps(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FITFORMER_CACHE", str(tmp_path / "cache"))
    assert recorded.main(["count", "--smoke", "--out", str(tmp_path)]) == 0
    glosses, digits, turned, total = capsys.readouterr().out.splitlines()
    assert glosses.startswith("glosses: 200 + 60 examples, ")
    assert turned.startswith("turned: 40 + 20 examples, ")
    steps = sum(2 * 40 / point["batch_size"] for point in recorded.points(3))
    assert f" {steps:.2e} steps" in turned
    assert "guesses" in total
    assert digits


@pytest.mark.faults
@pytest.mark.timeout(200)
def test_a_small_one_is_trained_and_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FITFORMER_CACHE", str(tmp_path / "cache"))
    for what in ("run", "run", "table"):
        assert recorded.main([what, "--smoke", "--processes", "1", "--out", str(tmp_path / "out")]) == 0
    assert "3 of 3 configurations on 3 tasks" in capsys.readouterr().out
