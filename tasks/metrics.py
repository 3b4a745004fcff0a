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
    return float(_macro_f1(_confusion(logits, targets)[None])[0])


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

    Rows matter only through the confusion matrix, so a resample of n rows is one multinomial draw of its cells.
    """
    confusion = _confusion(logits, targets)
    n, classes = len(targets), len(confusion)
    draws = np.random.default_rng(seed).multinomial(n, confusion.ravel() / n, size=RESAMPLES)
    scores = _macro_f1(draws.reshape(RESAMPLES, classes, classes))
    return float(np.quantile(scores, 0.025)), float(np.quantile(scores, 0.975))


def _confusion(logits: NDArray[Any], targets: NDArray[Any]) -> NDArray[np.int64]:
    """Counts (C, C): rows are targets, columns predictions."""
    n_classes = logits.shape[1]
    cells = targets.astype(np.int64) * n_classes + logits.argmax(1)
    return np.bincount(cells, minlength=n_classes**2).reshape(n_classes, n_classes)


def _macro_f1(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Macro F1 of each matrix of a stack (N, C, C): F1 = 2 TP / (targets + predictions)."""
    right = np.diagonal(confusion, axis1=1, axis2=2)
    occurs = confusion.sum(1) + confusion.sum(2)
    f1 = np.divide(2 * right, occurs, out=np.zeros(occurs.shape), where=occurs > 0)
    return np.asarray(f1.sum(1) / np.maximum((occurs > 0).sum(1), 1))
