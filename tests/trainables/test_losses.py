from typing import get_args

import pytest
import torch
from torch.nn import functional as F

from models.architecture import Architecture
from models.encoder import build
from tests.trainables.conftest import VOCABULARY, toy
from trainables import losses
from trainables.losses import observed, soft_targets
from trainables.matches import STANDARD, Kind, Match, Matching, Pair, pairs, width

SIGNATURE = toy(8, 8).signature
TEACHER = Architecture(n_layers=4, d_model=16, n_heads=4, d_head=6, d_ff=24)
KEEP = torch.arange(7) < torch.tensor([4, 7])[:, None]
WEIGHTS = {"hidden": 1.0, "attention": 1.0, "relation": 1.0}


@pytest.fixture(autouse=True)
def _exact():
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def model(**sizes):
    return build(TEACHER.model_copy(update=sizes), SIGNATURE)


def features(model, names):
    """Of tokens that are the same at each call, and what stands where nothing is kept."""
    tokens = torch.randint(4, VOCABULARY, KEEP.shape, generator=torch.Generator().manual_seed(1))
    with observed(model, names) as seen:
        model(tokens=tokens, keep=KEEP)
    return seen


def standard(student, teacher):
    return Matching(
        pairs(STANDARD, WEIGHTS, len(student.blocks), len(teacher.blocks)), student.architecture, teacher.architecture
    )


def test_soft_targets_are_those_of_hinton():
    student, teacher = torch.randn(2, 5, 3)
    p = torch.exp(teacher / 3) / torch.exp(teacher / 3).sum(1, keepdim=True)
    cross_entropy = -(p * torch.log_softmax(student / 3, 1)).sum(1)
    entropy = -(p * p.log()).sum(1)
    torch.testing.assert_close(soft_targets(student, teacher, 3.0), 9 * (cross_entropy - entropy), rtol=0, atol=1e-12)


def test_soft_targets_at_a_high_temperature_are_the_difference_of_logits():
    """Hinton et al. 2015, section 2.1: with logits of mean 0 the gradient tends to (z - v) / (N) at rate T²."""
    student, teacher = torch.randn(2, 5, 3)
    student, teacher = (x - x.mean(1, keepdim=True) for x in (student, teacher))
    student.requires_grad_()
    soft_targets(student, teacher, 1e4).sum().backward()
    torch.testing.assert_close(student.grad, (student - teacher).detach() / 3, rtol=0, atol=1e-3)


def test_hidden_is_the_mean_square_over_what_is_kept():
    student, teacher = torch.randn(2, 2, 7, 5)
    expected = torch.stack(
        [(student[b, i] - teacher[b, i]).square().mean() for b in range(2) for i in range(7) if KEEP[b, i]]
    ).mean()
    torch.testing.assert_close(losses.hidden(student, teacher, KEEP), expected, rtol=0, atol=1e-12)


def test_attention_is_the_mean_square_of_scores():
    student, teacher = torch.randn(2, 2, 7, 3 * 4 * 6)
    terms = []
    for b in range(2):
        n = int(KEEP[b].sum())
        for h in range(4):
            part = slice(h * 6, h * 6 + 6)
            scores = [x[b, :n, :24][:, part] @ x[b, :n, 24:48][:, part].T / 6**0.5 for x in (student, teacher)]
            terms += (scores[0] - scores[1]).square().flatten().tolist()
    assert losses.attention(student, teacher, KEEP, 4).item() == pytest.approx(sum(terms) / len(terms), abs=1e-12)


def test_relation_is_that_of_minilm():
    """Of other widths: 24 and 36 numbers, both split into 3 heads."""
    student, teacher = torch.randn(2, 7, 72), torch.randn(2, 7, 108)
    terms = []
    for b in range(2):
        n = int(KEEP[b].sum())
        for part in range(3):
            for h in range(3):
                rows = [x[b, :n].view(n, 3, 3, -1)[:, part, h] for x in (teacher, student)]
                p, q = (torch.softmax(x @ x.T / x.shape[1] ** 0.5, 1) for x in rows)
                terms += (p * (p / q).log()).sum(1).tolist()
    expected = 3 * sum(terms) / len(terms)
    assert losses.relation(student, teacher, KEEP, 3).item() == pytest.approx(expected, abs=1e-12)


def test_observed_features_are_what_the_model_computes():
    teacher = model(norm_placement="post", attention_rank=4).eval()
    seen = features(teacher, ["hidden.0", "hidden.1", "qkv.2", "hidden.4"])
    mask = KEEP[:, None, None, :]
    assert all(value.shape[-1] == width(name, teacher.architecture) for name, value in seen.items())
    torch.testing.assert_close(teacher.blocks[0](seen["hidden.0"], mask), seen["hidden.1"])
    torch.testing.assert_close(teacher.blocks[1].attention.qkv(seen["hidden.1"]), seen["qkv.2"])
    logits = teacher.head(seen["hidden.4"], KEEP)
    tokens = torch.randint(4, VOCABULARY, KEEP.shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(logits, teacher(tokens=tokens, keep=KEEP))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in teacher.modules())


@pytest.mark.parametrize("kind", get_args(Kind))
def test_zero_where_student_is_teacher(kind):
    teacher = model()
    matching = Matching([Pair(kind, 3, 3, 2.0)], teacher.architecture, teacher.architecture)
    own = features(teacher, matching.of_student)
    assert matching(own, own, KEEP).item() == pytest.approx(0, abs=1e-12)


