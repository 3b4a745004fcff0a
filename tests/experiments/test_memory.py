"""What a new experiment takes from past ledgers, and the paths that are none."""

import json

import pytest

from experiments import __main__ as command_line
from experiments.engine import memory, plan, spec
from experiments.engine.director import Director
from experiments.engine.events import Failed, Reported, Segment, Started, to_record
from experiments.engine.ledger import Ledger
from tasks.features import features
from trainables.store import Store

TASK = {"name": "image_classification", "data": "digits"}
STAGE = {"name": "search", "space": ["encoder"], "options": {"patch": 2}, "trials": 8, "epochs": 1}
NOTHING = {"search": ([], [])}
PATHS = ["Auto", "empty", "other", "broken", "ftp://x/y"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def prepared(cache, **changes):
    values = {"name": "new", "task": TASK, "stages": [STAGE], "objectives": {"val_accuracy": "max"}, **changes}
    return plan.prepare(spec.checked(values), cache)


def remember(place, made, scores, name="old-20260101-abcd", data=None):
    """A finished run of a plan: one trial a (point, accuracy), None for one that failed."""
    with Ledger(place / name) as book:
        told = {"features": features(made.data)} if data is None else data
        book.append({"event": "opened", "spec": made.spec.resolved(), "data": told, "at": 0.0})
        for number, (point, score) in enumerate(scores):
            book.append(record(Started(Segment(number, "search", number, 0, point, 1)), "continue"))
            failed = Failed(number, "error", "no")
            reported = Reported(number, 1, {"val_accuracy": score})
            book.append(record(failed, "continue") if score is None else record(reported, "stop"))
        book.append({"event": "finished", "at": 9.0})


def record(event, verdict):
    return {**to_record(event), "verdict": verdict, "at": 1.0}


def points(made, n=4):
    return [made.spaces["search"].draw(7, index) for index in range(n)]


def test_the_best_of_the_storage_are_advised_and_the_users_own_come_first(cache, tmp_path):
    made = prepared(cache, warm_start="auto", stages=[{**STAGE, "initial": [{"n_layers": 4}]}])
    found = points(made)
    remember(tmp_path, made, zip(found, (0.5, None, 0.9, 0.7), strict=True))
    advised = memory.remembered(made, Store(tmp_path))
    assert advised == {"search": ([found[2], found[3]], ["old-20260101-abcd/search"])}
    warm = plan.Plan(made.spec, made.spaces, made.data, {"search": advised["search"].points})
    space, stage = made.spaces["search"], made.spec.stages[0]
    assert warm._points(stage, Director([])) == [space.default(), *space.points([{"n_layers": 4}])]
    assert warm._advised(stage, Director([])) == advised["search"].points


def test_paths_name_a_run_or_a_folder_of_runs(cache, tmp_path):
    made = prepared(cache)
    found = points(made)
    remember(tmp_path, made, [(found[0], 0.5)])
    for path in (tmp_path, tmp_path / "old-20260101-abcd"):
        warm = prepared(cache, warm_start=str(path))
        assert warm.spec.warm_start == (str(path),)
        assert memory.remembered(warm, Store(tmp_path / "none")) == {
            "search": ([found[0]], ["old-20260101-abcd/search"])
        }


def test_none_and_an_empty_storage_advise_nothing(cache, tmp_path):
    remember(tmp_path, prepared(cache), [(points(prepared(cache))[0], 0.5)])
    assert memory.remembered(prepared(cache), Store(tmp_path)) == {}
    assert memory.remembered(prepared(cache, warm_start="auto"), Store(tmp_path / "empty")) == NOTHING


def test_a_run_that_measured_other_things_or_was_a_smoke_test_does_not_count(cache, tmp_path):
    made = prepared(cache, warm_start="auto", objectives={"val_accuracy": "max", "val_f1": "max"})
    remember(tmp_path, made, [(points(made)[0], 0.5)])
    remember(tmp_path, prepared(cache, name="x-smoke"), [(points(made)[1], 0.5)], "x-20260101-abcd")
    assert memory.remembered(made, Store(tmp_path)) == NOTHING


def test_what_breaks_a_constraint_is_not_advised(cache, tmp_path):
    made = prepared(cache, warm_start="auto", constraints={"params": {"max": 100_000}})
    space = made.spaces["search"]
    small, large = space.point({"d_model": 64, "n_layers": 1}), space.point({"d_model": 256, "n_layers": 4})
    warm = plan.Plan(made.spec, made.spaces, made.data, {"search": [large, small]})
    assert warm._advised(made.spec.stages[0], Director([])) == [small]


def test_a_run_from_before_features_were_kept_counts_by_its_size(cache, tmp_path):
    made = prepared(cache, warm_start="auto")
    found = points(made)
    remember(tmp_path, made, [(found[0], 0.5)], "a-20260101-abcd", {"n": {"train": 1257}})
    remember(tmp_path, made, [(found[1], 0.5)], "b-20260101-abcd", {"n": {"train": 10**7}})
    assert memory.remembered(made, Store(tmp_path))["search"].points[0] == found[0]


def test_bad_paths_are_a_line_each_and_code_two(cache, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FITFORMER_CACHE", str(cache))
    other = prepared(cache, stages=[{**STAGE, "space": ["optimization"]}])
    remember(tmp_path / "other", other, [(other.spaces["search"].default(), 0.5)])
    remember(tmp_path / "broken", other, [(other.spaces["search"].default(), 0.5)])
    broken = tmp_path / "broken" / "old-20260101-abcd" / "ledger.jsonl"
    broken.write_bytes(broken.read_bytes().replace(b"0.5", b"0.6"))
    values = {"name": "new", "task": TASK, "stages": [STAGE], "warm_start": PATHS}
    (tmp_path / "empty").mkdir()
    (tmp_path / "e.yaml").write_text(json.dumps(values))
    assert command_line.main(["run", "e.yaml"]) == 2
    lines = capsys.readouterr().err.splitlines()
    give = "give the folder of a run, a folder of runs, auto or none"
    expected = [
        f"fitformer: warm_start 'Auto': is no folder; {give}; did you mean 'auto'?",
        f"fitformer: warm_start 'empty': holds no ledger; {give}",
        "fitformer: warm_start 'other': holds no trial in the space of stages search (encoder, routine train); give",
        "fitformer: warm_start 'broken': ",
        "fitformer: warm_start 'ftp://x/y': storage 'ftp://x/y' must be a path",
    ]
    assert [line.startswith(start) for line, start in zip(lines, expected, strict=True)] == [True] * 5, lines
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(("value", "there"), [(None, "none"), ("auto", "auto"), ("results", ("results",))])
def test_the_setting_reads(cache, value, there):
    made = spec.checked({"name": "new", "task": TASK, "stages": [STAGE], "warm_start": value})
    assert made.warm_start == there
    assert spec.parse(spec.Spec, made.resolved()) == made


@pytest.mark.parametrize("value", [3, [], [1], {"auto": 1}])
def test_no_path_is_refused(value):
    with pytest.raises(ValueError, match="warm_start"):
        spec.checked({"name": "new", "task": TASK, "stages": [STAGE], "warm_start": value})
