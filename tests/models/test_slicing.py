from typing import Any

import pytest
import torch

from models import cost
from models.architecture import Architecture
from models.encoder import build
from models.linear import LowRank
from models.slicing import Keep, evenly_spaced, sliced

TEXT: dict[str, Any] = {"input": "tokens", "vocab_size": 20, "max_length": 9, "pad_id": 3, "n_classes": 4}
IMAGE = {"input": "pixels", "height": 4, "width": 4, "channels": 1, "scale": 0.1, "n_classes": 4}
SIZES = {"n_layers": 3, "d_model": 12, "n_heads": (2, 3, 2), "d_head": (4, 6, 4), "d_ff": (10, 14, 8)}
KINDS = [
    *({"positions": kind} for kind in ("sinusoidal", "learned", "rotary", "alibi", "none")),
    {"activation": "swiglu", "norm": "rms"},
    {"norm_placement": "post", "embedding_norm": True, "pooling": "cls"},
    {"embedding_rank": 5},
    {"attention_rank": (4, 3, 2), "feed_forward_rank": 3},
    {"patch": 2, "pooling": "cls"},
]
by_kind = pytest.mark.parametrize("kind", KINDS, ids=str)


@pytest.fixture(autouse=True)
def _exact():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def make(**kind):
    """A network whose every weight counts, its architecture and signature."""
    signature = IMAGE if "patch" in kind else TEXT
    architecture = Architecture(**{**SIZES, **kind})
    torch.manual_seed(0)
    model = build(architecture, signature).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model, architecture, signature


def logits(model, signature):
    torch.manual_seed(1)
    if signature["input"] == "pixels":
        return model(pixels=torch.rand(3, 4, 4, 1))
    keep = torch.arange(9) < torch.tensor([4, 9, 7])[:, None]
    return model(torch.randint(0, 20, (3, 9)), keep)


def first(product):
    """The matrix that reads a product's inputs."""
    return product.down if isinstance(product, LowRank) else product


def same(first, second):
    torch.testing.assert_close(first, second, rtol=0, atol=1e-12)


@by_kind
def test_with_all_kept_it_is_the_same_network_and_another_object(kind):
    model, architecture, signature = make(**kind)
    everything = Keep(
        layers=(0, 1, 2),
        heads=tuple(tuple(range(layer.n_heads)) for layer in architecture.layers),
        units=(None, tuple(range(14)), None),
        hidden=tuple(range(12)) if kind.get("positions") != "sinusoidal" else None,
        tokens=tuple(range(20)) if signature is TEXT else None,
    )
    other, described, seen = sliced(model, architecture, signature, everything)
    assert (described, seen) == (architecture, signature)
    same(logits(other, signature), logits(model, signature))
    for ours, theirs in zip(other.parameters(), model.parameters(), strict=True):
        assert ours.data_ptr() != theirs.data_ptr()


@by_kind
def test_the_order_of_hidden_dimensions_heads_and_units_does_not_matter(kind):
    """Were one tensor left in the old order, the logits would be others."""
    model, architecture, signature = make(**kind)
    turned = Keep(
        heads=((1, 0), (2, 0, 1), None),
        units=(tuple(reversed(range(10))), None, (3, 1, 2, 0, 7, 6, 5, 4)),
        hidden=(5, 3, 0, 11, 1, 2, 4, 10, 6, 7, 9, 8),
    )
    other, _, _ = sliced(model, architecture, signature, turned)
    same(logits(other, signature), logits(model, signature))


@by_kind
def test_heads_and_units_without_outgoing_weights_leave_no_trace(kind):
    model, architecture, signature = make(**kind)
    with torch.no_grad():
        first(model.blocks[1].attention.out).weight[:, 6:12] = 0  # the second of three heads of width 6
        first(model.blocks[2].attention.out).weight[:, :4] = 0
        first(model.blocks[0].feed_forward.outer).weight[:, [1, 7]] = 0
    keep = Keep(heads=(None, (0, 2), (1,)), units=((0, 2, 3, 4, 5, 6, 8, 9), None, None))
    smaller, described, _ = sliced(model, architecture, signature, keep)
    assert [layer.n_heads for layer in described.layers] == [2, 2, 1]
    assert [layer.d_ff for layer in described.layers] == [8, 14, 8]
    same(logits(smaller, signature), logits(model, signature))
    assert sum(p.numel() for p in smaller.parameters()) == cost.params(described, signature)


