"""Metrics that are asked for and never reported: refused before training, with what is reported."""

import json

import pytest

from experiments import __main__ as command_line
from experiments.engine import asked, plan, spec
from trainables import routine
from trainables.data import prepare

TASK = {"name": "image_classification", "data": "digits"}
STAGE = {"name": "search", "space": ["encoder"], "options": {"patch": 2}, "trials": 2, "epochs": 1}


def checked(**changes):
    return spec.checked({"name": "tiny", "task": TASK, "stages": [STAGE], **changes})


BAD = {
    "objective": (
        {"objectives": {"val_acuracy": "max"}},
        "objectives: stages.search never reports 'val_acuracy' (did you mean 'val_accuracy'?); train reports epochs",
    ),
    "constraint": (
        {"constraints": {"energy_wh": {"max": 1}}},
        "constraints: stages.search never reports 'energy_wh'; train reports epochs, flops, latency_ms",
    ),
    "choose": ({"choose": {"max": "accuracy"}}, "choose: stages.search never reports 'accuracy'"),
}


@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD)
def test_a_metric_nobody_reports_is_refused_with_those_there_are(changes, message, tmp_path):
    with pytest.raises(ValueError) as refused:
        plan.prepare(checked(**changes), tmp_path)
    (line,) = refused.value.faults
    assert message in line
    assert "val_accuracy" in line.partition("reports")[2]


def test_what_is_reported_passes(tmp_path):
    made = plan.prepare(checked(objectives={"val_f1": "max"}, constraints={"params": {"max": 1e9}}), tmp_path)
    assert made.expected()["search"] == 2


def test_it_is_bad_input_on_the_command_line_and_nothing_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FITFORMER_CACHE", str(tmp_path / "cache"))
    (tmp_path / "e.yaml").write_text(
        json.dumps({"name": "tiny", "task": TASK, "stages": [STAGE], "objectives": {"speed": "max"}})
    )
    assert command_line.main(["run", "e.yaml"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fitformer: objectives: stages.search never reports 'speed'; train reports")
    assert not (tmp_path / "results").exists()


def test_a_routine_that_does_not_say_is_not_asked(tmp_path):
    (tmp_path / "own.py").write_text(
        "from pydantic import BaseModel\nclass R:\n    class Config(BaseModel):\n        pass\n"
    )
    made = checked(objectives={"whatever": "max"})
    own = made.stages[0].model_copy(update={"routine": f"{tmp_path}/own.py:R"})
    assert asked.faults(made, own, {}, None) == []


def test_train_reports_what_it_says(tmp_path):
    values = {"task": TASK, "patch": 2, "n_layers": 1, "d_model": 16, "d_ff": 16, "epochs": 0.2, "report_every": 0.2}
    says = routine.reported("train", values, prepare(TASK, tmp_path))
    kind = routine.load("train")
    report = kind(kind.Config(**values), routine.Workspace(tmp_path, tmp_path)).advance()
    assert set(says) == {*report, "latency_ms"} - {"used"}
