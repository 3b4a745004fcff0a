import pytest
import torch
from torch.nn import functional as F

from models.attention import Attention, _attend_plainly, _is_small


def heads(length, dtype=torch.float64):
    return torch.randn(3, 2, 3, length, 8, dtype=dtype, requires_grad=True).unbind(0)


@pytest.mark.parametrize("mask", ["none", "keep", "added"])
def test_the_plain_form_equals_the_fused(mask):
    q, k, v = heads(6)
    keep = torch.arange(6) < torch.tensor([4, 6])[:, None, None, None]
    given = {"none": None, "keep": keep, "added": torch.randn(2, 3, 6, 6, dtype=torch.float64)}[mask]
    plain = _attend_plainly(q, k, v, given)
    fused = F.scaled_dot_product_attention(q, k, v, attn_mask=given)
    torch.testing.assert_close(plain, fused, rtol=0, atol=1e-12)
    ours = torch.autograd.grad(plain.sin().sum(), (q, k, v))
    theirs = torch.autograd.grad(fused.sin().sum(), (q, k, v))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("dtype", "length", "expected"),
    [
        (torch.bfloat16, 256, True),
        (torch.bfloat16, 257, False),
        (torch.float32, 32, True),
        (torch.float32, 33, False),
        (torch.float64, 2, False),
    ],
)
def test_the_plain_form_is_for_short_inputs(dtype, length, expected):
    assert _is_small(torch.empty(1, 1, length, 8, dtype=dtype)) is expected
    assert not _is_small(torch.empty(1, 1, length, 8, dtype=dtype, device="meta"))


@pytest.mark.parametrize("positions", ["none", "rotary", "alibi"])
@pytest.mark.parametrize("how", ["autocast", "weights"])
def test_bfloat16_is_near_float32(positions, how):
    torch.manual_seed(0)
    attention = Attention(d_model=16, n_heads=2, d_head=8, positions=positions, n_positions=10)
    x_BLD = torch.randn(3, 10, 16)
    mask = torch.arange(10) < torch.tensor([3, 10, 7])[:, None, None, None]
    exact = attention(x_BLD, mask)
    if how == "autocast":
        with torch.autocast("cpu", torch.bfloat16):
            rough = attention(x_BLD, mask)
    else:
        rough = attention.bfloat16()(x_BLD.bfloat16(), mask)
    assert rough.dtype == torch.bfloat16
    torch.testing.assert_close(rough.float(), exact, rtol=0, atol=0.02)
