"""Training, validation and test rows: given or made; stratified, seeded, disjoint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.labels import Label
from tasks.stratified import Rows, divide, sample
from tasks.task import DataError

NAMES = ("train", "validation", "test")
# With fewer rows a share of right answers is known to no better than some 15 % either way.
_FEW = 30
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


def draw(
    examples: Examples, shares: Mapping[str, float], size: int | None, seed: int, *, evaluation: int | None = None
) -> tuple[dict[str, Rows], dict[str, Any]]:
    """(rows by split, what to record of it); the training rows cut down to a sample of `size`, those of validation
    and test to one of `evaluation` each. Raises DataError."""
    rows = assign(examples, shares, seed)
    n_train = len(rows["train"])
    rows["train"] = _sampled(rows["train"], examples, size, seed, "sample")
    for name in NAMES[1:]:
        rows[name] = _sampled(rows[name], examples, evaluation, seed, "evaluation_sample")
    record = {
        "splits": {name: _origin(name, examples.given, shares, seed) for name in NAMES},
        "n": {name: len(rows[name]) for name in NAMES},
        "sample": {"rows": len(rows["train"]), "of": n_train} if size else None,
        "n_classes": len(examples.labels),
        "warnings": _overlaps(examples, rows) + _short(size, n_train) + _few(rows),
    }
    return rows, record


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


def _sampled(rows: Rows, examples: Examples, size: int | None, seed: int, setting: str) -> Rows:
    n_classes = len(examples.labels)
    if size is not None and size < n_classes:
        raise DataError(
            [f"{setting}: {size:,} rows are too few, must be one for each of {n_classes:,} classes or more."]
        )
    return rows if size is None or size >= len(rows) else rows[sample(examples.targets[rows], size, seed)]


def _origin(name: str, given: NDArray[Any], shares: Mapping[str, float], seed: int) -> str:
    if name in given:
        return "given"
    return "the other rows" if name == "train" else f"{shares[name]:.0%} of the rows, stratified, seed {seed}"


def _overlaps(examples: Examples, rows: Mapping[str, Rows]) -> list[str]:
    """A warning for each split with examples that training has too."""
    shared = {name: np.isin(examples.same[rows[name]], examples.same[rows["train"]]).sum() for name in NAMES[1:]}
    return [
        f"{n:,} of {len(rows[name]):,} {name} examples are in the training split too; scores on them flatter."
        for name, n in shared.items()
        if n
    ]


def _short(size: int | None, n_train: int) -> list[str]:
    short = size and size > n_train
    return [f"A sample of {size:,} was asked for; all {n_train:,} training rows are used."] if short else []


def _few(rows: Mapping[str, Rows]) -> list[str]:
    means = {"validation": "which model is best there is luck for the most part", "test": "no score there says much"}
    return [
        f"Only {len(rows[name]):,} rows are for {name}: {said}."
        for name, said in means.items()
        if len(rows[name]) < _FEW
    ]


def some(items: Sequence[str], most: int = 5) -> str:
    """The first few of a list, and how many more there are."""
    more = f" and {len(items) - most:,} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more
