import math

import pytest
import torch
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from models.positions import alibi_bias, alibi_slopes, rotary_tables, rotate, sinusoids


def test_sinusoids_are_the_papers():
    table = sinusoids(7, 6)
    for position in range(7):
        for i in range(3):
            angle = position / 10000 ** (2 * i / 6)
            assert table[position, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[position, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


def test_rotary_is_that_of_transformers():
    q_BHLK, k_BHLK = torch.randn(2, 2, 3, 5, 8).unbind(0)
    cos_LK, sin_LK = rotary_tables(5, 8)
    expected = apply_rotary_pos_emb(q_BHLK, k_BHLK, cos_LK[None], sin_LK[None])
    torch.testing.assert_close(rotate(q_BHLK, cos_LK, sin_LK), expected[0])
    torch.testing.assert_close(rotate(k_BHLK, cos_LK, sin_LK), expected[1])


def test_rotary_turns_a_pair_by_its_position():
    cos_LK, sin_LK = rotary_tables(4, 2)
    turned_LK = rotate(torch.tensor([1.0, 0.0]).expand(4, 2), cos_LK, sin_LK)
    expected = torch.tensor([[math.cos(n), math.sin(n)] for n in range(4)])
    torch.testing.assert_close(turned_LK, expected)


def test_rotary_products_depend_on_distance_only():
    cos_LK, sin_LK = rotary_tables(40, 8)
    q_K, k_K = torch.randn(2, 8).unbind(0)
    scores_LL = rotate(q_K.expand(40, 8), cos_LK, sin_LK) @ rotate(k_K.expand(40, 8), cos_LK, sin_LK).T
    torch.testing.assert_close(scores_LL[3, 5], scores_LL[33, 35], rtol=0, atol=1e-5)
    assert (scores_LL[3, 5] - scores_LL[3, 6]).abs() > 1e-3


@pytest.mark.parametrize("n_heads", [1, 2, 3, 4, 6, 8, 12, 16])
def test_alibi_slopes_are_those_of_transformers(n_heads):
    places = build_alibi_tensor(torch.ones(1, 2), n_heads, torch.float32)
    torch.testing.assert_close(alibi_slopes(n_heads), places[:, 0, 1])


def test_alibi_slopes_of_a_power_of_two_are_the_papers():
    assert alibi_slopes(8).tolist() == [2.0**-n for n in range(1, 9)]


def test_alibi_falls_with_distance_both_ways():
    bias_HLL = alibi_bias(torch.tensor([0.5, 2.0]), 3)
    assert bias_HLL[0].tolist() == [[0, -0.5, -1], [-0.5, 0, -0.5], [-1, -0.5, 0]]
    assert bias_HLL[1].tolist() == [[0, -2, -4], [-2, 0, -2], [-4, -2, 0]]
