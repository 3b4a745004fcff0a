import numpy as np
import pytest

from tasks import batches


@pytest.fixture
def lengths():
    return np.random.default_rng(0).geometric(0.06, 5003).astype(np.int32)


@pytest.mark.parametrize("n", [1, 31, 32, 33, 5003])
def test_each_row_once(lengths, n):
    lengths = lengths[:n]
    for made in (batches.bucketed(lengths, 32, seed=1, epoch=2), batches.sorted_by_length(lengths, 32)):
        assert np.array_equal(np.sort(np.concatenate(made)), np.arange(n))
        sizes = sorted(len(rows) for rows in made)
        assert sizes[1:] == [32] * (len(sizes) - 1)


def test_no_rows_no_batches():
    assert batches.bucketed(np.zeros(0, np.int32), 32, seed=0, epoch=0) == []
    assert batches.padding(np.zeros(0, np.int32), []) == 0


def test_an_epoch_depends_on_seed_and_epoch_only(lengths):
    first = batches.bucketed(lengths, 32, seed=1, epoch=2)
    assert all(map(np.array_equal, first, batches.bucketed(lengths, 32, seed=1, epoch=2)))
    for seed, epoch in ((1, 3), (2, 2), (2, 1)):
        other = batches.bucketed(lengths, 32, seed=seed, epoch=epoch)
        assert not all(map(np.array_equal, first, other))


def test_batches_of_one_epoch_are_not_those_of_the_next(lengths):
    first, second = ({frozenset(rows) for rows in batches.bucketed(lengths, 8, 0, epoch)} for epoch in (0, 1))
    assert len(first & second) < 0.05 * len(first)


def test_long_batches_come_at_any_time(lengths):
    """A loop that saw short texts first and long ones last would learn in that order."""
    means = [lengths[rows].mean() for rows in batches.bucketed(lengths, 32, seed=0, epoch=0)]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3


def test_bucketing_saves_padding(lengths):
    rng = np.random.default_rng(0)
    plain = np.array_split(rng.permutation(len(lengths)), len(lengths) // 32)
    assert batches.padding(lengths, batches.bucketed(lengths, 32, 0, 0)) < 0.1
    assert batches.padding(lengths, plain) > 0.5


def test_padding_by_hand():
    lengths = np.array([1, 3, 4], np.int32)
    assert batches.padding(lengths, [np.array([0, 1]), np.array([2])]) == pytest.approx(2 / 10)


def test_evaluation_goes_from_short_to_long(lengths):
    order = np.concatenate(batches.sorted_by_length(lengths, 32))
    assert (np.diff(lengths[order]) >= 0).all()


def test_figures():
    figures = batches.figures(np.array([2] * 32 + [4] * 32, np.int32))
    assert figures["lengths"] == {"mean": 3.0, "p99": 4, "max": 4}
    assert figures["padding"]["bucketed"] == 0
    assert figures["padding"]["unbucketed"] == 0.25
