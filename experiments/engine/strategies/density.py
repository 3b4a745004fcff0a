"""Kernel densities of points with ranges, choices and ordered levels: what BOHB's model is made of.

A product of kernels, one a parameter, over the observations: Gaussian for ranges in [0, 1]; Aitchison and Aitken's
(1976) for choices; Wang and van Ryzin's (1981) for ordered levels, over those that there are. Bandwidths follow the
normal reference rule, as in the code of BOHB's authors (statsmodels' KDEMultivariate).
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from experiments.engine.strategies.coding import Dimension

Array = NDArray[np.float64]

# Kernels of ordered levels need a bandwidth below 1.
_WIDEST = 0.999


class Density:
    """Of rows, an observation each: places in [0, 1], indices of levels."""

    def __init__(self, rows: Array, dimensions: Sequence[Dimension], least: float) -> None:
        count, size = rows.shape
        self._rows = rows
        self._dimensions = list(dimensions)
        self.bandwidths: Array = np.maximum(1.06 * rows.std(0) * count ** (-1 / (4 + size)), least)

    def logarithms(self, points: Array) -> Array:
        """Of the density at each point."""
        total = np.full((len(points), len(self._rows)), -math.log(len(self._rows)))
        for j, (dimension, width) in enumerate(zip(self._dimensions, self.bandwidths, strict=True)):
            if dimension.levels:
                table = np.log(kernel(dimension, width))
                total += table[self._rows[:, j].astype(int)].T[points[:, j].astype(int)]
            else:
                total -= (points[:, j, None] - self._rows[:, j]) ** 2 / (2 * width**2)
                total -= math.log(width * math.sqrt(2 * math.pi))
        return np.asarray(np.logaddexp.reduce(total, axis=1))

    def draw(self, random: np.random.Generator, count: int, factor: float) -> Array:
        """Points near observations taken at random, by kernels as much wider as `factor` says, cut at the bounds."""
        from scipy.special import ndtr, ndtri  # slow to import, and nobody needs it who looks for a strategy's name

        points = self._rows[random.integers(len(self._rows), size=count)]
        for j, (dimension, width) in enumerate(zip(self._dimensions, factor * self.bandwidths, strict=True)):
            share = random.random(count)
            if dimension.levels:
                shares = kernel(dimension, width).cumsum(1)[points[:, j].astype(int)]
                points[:, j] = np.minimum((shares < share[:, None]).sum(1), dimension.levels - 1)
            else:
                low, high = ndtr(-points[:, j] / width), ndtr((1 - points[:, j]) / width)
                points[:, j] = np.clip(points[:, j] + width * ndtri(low + share * (high - low)), 0.0, 1.0)
        return points


def kernel(dimension: Dimension, width: float) -> Array:
    """Of each level (row) the probability of each other."""
    levels = np.arange(dimension.levels)
    apart = np.abs(levels[:, None] - levels)
    if dimension.ordered:
        width = min(width, _WIDEST)
        weights = np.where(apart == 0, 1 - width, 0.5 * (1 - width) * width**apart)
        return np.asarray(weights / weights.sum(1, keepdims=True))
    others = dimension.levels - 1
    width = min(width, others / dimension.levels)  # at which all are alike
    return np.where(apart == 0, 1 - width, width / others)
