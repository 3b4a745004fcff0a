"""How the network knows where a token stands: added to the embeddings, turned into, or added to attention."""

import math

import torch
from torch import Tensor, nn

from models.architecture import Positions


def sinusoids(n_positions: int, d_model: int) -> Tensor:
    """Fixed positions (Vaswani et al. 2017, arXiv:1706.03762, section 3.5): sine in even, cosine in odd places."""
    angles = _angles(n_positions, d_model)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)


def rotary_tables(n_positions: int, d_head: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines by which queries and keys are turned, cos_LK and sin_LK.

    Su et al. 2021, arXiv:2104.09864. Place i is paired with place i + d_head / 2, not with its neighbour: the
    same up to a permutation of the weights, and cheaper.
    """
    angles_LK = _angles(n_positions, d_head).repeat(1, 2)
    return angles_LK.cos(), angles_LK.sin()


def rotate(x_BHLK: Tensor, cos_LK: Tensor, sin_LK: Tensor) -> Tensor:
    """Turn each pair of places by the angle of its position."""
    first, second = x_BHLK.chunk(2, dim=-1)
    return x_BHLK * cos_LK + torch.cat((-second, first), dim=-1) * sin_LK


def alibi_slopes(n_heads: int) -> Tensor:
    """One slope a head, slopes_H (Press et al. 2021, arXiv:2108.12409, section 3).

    A geometric sequence from 2^(-8/n) for a power of two n; otherwise that of the power below, filled up with
    every second one of the power above, as in the authors' code.
    """
    power = 2 ** math.floor(math.log2(n_heads))
    slopes = [2 ** (-8 * i / power) for i in range(1, power + 1)]
    between = [2 ** (-4 * i / power) for i in range(1, 2 * (n_heads - power), 2)]
    return torch.tensor(slopes + between)


def alibi_bias(slopes_H: Tensor, length: int) -> Tensor:
    """What is added to the scores, bias_HLL: minus slope times distance, both ways as nothing here is causal."""
    place_L = torch.arange(length, device=slopes_H.device)
    distance_LL = (place_L[None, :] - place_L[:, None]).abs()
    return -slopes_H[:, None, None] * distance_LL


class LearnedPositions(nn.Module):
    """One trained vector a position, added to the embeddings (Devlin et al. 2018, arXiv:1810.04805)."""

    def __init__(self, n_positions: int, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_positions, d_model))

    def forward(self, x_BLD: Tensor) -> Tensor:
        return x_BLD + self.weight[: x_BLD.shape[1]]


class SinusoidalPositions(nn.Module):
    """Fixed sinusoids times `scale`, added to the embeddings."""

    weight: Tensor

    def __init__(self, n_positions: int, d_model: int, scale: float) -> None:
        super().__init__()
        self.register_buffer("weight", scale * sinusoids(n_positions, d_model), persistent=False)

    def forward(self, x_BLD: Tensor) -> Tensor:
        return x_BLD + self.weight[: x_BLD.shape[1]]


def added_positions(positions: Positions, n_positions: int, d_model: int, scale: float) -> nn.Module | None:
    """What is added to the embeddings (sinusoids times `scale`); None for the kinds that act in attention."""
    match positions:
        case "learned":
            return LearnedPositions(n_positions, d_model)
        case "sinusoidal":
            return SinusoidalPositions(n_positions, d_model, scale)
        case _:
            return None


def _angles(n_positions: int, width: int) -> Tensor:
    """Position times 10000^(-2i / width) for i < width / 2; in float64, then rounded once."""
    rates = 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    return torch.outer(torch.arange(n_positions, dtype=torch.float64), rates).to(torch.get_default_dtype())
