import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import searchspaces
from models import cost
from tests.trainables.teaching import teach, text_task
from trainables import answers as kept
from trainables import students, teacher
from trainables.distill import Distill, DistillConfig
from trainables.loop import on_device
from trainables.losses import observed
from trainables.mixup import Mixed
from trainables.parsing import ParseError, parse
from trainables.routine import Infeasible, Workspace

SMALL = {"n_layers": 2, "d_model": 8, "n_heads": 1, "d_head": 8, "d_ff": 16}
ALL = {"hidden_weight": 0.5, "relation_weight": 0.3}
DIGITS = {"name": "image_classification", "data": "digits"}


OWN = """
from torch import nn

class Bag(nn.Module):
    def __init__(self, signature):
        super().__init__()
        self.bag = nn.EmbeddingBag(signature["vocab_size"], signature["n_classes"])

    def forward(self, tokens, keep):
        return self.bag(tokens)

def build(signature):
    return Bag(signature)
"""


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    return tmp_path_factory.mktemp("distill")


@pytest.fixture(scope="module")
def workspace(room):
    return Workspace(room / "cache", room)


@pytest.fixture(scope="module")
def task(room, workspace):
    """Its teacher lies in `room`."""
    torch.set_num_threads(1)
    task = text_task(room / "data")
    teach(workspace, task, room / "teacher", epochs=8.0)
    (room / "more.txt").write_text("\n".join(f"the {color} cow sleeps {n} times" for n in range(40) for color in "ab"))
    return task


@pytest.fixture
def distill(room, workspace, task):
    def make(**values):
        beginning = {} if "student" in values else SMALL
        settings = {"task": task, "teacher": str(room / "teacher"), "epochs": 2.0, "precision": "fp32"}
        values = {**beginning, **settings, "learning_rate": 0.01, "report_every": 0.5, **values}
        return Distill(parse(DistillConfig, values, "distill"), workspace)

    return make


def timeless(report):
    return {name: value for name, value in report.items() if name != "samples_per_second"}


def test_learns_from_the_teacher_alone(distill):
    routine = distill(soft_weight=1.0, epochs=8.0, report_every=8.0, batch_size=16, **ALL)
    report = routine.advance()
    assert report["val_accuracy"] > 0.9
    assert report["params"] == sum(parameter.numel() for parameter in routine.model.parameters())


@pytest.mark.parametrize(
    "values",
    [
        {"dropout": 0.2, "swap": 0.3, "augmented": 0.5},
        {**ALL, "mixup": 0.5, "deletion": 0.2, "neighbours": 0.3, "splice": 0.3, "augmented": 0.7},
        {**ALL, "deletion": 0.2, "versions": 2, "transfer": "more.txt", "states_gb": 0.0},
        {"student": "slices", "n_layers": 2, "d_ff": 8, "freeze_embeddings": True, "attention_weight": 1.0},
    ],
)
def test_resumed_in_the_middle_of_an_epoch_it_reports_the_same(distill, room, tmp_path, values):
    if "transfer" in values:
        values = {**values, "transfer": str(room / values["transfer"])}
    whole = distill(**values)
    reports = [timeless(whole.advance()) for _ in range(3)]
    first = distill(**values)
    first.advance()
    first.save(tmp_path / "checkpoint")
    second = distill(**values)
    second.load(tmp_path / "checkpoint")
    assert [timeless(second.advance()) for _ in range(2)] == reports[1:]


def test_an_explored_value_holds_after_a_load(distill, tmp_path):
    first = distill(**ALL)
    first.advance()
    first.save(tmp_path)
    second = distill(hidden_weight=0.0, relation_weight=0.1, temperature=5.0, learning_rate=0.003, schedule="constant")
    second.load(tmp_path)
    second.advance()
    assert second.loop.optimizer.dense.param_groups[0]["lr"] == 0.003
    third = distill(hidden_weight=0.2, attention_weight=0.0)
    second.save(tmp_path / "again")
    third.load(tmp_path / "again")
    assert third.advance()["epochs"] == 1.5


