"""Which examples go together. Batches of similar length carry little padding.

Bucketing as in Sockeye and fairseq: shuffle, sort within pools of many batches, shuffle the batches.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]

# A pool of this many batches is sorted at once: enough that little padding is left, few enough that the batches of
# an epoch still differ from those of the last one.
POOL = 100
USUAL_BATCH = 32


def bucketed(lengths: NDArray[np.int32], batch_size: int, seed: int, epoch: int) -> list[Rows]:
    """Every row once, shuffled by (seed, epoch), neighbours in length together; at most one batch is smaller."""
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    pools = _cut(order, POOL * batch_size)
    batches = [batch for pool in pools for batch in _cut(_by_length(pool, lengths), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]


def sorted_by_length(lengths: NDArray[np.int32], batch_size: int) -> list[Rows]:
    """Every row once, shortest first: the order for evaluation."""
    return _cut(_by_length(np.arange(len(lengths)), lengths), batch_size)


def padding(lengths: NDArray[np.int32], batches: list[Rows]) -> float:
    """Share of the positions in `batches` that are padding."""
    filled = sum(int(lengths[rows].sum()) for rows in batches)
    there = sum(int(lengths[rows].max()) * len(rows) for rows in batches)
    return 1 - filled / there if there else 0.0


def figures(lengths: NDArray[np.int32]) -> dict[str, Any]:
    """What a record says of the training lengths, and of the padding they cost in batches of a usual size."""
    shuffled = _cut(np.random.default_rng(0).permutation(len(lengths)), USUAL_BATCH)
    shares = {"bucketed": bucketed(lengths, USUAL_BATCH, seed=0, epoch=0), "unbucketed": shuffled}
    return {
        "lengths": {
            "mean": round(float(lengths.mean()), 2),
            "p99": int(np.quantile(lengths, 0.99)),
            "max": int(lengths.max()),
        },
        "padding": {"batch_size": USUAL_BATCH}
        | {name: round(padding(lengths, batches), 4) for name, batches in shares.items()},
    }


def _by_length(rows: Rows, lengths: NDArray[np.int32]) -> Rows:
    return rows[np.argsort(lengths[rows], kind="stable")]


def _cut(rows: Rows, size: int) -> list[Rows]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
