import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import splits, stratified
from tasks.task import DataError

SHARES = {"validation": 0.1, "test": 0.2}


def examples(targets, split=None, same=None, labels="abcdefghij"):
    n = len(targets)
    return splits.Examples(
        labels=list(labels),
        targets=np.asarray(targets),
        same=np.arange(n) if same is None else np.asarray(same),
        given=np.full(n, "") if split is None else np.asarray(split),
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(3, 60), min_size=2, max_size=10), st.integers(0, 5))
def test_made_splits_are_disjoint_whole_and_stratified(counts, seed):
    targets = np.repeat(np.arange(len(counts)), counts)
    rows = splits.assign(examples(targets), SHARES, seed)
    assert np.array_equal(np.sort(np.concatenate(list(rows.values()))), np.arange(len(targets)))
    for name, share in SHARES.items():
        found = np.bincount(targets[rows[name]], minlength=len(counts))
        assert (found >= 1).all()
        assert np.abs(found - share * np.array(counts)).max() <= 1


def test_seeded():
    targets = np.arange(300) % 3
    first, again, other = (splits.assign(examples(targets), SHARES, seed)["test"] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_given_splits_are_kept_and_missing_ones_drawn():
    split = np.array(["train"] * 80 + ["test"] * 20)
    rows = splits.assign(examples(np.arange(100) % 2, split), SHARES, 0)
    assert rows["test"].tolist() == list(range(80, 100))
    assert len(rows["validation"]) == 8
    assert not set(rows["validation"]) & set(rows["train"])


def test_equal_examples_stay_together():
    same = np.repeat(np.arange(60), 5)
    rows = splits.assign(examples((same % 2), same=same), SHARES, 0)
    groups = {name: set(same[found]) for name, found in rows.items()}
    assert not groups["train"] & groups["test"]
    assert not groups["train"] & groups["validation"]
    assert sum(map(len, rows.values())) == 300


def test_overlap_of_given_splits_is_a_warning():
    split = ["train"] * 4 + ["validation"] * 2 + ["test"] * 2
    found = examples([0, 1, 0, 1, 0, 1, 0, 1], split, same=[0, 1, 2, 3, 4, 5, 0, 1])
    _, record = splits.draw(found, SHARES, None, 0)
    assert record["warnings"] == [
        "2 of 2 test examples are in the training split too; scores on them flatter.",
        "Only 2 rows are for validation: which model is best there is luck for the most part.",
        "Only 2 rows are for test: no score there says much.",
    ]
    assert record["splits"] == {"train": "given", "validation": "given", "test": "given"}


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (examples([0] * 9), "label: every training row has the label 'a', classification needs two classes or more"),
        (
            examples([0, 0, 0, 0, 1, 1, 2]),
            r"label: 2 of 3 classes have fewer than 3 different examples: 'c' \(1\), 'b' \(2\); a stratified split "
            "needs one each for train and validation and test",
        ),
        (examples([0, 0, 0, 1, 1, 1], same=[0, 1, 2, 3, 3, 3]), r"fewer than 3 different examples: 'b' \(1\)"),
        (
            examples([0, 1] * 4 + [2], ["train"] * 6 + ["validation", "test", "test"]),
            r"label: 1 rows of test have labels unseen in training: 'c' \(1\); every label needs training examples",
        ),
        (
            examples([0, 1], ["test", "validation"]),
            "data: every row is for validation or test, training needs rows too",
        ),
    ],
)
def test_faults(found, message):
    with pytest.raises(DataError, match=message):
        splits.assign(found, SHARES, 0)


def test_a_class_that_only_the_test_has_is_unseen_not_rare():
    found = examples([0] * 9 + [1] * 9 + [2], [""] * 18 + ["test"])
    with pytest.raises(DataError, match="labels unseen in training: 'c'"):
        splits.assign(found, SHARES, 0)


def test_long_lists_are_cut():
    assert splits.some([str(i) for i in range(8)]) == "0, 1, 2, 3, 4 and 3 more"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 200), min_size=2, max_size=12), st.data())
def test_samples_have_the_size_and_the_proportions(counts, data):
    targets = np.repeat(np.arange(len(counts)), counts)
    n = data.draw(st.integers(len(counts), len(targets)))
    rows = stratified.sample(targets, n, seed=0)
    found = np.bincount(targets[rows], minlength=len(counts))
    assert len(np.unique(rows)) == n
    assert (found >= 1).all()
    assert (found <= counts).all()
    quotas = n * np.array(counts) / len(targets)
    assert (found <= np.maximum(quotas, 0) + 1).all()


def test_samples_are_recorded():
    _, record = splits.draw(examples(np.arange(1000) % 4, labels="abcd"), SHARES, 100, 0)
    assert record["sample"] == {"rows": 100, "of": 700}
    _, record = splits.draw(examples(np.arange(1000) % 4, labels="abcd"), SHARES, 900, 0)
    assert record["warnings"] == ["A sample of 900 was asked for; all 700 training rows are used."]


def test_a_sample_smaller_than_the_classes():
    with pytest.raises(DataError, match="sample: 3 rows are too few, must be one for each of 4 classes or more"):
        splits.draw(examples(np.arange(1000) % 4, labels="abcd"), SHARES, 3, 0)
    with pytest.raises(DataError, match="evaluation_sample: 2 rows are too few"):
        splits.draw(examples(np.arange(1000) % 4, labels="abcd"), SHARES, None, 0, evaluation=2)


def test_evaluation_is_sampled_beside_the_same_training_rows():
    found = examples(np.arange(1000) % 4, labels="abcd")
    whole, _ = splits.draw(found, SHARES, None, 0)
    small, record = splits.draw(found, SHARES, None, 0, evaluation=40)
    assert np.array_equal(small["train"], whole["train"])
    assert record["n"] == {"train": 700, "validation": 40, "test": 40}
    for name in ("validation", "test"):
        assert set(small[name]) < set(whole[name])
        assert np.bincount(small[name] % 4).tolist() == [10] * 4
