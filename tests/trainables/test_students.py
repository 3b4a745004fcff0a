"""Students whose token embedding is factored at the start, by principal components of the teacher's table."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.trainables.teaching import teach, text_task
from trainables import checkpoint, students, teacher
from trainables.distill import Distill, DistillConfig
from trainables.loop import logits
from trainables.parsing import ParseError, parse
from trainables.routine import Infeasible, Workspace

RANK = 5
TABLE = "front_end.embedding.weight"
DIGITS = {"name": "image_classification", "data": "digits"}


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """A teacher, and what lies in `low`: the same one with a table of rank 5."""
    torch.set_num_threads(1)
    room = tmp_path_factory.mktemp("students")
    routine = teach(Workspace(room / "cache", room), text_task(room / "data"), room / "teacher", epochs=4.0)
    routine.save(room / "low")
    tensors = load_file(room / "low/model.safetensors")
    tensors[TABLE] = cut(tensors[TABLE], RANK)
    save_file(tensors, room / "low/model.safetensors")
    return room


@pytest.fixture
def make(room):
    def build(**values):
        task, room_ = text_task(room / "data"), Workspace(room / "cache", room)
        values = {"task": task, "teacher": str(room / "teacher"), "precision": "fp32", "report_every": 0.5, **values}
        return Distill(parse(DistillConfig, values, "distill"), room_)

    return build


def cut(table_VD, rank):
    """The nearest table of that rank (Eckart and Young 1936), by another decomposition than ours."""
    u, s, v = torch.linalg.svd(table_VD.double(), full_matrices=False)
    return ((u[:, :rank] * s[:rank]) @ v[:rank]).float().contiguous()


def table(model):
    """Of whole width, whether factored or not."""
    tensors = model.state_dict()
    expand_DR = tensors.get("front_end.expand.weight")
    return tensors[TABLE] if expand_DR is None else tensors[TABLE] @ expand_DR.T


def said(model, routine):
    return logits(model, routine.data.splits["validation"], precision="fp32")


@pytest.mark.parametrize("student", ["slices", "folder"])
def test_at_the_rank_of_the_table_it_is_the_same_function(make, room, student):
    values = {"teacher": str(room / "low"), "student": "slices", "n_layers": 2, "d_ff": 16}
    whole = make(**values)
    if student == "folder":
        whole.save(room / "whole")
        values = {"student": str(room / "whole")}
    routine = make(**values, embedding_rank=RANK)
    assert routine.kind == routine.model.architecture == whole.kind.model_copy(update={"embedding_rank": RANK})
    np.testing.assert_allclose(said(routine.model, routine), said(whole.model, routine), atol=1e-5)
    rows, width = whole.model.front_end.embedding.weight.shape
    assert routine.model.front_end.embedding.weight.shape == (rows, RANK)
    assert routine.cost["params"] == whole.cost["params"] - rows * width + RANK * (rows + width)


def test_below_it_the_table_is_the_nearest_one(make, room):
    for values in ({"student": "slices", "n_layers": 2}, {"student": str(room / "low"), "embedding_rank": 3}):
        routine = make(**{"embedding_rank": 7, **values})
        begun = teacher.read(str(room / ("low" if "n_layers" not in values else "teacher")), room / "cache").model
        expected = cut(begun.state_dict()[TABLE], routine.kind.embedding_rank)
        torch.testing.assert_close(table(routine.model), expected, rtol=1e-4, atol=1e-5)


def test_of_fewer_hidden_dimensions_those_that_are_left_are_factored(make):
    whole = make(student="slices", d_model=12)
    routine = make(student="slices", d_model=12, embedding_rank=4)
    torch.testing.assert_close(table(routine.model), cut(table(whole.model), 4), rtol=1e-4, atol=1e-5)
    assert (routine.kind.d_model, routine.kind.embedding_rank) == (12, 4)


def test_a_factored_student_goes_on_and_may_be_factored_again(make, tmp_path):
    values = {"student": "slices", "n_layers": 2, "embedding_rank": 6, "dropout": 0.1}
    whole = make(**values)
    reports = [whole.advance() for _ in range(2)]
    first, second = make(**values), make(**values)
    first.advance()
    first.save(tmp_path)
    second.load(tmp_path)
    assert second.advance()["train_loss"] == reports[1]["train_loss"]
    again = make(student=str(tmp_path), embedding_rank=4)
    torch.testing.assert_close(
        table(again.model), cut(table(checkpoint.load_model(tmp_path)[0]), 4), atol=1e-5, rtol=1e-4
    )
    assert make(student=str(tmp_path), embedding_rank=6).kind.embedding_rank == 6
    assert make(student=str(tmp_path)).kind.embedding_rank == 6


def test_the_shape_is_known_beforehand(make, room, monkeypatch):
    monkeypatch.setenv("FITFORMER_CACHE", str(room / "cache"))
    for values in ({"student": "slices", "d_ff": 8}, {"student": str(room / "low")}):
        routine = make(**values, embedding_rank=4)
        assert Distill.architecture(routine.config) == routine.model.architecture


@pytest.mark.parametrize("rank", [16, 20])
def test_a_rank_that_is_not_less_leaves_the_table_whole(make, room, rank):
    routine = make(student=str(room / "low"), embedding_rank=rank)
    assert routine.kind.embedding_rank is None
    whole = teacher.read(str(room / "low"), room / "cache").model.state_dict()
    for name, value in routine.model.state_dict().items():
        torch.testing.assert_close(value, whole[name])
    with pytest.raises(Infeasible) as error:
        make(student="slices", embedding_rank=rank)
    assert str(error.value) == (
        "the student is the teacher: its slices keep all there is; give less of n_layers, d_model, n_heads, d_ff, "
        "embedding_rank"
    )


def test_a_rank_of_images(room):
    workspace = Workspace(room / "cache", room)
    teach(workspace, DIGITS, room / "digits", patch=4, epochs=0.1)
    values = {"task": DIGITS, "teacher": str(room / "digits"), "student": "slices", "embedding_rank": 4}
    with pytest.raises(Infeasible) as error:
        Distill(parse(DistillConfig, values), workspace)
    assert str(error.value) == (
        "embedding_rank is 4, must be null for images, which have no token embedding; leave it out"
    )


def test_a_rank_is_at_least_one():
    with pytest.raises(ParseError, match="distill.embedding_rank must be at least 1, got 0"):
        parse(
            DistillConfig, {"task": {"name": "x"}, "teacher": "t", "student": "slices", "embedding_rank": 0}, "distill"
        )


def test_without_a_rank_nothing_is_factored(room):
    found = teacher.read(str(room / "low"), room / "cache")
    assert students.factored(found.model, {}) is found.model
    assert students.factored(found.model, {"embedding_rank": None}) is found.model
