"""Scores beside what really happens when a head, unit, hidden dimension or layer is weakened or taken out."""

import copy
from typing import Any, get_args

import pytest
import torch
from torch.nn import functional as F

from models.architecture import Architecture
from models.encoder import build
from models.importance import Kind, importance
from models.slicing import Keep, axes, sliced

TEXT: dict[str, Any] = {"input": "tokens", "vocab_size": 20, "max_length": 9, "pad_id": 0, "n_classes": 4}
SIZES = {"n_layers": 2, "d_model": 8, "n_heads": (2, 3), "d_head": (4, 2), "d_ff": (6, 5)}
KINDS = [
    {"attention_rank": 1, "feed_forward_rank": 1},
    {},
    {"activation": "geglu", "norm": "rms"},
    {"norm_placement": "post", "embedding_norm": True},
]


@pytest.fixture(autouse=True)
def _exact():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def make(**kind):
    torch.manual_seed(0)
    model = build(Architecture(**{**SIZES, **kind}), TEXT)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def batch(seed=1):
    torch.manual_seed(seed)
    keep = torch.arange(9) < torch.randint(3, 10, (16, 1))
    return {"tokens": torch.randint(0, 20, (16, 9)), "keep": keep}, torch.randint(0, 4, (16,))


def loss(model, examples):
    inputs, targets = examples
    return F.cross_entropy(model(**inputs), targets)


def without(scores, places):
    return tuple(tuple(i for i in range(len(s)) if (layer, i) not in places) for layer, s in enumerate(scores))


