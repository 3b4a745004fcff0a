"""Every routine on an accelerator: it learns, its loss and scores are the CPU's, and nothing of it stays behind."""

import math

import numpy as np
import pytest
import torch

from tests.trainables.teaching import SHAPE, teach, text_task
from trainables import checkpoint, routine
from trainables.loop import logits
from trainables.parsing import parse
from trainables.routine import Workspace
from trainables.train import TrainConfig

pytestmark = [pytest.mark.gpu, pytest.mark.slow, pytest.mark.timeout(300)]
TEXTS = {"deletion": 0.2, "neighbours": 0.3, "splice": 0.2, "augmented": 0.5, "mixup": 0.5}
MATCHES = {"hidden_weight": 0.5, "relation_weight": 0.3}
SMALL = {"n_layers": 2, "d_model": 8, "n_heads": 1, "d_head": 8, "d_ff": 16}
CUTS = {"units": 0.5, "heads": 0.5, "layers": 0.25}
KINDS = {
    "train": {**SHAPE, "dropout": 0.1},
    "distill": {**SMALL, **TEXTS, **MATCHES, "dropout": 0.1},
    "distill slices": {"student": "slices", "n_layers": 2, "d_ff": 16, "embedding_rank": 8, **MATCHES},
    "distill versions": {**SMALL, **TEXTS, **MATCHES, "versions": 2, "states_gb": 0.0},
    "compress": {"ratios": {**CUTS, "hidden": 0.25}, "rounds": 2},
    "compress factors": {"ratios": {**CUTS, "vocabulary": 0.2, "embedding": 0.3, "low_rank": 0.3}},
    "compress activation": {"ratios": CUTS, "importance": "activation"},
    "supernet": {"choices": {"n_layers": [2, 4], "d_model": [8, 16], "d_ff": [16, 32]}, **TEXTS, "dropout": 0.1},
}
each = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module", params=["cuda"])
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    return request.param


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """A task, more of its texts, and a teacher that knows something of it."""
    room = tmp_path_factory.mktemp("cuda")
    task = text_task(room / "data")
    teach(Workspace(room / "cache", room), task, room / "teacher", epochs=4.0)
    (room / "more.txt").write_text("\n".join(f"the {color} cow sleeps {n} times" for n in range(40) for color in "ab"))
    return room


@pytest.fixture
def make(room, device):
    """A routine of a kind; on another device it shares no cache."""

    def build(kind, device=device, **values):
        name, folder = kind.split()[0], str(room / "teacher")
        given = {"compress": {"start": folder}, "train": {}}.get(name, {"transfer": str(room / "more.txt")})
        given |= {} if name == "train" else {"teacher": folder}
        values = {"task": text_task(room / "data"), "learning_rate": 0.005, "batch_size": 16, **given, **values}
        found = routine.load(name)
        return found(parse(found.Config, {**KINDS[kind], **values}, name), Workspace(room / device, room, device))

    return build


@each
def test_it_learns_and_nothing_stays_on_the_cpu(make, device, kind):
    found = make(kind, epochs=6.0, report_every=2.0)
    reports = [found.advance() for _ in range(3)]
    losses = [report["train_loss"] for report in reports]
    assert all(map(math.isfinite, losses))
    assert losses[2] < losses[0]
    assert all(math.isfinite(report["val_loss"]) for report in reports)
    tensors = {**dict(found.model.named_parameters()), **dict(found.model.named_buffers())}
    tensors |= found.loop.optimizer.state()
    if hasattr(found, "matching"):
        tensors |= dict(found.matching.named_parameters())
    assert {name for name, tensor in tensors.items() if tensor.device.type != device} == set()


@each
def test_loss_and_scores_are_those_of_the_cpu(make, kind):
    """Of the weights that it begins with: a rate of next to nothing leaves them."""
    still = {"precision": "fp32", "learning_rate": 1e-12, "dropout": 0.0, "epochs": 2.0, "report_every": 2.0}
    if kind.startswith("compress"):  # what it takes has its own dropout, which is none
        del still["dropout"]
    ours, theirs = make(kind, **still).advance(), make(kind, "cpu", **still).advance()
    assert ours["samples"] == theirs["samples"]
    assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-3)  # kept answers: in half precision
    assert ours["val_loss"] == pytest.approx(theirs["val_loss"], rel=1e-4)
    assert ours["params"] == theirs["params"]


@each
def test_its_checkpoint_says_the_same_on_the_cpu(make, device, kind, tmp_path):
    found = make(kind, report_every=1.0)
    found.advance()
    found.save(tmp_path)
    split = found.data.splits["validation"]
    there = logits(found.model, split, precision="fp32", device=device)
    here = logits(checkpoint.load_model(tmp_path)[0], split, precision="fp32")
    np.testing.assert_allclose(there, here, atol=1e-4)


@each
def test_loaded_it_goes_on(make, kind, tmp_path):
    """Sums of embeddings' gradients are added up in any order on an accelerator, so losses agree nearly."""
    values = {"epochs": 2.0, "report_every": 0.75, "precision": "fp32"}
    whole = make(kind, **values)
    reports = [whole.advance() for _ in range(2)]
    state = whole.loop.state()
    first = make(kind, **values)
    first.advance()
    first.save(tmp_path)
    second = make(kind, **values)
    second.load(tmp_path)
    report = second.advance()
    assert second.loop.state() == state  # generators of the device among them
    for name in ("samples", "train_loss", "val_loss"):
        assert report[name] == pytest.approx(reports[1][name], rel=1e-2)


def test_a_subnet_scores_as_on_the_cpu(make, room, device, tmp_path):
    supernet = make("supernet", report_every=1.0)
    supernet.advance()
    supernet.save(tmp_path)
    found = routine.load("subnet")
    values = {"task": text_task(room / "data"), "supernet": str(tmp_path), "n_layers": 2, "d_ff": 16}
    config = parse(found.Config, {**values, "precision": "fp32"})
    ours, theirs = (found(config, Workspace(room / place, room, place)) for place in (device, "cpu"))
    assert {parameter.device.type for parameter in ours.model.parameters()} == {device}
    assert ours.advance() == pytest.approx(theirs.advance(), rel=1e-4)
    ours.save(tmp_path / "subnet")
    for name, value in checkpoint.load_model(tmp_path / "subnet")[0].state_dict().items():
        torch.testing.assert_close(value, theirs.model.state_dict()[name])


def test_it_knows_the_task_in_half_precision(make, room):
    """bf16 where the hardware computes in it."""
    teacher = checkpoint.load_model(room / "teacher")[0]
    found = make("distill", epochs=15.0, report_every=15.0, dropout=0.0, mixup=0.0)
    split = found.data.splits["validation"]
    known = (logits(teacher, split).argmax(1) == split.targets).mean()
    assert found.advance()["val_accuracy"] > known - 0.2
    assert parse(TrainConfig, {"task": found.config.task}).precision == "auto"
