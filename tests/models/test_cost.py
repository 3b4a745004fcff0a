import random

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from models import cost
from models.architecture import Architecture
from models.encoder import build

TEXT = {"input": "tokens", "vocab_size": 90, "max_length": 12, "pad_id": 0, "n_classes": 7}
IMAGE = {"input": "pixels", "height": 8, "width": 4, "channels": 3, "scale": 0.1, "n_classes": 7}


def drawn(seed: int, signature: dict) -> Architecture:
    draw = random.Random(seed)
    n_layers = draw.randint(1, 4)

    def sizes(*choices: int) -> int | tuple[int, ...]:
        return draw.choice([draw.choice(choices), tuple(draw.choices(choices, k=n_layers))])

    text = signature is TEXT
    return Architecture(
        n_layers=n_layers,
        d_model=draw.choice([8, 12]),
        n_heads=sizes(1, 2, 3),
        d_head=sizes(2, 4),
        d_ff=sizes(5, 16),
        activation=draw.choice(["gelu", "swiglu"]),
        norm=draw.choice(["layer", "rms"]),
        norm_placement=draw.choice(["pre", "post"]),
        positions=draw.choice(["learned", "rotary", "none"]),
        pooling=draw.choice(["mean", "cls"]),
        embedding_rank=draw.choice([None, 3]) if text else None,
        embedding_norm=draw.choice([True, False]),
        patch=None if text else draw.choice([1, 2, 4]),
    )


def inputs(signature: dict, length: int) -> dict[str, torch.Tensor]:
    if signature is TEXT:
        return {"tokens": torch.zeros(1, length, dtype=torch.int64)}
    return {"pixels": torch.zeros(1, 8, 4, 3)}


@pytest.mark.parametrize("signature", [TEXT, IMAGE], ids=["text", "image"])
@pytest.mark.parametrize("seed", range(20))
def test_as_the_model_counts(seed, signature):
    architecture = drawn(seed, signature)
    model = build(architecture, signature)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), FlopCounterMode(display=False) as count:
        model(**inputs(signature, 9))
    assert cost.params(architecture, signature) == sum(p.numel() for p in model.parameters())
    assert cost.flops(architecture, signature, 9) == count.get_total_flops()
    stored = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    assert cost.weight_bytes(architecture, signature) == stored


def test_minilm_has_22_7_million():
    minilm = Architecture(n_layers=6, d_model=384, n_heads=12, d_ff=1536, norm_placement="post", embedding_norm=True)
    signature = {**TEXT, "vocab_size": 30522, "max_length": 512, "n_classes": 1}
    # Published: 22,713,216 with its pooler (384² + 384) and second segment (384), which we leave behind.
    assert cost.params(minilm, signature) == 22_713_216 - 384**2 - 384 - 2 * 384 + 385


def test_the_longest_input_where_no_length_is_given():
    architecture = Architecture()
    assert cost.flops(architecture, TEXT) == cost.flops(architecture, TEXT, 12) > cost.flops(architecture, TEXT, 11)


def test_what_does_not_fit_has_no_cost():
    with pytest.raises(ValueError, match="patch is 3, must divide the image's height 8 and width 4; choose one of 1"):
        cost.params(Architecture(patch=3), IMAGE)