def scaled(model, factor, names):
    """The model with some of its weights times a factor; names: parameter → index."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for name, index in names.items():
            other.get_parameter(name)[index] *= factor
    return other


def slope(model, names, examples):
    """|Change of the loss| per share by which these weights shrink, by central differences."""
    step = 1e-5
    high, low = (loss(scaled(model, 1 + sign * step, names), examples).item() for sign in (1, -1))
    return abs(high - low) / (2 * step)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_taylor_is_the_slope_of_the_loss(kind):
    model, examples = make(**kind), batch()
    found = importance(model, [examples], loss, "taylor")
    everything = slice(None)
    down, up = (".down", ".up") if "attention_rank" in kind else ("", "")
    unit = {f"blocks.0.feed_forward.outer{down}.weight": (everything, 4)}
    head = {f"blocks.1.attention.out{down}.weight": (everything, slice(2, 4))}
    branches = (f"blocks.1.attention.out{up}", f"blocks.1.feed_forward.outer{up}")
    layer = {f"{branch}.{part}": everything for branch in branches for part in ("weight", "bias")}
    hidden = {
        name: tuple(3 if axis == "hidden" else everything for axis in axes(model, name))
        for name, _ in model.named_parameters()
        if "hidden" in axes(model, name)
    }
    for score, names in (
        (found.units[0][4], unit),
        (found.heads[1][1], head),
        (found.layers[1], layer),
        (found.hidden[3], hidden),
    ):
        assert score.item() == pytest.approx(slope(model, names, examples), rel=1e-5)


def test_taylor_of_batches_is_the_mean_and_leaves_no_gradient():
    model = make().train()
    one, two, both = (importance(model, [batch(s) for s in seeds], loss, "taylor") for seeds in ((1,), (2,), (1, 2)))
    torch.testing.assert_close(both.units[1], (one.units[1] + two.units[1]) / 2)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training


def test_a_frozen_parameter_has_no_say():
    model = make()
    model.front_end.embedding.weight.requires_grad_(False)
    assert importance(model, [batch()], loss, "taylor").hidden.shape == (8,)


@pytest.mark.parametrize("kind", get_args(Kind))
@pytest.mark.parametrize("part", ["heads", "units"])
def test_what_does_nothing_scores_least_and_what_matters_most_is_found(kind, part):
    """One with tiny weights, one with huge ones; taking them out changes the loss least and most."""
    model, examples = make(), batch()
    weights = {"heads": ("attention.out", 4), "units": ("feed_forward.outer", 1)}[part]
    module, width = model.blocks[0].get_submodule(weights[0]), weights[1]
    source = model.blocks[0].attention.qkv if part == "heads" else model.blocks[0].feed_forward.inner
    with torch.no_grad():
        module.weight[:, :width] *= 1e-3
        source.bias[-width:] += 4.0  # the last unit's, or the last head's values
        module.weight[:, -width:] *= 4.0
        if part == "heads":
            source.bias[8:12] -= source.bias[8:12]
            source.weight[[0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19]] *= 1e-3
        else:
            source.weight[0] *= 1e-3
            source.bias[0] = 0
    scores = getattr(importance(model, [examples], loss, kind), part)[0]
    assert (scores.argmin().item(), scores.argmax().item()) == (0, len(scores) - 1)
    change = {}
    for place in (0, len(scores) - 1):
        rest = tuple(i for i in range(len(scores)) if i != place)
        smaller, _, _ = sliced(model, model.architecture, TEXT, Keep(**{part: (rest, None)}))
        change[place] = abs(loss(smaller, examples) - loss(model, examples)).item()
    assert change[0] < change[len(scores) - 1]


def test_taylor_orders_units_as_the_loss_does_once_they_are_weak():
    """With small weights the first order is nearly all there is."""
    model, examples = make(), batch()
    with torch.no_grad():
        model.blocks[1].feed_forward.outer.weight *= 1e-4
    scores = importance(model, [examples], loss, "taylor").units[1]
    whole = loss(model, examples)
    for unit in range(5):
        rest = tuple(i for i in range(5) if i != unit)
        smaller, _, _ = sliced(model, model.architecture, TEXT, Keep(units=(None, rest)))
        assert scores[unit].item() == pytest.approx(abs(loss(smaller, examples) - whole).item(), rel=1e-2)


def test_magnitude_is_the_norm_of_all_weights_that_go():
    model = make(activation="geglu")
    found = importance(model, [], None, "magnitude")
    for part, place, keep in (
        ("units", (0, 2), Keep(units=((0, 1, 3, 4, 5), None))),
        ("heads", (1, 1), Keep(heads=(None, (0, 2)))),
        ("hidden", (5,), Keep(hidden=(0, 1, 2, 3, 4, 6, 7))),
        ("layers", (0,), Keep(layers=(1,))),
    ):
        smaller, _, _ = sliced(model, model.architecture, TEXT, keep)
        squares = [sum(p.detach().square().sum() for p in network.parameters()) for network in (model, smaller)]
        score = getattr(found, part)
        for index in place:
            score = score[index]
        torch.testing.assert_close(score, (squares[0] - squares[1]).sqrt())


def test_activation_is_the_mean_over_kept_positions():
    model, (inputs, targets) = make(), batch()
    found = importance(model, [(inputs, targets)], loss, "activation")
    passed = {}
    block = model.blocks[1]
    block.feed_forward.outer.register_forward_pre_hook(lambda _, x: passed.update(units=x[0]))
    block.attention.out.register_forward_pre_hook(lambda _, x: passed.update(heads=x[0]))
    block.register_forward_hook(lambda _, x, y: passed.update(before=x[0], after=y))
    model(**inputs)
    keep = inputs["keep"]
    torch.testing.assert_close(found.units[1], passed["units"][keep].abs().mean(0))
    heads = torch.stack([passed["heads"][keep][:, 2 * h : 2 * h + 2].norm(dim=1).mean() for h in range(3)])
    torch.testing.assert_close(found.heads[1], heads)
    turned = 1 - F.cosine_similarity(passed["before"][keep], passed["after"][keep], dim=1)
    torch.testing.assert_close(found.layers[1], turned.mean())
    hooks = [module._forward_hooks or module._forward_pre_hooks for module in model.front_end.modules()]
    assert not any(hooks)


@pytest.mark.parametrize("kind", get_args(Kind))
def test_images_have_scores_too(kind):
    image = {"input": "pixels", "height": 4, "width": 4, "channels": 1, "scale": 0.1, "n_classes": 4}
    model = build(Architecture(**SIZES, patch=2), image)
    examples = ({"pixels": torch.rand(5, 4, 4, 1)}, torch.randint(0, 4, (5,)))
    found = importance(model, [examples], loss, kind)
    assert [len(scores) for scores in found.heads] == [2, 3]
    assert (found.hidden.shape, found.layers.shape) == ((8,), (2,))


@pytest.mark.parametrize("kind", ["taylor", "activation"])
def test_without_examples(kind):
    message = f"^importance is {kind}, which needs examples and a loss; give both, or choose magnitude$"
    with pytest.raises(ValueError, match=message):
        importance(make(), [], loss, kind)
