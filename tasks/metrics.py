"""Scores of a classifier from its logits, and how sure they are. Equal to scikit-learn's, without its import.

Wilson's interval: E. B. Wilson, 1927; bootstrap: B. Efron, 1979 (percentile interval).
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Z_95 = 1.959963984540054  # the normal distribution's 97.5 % point
RESAMPLES = 1000


def accuracy(logits: NDArray[Any], targets: NDArray[Any]) -> float:
    """Share of the rows whose largest logit is the target's."""
    return float(np.mean(logits.argmax(1) == targets))


def macro_f1(logits: NDArray[Any], targets: NDArray[Any]) -> float:
    """Mean of the F1 of the classes that occur among targets or predictions."""
    return _macro_f1(targets, logits.argmax(1), np.ones(len(targets)), logits.shape[1])


def cross_entropy(logits: NDArray[Any], targets: NDArray[Any]) -> float:
    """Mean of -log softmax(logits)[target], in nats."""
    logits = logits.astype(np.float64)
    shifted = logits - logits.max(1, keepdims=True)
    chosen = shifted[np.arange(len(targets)), targets]
    return float(np.mean(np.log(np.exp(shifted).sum(1)) - chosen))


def wilson(right: int, n: int, z: float = Z_95) -> tuple[float, float]:
    """Interval of the probability behind `right` successes in `n` trials."""
    share = right / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def bootstrap_f1(logits: NDArray[Any], targets: NDArray[Any], seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of macro F1 under resampling of the rows.

    Rows of equal target and prediction are alike, so a resample of n rows is one multinomial draw of such pairs.
    """
    (right, given), counts = np.unique(np.stack([targets, logits.argmax(1)]), axis=1, return_counts=True)
    n, n_classes = len(targets), logits.shape[1]
    draws = np.random.default_rng(seed).multinomial(n, counts / n, size=RESAMPLES)
    scores = [_macro_f1(right, given, draw, n_classes) for draw in draws]
    return float(np.quantile(scores, 0.025)), float(np.quantile(scores, 0.975))


def _macro_f1(targets: NDArray[Any], predictions: NDArray[Any], counts: NDArray[Any], n_classes: int) -> float:
    """Of pairs that occur `counts` times each: the mean over classes of F1 = 2 right / (targets + predictions)."""
    right = np.bincount(targets, counts * (targets == predictions), n_classes)
    occurs = np.bincount(targets, counts, n_classes) + np.bincount(predictions, counts, n_classes)
    there = occurs > 0
    return float(np.mean(2 * right[there] / occurs[there]))
