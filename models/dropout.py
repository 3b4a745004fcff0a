"""Dropout (Srivastava et al. 2014), with random numbers that cost little on a CPU."""

import torch
from torch import Tensor
from torch.nn import functional as F

LEVELS = 256  # the values of a byte


def dropout(x: Tensor, rate: float) -> Tensor:
    """Zero each element with probability `rate`, and scale the others up by what that takes from the mean.

    torch draws a 64-bit number an element on a CPU, one after the other, which took a tenth of a training step. A
    byte an element decides here instead, so that the rate is rounded to a 256th (and the scale with it).
    """
    if x.device.type != "cpu":
        return F.dropout(x, rate)
    zeroed = min(round(rate * LEVELS), LEVELS - 1)
    words = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
    bytes_ = words.view(torch.uint8)[: x.numel()].view(x.shape)
    mask = torch.ge(bytes_, zeroed, out=torch.empty(x.shape, dtype=x.dtype))
    return x * mask.mul_(LEVELS / (LEVELS - zeroed))
