import pytest
import torch

from models.dropout import dropout


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_share_of_zeros_and_scale_of_the_rest(rate):
    torch.manual_seed(0)
    y = dropout(torch.ones(1000, 400), rate)
    kept = 1 - round(rate * 256) / 256
    assert (y != 0).float().mean().item() == pytest.approx(kept, abs=0.003)
    assert y[y != 0].unique().tolist() == pytest.approx([1 / kept])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_keeps_the_kind_of_number(dtype):
    assert dropout(torch.ones(3, 5, dtype=dtype), 0.3).dtype == dtype


def test_neighbours_and_draws_are_independent():
    torch.manual_seed(0)
    first, second = (dropout(torch.ones(200_001), 0.5) != 0 for _ in range(2))
    for one, other in ((first, second), (first[1:], first[:-1]), (first[8:], first[:-8])):
        assert (one & other).float().mean().item() == pytest.approx(0.25, abs=0.005)


def test_gradient_passes_where_the_value_does():
    x = torch.ones(50, 7, requires_grad=True)
    y = dropout(x, 0.4)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_same_generator_same_zeros():
    torch.manual_seed(5)
    first = dropout(torch.ones(100), 0.5)
    torch.manual_seed(5)
    assert torch.equal(first, dropout(torch.ones(100), 0.5))