def test_the_loss_of_a_batch(distill):
    routine = distill(soft_weight=0.7, temperature=3.0, label_smoothing=0.1, **ALL)
    seen = []
    inner = routine.loop.loss

    def watched(model, examples):
        loss = inner(model, examples)
        with torch.no_grad():
            said, _ = routine.lessons.teacher.answer(examples.inputs)
            logits = model(**examples.inputs)
        soft = 9 * F.kl_div(
            (logits / 3).log_softmax(1), (said / 3).log_softmax(1), log_target=True, reduction="batchmean"
        )
        labels = F.cross_entropy(logits, examples.targets, label_smoothing=0.1)
        own, theirs = {}, {}
        for model_, found, names in (
            (model, own, routine.matching.of_student),
            (routine.lessons.teacher.model, theirs, routine.matching.of_teacher),
        ):
            with observed(model_, names) as features, torch.no_grad():
                model_(**examples.inputs)
            found.update(features)
        matched = routine.matching(own, theirs, examples.inputs["keep"])
        seen.append((loss.item(), (0.7 * soft + 0.3 * labels + matched).item()))
        return loss

    routine.loop.loss = watched
    routine.advance()
    ours, expected = zip(*seen, strict=True)
    assert ours == pytest.approx(expected, rel=1e-2)  # what is kept is in half precision


@pytest.mark.parametrize("values", [{}, {"deletion": 0.3, "augmented": 0.5}, {"deletion": 0.3, "versions": 1}])
def test_kept_or_asked_the_teacher_says_the_same(distill, values):
    reports = [distill(**ALL, **values, states_gb=size).advance() for size in (0.0, 1.0)]
    assert reports[0]["training_flops"] > reports[1]["training_flops"] > 0
    assert reports[0]["train_loss"] == pytest.approx(reports[1]["train_loss"], rel=1e-2)


def test_matches_count_until_a_share_of_the_steps(distill, monkeypatch):
    routine = distill(**ALL, match_until=0.5, batch_size=64)
    places = []
    matched = routine.matching.forward
    monkeypatch.setattr(
        routine.matching, "forward", lambda *args: places.append(routine.loop.samples) or matched(*args)
    )
    for _ in range(4):
        routine.advance()
    assert places == [0, 64, 128]


