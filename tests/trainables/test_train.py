import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from benchmarks.training_throughput import minilm
from models import cost
from models.architecture import Architecture
from trainables import checkpoint
from trainables.data import prepare
from trainables.parsing import ParseError, parse
from trainables.routine import Workspace
from trainables.train import Train, TrainConfig

SHAPE = {"n_layers": 1, "d_model": 16, "n_heads": 2, "d_head": 8, "d_ff": 32, "patch": 2}
TASK = {"name": "image_classification", "data": "digits"}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return Workspace(tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("run"))


def train(workspace, **values):
    values = {**SHAPE, "task": TASK, "dropout": 0.2, "report_every": 0.5, "epochs": 2.0, "batch_size": 64, **values}
    return Train(parse(TrainConfig, values, "train"), workspace)


def timeless(report):
    return {name: value for name, value in report.items() if name != "samples_per_second"}


def test_resumed_in_the_middle_of_an_epoch_it_reports_the_same(workspace, tmp_path):
    whole = train(workspace)
    reports = [timeless(whole.advance()) for _ in range(4)]
    first = train(workspace)
    first.advance()
    first.save(tmp_path / "checkpoint")
    second = train(workspace)
    second.load(tmp_path / "checkpoint")
    assert [timeless(second.advance()) for _ in range(3)] == reports[1:]


def test_an_explored_value_holds_after_a_load(workspace, tmp_path):
    first = train(workspace, learning_rate=1e-3)
    first.advance()
    first.save(tmp_path)
    second = train(workspace, learning_rate=0.25, weight_decay=0.5, beta2=0.95, warmup=0.0, schedule="constant")
    second.load(tmp_path)
    second.advance()
    group = second.loop.optimizer.dense.param_groups[0]
    assert (group["lr"], group["weight_decay"], group["betas"]) == (0.25, 0.5, (0.9, 0.95))


def test_after_a_change_of_the_optimizer_that_begins_afresh(workspace, tmp_path):
    first = train(workspace)
    first.advance()
    first.save(tmp_path)
    second = train(workspace, optimizer="sgd")
    second.load(tmp_path)
    assert second.advance()["epochs"] == 1.0
    assert {key for entries in second.loop.optimizer.dense.state.values() for key in entries} == {"momentum_buffer"}


def test_a_checkpoint_of_another_architecture_is_refused(workspace, tmp_path):
    train(workspace).save(tmp_path)
    with pytest.raises(
        ValueError, match=r"the checkpoint .* holds another architecture: size mismatch for .*feed_forward"
    ):
        train(workspace, d_ff=48).load(tmp_path)


def test_the_model_alone_loads_from_a_checkpoint(workspace, tmp_path):
    routine = train(workspace)
    routine.advance()
    routine.save(tmp_path)
    model, architecture, config = checkpoint.load_model(tmp_path)
    assert config["task"] == TASK
    assert config["config"]["epochs"] == 2.0
    assert architecture == routine.model.architecture
    batch = routine.data.splits["test"].batch(np.arange(9))
    inputs = {name: torch.from_numpy(array) for name, array in batch.inputs.items()}
    torch.testing.assert_close(model.eval()(**inputs), routine.model.eval()(**inputs), rtol=0, atol=0)


def test_checkpoints_hold_no_pickle(workspace, tmp_path):
    routine = train(workspace)
    routine.advance()
    routine.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json",
        "state.json",
        "model.safetensors",
        "optimizer.safetensors",
    }
    assert json.loads((tmp_path / "state.json").read_text())["epochs"] == 0.5


def test_no_checkpoint(tmp_path):
    with pytest.raises(ValueError, match=r"is no checkpoint: it has no config\.json"):
        checkpoint.load_model(tmp_path)


def test_a_checkpoint_of_a_newer_format(workspace, tmp_path):
    train(workspace).save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "format_version": 2}))
    with pytest.raises(ValueError, match="has format_version 2, this code reads up to 1; update Fitformer"):
        checkpoint.load_model(tmp_path)


def test_what_the_model_costs(workspace):
    routine = train(workspace)
    report = routine.advance()
    architecture = Architecture(dropout=0.2, **SHAPE)
    signature = routine.data.signature
    assert report["params"] == sum(p.numel() for p in routine.model.parameters())
    assert report["size_mb"] == 4 * report["params"] / 1e6
    assert report["flops"] == cost.flops(architecture, signature)
    assert "latency_ms" not in report


def test_latency_from_the_layer_table(workspace):
    from models.latency import Target
    from models.latency_table import LayerTable

    routine = train(workspace)
    table = LayerTable(workspace.cache / "latency", Target(), routine.data.splits["validation"].lengths)
    table.measure([routine.model.architecture], routine.data.signature)
    given = {"target": {}, "length": table.length, "parts": list(table.parts.values())}
    measured = Workspace(workspace.cache, workspace.folder, inputs={"layer_table": given})
    found = train(measured).cost["latency_ms"]
    assert found == table.predict(routine.model.architecture, routine.data.signature) > 0


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_with_label_smoothing_is_that_of_torch(workspace, smoothing):
    routine = train(workspace, label_smoothing=smoothing, dropout=0.0, precision="fp32")
    seen = []
    inner = routine.loop.loss

    def watched(model, examples):
        loss = inner(model, examples)
        expected = F.cross_entropy(model(**examples.inputs), examples.targets, label_smoothing=smoothing)
        seen.append((loss.item(), expected.item()))
        return loss

    routine.loop.loss = watched
    routine.advance()
    ours, expected = zip(*seen, strict=True)
    assert ours == pytest.approx(expected, rel=1e-5)


