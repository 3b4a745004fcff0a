"""Kernel densities beside slow references: scipy's distributions, and the kernels' own formulas."""

import math

import numpy as np
import pytest
from scipy import stats

from experiments.engine.strategies.coding import Dimension
from experiments.engine.strategies.density import Density, kernel

RANGE = Dimension("x", "float")
CHOICE = Dimension("c", "choice", (0.0, 1 / 3, 2 / 3))
ORDINAL = Dimension("o", "ordinal", (0.0, 0.2, 0.4, 0.6, 0.8))


def observed(count=30):
    random = np.random.default_rng(0)
    columns = random.random(count), random.integers(3, size=count), random.integers(2, size=count)
    return np.column_stack(columns).astype(float)


def test_bandwidths_follow_the_normal_reference_rule():
    rows = observed()
    expected = [1.06 * np.std(rows[:, j]) * 30 ** (-1 / 7) for j in range(3)]
    assert Density(rows, [RANGE, CHOICE, ORDINAL], 1e-3).bandwidths == pytest.approx(expected)
    assert (Density(np.ones((5, 3)), [RANGE, CHOICE, ORDINAL], 1e-3).bandwidths == 1e-3).all()


def test_one_range_is_as_scipys_gaussian_kernels():
    rows = observed()[:, :1]
    density = Density(rows, [RANGE], 1e-3)
    factor = density.bandwidths[0] / rows.std(ddof=1)
    places = np.linspace(0, 1, 50)
    reference = stats.gaussian_kde(rows[:, 0], factor).logpdf(places)
    assert density.logarithms(places[:, None]) == pytest.approx(reference)


def test_a_product_of_kernels():
    rows, dimensions = observed(), [RANGE, CHOICE, ORDINAL]
    density = Density(rows, dimensions, 1e-3)
    widths = density.bandwidths
    for point in observed(10)[::-1]:
        terms = [
            stats.norm.pdf(point[0], row[0], widths[0])
            * kernel(CHOICE, widths[1])[int(row[1]), int(point[1])]
            * kernel(ORDINAL, widths[2])[int(row[2]), int(point[2])]
            for row in rows
        ]
        assert density.logarithms(point[None])[0] == pytest.approx(math.log(np.mean(terms)))


def test_kernels_of_levels():
    assert kernel(CHOICE, 0.3) == pytest.approx(np.array([[0.7, 0.15, 0.15], [0.15, 0.7, 0.15], [0.15, 0.15, 0.7]]))
    assert kernel(CHOICE, 5.0) == pytest.approx(np.full((3, 3), 1 / 3))
    row = np.array([0.8, 0.5 * 0.8 * 0.2, 0.5 * 0.8 * 0.04, 0.5 * 0.8 * 0.008, 0.5 * 0.8 * 0.0016])
    assert kernel(ORDINAL, 0.2)[0] == pytest.approx(row / row.sum())
    assert kernel(ORDINAL, 7.0).sum(1) == pytest.approx(np.ones(5))


def test_draws_are_of_the_cut_kernels():
    rows = np.array([[0.1, 0.0, 4.0]] * 3)
    density = Density(rows, [RANGE, CHOICE, ORDINAL], 0.1)
    drawn = density.draw(np.random.default_rng(1), 20_000, 3.0)
    cut = stats.truncnorm(-0.1 / 0.3, 0.9 / 0.3, 0.1, 0.3)
    assert stats.kstest(drawn[:, 0], cut.cdf).pvalue > 0.01
    for column, dimension, level in ((1, CHOICE, 0), (2, ORDINAL, 4)):
        shares = np.bincount(drawn[:, column].astype(int), minlength=dimension.levels) / 20_000
        assert shares == pytest.approx(kernel(dimension, 0.3)[level], abs=0.01)


def test_draws_stay_within_bounds():
    density = Density(np.array([[0.0], [1.0]]), [RANGE], 1e-3)
    drawn = density.draw(np.random.default_rng(0), 5000, 50.0)
    assert drawn.min() >= 0
    assert drawn.max() <= 1