def test_a_network_of_the_users_own(distill, workspace, tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    values = {"model": f"{tmp_path / 'own.py'}:build", "student": "scratch"}
    assert np.isfinite(distill(**values).advance()["train_loss"])
    with pytest.raises(
        ValueError, match=r"hidden_weight, mixup must be left out: of the network '.*own\.py:build', your"
    ):
        distill(**values, hidden_weight=1.0, mixup=0.5)


def test_kept_answers_need_no_teacher(distill, monkeypatch):
    values = {"deletion": 0.3, "versions": 2, "hidden_weight": 0.5}
    distill(**values, report_every=2.0).advance()
    again = distill(**values, report_every=2.0)
    monkeypatch.setattr(kept, "_compute", None)
    again.advance()
    assert "model" not in vars(again.lessons.teacher)


def test_unlabelled_texts_are_learned_from(distill, room):
    routine = distill(transfer=str(room / "more.txt"), report_every=1.0)
    labelled = len(routine.data.splits["train"])
    report = routine.advance()
    assert report["samples"] == labelled + 80
    assert (routine.lessons.split(0).targets[labelled:] == -1).all()
    assert np.isfinite(report["train_loss"])


def test_without_any_label_the_loss_is_the_teachers(distill):
    routine = distill(splice=1.0)
    targets = routine.lessons.split(0).targets
    assert (targets == -1).all()
    assert np.isfinite(routine.advance()["train_loss"])


def test_each_epoch_sees_other_texts(distill):
    routine = distill(replacement=0.5)
    first, second = (routine.lessons.split(epoch) for epoch in (0, 1))
    assert (first.ids != second.ids).any()
    routine = distill(replacement=0.5, versions=2)
    first, second, third = (routine.lessons.split(epoch).ids for epoch in (0, 1, 2))
    assert (first != second).any()
    assert (first == third).all()


def test_slices_of_the_teacher(distill, room, workspace, task):
    routine = distill(student="slices", n_layers=2, n_heads=1, d_ff=8, d_model=12, dropout=0.1, importance="magnitude")
    found = teacher.read(str(room / "teacher"), workspace.cache)
    scores = students.scores(found, routine.data, "magnitude", workspace.cache)
    kept_units = torch.topk(scores.units[2], 8).indices.sort().values
    kept_hidden = torch.topk(scores.hidden, 12).indices.sort().values
    own, whole = routine.model.blocks[1].feed_forward.inner.weight, found.model.blocks[2].feed_forward.inner.weight
    torch.testing.assert_close(own, whole[kept_units][:, kept_hidden])
    architecture = routine.model.architecture
    assert (architecture.n_layers, architecture.layers[0], architecture.d_model) == (2, (1, 8, 8, None, None), 12)
    assert architecture.dropout == 0.1
    assert routine.kind == architecture


def test_slices_know_what_the_teacher_knows(distill):
    """A little less wide, they tell nearly as much before any training."""
    routine = distill(student="slices", d_ff=28)
    inputs, _ = on_device(routine.data.splits["test"].batch(np.arange(20)), "cpu")
    logits, said = routine.model.eval()(**inputs), routine.lessons.teacher.answer(inputs)[0]
    assert (logits.argmax(1) == said.argmax(1)).float().mean() >= 0.9


def test_slices_of_the_sizes_of_another_network(distill, tmp_path):
    """Its sizes alone: the weights are the teacher's."""
    sizes = {"n_layers": 2, "n_heads": 1, "d_ff": 8, "d_model": 12}
    other = distill(student="slices", **sizes)
    expected = {name: value.clone() for name, value in other.model.state_dict().items()}
    other.advance()
    other.save(tmp_path)
    routine = distill(student="slices", like=str(tmp_path))
    assert routine.model.architecture == other.model.architecture == Distill.architecture(routine.config)
    for name, value in routine.model.state_dict().items():
        torch.testing.assert_close(value, expected[name])
    narrow = distill(student="slices", like=str(tmp_path), embedding_rank=4)
    assert narrow.model.architecture == other.model.architecture.model_copy(update={"embedding_rank": 4})


def test_goes_on_from_a_checkpoint(distill, tmp_path):
    first = distill(student="slices", n_layers=2)
    first.advance()
    first.save(tmp_path)
    second = distill(student=str(tmp_path), dropout=0.3)
    assert second.model.architecture == first.model.architecture.model_copy(update={"dropout": 0.3})
    for name, value in first.model.state_dict().items():
        torch.testing.assert_close(second.model.state_dict()[name], value)


def test_a_student_keeps_the_teachers_positions(distill, workspace, room, tmp_path):
    """A checkpoint says for how many its network was built, which may be more than the data has."""
    routine = distill(student="slices", n_layers=1, task=text_task(room / "data", max_length=20))
    assert routine.data.signature["max_length"] == 20
    routine.save(tmp_path)
    found = teacher.read(str(tmp_path), workspace.cache)
    assert found.model.signature.max_length == 128
    assert routine.cost["params"] == sum(parameter.numel() for parameter in found.model.parameters())


def test_frozen_embeddings_stay(distill):
    routine = distill(student="slices", n_layers=1, freeze_embeddings=True)
    before = routine.model.front_end.embedding.weight.clone()
    head = routine.model.head.linear.weight.clone()
    routine.advance()
    assert (routine.model.front_end.embedding.weight == before).all()
    assert (routine.model.head.linear.weight != head).any()


def test_images(workspace, tmp_path):
    teach(workspace, DIGITS, tmp_path / "teacher", patch=4, epochs=0.5)
    values = {**SMALL, "patch": 2, "task": DIGITS, "teacher": str(tmp_path / "teacher"), "mixup": 0.5, "epochs": 0.2}
    values |= {"hidden_weight": 1.0, "student": "slices", "report_every": 0.1}
    values = {name: value for name, value in values.items() if name not in ("patch", "d_head")}
    routine = Distill(parse(DistillConfig, values), workspace)
    report = routine.advance()
    assert np.isfinite(report["train_loss"])
    assert report["training_flops"] == 3 * report["samples"] * cost.flops(routine.kind, routine.signature)
    assert {*routine.metrics(routine.config, routine.data)} == {*report, "latency_ms"} - {"used"}
    assert Distill.known(routine.config, routine.data, {}) == {
        name: report[name] for name in ("params", "flops", "size_mb")
    }
    elsewhere = routine.config.model_copy(update={"teacher": "stages.teacher"})
    assert Distill.known(elsewhere, routine.data, {}) == {}


def test_a_mixture_of_embeddings():
    x_BLD = torch.randn(2, 3, 4)
    keep_BL = torch.tensor([[True, True, False], [True, True, True]])
    mix = Mixed({}, keep_BL, torch.tensor([1, 0]), torch.tensor([0.75, 1.0]))
    found = mix.mix(x_BLD)
    torch.testing.assert_close(found[0, :2], 0.75 * x_BLD[0, :2] + 0.25 * x_BLD[1, :2])
    torch.testing.assert_close(found[0, 2], 0.25 * x_BLD[1, 2])
    torch.testing.assert_close(found[1], x_BLD[1])
    assert mix.alone.tolist() == [False, True]


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        (
            {"student": "slices"},
            "the student is the teacher: its slices keep all there is; give less of n_layers, d_model, n_heads, "
            "d_ff, embedding_rank",
        ),
        ({"student": "slices", "n_layers": 5}, "n_layers is 5, must be at most the teacher's 4; lower it"),
        (
            {"student": "slices", "n_layers": 1, "d_ff": 33},
            "d_ff of layer 0 is 33, must be at most the teacher's 32; lower it",
        ),
        (
            {"hidden_weight": 1.0, "matches": [{"kind": "hidden", "student_layer": 3}]},
            "matches: student_layer of hidden is 3, must be from 0 to 2, or negative from the last on; the student has "
            "2 layers",
        ),
        (
            {"attention_weight": 1.0},
            "matches: attention of the student's layer 1 has 1 heads, must have 2 as the teacher's layer 2; match "
            "relation instead",
        ),
    ],
)
def test_faults(distill, values, fault):
    with pytest.raises(Infeasible) as error:
        distill(**values)
    assert fault in str(error.value).splitlines()


