import os

import numpy as np
import pytest
import torch

from models import elastic
from models.elastic import Shape
from trainables import checkpoint
from trainables.distill import Distill, DistillConfig
from trainables.loop import on_device
from trainables.parsing import ParseError, parse
from trainables.routine import Infeasible, Workspace
from trainables.subnet import Subnet, SubnetConfig
from trainables.train import Train, TrainConfig

TASK = {"name": "image_classification", "data": "digits"}
WHOLE = {"n_layers": 3, "d_model": 16, "n_heads": 2, "d_head": 8, "d_ff": 32, "patch": 4}
SIZES = {"n_layers": 2, "d_model": 8, "n_heads": 1, "d_ff": 16}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return Workspace(tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def supernet(workspace):
    """Any checkpoint is one: what counts is that subnets are scored with its weights."""
    torch.set_num_threads(1)
    routine = Train(parse(TrainConfig, {"task": TASK, **WHOLE, "report_every": 0.2}), workspace)
    routine.advance()
    routine.save(workspace.folder / "supernet")
    return workspace.folder / "supernet"


@pytest.fixture(autouse=True)
def _own_cache(workspace, monkeypatch):
    monkeypatch.setenv("FITFORMER_CACHE", str(workspace.cache))


@pytest.fixture
def make(workspace, supernet):
    def build(**values):
        return Subnet(parse(SubnetConfig, {"task": TASK, "supernet": str(supernet), **values}, "subnet"), workspace)

    return build


def scores(make, supernet, shape, rows):
    """Of the supernet's own slices."""
    split = make().data.splits["validation"]
    inputs, targets = on_device(split.batch(rows), "cpu")
    with torch.inference_mode():
        logits_BC = elastic.logits(checkpoint.load_model(supernet)[0].eval(), [shape], **inputs)[0]
    return (logits_BC.argmax(1) == targets).double().mean().item()


def test_scores_are_those_of_the_supernets_slices(make, supernet):
    routine = make(**SIZES, precision="fp32")
    report = routine.advance()
    everything = np.arange(len(routine.data.splits["validation"]))
    assert report["val_accuracy"] == pytest.approx(scores(make, supernet, Shape(**SIZES), everything))
    assert report["params"] == sum(p.numel() for p in routine.model.parameters())
    assert report["epochs"] == 1
    assert {*routine.metrics(routine.config, routine.data)} == {*report, "latency_ms"} - {"used"}
    assert make(precision="fp32").advance()["val_accuracy"] == pytest.approx(
        scores(make, supernet, Shape(), everything)
    )


def test_every_subnet_is_scored_on_the_same_examples(make, supernet):
    rows = np.random.default_rng(0).permutation(len(make().data.splits["validation"]))[:50]
    for sizes, seed in ((SIZES, 1), ({}, 2)):
        found = make(**sizes, examples=50, seed=seed, precision="fp32").advance()
        assert found["val_accuracy"] == pytest.approx(scores(make, supernet, Shape(**sizes), rows))


def test_its_architecture_is_known_beforehand(make):
    routine = make(**SIZES)
    assert Subnet.architecture(routine.config) == routine.model.architecture
    known, report = Subnet.known(routine.config, routine.data, {}), routine.advance()
    assert known == {name: report[name] for name in ("params", "flops", "size_mb")}
    elsewhere = routine.config.model_copy(update={"supernet": "stages.supernet"})
    assert Subnet.known(elsewhere, routine.data, {}) == {}


def test_its_checkpoint_is_where_a_training_begins(make, workspace, tmp_path):
    routine = make(**SIZES)
    report = routine.advance()
    routine.save(tmp_path)
    again = make(**SIZES)
    again.load(tmp_path)
    assert again.advance() == report
    values = {"task": TASK, **WHOLE, **SIZES, "report_every": 0.1}
    student = Train(parse(TrainConfig, values), workspace)
    student.load(tmp_path)
    for ours, theirs in zip(student.model.parameters(), routine.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert student.advance()["epochs"] == 0.1


def test_a_student_of_the_supernet_begins_as_a_subnet(make, supernet, workspace, tmp_path):
    routine = make(**SIZES)
    routine.save(tmp_path)
    values = {"task": TASK, "teacher": str(supernet), "student": str(tmp_path), "report_every": 0.1}
    student = Distill(parse(DistillConfig, values), workspace)
    assert torch.equal(student.model.head.linear.weight, routine.model.head.linear.weight)
    assert student.advance()["params"] == routine.advance()["params"]


def test_a_supernet_that_was_written_anew_is_read_anew(make, supernet):
    first = make(**SIZES)
    weights = supernet / "model.safetensors"
    before, modified = weights.read_bytes(), weights.stat().st_mtime_ns
    network, _, config = checkpoint.load_model(supernet)
    try:
        with torch.no_grad():
            network.head.linear.bias += 1.0
        checkpoint.save_file(network.state_dict(), weights)
        os.utime(weights, ns=(modified + 1_000, modified + 1_000))
        second = make(**SIZES)
    finally:
        weights.write_bytes(before)
    torch.testing.assert_close(second.model.head.linear.bias, first.model.head.linear.bias + 1.0)
    assert config["task"] == TASK


def test_more_than_the_supernet_has(make):
    data = make().data
    values = {"task": TASK, "supernet": make().config.supernet, "n_layers": 3, "d_model": 17, "n_heads": 3}
    with pytest.raises(Infeasible) as error:
        Subnet.check(parse(SubnetConfig, values), data)
    assert str(error.value).splitlines() == [
        "d_model is 17, must be at most 16, as many as there are; lower it",
        "n_heads is 3, must be at most 2, as many as layer 0 has; lower it",
    ]


def test_a_supernet_for_other_data(make, supernet, tmp_path):
    (tmp_path / "model.safetensors").write_bytes((supernet / "model.safetensors").read_bytes())
    text = (supernet / "config.json").read_text().replace('"scale": 0.0625', '"scale": 0.125')
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError) as error:
        make(supernet=str(tmp_path), task={**TASK, "seed": 1}, d_ff=33)
    assert str(error.value).splitlines() == [
        f"supernet has scale 0.125, must have the data's 0.0625; choose another one ({tmp_path})",
        "d_ff is 33, must be at most 32, as many as layer 0 has; lower it",
    ]


def test_no_supernet(make, tmp_path):
    with pytest.raises(ValueError, match=r"^supernet: .* has no config\.json, must be"):
        make(supernet=str(tmp_path))


def test_it_is_not_trained():
    with pytest.raises(ParseError, match="subnet.epochs must be at most 1, got 3"):
        parse(SubnetConfig, {"task": TASK, "supernet": "x", "epochs": 3}, "subnet")
