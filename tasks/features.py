"""A data set in a few numbers, so that experiments on others like it can be found (meta-features)."""

import math

import numpy as np

from tasks.task import Data


def features(data: Data) -> dict[str, float]:
    """Of the training split: examples, classes, balance (entropy of the classes over its most, 1 is even), the share
    of the smallest class, mean and percentiles of the lengths in positions, and how many tokens there are (0: images).
    """
    train = data.splits["train"]
    counts = np.bincount(train.targets, minlength=len(data.labels))
    shares = counts[counts > 0] / max(1, counts.sum())
    lengths = np.asarray(train.lengths)
    return {
        "examples": float(len(train.targets)),
        "classes": float(len(data.labels)),
        "balance": float(-(shares * np.log(shares)).sum() / math.log(max(2, len(data.labels)))),
        "smallest_class": float(counts.min() / max(1, counts.sum())),
        "length_mean": float(lengths.mean()),
        "length_p50": float(np.percentile(lengths, 50)),
        "length_p95": float(np.percentile(lengths, 95)),
        "vocabulary": float(data.signature.get("vocab_size", 0)),
    }