def test_the_teacher_itself_is_no_student(distill, room):
    with pytest.raises(ValueError, match=r"student: .*teacher is the teacher itself; choose another one, or slices"):
        distill(student=str(room / "teacher"))


def test_other_data_and_a_bad_rate_are_told_at_once(distill):
    with pytest.raises(ValueError) as error:
        distill(task=DIGITS, deletion=0.5, student="slices", d_ff=64)
    lines = str(error.value).splitlines()
    assert lines[0] == (
        "deletion is 0.5, must be left out for a task that is not text_classification; only mixup works on any"
    )
    assert lines[1].startswith("teacher has input tokens, must have the data's pixels; choose another one")
    assert lines[-4].startswith("d_ff of layer 0 is 64")


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        (
            {"student": "slices", "n_layers": 2, "activation": "relu", "pooling": "max"},
            "student is 'slices', which takes all but d_ff, d_model, dropout, embedding_rank, n_heads, n_layers "
            "from the teacher; leave out activation, pooling",
        ),
        (
            {"student": "trials/x", "d_ff": 8},
            "student is 'trials/x', which takes all but dropout, embedding_rank from that folder; leave out d_ff",
        ),
        (
            {"student": "scratch", "like": "trials/x", **SMALL},
            "like is 'trials/x', which gives the architecture; leave out d_ff, d_head, d_model, n_heads, n_layers",
        ),
        (
            {"student": "trials/y", "like": "trials/x"},
            "like is 'trials/x', which gives slices their sizes; set student to slices or scratch, or leave it out",
        ),
        (
            {"student": "slices", "like": "trials/x", "n_layers": 1, "d_ff": 8},
            "like is 'trials/x', which gives slices their sizes; leave out d_ff, n_layers",
        ),
        ({"temprature": 2}, "distill has no 'temprature'; did you mean 'temperature'?"),
        ({"temperature": 0}, "distill.temperature must be above 0, got 0"),
    ],
)
def test_faults_of_the_config(values, rule):
    with pytest.raises(ParseError) as error:
        parse(DistillConfig, {"task": {"name": "x"}, "teacher": "t", **values}, "distill")
    assert [line.removeprefix("distill: ") for line in error.value.faults] == [rule]


def test_every_draw_of_the_space_is_a_config():
    space = searchspaces.load("distillation")
    for point in [space.default(), *(space.draw(0, index) for index in range(20))]:
        config = parse(DistillConfig, {"task": {"name": "x"}, "teacher": "t", **point}, "distill")
        assert {name: getattr(config, name) for name in point} == point


def test_checkpoints_hold_no_pickle(distill, tmp_path):
    routine = distill(**ALL)
    routine.save(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    assert json.loads((tmp_path / "config.json").read_text())["config"]["hidden_weight"] == 0.5
