"""The schedule that PBT found, written down and gone through again, gives what it gave."""

import json

import pytest

import searchspaces
from experiments.engine import schedule, spec
from experiments.engine.director import Director, Stage
from experiments.engine.events import Failed, Segment, Started
from experiments.engine.outcome import Outcome
from experiments.engine.strategies import replay
from experiments.engine.strategies.replay import Replay
from tests.experiments.strategies.test_pbt import EPOCHS, SPACE, director, grown
from trainables.parsing import ParseError
from trainables.store import Store


def replayed(path):
    made = Replay(
        Replay.Config(schedule=str(path)),
        SPACE,
        0,
        first=[],
        trials=None,
        epochs=EPOCHS,
        outcome=lambda metrics: Outcome((metrics["score"],)),
    )
    return Director([Stage("search", "", lambda _: made, watched=("score",))])


@pytest.fixture
def found(tmp_path):
    """PBT's run, and the file of its best trial's schedule."""
    conductor = director(population=8, trials=60, seed=1)
    score = grown(conductor)
    best = max((trial for trial in conductor.trials.values() if trial.reports), key=lambda t: t.metrics["score"])
    steps = schedule.schedule(conductor, best)
    (tmp_path / "schedule-search.json").write_text(json.dumps({"schedule": steps}))
    return score, steps, tmp_path / "schedule-search.json"


def test_the_schedule_gives_again_what_it_gave(found):
    score, steps, path = found
    assert len(steps) > 1
    again = replayed(path)
    assert grown(again) == pytest.approx(score)
    assert [trial.config for trial in again.trials.values()] == [step["config"] for step in steps]
    assert [trial.epochs for trial in again.trials.values()] == [step["epochs"] for step in steps]
    assert [trial.status for trial in again.trials.values()] == ["stopped"] * (len(steps) - 1) + ["completed"]


def test_it_ends_where_a_step_fails(found):
    again = replayed(found[2])
    segment = again.ask()
    assert isinstance(segment, Segment)
    again.tell(Started(segment))
    assert again.ask() == "wait"
    again.tell(Failed(segment.number, "error", "broken"))
    assert again.ask() == "done"


def test_the_file_in_the_runs_folder_is_of_the_best_trial(tmp_path):
    conductor = director(population=4)
    grown(conductor)
    values = {
        "name": "demo",
        "task": {"name": "text_classification"},
        "objectives": {"score": "max"},
        "stages": [
            {"name": "search", "space": "optimization", "trials": 40, "epochs": EPOCHS, "search": {"searcher": "pbt"}}
        ],
    }
    schedule.write(spec.checked(values), conductor, Store(tmp_path))
    written = json.loads((tmp_path / "schedule-search.json").read_text())
    scores = {trial.id: trial.metrics["score"] for trial in conductor.trials.values()}
    assert written["trial"] == max(scores, key=scores.get)
    assert written["schedule"][-1]["trial"] == written["trial"]


def refused(path, **stage):
    values = {
        "name": "demo",
        "task": {"name": "text_classification"},
        "stages": [
            {
                "name": "search",
                "space": "optimization",
                "trials": 3,
                "epochs": 4,
                "search": {"searcher": {"name": "replay", "schedule": str(path)}},
                **stage,
            }
        ],
    }
    with pytest.raises(ParseError) as raised:
        spec.checked(values)
    (line,) = raised.value.faults
    return line


def test_a_schedule_of_the_repository_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    steps = replay.read("experiments/digits_schedule.json")
    assert [epochs for _, epochs in steps] == [6, 15, 18, 27]
    (tmp_path / "experiments").mkdir()
    mine = {"schedule": [{"config": {"learning_rate": 0.1}, "epochs": 2}]}
    (tmp_path / "experiments" / "digits_schedule.json").write_text(json.dumps(mine))
    assert replay.read("experiments/digits_schedule.json") == [({"learning_rate": 0.1}, 2)]


def test_schedules_that_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "schedule-search.json"
    assert "must be a run's schedule-STAGE.json: FileNotFoundError" in refused(path)
    default = searchspaces.load("optimization").default()
    for steps, said in [
        ([{"config": default, "epochs": 9}], "searcher.schedule must end by epochs, got 9 above 4"),
        ([{"config": default, "epochs": e} for e in (1, 1)], "must reach more and more epochs, got [1.0, 1.0]"),
        ([{"config": default, "epochs": e} for e in (1, 2, 3, 4)], "must have at most trials steps, got 4 above 3"),
        ([{"config": {"rate": 1}, "epochs": 4}], "searcher.schedule[0] must be a point of the space, got {'rate': 1}"),
        ([], "must reach more and more epochs, got []"),
        ([{"epochs": 4}], "must be a run's schedule-STAGE.json: KeyError('config')"),
    ]:
        path.write_text(json.dumps({"schedule": steps}))
        assert said in refused(path)
