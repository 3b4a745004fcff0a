"""Closed forms have the best point they say; of a table only recorded points are played, each once."""

import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from ConfigSpace import ConfigurationSpace, EqualsCondition
from ConfigSpace.hyperparameters import CategoricalHyperparameter, OrdinalHyperparameter, UniformFloatHyperparameter
from pyarrow import parquet

from benchmarks import recorded, recorded_table, surfaces
from benchmarks.surfaces import ACCURACY, LATENCY, OPTIMUM, Nearest, OnlyRecorded, Shuffled, Surface, closed
from experiments.engine.outcome import Outcome
from experiments.engine.simulator import Curve
from experiments.engine.strategies.random import Random
from searchspaces import Space


@pytest.mark.parametrize("name", surfaces.names())
def test_no_point_is_better_than_the_optimum(name):
    surface = closed(name)
    ends = [surface.curve(surface.space.draw(0, index)).metrics(27)[ACCURACY] for index in range(300)]
    near = [surface.curve(point).metrics(27)[ACCURACY] for point in surface.space.neighbours(OPTIMUM, 0, 0)]
    assert surface.curve(OPTIMUM).metrics(27)[ACCURACY] == surface.best
    assert max(*ends, *near) < surface.best < 0.9
    assert surface.default < surface.target < surface.best


def test_what_ends_high_begins_slowly_on_crossing_alone():
    poor = {**OPTIMUM, "learning_rate": 1e-2}
    for name, crosses in (("crossing", True), ("ridge", False)):
        curve = closed(name).curve
        early, late = (curve(poor).metrics(n)[ACCURACY] > curve(OPTIMUM).metrics(n)[ACCURACY] for n in (1, 27))
        assert (early, late) == (crosses, False)


def test_a_teacher_harms_at_the_default_temperature_and_helps_at_the_right_one():
    curve = closed("branches").curve
    labels = {name: value for name, value in OPTIMUM.items() if name not in ("temperature", "soft_weight")}
    heights = [
        curve(point).metrics(27)[ACCURACY]
        for point in ({**OPTIMUM, "temperature": 1.0}, {**labels, "teaching": "labels"}, OPTIMUM)
    ]
    assert heights == sorted(heights)
    assert len(set(heights)) == 3


def test_an_unknown_surface_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="no surface 'rigde'; there are: ridge, crossing, branches"):
        closed("rigde")


@pytest.fixture
def space():
    declared = ConfigurationSpace()
    kind = CategoricalHyperparameter("kind", ("a", "b", "c"), default_value="a")
    slope = UniformFloatHyperparameter("slope", 0.0, 10.0, default_value=5.0)
    declared.add(kind, OrdinalHyperparameter("width", (8, 16, 32), default_value=8), slope)
    declared.add(EqualsCondition(slope, kind, "b"))
    return Space(declared, "small")


POINTS = (
    {"kind": "a", "width": 8},
    {"kind": "a", "width": 32},
    {"kind": "b", "width": 8, "slope": 1.0},
    {"kind": "b", "width": 8, "slope": 9.0},
    {"kind": "c", "width": 16},
)


def test_the_nearest_point_by_gowers_distance(space):
    nearest = Nearest(space, POINTS)
    wish = {"kind": "b", "width": 16, "slope": 4.0}
    # By hand: another kind 1, width half a range a step, slope a tenth a unit and 1 where only one has it.
    np.testing.assert_allclose(nearest._distances(nearest._row(wish)), [2.5, 2.5, 0.8, 1.0, 2.0])
    assert nearest(wish, set()) == POINTS[2]
    assert nearest(wish, {2}) == POINTS[3]
    assert nearest(wish, {2, 3}) == POINTS[4]
    assert nearest(wish, {2, 3, 4}) == POINTS[0]
    assert nearest(wish, set(range(5))) is None


def test_a_searcher_is_told_of_the_point_that_was_run_and_ends_when_all_were(space):
    told = []

    class Listening(Random):
        def started(self, trial, config):
            told.append(config)

        def observed(self, trial, config, epochs, outcome):
            told.append((config, epochs, outcome))

    searcher, run = OnlyRecorded(Listening(Random.Config(), space, 0), Nearest(space, POINTS)), []
    while (point := searcher.propose(len(run), 0)) is not None:
        assert searcher.propose(len(run), 0) == point
        searcher.started(len(run), point)
        run.append(point)
    searcher.observed(0, run[0], 1.0, Outcome((0.5,)))
    assert sorted(run, key=str) == sorted(POINTS, key=str)
    assert told == [*run, (run[0], 1.0, Outcome((0.5,)))]


