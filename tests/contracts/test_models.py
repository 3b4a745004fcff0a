"""What holds for every kind of attention, position, norm, activation, pooling and front end that there is."""

from typing import Any, get_args

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from models import cost
from models.architecture import Activation, Architecture, Norm, NormPlacement, Pooling, Positions
from models.attention import Attention
from models.encoder import Classifier, build

TEXT = {"input": "tokens", "vocab_size": 50, "max_length": 12, "pad_id": 0, "n_classes": 5}
IMAGE = {"input": "pixels", "height": 4, "width": 6, "channels": 2, "scale": 0.1, "n_classes": 5}
SMALL: dict[str, Any] = {"n_layers": 2, "d_model": 16, "n_heads": (2, 3), "d_head": (4, 6), "d_ff": (24, 20)}

KINDS: list[dict[str, Any]] = [
    *({"positions": kind} for kind in get_args(Positions)),
    *({"activation": kind} for kind in get_args(Activation)),
    *({"norm": kind, "norm_placement": place} for kind in get_args(Norm) for place in get_args(NormPlacement)),
    *({"pooling": kind} for kind in get_args(Pooling)),
    {"embedding_rank": 4},
    {"embedding_norm": True},
    {"attention_rank": 4, "feed_forward_rank": (3, 5)},
]
IMAGE_KINDS = [{**kind, "patch": 2} for kind in KINDS if "embedding_rank" not in kind]
CASES = [(kind, TEXT) for kind in KINDS] + [(kind, IMAGE) for kind in IMAGE_KINDS]


@pytest.fixture(autouse=True)
def _exact():
    """float64 and one thread: exact, and no spinning beside other work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_num_threads(threads)


def name(value: Any) -> str:
    return value["input"] if "input" in value else "-".join(f"{k}={v}" for k, v in value.items())


def small(kind: dict[str, Any], signature: dict[str, Any]) -> Classifier:
    torch.manual_seed(0)
    return build(Architecture(**{**SMALL, **kind}), signature)


def inputs(signature: dict[str, Any], batch: int = 3) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    if signature["input"] == "pixels":
        return {"pixels": torch.rand(batch, 4, 6, 2)}
    keep = torch.arange(9) < torch.tensor([4, 9, 7])[:batch, None]
    return {"tokens": torch.randint(1, 50, (batch, 9)), "keep": keep}


# Press et al. 2021: 2^(-8/n) and its powers; three heads take those of two and the first of four.
SLOPES = {2: [2**-4, 2**-8], 3: [2**-4, 2**-8, 2**-2]}


def score(kind: str, q: torch.Tensor, k: torch.Tensor, distance: int, slope: float) -> torch.Tensor:
    """Query times key by the papers, for one pair of positions in one head."""
    width = len(q)
    if kind == "rotary":
        rate = 10000.0 ** (-torch.arange(0, width, 2) / width)
        plane_q, plane_k = (torch.complex(x[: width // 2], x[width // 2 :]) for x in (q, k))
        # Turning both by their positions leaves the turn by their distance.
        turned = plane_q * plane_k.conj() * torch.exp(1j * distance * rate)
        return turned.real.sum() / width**0.5
    return q @ k / width**0.5 - (slope * abs(distance) if kind == "alibi" else 0.0)


def plainly(attention: Attention, x_LD: torch.Tensor, length: int) -> torch.Tensor:
    """Attention over the first `length` positions of one example, a head and a position at a time."""
    q, k, v = attention.qkv(x_LD).split(attention.n_heads * attention.d_head, dim=-1)
    heads = []
    for h, slope in enumerate(SLOPES[attention.n_heads]):
        part = slice(h * attention.d_head, (h + 1) * attention.d_head)
        scores = [
            score(attention.positions, q[i, part], k[j, part], i - j, slope)
            for i in range(len(x_LD))
            for j in range(length)
        ]
        weights = torch.stack(scores).view(-1, length).exp()
        heads.append(weights / weights.sum(1, keepdim=True) @ v[:length, part])
    return attention.out(torch.cat(heads, dim=-1))


@pytest.mark.parametrize("positions", get_args(Positions))
@pytest.mark.parametrize("n_heads", [2, 3])
def test_attention_is_the_papers(positions, n_heads):
    torch.manual_seed(0)
    attention = Attention(d_model=12, n_heads=n_heads, d_head=4, positions=positions, n_positions=9)
    x_BLD, lengths = torch.randn(2, 9, 12), [5, 9]
    keep_BL = torch.arange(9) < torch.tensor(lengths)[:, None]
    expected = torch.stack([plainly(attention, x, n) for x, n in zip(x_BLD, lengths, strict=True)])
    torch.testing.assert_close(attention(x_BLD, keep_BL[:, None, None, :]), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS, ids=name)
def test_what_is_padded_does_not_matter(kind):
    model, batch = small(kind, TEXT).eval(), inputs(TEXT)
    logits = model(**batch)
    other = torch.where(batch["keep"], batch["tokens"], 17)
    torch.testing.assert_close(model(other, batch["keep"]), logits, rtol=0, atol=1e-12)
    for row, length in enumerate(batch["keep"].sum(1)):
        alone = model(batch["tokens"][row : row + 1, :length])
        torch.testing.assert_close(alone[0], logits[row], rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS, ids=name)
def test_what_is_kept_matters(kind):
    model, batch = small(kind, TEXT).eval(), inputs(TEXT)
    other = batch["tokens"].clone()
    other[:, 2] = other[:, 2] % 49 + 1
    assert (model(other, batch["keep"]) - model(**batch)).abs().amax(1).min() > 1e-9


@pytest.mark.parametrize(("kind", "signature"), CASES, ids=name)
def test_gradient_reaches_every_parameter(kind, signature):
    model = small(kind, signature).train()
    model(**inputs(signature)).square().sum().backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


@pytest.mark.parametrize(("kind", "signature"), CASES, ids=name)
def test_cost_is_counted(kind, signature):
    model = small(kind, signature).eval()
    batch = inputs(signature, batch=1)
    batch.pop("keep", None)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), FlopCounterMode(display=False) as count:
        model(**batch)
    architecture = model.architecture
    length = 9 if signature is TEXT else None
    assert cost.flops(architecture, signature, length) == count.get_total_flops()
    assert cost.params(architecture, signature) == sum(p.numel() for p in model.parameters())
