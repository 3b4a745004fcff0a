import pytest
import torch
from torch import nn

from models.architecture import Architecture, Layer, Product, TokenSignature, products
from models.latency_parts import megabytes, parts, work
from models.linear import LowRank, linear


@pytest.mark.parametrize(
    ("rank", "factored", "weights"),
    [(None, False, 128), (5, True, 120), (6, False, 128)],  # 6 * (16 + 8) > 16 * 8
)
def test_a_product_is_factored_where_that_is_smaller(rank, factored, weights):
    product = Product(16, 8, rank)
    module = linear(product)
    assert (product.factored, product.weights, isinstance(module, LowRank)) == (factored, weights, factored)
    assert sum(p.numel() for p in module.parameters() if p.ndim == 2) == weights


def test_it_is_the_product_of_its_two_matrices():
    module = LowRank(6, 5, 2)
    x = torch.randn(3, 4, 6)
    whole = nn.functional.linear(x, module.up.weight @ module.down.weight, module.up.bias)
    torch.testing.assert_close(module(x), whole)


def test_the_products_of_a_layer():
    found = products(16, Layer(2, 4, 24, attention_rank=3), gated=True)
    assert found == (Product(16, 24, 3), Product(8, 16, 3), Product(16, 48, None), Product(24, 16, None))


def test_a_rank_for_each_layer():
    layers = Architecture(n_layers=2, attention_rank=(3, 5), feed_forward_rank=7).layers
    assert [(layer.attention_rank, layer.feed_forward_rank) for layer in layers] == [(3, 7), (5, 7)]
    with pytest.raises(ValueError, match="attention_rank has 2 values, must have one for each of the 3 layers"):
        Architecture(n_layers=3, attention_rank=(3, 5))


def test_a_factored_layer_is_a_part_of_its_own_in_the_layer_table():
    signature = TokenSignature(input="tokens", vocab_size=9, max_length=8, pad_id=0, n_classes=2)
    whole, factored = (
        list(parts(Architecture(n_layers=1, feed_forward_rank=rank), signature, 8))[1] for rank in (None, 16)
    )
    assert factored.shape == {**whole.shape, "feed_forward_rank": 16}
    assert (work(factored.shape) <= work(whole.shape)).all()
    assert work(whole.shape)[2] / work(factored.shape)[2] == 2 * 128 * 512 / (2 * 16 * (128 + 512))
    assert megabytes(factored.architecture) < megabytes(whole.architecture)