def test_random_search_of_a_table_draws_each_point_once():
    drawn = Shuffled(POINTS)
    orders = [[drawn.draw(seed, index) for index in range(5)] for seed in range(20)]
    assert all(sorted(order, key=str) == sorted(POINTS, key=str) for order in orders)
    assert len({json.dumps(order) for order in orders}) > 10
    assert orders[3] == [Shuffled(POINTS).draw(3, index) for index in range(5)]


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Written of logs as trainings leave them: number 2 failed on the digits."""
    size = recorded.Size(configurations=4, epochs=2, part=3)
    monkeypatch.setattr(recorded_table, "_latencies", lambda task, points: [0.1 * (1 + n) for n in range(len(points))])
    given = {name: {"name": "text_classification"} for name in ("glosses", "digits")}
    monkeypatch.setattr(recorded, "tasks", lambda *_: given)
    monkeypatch.setattr(recorded_table, "prepare", lambda task, cache: task)
    monkeypatch.setattr(recorded_table, "features", lambda data: {"examples": float(len(data["name"]))})
    for place, jobs in recorded.jobs(size, given, tmp_path):
        place.mkdir()
        lines = [line for job in jobs for line in logged(job.name, job.name != "digits-002")]
        (place / "jobs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    said = recorded_table.write(size, tmp_path, tmp_path)
    assert said == f"3 of 4 configurations on 2 tasks, 12 rows: {tmp_path / 'recorded.parquet'}"
    return tmp_path / "recorded.parquet"


def logged(name, whole):
    number, costs = int(name[-1]), {"params": 10, "flops": 20, "size_mb": 0.5, "training_flops": 60}
    yield {"name": name, "epochs": 1.0, "val_accuracy": 0.9, "seconds": 1.0, **costs}  # of an attempt that was ended
    yield {"name": name, "error": "it ran when the time was up"}
    for epoch in (1.0, 2.0) if whole else (1.0,):
        accuracy = 0.1 * number + 0.01 * epoch
        yield {"name": name, "epochs": epoch, "val_accuracy": accuracy, "seconds": 3 * epoch, **costs}
    yield {"name": name, "done": True} if whole else {"name": name, "error": "train_loss is not finite in epoch 2"}


def test_a_table_plays_what_was_recorded(table):
    found = surfaces.recorded(table)
    assert list(found) == ["glosses", "digits"]
    surface, points = found["glosses"], recorded.points(4)
    assert surface.points == (points[0], points[1], points[3])
    assert surface.epochs == 2
    assert surface.features == {"examples": 19.0}
    course = surface.curve(points[3])
    assert course.seconds == 3.0
    metrics = course.metrics(2)
    assert (metrics[ACCURACY], metrics[LATENCY], metrics["params"]) == (pytest.approx(0.32), pytest.approx(0.3), 10)
    assert (surface.default, surface.best) == (pytest.approx(0.02), pytest.approx(0.32))
    assert surface.target == pytest.approx(0.02 + 0.99 * 0.3)
    with pytest.raises(ValueError, match="was not recorded; propose points of the table alone"):
        surface.curve(points[2])
    card = (table.parent / "recorded.md").read_text()
    assert "3 of 4 configurations" in card
    assert "- digits: validation accuracy after 2 epochs 0.020 to 0.320, default 0.020" in card


def test_a_table_goes_on_with_what_it_lacks(table, monkeypatch):
    size = recorded.Size(configurations=4, epochs=2, part=3)
    before = recorded_table.load(table)[1]
    logs = table.parent / "part-00" / "jobs.jsonl"
    logs.unlink()
    (table.parent / "part-01" / "jobs.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for task in ("glosses", "digits") for line in logged(f"{task}-002", True))
    )
    [first] = recorded_table.published(size, table.parent)[0]["made"]
    assert {row["configuration"] for row in recorded_table.published(size, table.parent)[1]} == {0, 1, 3}
    monkeypatch.setattr(recorded_table, "_made", lambda: "commit b on another machine")
    assert recorded_table.write(size, table.parent, table.parent).startswith(
        "4 of 4 configurations on 2 tasks, 16 rows"
    )
    card = (table.parent / "recorded.md").read_text()
    assert "4 of 4 configurations, each" in card
    assert f"by the last:\n\n- {first}\n- commit b on another machine\n" in card
    after = recorded_table.load(table)[1]
    keys = [(row["task"], row["configuration"], row["epoch"]) for row in after]
    order = {"glosses": 0, "digits": 1}
    assert keys == sorted(keys, key=lambda key: (order[key[0]], *key[1:]))
    apart = [
        {name: value for name, value in row.items() if name != "latency_ms"}
        for row in after
        if row["configuration"] != 2
    ]
    assert apart == [{name: value for name, value in row.items() if name != "latency_ms"} for row in before]
    with pytest.raises(
        ValueError, match=r"was recorded with size .*'epochs': 2.*, must be .*'epochs': 3.*; move it away"
    ):
        recorded_table.published(recorded.Size(configurations=4, epochs=3, part=3), table.parent)


def test_another_parquet_file_is_refused(tmp_path):
    parquet.write_table(pa.table({"task": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(ValueError, match=r"other\.parquet is no recorded benchmark; write one with"):
        recorded_table.load(tmp_path / "other.parquet")


def test_what_a_search_is_up_against_by_hand():
    """Three points of two epochs: 0 is the default, 1 is last after the first epoch and best in the end."""
    heights = {0: (0.5, 0.5), 1: (0.1, 0.9), 2: (0.6, 0.7)}

    def curve(point):
        return Curve(lambda epoch: {ACCURACY: heights[point["number"]][epoch - 1]})

    points, space = tuple({"number": number} for number in heights), SimpleNamespace(default=lambda: {"number": 0})
    surface = Surface("by hand", space, 2, curve, best=0.9, share=0.5, ceiling_ms=1.0, points=points)
    assert surfaces.said(surface) == (
        "by hand: default 0.5000, best 0.9000, target 0.7000; 2 of 3 configurations meet it, after one epoch in place "
        "3, 1"
    )


def test_the_command_says_it_of_each_recorded_task(capsys):
    assert surfaces.main() == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["glosses", "digits", "turned"]
