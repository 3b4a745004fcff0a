import json
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models import cost, elastic
from models.elastic import Choices, Shape
from tests.trainables.teaching import teach, text_task
from trainables import checkpoint
from trainables.lessons import told
from trainables.loop import logits
from trainables.losses import soft_targets
from trainables.mixup import Mixed
from trainables.parsing import ParseError, parse
from trainables.routine import Infeasible, Workspace
from trainables.supernet import Supernet, SupernetConfig
from trainables.train import Train, TrainConfig

TASK = {"name": "image_classification", "data": "digits"}
SHAPE = {"n_layers": 2, "d_model": 16, "n_heads": 2, "d_head": 8, "d_ff": 32, "patch": 4, "positions": "sinusoidal"}
CHOICES = {"n_layers": [1, 2], "d_model": [8, 16], "n_heads": [1, 2], "d_ff": [8, 32]}
SMALLEST = Shape(n_layers=1, d_model=8, n_heads=1, d_ff=8)
LARGEST = Shape(n_layers=2, d_model=16, n_heads=2, d_ff=32)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return Workspace(tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def teacher(workspace):
    """A checkpoint that has learned something, and what it scores."""
    torch.set_num_threads(1)
    values = {"task": TASK, **SHAPE, "epochs": 4.0, "report_every": 4.0, "learning_rate": 1e-2, "batch_size": 64}
    routine = Train(parse(TrainConfig, values), workspace)
    report = routine.advance()
    routine.save(workspace.folder / "teacher")
    return workspace.folder / "teacher", report


@pytest.fixture(autouse=True)
def _own_cache(workspace, monkeypatch):
    monkeypatch.setenv("FITFORMER_CACHE", str(workspace.cache))


@pytest.fixture
def make(workspace, teacher):
    def build(**values):
        values = {"batch_size": 64, "epochs": 2.0, "report_every": 0.5, "choices": CHOICES, **values}
        return Supernet(parse(SupernetConfig, {"task": TASK, "teacher": str(teacher[0]), **values}), workspace)

    return build


def timeless(report):
    return {name: value for name, value in report.items() if name != "samples_per_second"}


def test_it_begins_as_the_teacher(make, teacher):
    report = make(learning_rate=1e-12, precision="fp32", report_every=0.05).advance()
    assert report["val_accuracy"] == pytest.approx(teacher[1]["val_accuracy"], abs=0.006)
    assert report["val_loss"] == pytest.approx(teacher[1]["val_loss"], rel=0.01)


def test_the_most_important_units_come_first(make):
    """Of the teacher's own, by magnitude; with Taylor scores another order."""
    first, other = (make(importance=kind, learning_rate=1e-12, report_every=0.05) for kind in ("magnitude", "taylor"))
    for routine in (first, other):
        routine.advance()
    norms = first.model.blocks[1].feed_forward.outer.weight.norm(dim=0)
    inner = first.model.blocks[1].feed_forward.inner
    total = norms**2 + inner.weight.norm(dim=1) ** 2 + inner.bias**2
    assert (total.diff() <= 1e-6).all()
    assert not torch.allclose(other.model.blocks[1].feed_forward.inner.weight, inner.weight)


def test_its_smallest_subnet_learns(make):
    routine = make(learning_rate=1e-2, report_every=2.0)
    before = make(learning_rate=1e-12, report_every=0.05).advance()["smallest_val_accuracy"]
    after = routine.advance()
    assert after["smallest_val_accuracy"] > before + 0.2
    small = elastic.extracted(routine.model, SMALLEST)
    split = routine.data.splits["validation"]
    assert after["smallest_val_accuracy"] == pytest.approx((logits(small, split).argmax(1) == split.targets).mean())


@pytest.mark.parametrize("values", [{}, {"soft_weight": 0.3, "temperature": 1.0, "label_smoothing": 0.1}], ids=str)
def test_the_loss_is_the_mean_over_the_sandwich_of_labels_and_teacher(make, values):
    routine = make(precision="fp32", epochs=1.0, report_every=0.1, **values)
    config, seen = routine.config, []
    inner = routine.loop.loss

    def watched(model, examples):
        loss = inner(model, examples)
        truth = F.log_softmax(routine.lessons.teacher.model(**examples.inputs) / config.temperature, -1)
        each = []
        for shape in routine._sandwich():
            found = elastic.extracted(model, shape)(**examples.inputs)
            said = F.log_softmax(found / config.temperature, -1)
            soft = config.temperature**2 * F.kl_div(said, truth, log_target=True, reduction="batchmean")
            hard = F.cross_entropy(found, examples.targets, label_smoothing=config.label_smoothing)
            each.append(config.soft_weight * soft + (1 - config.soft_weight) * hard)
        seen.append((loss.item(), torch.stack(each).mean().item()))
        return loss

    routine.loop.loss = watched
    routine.advance()
    ours, expected = zip(*seen, strict=True)
    assert ours == pytest.approx(expected, rel=2e-3)  # the teacher's answers are kept in half precision


def test_the_sandwich_follows_from_seed_and_place(make):
    routine, other = make(largest=0.25), make(largest=0.25, seed=1)
    trained = []
    for place in range(200):
        routine.loop.samples = other.loop.samples = place
        trained.append(routine._sandwich())
    assert trained[-1] == routine._sandwich() != other._sandwich()
    assert all(SMALLEST in shapes and len(shapes) == len(set(shapes)) <= 4 for shapes in trained)
    with_largest = np.mean([shapes[0] == LARGEST for shapes in trained])
    assert 0.15 < with_largest < 0.4
    assert {shape.d_ff for shapes in trained for shape in shapes} == {8, 32}
    assert all(LARGEST in make()._sandwich() for _ in range(2))


def test_resumed_in_the_middle_of_an_epoch_it_reports_the_same(make, tmp_path):
    values = {"dropout": 0.2, "report_every": 0.2, "epochs": 0.6}
    whole = make(**values)
    reports = [timeless(whole.advance()) for _ in range(3)]
    first, second = make(**values), make(**values)
    first.advance()
    first.save(tmp_path / "checkpoint")
    second.load(tmp_path / "checkpoint")
    assert [timeless(second.advance()) for _ in range(2)] == reports[1:]


def test_an_explored_value_holds_after_a_load(make, tmp_path):
    first, second = make(report_every=0.1), make(report_every=0.1, learning_rate=0.25, schedule="constant", warmup=0.0)
    first.advance()
    first.save(tmp_path)
    second.load(tmp_path)
    second.advance()
    assert second.loop.optimizer.dense.param_groups[0]["lr"] == 0.25


def test_its_checkpoint_is_an_ordinary_one_of_the_largest(make, tmp_path):
    routine = make(choices={"d_model": [12], "n_layers": [1]}, report_every=0.1)
    report = routine.advance()
    routine.save(tmp_path)
    model, architecture, config = checkpoint.load_model(tmp_path)
    assert (architecture.n_layers, architecture.d_model, architecture.d_ff) == (1, 12, 32)
    assert architecture == Supernet.architecture(routine.config)
    assert config["config"]["choices"] == {"d_model": [12], "n_layers": [1]}
    split = routine.data.splits["validation"]
    assert report["val_accuracy"] == pytest.approx((logits(model, split).argmax(1) == split.targets).mean())
    assert report["params"] == sum(p.numel() for p in model.parameters())


def test_training_flops_are_those_of_every_subnet_forward_and_twice_back(make):
    routine = make(choices={"n_layers": [1, 2]}, drawn=0, report_every=0.25)
    report = routine.advance()
    each = [elastic.shaped(routine.model.architecture, Shape(n_layers=n)) for n in (1, 2)]
    forward = sum(cost.flops(architecture, routine.data.signature) for architecture in each)
    assert report["training_flops"] == 3 * forward * report["samples"]
    assert {*routine.metrics(routine.config, routine.data)} == {*report, "latency_ms"} - {"used"}


def test_a_loss_that_is_not_finite_ends_in_nan(make):
    report = make(learning_rate=1e30, clip_norm=None, warmup=0.0, report_every=1.0).advance()
    assert math.isnan(report["train_loss"])
    assert math.isnan(report["smallest_val_accuracy"])


def test_augmented_mixed_and_unlabelled_texts_and_a_resume(workspace, tmp_path):
    task = text_task(tmp_path / "data", n=90)
    teach(workspace, task, tmp_path / "teacher", epochs=1.0, n_layers=2)
    (tmp_path / "more.txt").write_text("\n".join(f"the red cow sleeps {n} times" for n in range(40)))
    own = {"deletion": 0.2, "neighbours": 0.3, "splice": 0.2, "mixup": 0.5, "transfer": str(tmp_path / "more.txt")}
    values = {"task": task, "teacher": str(tmp_path / "teacher"), "choices": {"d_model": [8, 16]}, "report_every": 0.5}

    def build():
        return Supernet(parse(SupernetConfig, {**values, **own, "batch_size": 16, "learning_rate": 0.01}), workspace)

    whole, first, second = build(), build(), build()
    report = whole.advance()
    assert report["samples"] > 36  # of 72 with labels, in half an epoch
    assert timeless(first.advance()) == timeless(report)
    first.save(tmp_path / "checkpoint")
    second.load(tmp_path / "checkpoint")
    assert timeless(second.advance()) == timeless(whole.advance())


def test_without_labels_the_teacher_alone_counts(make):
    routine = make(report_every=0.05)
    logits_BC, said_BC = torch.randn(4, 10), torch.randn(4, 10)
    share = torch.tensor([1.0, 1.0, 0.5, 1.0])
    mix = Mixed({}, None, torch.tensor([0, 1, 0, 3]), share)
    targets = torch.tensor([-1, 3, 5, -1])
    found = told(routine.config, routine.data, logits_BC, said_BC, targets_B=targets, mix=mix, smoothing=0.0)
    soft = soft_targets(logits_BC, said_BC, 2.0)
    other = soft_targets(logits_BC[2:3], said_BC[:1], 2.0)[0]
    expected = 0.8 * (soft[0] + soft[1] + (soft[2] + other) / 2 + soft[3]) / 4
    expected += 0.2 * F.cross_entropy(logits_BC[1:2], targets[1:2]) / 4
    torch.testing.assert_close(found, expected)


def test_sizes_beyond_the_teacher(make, teacher):
    config = parse(
        SupernetConfig, {"task": TASK, "teacher": str(teacher[0]), "choices": {"n_layers": [4], "n_heads": [1, 8]}}
    )
    with pytest.raises(Infeasible) as error:
        Supernet.check(config, make().data)
    assert str(error.value) == "choices.n_layers is 4, must be at most 2, as many as there are; lower it"
    with pytest.raises(ValueError, match="^choices.n_heads is 8, must be at most 2, as many as layer 0 has"):
        make(choices={"n_heads": [1, 8]})


def test_a_teacher_that_is_none(make, tmp_path):
    with pytest.raises(ValueError, match=r"^teacher: .*config\.json"):
        make(teacher=str(tmp_path))


def test_faults():
    with pytest.raises(ParseError) as error:
        parse(SupernetConfig, {"task": TASK, "teacher": "x", "choices": {"d_model": [], "depth": [1]}}, "supernet")
    assert sorted(error.value.faults) == [
        "supernet.choices has no 'depth'; known: n_layers, d_model, n_heads, d_ff",
        "supernet.choices.d_model must have at least 1 entries, got []",
    ]
    assert json.loads(Choices(n_layers=(1,)).model_dump_json())["n_layers"] == [1]
