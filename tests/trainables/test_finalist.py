"""From a checkpoint to an artifact in the precision asked for."""

import json
import re

import pytest
import torch

from models import quantize
from models.latency import Timing
from trainables import manifest
from trainables.finalist import Finalist, FinalistConfig
from trainables.parsing import ParseError, parse
from trainables.routine import Workspace
from trainables.train import Train, TrainConfig

TASK = {"name": "image_classification", "data": "digits"}
SHAPE = {"n_layers": 1, "d_model": 32, "n_heads": 2, "d_head": 16, "d_ff": 32, "patch": 4}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """With a checkpoint of a digits network that has learnt something."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("run")
    here = Workspace(folder / "cache", folder)
    settings = {"epochs": 3, "learning_rate": 0.005, "precision": "fp32"}
    routine = Train(parse(TrainConfig, {**SHAPE, **settings, "task": TASK}), here)
    routine.advance()
    routine.save(folder / "trials" / "x")
    manifest.write(folder / "trials" / "x")
    return here


@pytest.fixture
def timed(monkeypatch):
    """A target on which a model takes as long as it is large."""

    def measured(model, *_):
        size = len(model if isinstance(model, bytes) else model.read_bytes())
        return Timing(size / 1e6, size / 1e6, True)

    monkeypatch.setattr(quantize, "measure_model", measured)
    monkeypatch.setattr("trainables.finalist.measure_model", measured)


def shipped(workspace, precision):
    values = {"task": TASK, "trial": "search-000", "checkpoint": "trials/x", "precision": precision}
    report = Finalist(parse(FinalistConfig, values), workspace).advance()
    folder = workspace.folder / report["artifact"]
    return report, json.loads((folder / "config.json").read_bytes())["precision"], folder


def test_each_precision_is_an_artifact_of_its_own(workspace, timed):
    whole, fp32, _ = shipped(workspace, "fp32")
    small, int8, folder = shipped(workspace, "int8")
    assert (whole["artifact"], small["artifact"]) == ("artifacts/search-000", "artifacts/search-000-int8")
    assert (fp32, int8) == ({"kind": "fp32", "exclude": []}, {"kind": "int8", "exclude": []})
    assert small["size_mb"] < whole["size_mb"]
    assert small["test"]["accuracy"]["value"] == pytest.approx(whole["test"]["accuracy"]["value"], abs=0.05)
    card = (folder / "card.md").read_text()
    assert "| precision | int8 |" in card
    assert re.search(r"\| latency \| p50 .*, precision int8\b", card)
    assert "sensitivity" not in whole
    exported = quantize.layers((workspace.folder / whole["artifact"] / "model.onnx").read_bytes())
    assert sorted(small["sensitivity"]) == sorted(exported)
    assert all(f"| {layer} | {lost:+.4f} |" in card for layer, lost in small["sensitivity"].items())


def test_auto_takes_the_quickest_that_keeps_the_accuracy(workspace, timed, monkeypatch):
    report, precision, folder = shipped(workspace, "auto")
    rows = {row["kind"]: row for row in report["precisions"]}
    assert report["artifact"] == "artifacts/search-000-auto"
    quickest = min(rows.values(), key=lambda row: row["latency_ms"])
    assert precision["kind"] == quickest["kind"] != "fp32"
    whole = rows["fp32"]["accuracy"]
    assert whole == pytest.approx(shipped(workspace, "fp32")[0]["val_accuracy"], abs=1e-6)
    assert all(row["accuracy"] >= whole - 0.003 for row in rows.values())
    assert json.loads((folder / "metrics.json").read_bytes())["precisions"] == report["precisions"]


def test_unknown_precision_is_refused():
    values = {"task": TASK, "trial": "search-000", "checkpoint": "trials/x", "precision": "int7"}
    with pytest.raises(ParseError, match="precision must be 'fp32', 'int8', .* or 'auto', got 'int7'"):
        parse(FinalistConfig, values)
