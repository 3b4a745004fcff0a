"""Training, validation and test rows: given or made; stratified, seeded, disjoint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.labels import Label
from tasks.task import DataError

Rows = NDArray[np.int64]

NAMES = ("train", "validation", "test")
ALIASES = {"train": "train", "training": "train", "validation": "validation", "valid": "validation"}
ALIASES |= {"val": "validation", "dev": "validation", "test": "test", "testing": "test"}


@dataclass(frozen=True)
class Examples:
    """What splitting needs to know of n rows: `targets` (n,) into `labels`, `same` (n,) with equal numbers for equal
    examples, `given` (n,) with the split's name, or "" where nothing says."""

    labels: Sequence[Label]
    targets: Rows
    same: Rows
    given: NDArray[Any]


def assign(examples: Examples, shares: Mapping[str, float], seed: int) -> dict[str, Rows]:
    """Rows by split. Validation and test are drawn from training rows where they are not given.

    `shares` holds the share of training rows that validation and test get then. Raises DataError.
    """
    rows = {name: found for name in NAMES[1:] if len(found := np.flatnonzero(examples.given == name))}
    pool = np.flatnonzero((examples.given == "train") | (examples.given == ""))
    if not len(pool):
        raise DataError([f"data: every row is for {' or '.join(rows)}, training needs rows too; add some."])
    parts = {name: shares[name] for name in NAMES[1:] if name not in rows}
    rows |= _drawn(examples, pool, parts, seed)
    if unknown := unseen(examples, rows):
        raise DataError(unknown)
    return {name: rows[name] for name in NAMES}


def _drawn(examples: Examples, pool: Rows, parts: Mapping[str, float], seed: int) -> dict[str, Rows]:
    """The pool's rows as train and `parts`; equal examples stay together, or they would leak."""
    _, first, group = np.unique(examples.same[pool], return_index=True, return_inverse=True)
    targets = examples.targets[pool][first]
    if found := _faults(targets, examples.labels, list(parts)):
        raise DataError(found)
    return {name: pool[np.isin(group, groups)] for name, groups in divide(targets, parts, seed).items()}


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


def _faults(targets: Rows, labels: Sequence[Label], made: Sequence[str]) -> list[str]:
    """Why training rows of these classes cannot be divided into train and the parts `made`."""
    classes, counts = np.unique(targets, return_counts=True)
    if len(classes) == 1:
        return [
            f"label: every training row has the label {labels[classes[0]]!r}, classification needs two classes or "
            f"more; name another label column, or add rows of other classes."
        ]
    need = len(made) + 1
    few = [f"{labels[classes[i]]!r} ({counts[i]:,})" for i in np.argsort(counts, kind="stable") if counts[i] < need]
    if not few:
        return []
    return [
        f"label: {len(few):,} of {len(classes):,} classes have fewer than {need} different examples: {some(few)}; a "
        f"stratified split needs one each for train and {' and '.join(made)}; add examples, drop these rows, or give "
        f"the splits yourself."
    ]


def unseen(examples: Examples, rows: Mapping[str, Rows]) -> list[str]:
    """A fault for each split that has labels which training never shows."""
    seen = np.unique(examples.targets[rows["train"]])
    found = []
    for name in NAMES[1:]:
        classes, counts = np.unique(examples.targets[rows[name]], return_counts=True)
        new = np.flatnonzero(~np.isin(classes, seen))
        if len(new):
            found.append(_unseen(name, [(examples.labels[classes[i]], int(counts[i])) for i in new]))
    return found


def _unseen(split: str, new: list[tuple[Label, int]]) -> str:
    return (
        f"label: {sum(n for _, n in new):,} rows of {split} have labels unseen in training: "
        f"{some([f'{label!r} ({n:,})' for label, n in new])}; every label needs training examples; add some, or "
        f"drop these rows."
    )


def some(items: Sequence[str], most: int = 5) -> str:
    """The first few of a list, and how many more there are."""
    more = f" and {len(items) - most:,} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more