def test_every_loss_is_zero_where_student_is_teacher():
    teacher = model()
    matching = standard(teacher, teacher)
    own = features(teacher, matching.of_student | matching.of_teacher)
    assert matching(own, own, KEEP).item() == pytest.approx(0, abs=1e-12)
    assert soft_targets(own["hidden.4"], own["hidden.4"], 2.0).abs().max().item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("kind", get_args(Kind))
def test_gradient_reaches_the_student_alone(kind):
    student, teacher = model(n_layers=2), model()
    matching = Matching([Pair(kind, 2, 4, 1.0)], student.architecture, teacher.architecture)
    loss = matching(features(student, matching.of_student), features(teacher, matching.of_teacher), KEEP)
    loss.backward()
    assert loss.item() > 0
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert student.blocks[1].attention.qkv.weight.grad.abs().sum() > 0
    assert all(parameter.grad.abs().sum() > 0 for parameter in matching.parameters())


@pytest.mark.parametrize("kind", ["hidden", "relation"])
def test_any_shape_is_matched(kind):
    student, teacher = model(n_layers=1, d_model=10, n_heads=3, d_head=4), model()
    matching = Matching([Pair(kind, 1, 4, 2.0)], student.architecture, teacher.architecture)
    loss = matching(features(student, matching.of_student), features(teacher, matching.of_teacher), KEEP)
    assert torch.isfinite(loss)


def test_what_is_padded_does_not_matter():
    student, teacher = model(n_layers=2), model()
    matching = standard(student, teacher)
    own, theirs = features(student, matching.of_student), features(teacher, matching.of_teacher)
    loss = matching(own, theirs, KEEP)
    other = {name: value.masked_fill(~KEEP[..., None], 100.0) for name, value in own.items()}
    torch.testing.assert_close(matching(other, theirs, KEEP), loss, rtol=0, atol=1e-12)


def test_of_nothing_kept_the_loss_is_zero_and_so_is_its_gradient():
    student, teacher = model(n_layers=2), model()
    matching = standard(student, teacher)
    own = features(student, matching.of_student)
    loss = matching(own, features(teacher, matching.of_teacher), torch.zeros_like(KEEP))
    loss.backward()
    assert loss.item() == 0
    assert student.blocks[0].attention.qkv.weight.grad.abs().sum() == 0


def test_in_bfloat16():
    student, teacher = model(n_layers=2).bfloat16(), model().bfloat16()
    matching = standard(student, teacher).float()
    with torch.autocast("cpu", torch.bfloat16):
        own, theirs = features(student, matching.of_student), features(teacher, matching.of_teacher)
        loss = matching(own, theirs, KEEP)
    loss.backward()
    assert torch.isfinite(student.blocks[0].attention.qkv.weight.grad).all()


def test_standard_pairs():
    assert pairs(STANDARD, WEIGHTS, 2, 6) == [
        ("hidden", 1, 3, 1.0),
        ("hidden", 2, 6, 1.0),
        ("attention", 1, 3, 1.0),
        ("attention", 2, 6, 1.0),
        ("relation", 2, 6, 1.0),
    ]
    assert pairs(STANDARD, {**WEIGHTS, "hidden": 0.0, "attention": 0.0, "relation": 0.5}, 2, 6)[0].weight == 0.5


def test_declared_pairs():
    matches = [
        Match(kind="hidden", student_layer=0, teacher_layer=0, weight=3.0),
        Match(kind="relation", student_layer=-2, teacher_layer=-1),
    ]
    assert pairs(matches, {**WEIGHTS, "hidden": 2.0}, 3, 6) == [("hidden", 0, 0, 6.0), ("relation", 2, 6, 1.0)]


def test_layers_that_are_not_there():
    matches = [
        Match(kind="hidden", student_layer=3, teacher_layer=-8),
        Match(kind="relation", student_layer=0),
    ]
    with pytest.raises(ValueError) as error:
        pairs(matches, WEIGHTS, 2, 6)
    assert str(error.value).splitlines() == [
        "matches: student_layer of hidden is 3, must be from 0 to 2, or negative from the last on; the student has 2 "
        "layers",
        "matches: teacher_layer of hidden is -8, must be from 0 to 6, or negative from the last on; the teacher has 6 "
        "layers",
        "matches: student_layer of relation is 0, must be from 1 to 2, or negative from the last on; the student has "
        "2 layers",
        "matches: teacher_layer of relation is 0, must be from 1 to 6, or negative from the last on; the teacher has "
        "6 layers",
    ]


def test_heads_that_cannot_be_matched():
    student = TEACHER.model_copy(update={"n_heads": 3})
    with pytest.raises(ValueError) as error:
        Matching([Pair("attention", 4, 4, 1.0), Pair("relation", 4, 4, 1.0)], student, TEACHER, relation_heads=4)
    assert str(error.value).splitlines() == [
        "matches: attention of the student's layer 4 has 3 heads, must have 4 as the teacher's layer 4; match relation "
        "instead",
        "relation_heads is 4, must divide n_heads * d_head of both layers (18 and 24); choose a common divisor, or "
        "null",
    ]


def test_relation_heads_by_themselves():
    student = TEACHER.model_copy(update={"n_heads": 3})
    assert Matching([Pair("relation", 4, 4, 1.0)], student, TEACHER).heads == [3]


def test_a_projection_begins_as_the_identity():
    student = TEACHER.model_copy(update={"d_model": 4})
    weight = Matching([Pair("hidden", 1, 1, 1.0)], student, TEACHER).projections["1_to_1"].weight
    torch.testing.assert_close(weight[:4], torch.eye(4))
    assert weight.shape == (16, 4)
    x_BD = torch.randn(2, 4)
    torch.testing.assert_close(F.linear(x_BD, weight)[:, :4], x_BD)