@by_kind
def test_fewer_hidden_dimensions_are_the_same_ones_in_every_tensor(kind):
    """In one step or by a permutation and then the first ones."""
    model, architecture, signature = make(**kind)
    at_once, described, _ = sliced(model, architecture, signature, Keep(hidden=(7, 2, 9, 4)))
    order = (7, 2, 9, 4, *(i for i in range(12) if i not in (7, 2, 9, 4)))
    turned = sliced(model, architecture, signature, Keep(hidden=order))
    in_two, again, _ = sliced(*turned, Keep(hidden=(0, 1, 2, 3)))
    assert described == again
    assert (described.d_model, described.embedding_rank) == (4, None)
    same(logits(at_once, signature), logits(in_two, signature))
    assert sum(p.numel() for p in at_once.parameters()) == cost.params(described, signature)


def test_the_kept_weights_are_those_of_the_larger_network():
    model, architecture, signature = make()
    smaller, _, _ = sliced(model, architecture, signature, Keep(layers=(2, 0), hidden=(1, 8), units=((5,), (4, 9))))
    assert torch.equal(
        smaller.blocks[1].feed_forward.inner.weight, model.blocks[0].feed_forward.inner.weight[[4, 9]][:, [1, 8]]
    )
    assert torch.equal(
        smaller.blocks[0].feed_forward.outer.weight, model.blocks[2].feed_forward.outer.weight[[1, 8], 5:6]
    )
    assert torch.equal(smaller.blocks[0].attention_norm.weight, model.blocks[2].attention_norm.weight[[1, 8]])


def test_layers_are_dropped_as_if_they_were_passed_over():
    model, architecture, signature = make()
    smaller, described, _ = sliced(model, architecture, signature, Keep(layers=(0, 2)))
    assert (described.n_layers, described.n_heads, described.d_ff) == (2, (2, 2), (10, 8))
    del model.blocks[1]
    same(logits(smaller, signature), logits(model, signature))


def test_fewer_tokens_keep_their_vectors_under_new_numbers():
    model, architecture, signature = make()
    smaller, _, seen = sliced(model, architecture, signature, Keep(tokens=(3, 5, 19, 7)))
    assert (seen["vocab_size"], seen["pad_id"]) == (4, 0)
    assert seen["n_classes"] == 4
    same(smaller(torch.tensor([[1, 2, 3]])), model(torch.tensor([[5, 19, 7]])))


def test_it_draws_no_random_number_and_keeps_dtype_and_mode():
    model, architecture, signature = make()
    before = torch.get_rng_state()
    smaller, _, _ = sliced(model.half().train(), architecture, signature, Keep(layers=(1,)))
    assert torch.equal(before, torch.get_rng_state())
    assert (smaller.training, smaller.head.linear.weight.dtype) == (True, torch.float16)


@pytest.mark.parametrize(
    ("n", "of", "places"), [(3, 6, (0, 2, 4)), (1, 6, (0,)), (4, 6, (0, 1, 3, 4)), (6, 6, tuple(range(6)))]
)
def test_evenly_spaced_layers(n, of, places):
    assert evenly_spaced(n, of) == places


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (Keep(layers=()), "layers: none of 3 is kept, must be at least one; keep more"),
        (Keep(layers=(0, 3)), "layers: 3 is kept, must be from 0 to 2; there are 3"),
        (Keep(hidden=(1, 1)), "hidden: 1 is kept twice, must be once; name each one time"),
        (Keep(layers=(1, 2), heads=((0,), (2,))), "heads of layer 2: 2 is kept, must be from 0 to 1; there are 2"),
        (Keep(units=(None, (), None)), "units of layer 1: none of 14 is kept, must be at least one; keep more"),
        (Keep(units=((0,),)), "units are given for 1 layers, 3 are kept; give one for each"),
        (Keep(tokens=(0, 1)), "tokens lack 3, which fills batches up; keep it"),
    ],
    ids=str,
)
def test_what_cannot_be_kept_is_told(keep, message):
    model, architecture, signature = make()
    with pytest.raises(ValueError, match=f"^{message}$"):
        sliced(model, architecture, signature, keep)


def test_images_have_no_tokens_to_keep():
    model, architecture, signature = make(patch=2)
    with pytest.raises(ValueError, match="tokens are kept of a network for pixels, which has none; leave them out"):
        sliced(model, architecture, signature, Keep(tokens=(0,)))
