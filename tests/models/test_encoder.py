import pytest
import torch
from torch.export import Dim, export
from torch.nn import functional as F

from models.architecture import Architecture
from models.encoder import build

TEXT = {"input": "tokens", "vocab_size": 20, "max_length": 16, "pad_id": 0, "n_classes": 4}
IMAGE = {"input": "pixels", "height": 4, "width": 4, "channels": 1, "scale": 0.1, "n_classes": 4}
SMALL = {"d_model": 16, "n_heads": 2, "d_head": 8, "d_ff": 32}


def padded(batch: int, length: int) -> dict[str, torch.Tensor]:
    keep = torch.arange(length) < torch.randint(1, length + 1, (batch, 1))
    return {"tokens": torch.randint(1, 20, (batch, length)), "keep": keep}


def after_the_marker(batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens, one of them a marker (19); the class is the token after it (0 to 3) among others of these."""
    tokens, place = torch.randint(0, 4, (batch, 12)), torch.randint(0, 11, (batch, 1))
    tokens.scatter_(1, place, 19)
    return tokens, tokens.gather(1, place + 1)[:, 0]


def test_it_learns_to_look_beside_a_marker():
    torch.manual_seed(0)
    model = build(Architecture(positions="rotary", d_model=32, n_heads=2, d_head=16, d_ff=64), TEXT)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, fused=True)
    for _ in range(120):
        tokens, targets = after_the_marker(64)
        optimizer.zero_grad()
        F.cross_entropy(model(tokens), targets).backward()
        optimizer.step()
    tokens, targets = after_the_marker(500)
    assert (model(tokens).argmax(1) == targets).float().mean() > 0.97


def test_the_head_reads_the_hidden_states():
    model = build(Architecture(**SMALL), TEXT).eval()
    batch = padded(3, 9)
    x_BLD = model.encode(**batch)
    assert x_BLD.shape == (3, 9, 16)
    assert torch.equal(model.head(x_BLD, batch["keep"]), model(**batch))


@pytest.mark.parametrize("placement", ["pre", "post"])
def test_hidden_states_end_in_a_norm(placement):
    model = build(Architecture(norm_placement=placement, norm_eps=1e-12, **SMALL), TEXT).eval()
    x_BLD = model.encode(**padded(3, 9))
    torch.testing.assert_close(x_BLD.mean(-1), torch.zeros(3, 9), rtol=0, atol=1e-5)
    torch.testing.assert_close(x_BLD.var(-1, correction=0), torch.ones(3, 9), rtol=0, atol=1e-4)


def test_dropout_only_in_training():
    model, batch = build(Architecture(dropout=0.5, **SMALL), TEXT), padded(3, 9)
    assert not torch.equal(model.train()(**batch), model(**batch))
    assert torch.equal(model.eval()(**batch), model(**batch))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_training_draws_numbers_only_for_dropout(dropout):
    model, batch = build(Architecture(dropout=dropout, **SMALL), TEXT).train(), padded(3, 9)
    before = torch.get_rng_state()
    model(**batch)
    assert torch.equal(before, torch.get_rng_state()) is (dropout == 0)


@pytest.mark.parametrize("positions", ["learned", "rotary", "alibi"])
def test_exported_with_any_batch_and_length(positions):
    model = build(Architecture(n_layers=1, positions=positions, **SMALL), TEXT).eval()
    sizes = {0: Dim("batch", max=64), 1: Dim("length", max=16)}
    program = export(model, (), padded(2, 5), dynamic_shapes={"tokens": sizes, "keep": sizes})
    batch = padded(7, 16)
    torch.testing.assert_close(program.module()(**batch), model(**batch))


def test_pixels_by_name():
    model = build(Architecture(patch=2, **SMALL), IMAGE).eval()
    pixels = torch.rand(3, 4, 4, 1)
    assert model(pixels=pixels).shape == (3, 4)
    assert model.encode(pixels=pixels).shape == (3, 4, 16)


def test_what_does_not_fit_is_not_built():
    with pytest.raises(ValueError, match="patch is 3, must divide the image's height 4 and width 4; choose one of 1"):
        build(Architecture(patch=3), IMAGE)


def test_equal_seeds_build_equal_models():
    torch.manual_seed(3)
    first = build(Architecture(**SMALL), TEXT).state_dict()
    torch.manual_seed(3)
    second = build(Architecture(**SMALL), TEXT).state_dict()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_what_is_random_at_the_start_is_of_the_size_it_should_be():
    torch.manual_seed(0)
    model = build(Architecture(d_model=64, d_ff=256), {**TEXT, "vocab_size": 500, "n_classes": 100})
    block = model.blocks[1]
    for weight, expected in (
        (model.front_end.embedding.weight, 0.005),
        (model.positions.weight, 0.005),
        (block.attention.qkv.weight, 64**-0.5),
        (block.feed_forward.inner.weight, 64**-0.5),
        (block.attention.out.weight, 128**-0.5),
        (block.feed_forward.outer.weight, 256**-0.5),
        (model.head.linear.weight, 0.02),
    ):
        assert weight.std().item() == pytest.approx(expected, rel=0.05)
    assert all(not p.any() for name, p in model.named_parameters() if name.endswith("bias"))
    assert all((p == 1).all() for name, p in model.named_parameters() if name.endswith("norm.weight"))
