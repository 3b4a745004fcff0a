import pytest
import torch
from torch import nn

from models.architecture import Architecture
from models.attention import Attention
from models.blocks import Block, FeedForward, make_norm

ARCHITECTURE = Architecture(n_layers=1, d_model=16, n_heads=4, d_head=4, d_ff=24)


def copy(block: Block, layer: nn.TransformerEncoderLayer) -> None:
    pairs = [
        (layer.self_attn.in_proj_weight, block.attention.qkv.weight),
        (layer.self_attn.in_proj_bias, block.attention.qkv.bias),
        *pairs_of(layer.self_attn.out_proj, block.attention.out),
        *pairs_of(layer.linear1, block.feed_forward.inner),
        *pairs_of(layer.linear2, block.feed_forward.outer),
        *pairs_of(layer.norm1, block.attention_norm),
        *pairs_of(layer.norm2, block.feed_forward_norm),
    ]
    with torch.no_grad():
        for theirs, ours in pairs:
            theirs.copy_(ours)


def pairs_of(theirs: nn.Module, ours: nn.Module):
    return [(theirs.weight, ours.weight), (theirs.bias, ours.bias)]


@pytest.mark.parametrize("placement", ["pre", "post"])
@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_a_block_is_torchs(placement, activation):
    torch.manual_seed(0)
    architecture = ARCHITECTURE.model_copy(update={"norm_placement": placement, "activation": activation})
    block = Block(architecture, architecture.layers[0], n_positions=7).double()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    layer = nn.TransformerEncoderLayer(
        16, 4, 24, 0.0, activation, 1e-5, batch_first=True, norm_first=placement == "pre", dtype=torch.float64
    )
    copy(block, layer)
    x_BLD = torch.randn(3, 7, 16, dtype=torch.float64)
    keep_BL = torch.arange(7) < torch.tensor([7, 3, 5])[:, None]
    ours = block(x_BLD, keep_BL[:, None, None, :])
    theirs = layer(x_BLD, src_key_padding_mask=~keep_BL)
    torch.testing.assert_close(ours[keep_BL], theirs[keep_BL], rtol=0, atol=1e-12)


def test_the_inner_width_need_not_be_the_outer():
    attention = Attention(d_model=16, n_heads=3, d_head=10, positions="none", n_positions=5)
    assert attention.qkv.weight.shape == (90, 16)
    assert attention(torch.randn(2, 5, 16), None).shape == (2, 5, 16)


@pytest.mark.parametrize(("activation", "function"), [("geglu", nn.GELU()), ("swiglu", nn.SiLU())])
def test_a_gated_feed_forward_is_the_papers(activation, function):
    ours = FeedForward(d_model=6, d_ff=8, activation=activation, gated=True).double()
    x_BLD = torch.randn(2, 3, 6, dtype=torch.float64)
    (w, v), (b, c) = ours.inner.weight.chunk(2), ours.inner.bias.chunk(2)
    expected = (function(x_BLD @ w.T + b) * (x_BLD @ v.T + c)) @ ours.outer.weight.T + ours.outer.bias
    torch.testing.assert_close(ours(x_BLD), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("gelu", lambda x: x * (1 + torch.erf(x / 2**0.5)) / 2),
        ("gelu_tanh", lambda x: x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))) / 2),
        ("relu", lambda x: x.clamp(min=0)),
        ("silu", lambda x: x * torch.sigmoid(x)),
    ],
)
def test_activations_are_what_they_are_called(activation, function):
    ours = FeedForward(d_model=6, d_ff=8, activation=activation, gated=False).double()
    x_BLD = torch.randn(2, 3, 6, dtype=torch.float64)
    torch.testing.assert_close(ours(x_BLD), ours.outer(function(ours.inner(x_BLD))), rtol=0, atol=1e-12)


def test_norms_are_the_papers():
    x_BLD = torch.randn(2, 3, 16, dtype=torch.float64) * 3 + 1
    centred = x_BLD - x_BLD.mean(-1, keepdim=True)
    for kind, expected in (
        ("layer", centred / (centred.square().mean(-1, keepdim=True) + 1e-3).sqrt()),
        ("rms", x_BLD / (x_BLD.square().mean(-1, keepdim=True) + 1e-3).sqrt()),
    ):
        norm = make_norm(ARCHITECTURE.model_copy(update={"norm": kind, "norm_eps": 1e-3})).double()
        torch.testing.assert_close(norm(x_BLD), expected, rtol=0, atol=1e-12)


def test_dropout_only_in_training():
    block = Block(ARCHITECTURE.model_copy(update={"dropout": 0.5}), ARCHITECTURE.layers[0], n_positions=5)
    x_BLD = torch.randn(2, 5, 16)
    assert not torch.equal(block.train()(x_BLD, None), block(x_BLD, None))
    assert torch.equal(block.eval()(x_BLD, None), block(x_BLD, None))
