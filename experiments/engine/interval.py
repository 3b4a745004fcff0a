"""What several seeds say of a mean: Student's t, two-sided 95 %."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Interval(NamedTuple):
    """A mean and the ends of its interval."""

    mean: float
    low: float
    high: float


def interval(values: Sequence[float]) -> Interval:
    """Of independent draws, two at least: mean ± t · s / √n with n - 1 degrees of freedom."""
    from scipy.stats import t  # takes half a second to import

    mean, n = statistics.fmean(values), len(values)
    half = float(t.ppf(0.975, n - 1)) * statistics.stdev(values) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half)
