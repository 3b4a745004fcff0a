import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as reference

from tasks import metrics
from tasks.classification import Classification


@pytest.fixture
def answers():
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 7, 400)
    return rng.normal(size=(400, 7)) + 2 * np.eye(7)[targets], targets


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(2, 9))
def test_equal_to_scikit_learn(seed, n, n_classes):
    """Few rows and many classes: some classes are never a target, some never a prediction."""
    rng = np.random.default_rng(seed)
    logits, targets = rng.normal(size=(n, n_classes)), rng.integers(0, n_classes, n)
    predictions = logits.argmax(1)
    assert metrics.accuracy(logits, targets) == pytest.approx(reference.accuracy_score(targets, predictions))
    assert metrics.macro_f1(logits, targets) == pytest.approx(
        reference.f1_score(targets, predictions, average="macro", zero_division=0)
    )
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert metrics.cross_entropy(logits, targets) == pytest.approx(
        reference.log_loss(targets, probabilities, labels=range(n_classes))
    )


def test_cross_entropy_of_large_logits_is_finite():
    logits = np.array([[5e4, 0.0], [0.0, 5e4]], np.float32)
    assert metrics.cross_entropy(logits, np.array([0, 0])) == pytest.approx(25_000)


@pytest.mark.parametrize(("right", "n"), [(0, 10), (10, 10), (3, 10), (4103, 5883)])
def test_wilson_equals_scipy(right, n):
    expected = stats.binomtest(right, n).proportion_ci(0.95, method="wilson")
    assert metrics.wilson(right, n) == pytest.approx((expected.low, expected.high))


def test_bootstrap_agrees_with_resampling_rows(answers):
    logits, targets = answers
    pairs = (targets, logits.argmax(1))
    expected = stats.bootstrap(
        pairs,
        lambda t, p: reference.f1_score(t, p, average="macro"),
        n_resamples=300,
        paired=True,
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert metrics.bootstrap_f1(logits, targets) == pytest.approx((expected.low, expected.high), abs=0.01)


def test_intervals_hold_their_values(answers, tmp_path):
    logits, targets = answers
    data = Classification(tmp_path, {}, list(range(7)), {}, {})
    scores, intervals = data.metrics(logits, targets), data.interval(logits, targets)
    assert set(intervals) == {"accuracy", "f1"}
    for name, interval in intervals.items():
        assert interval["value"] == scores[name]
        assert interval["low"] < interval["value"] < interval["high"]


def test_loss_is_the_metric_loss(answers, tmp_path):
    logits, targets = answers
    data = Classification(tmp_path, {}, list(range(7)), {}, {})
    loss = data.loss(torch.from_numpy(logits).bfloat16(), torch.from_numpy(targets))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(data.metrics(logits, targets)["loss"], rel=1e-2)
