"""Drawing rows so that every class keeps its share. Seeded: the same rows on every machine."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def divide(targets: Rows, parts: Mapping[str, float], seed: int) -> dict[str, Rows]:
    """Rows by part, the rest as "train": of each class the given share, at least one row, drawn by `seed`."""
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[Rows]] = {name: [] for name in ("train", *parts)}
    for target in np.unique(targets):
        rows = rng.permutation(np.flatnonzero(targets == target))
        n = len(rows)
        for later, (name, share) in zip(reversed(range(len(parts))), parts.items(), strict=True):
            size = max(1, min(round(share * n), len(rows) - later - 1))
            drawn[name].append(rows[:size])
            rows = rows[size:]
        drawn["train"].append(rows)
    return {name: np.sort(np.concatenate(rows)) for name, rows in drawn.items()}


def sample(targets: Rows, n: int, seed: int) -> Rows:
    """`n` rows in ascending order, classes in proportion and at least one row of each, drawn by `seed`."""
    rng = np.random.default_rng(seed)
    classes, counts = np.unique(targets, return_counts=True)
    sizes = _sizes(counts, n)
    rows = [
        rng.permutation(np.flatnonzero(targets == target))[:size] for target, size in zip(classes, sizes, strict=True)
    ]
    return np.sort(np.concatenate(rows))


def _sizes(counts: Rows, n: int) -> Rows:
    """Whole numbers in proportion to `counts`, at least 1 each, that add up to `n` (largest remainder)."""
    quotas = n * counts / counts.sum()
    sizes: Rows = np.maximum(1, np.floor(quotas)).astype(np.int64)
    while (left := n - int(sizes.sum())) != 0:
        gain = quotas - sizes if left > 0 else np.where(sizes > 1, sizes - quotas, -np.inf)
        sizes[np.argmax(gain)] += np.sign(left)
    return sizes