def test_same_seed_same_report(workspace):
    first, same, other = (timeless(train(workspace, seed=seed).advance()) for seed in (3, 3, 4))
    assert first == same != other


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        (
            {"pretrained": "x", "n_layers": 2, "d_model": 8, "dropout": 0.1},
            "pretrained is 'x', which gives the architecture; leave out d_model, n_layers",
        ),
        (
            {"like": "x", "pretrained": "y", "n_layers": 1, "d_model": 8},
            "pretrained is 'y', which gives the architecture; leave out d_model, like, n_layers",
        ),
        (
            {"like": "x", "n_layers": 1, "dropout": 0.1},
            "like is 'x', which gives the architecture; leave out n_layers",
        ),
        ({"task": {"data": "digits"}}, "task must have a name; add name: text_classification"),
        ({"n_layer": 2}, "train has no 'n_layer'; did you mean 'n_layers'?"),
    ],
)
def test_faults(values, rule):
    with pytest.raises(ParseError) as error:
        parse(TrainConfig, {"task": TASK, **values}, "train")
    assert [line.removeprefix("train: ") for line in error.value.faults] == [rule]


def test_another_ones_architecture_is_taken_but_not_its_weights(workspace, tmp_path):
    first = train(workspace, n_layers=2, n_heads=(1, 2))
    first.advance()
    first.save(tmp_path / "one")
    like = {"task": TASK, "like": str(tmp_path / "one"), "dropout": 0.0, "epochs": 1.0, "batch_size": 64}
    second = Train(parse(TrainConfig, like, "train"), workspace)
    assert second.model.architecture == first.model.architecture.model_copy(update={"dropout": 0.0})
    assert not torch.equal(*(next(model.parameters()) for model in (first.model, second.model)))
    second.advance()
    second.save(tmp_path / "two")
    _, architecture, _ = checkpoint.load_model(tmp_path / "two")
    assert architecture == second.model.architecture
    config = parse(TrainConfig, {**like, "like": "not/here"}, "train")
    assert Train.known(config, second.data, {}) == {}
    with pytest.raises(ValueError) as missing:
        Train(config, workspace)
    rule = "like: not/here has no config.json, must be an artifact or a trial's checkpoint; check the path"
    assert str(missing.value) == rule


def test_sizes_layer_by_layer():
    assert parse(TrainConfig, {"task": TASK, "n_layers": 2, "d_ff": [16, 8]}, "train").d_ff == (16, 8)
    with pytest.raises(ParseError, match=r"d_ff has 1 values, must have one for each of the 2 layers"):
        parse(TrainConfig, {"task": TASK, "n_layers": 2, "d_ff": [16]}, "train")


def test_an_unknown_task(workspace):
    with pytest.raises(ValueError, match=r"task: 'image' is unknown; there are image_classification"):
        train(workspace, task={"name": "image"})


def test_checked_before_a_trial_starts(workspace):
    data = train(workspace).data
    with pytest.raises(ValueError, match="patch is 3, must divide the image's height 8 and width 8"):
        Train.check(parse(TrainConfig, {"task": TASK, **SHAPE, "patch": 3}), data)


def test_pretrained_weights_are_trained_on(workspace, tmp_path):
    rows = [json.dumps({"text": f"the {word} of number {i}", "label": word}) for i in range(30) for word in ("a", "b")]
    (tmp_path / "texts.jsonl").write_text("\n".join(rows))
    own = {"name": "text_classification", "data": str(tmp_path / "texts.jsonl")}
    task = {**own, "tokenizer": {"pretrained": minilm()}}
    values = {"task": task, "pretrained": minilm(), "pooling": "cls", "epochs": 1.0}
    routine = Train(parse(TrainConfig, values), workspace)
    assert (routine.model.architecture.d_model, routine.model.architecture.pooling) == (384, "cls")
    Train.check(routine.config, routine.data)
    assert routine.advance()["params"] == cost.params(routine.model.architecture, routine.data.signature)
    with pytest.raises(ValueError, match=r"vocab_size is \d+, must be 30522"):
        Train.check(routine.config, prepare(own, workspace.cache))


TIED = """
import torch
from torch import nn

class Tied(nn.Module):
    def __init__(self, signature):
        super().__init__()
        self.mix = nn.Linear(64, 64, bias=False)
        self.again = nn.Linear(64, 64, bias=False)
        self.again.weight = self.mix.weight
        self.head = nn.Linear(64, signature["n_classes"])

    def forward(self, pixels):
        return self.head(self.again(torch.relu(self.mix(pixels.flatten(1)))))

def build(signature):
    return Tied(signature)
"""


def test_a_network_whose_weights_are_tied(workspace, tmp_path):
    (tmp_path / "tied.py").write_text(TIED)
    values = {"task": TASK, "model": f"{tmp_path / 'tied.py'}:build", "epochs": 2.0}
    whole = Train(parse(TrainConfig, values), workspace)
    reports = [timeless(whole.advance()) for _ in range(2)]
    first, second = (Train(parse(TrainConfig, values), workspace) for _ in range(2))
    first.advance()
    first.save(tmp_path / "checkpoint")
    second.load(tmp_path / "checkpoint")
    assert timeless(second.advance()) == reports[1]


def test_training_flops_of_a_stretch_are_forward_and_twice_back(workspace):
    routine = train(workspace)
    first, second = routine.advance(), routine.advance()
    forward = cost.flops(routine.model.architecture, routine.data.signature)
    assert first["training_flops"] == 3 * forward * first["samples"]
    assert second["training_flops"] == 3 * forward * (second["samples"] - first["samples"])
