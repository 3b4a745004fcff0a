import json
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models.encoder import Architecture, build
from tasks.batches import padding
from trainables.loop import Loop, Optimization, logits

TIMES = {"samples_per_second"}


def loop(data, *, dropout=0.1, loss=None, seed=0, **settings):
    torch.manual_seed(7)
    shape = {"n_layers": 1, "d_model": 16, "n_heads": 2, "d_head": 8, "d_ff": 32}
    model = build(Architecture(dropout=dropout, **shape), data.signature)
    settings = {"learning_rate": 5e-3, "epochs": 4.0, **settings}
    return Loop(model, data, Optimization(**settings), loss or cross_entropy, seed=seed)


def cross_entropy(model, examples):
    return F.cross_entropy(model(**examples.inputs).float(), examples.targets)


def timeless(report):
    return {name: value for name, value in report.items() if name not in TIMES}


def test_learns(data):
    training = loop(data, epochs=8.0)
    reports = [training.advance() for _ in range(8)]
    assert reports[-1]["val_accuracy"] > 0.95 > reports[0]["val_accuracy"]
    assert reports[-1]["train_loss"] < 0.3 * reports[0]["train_loss"]


def test_a_report(data):
    report = loop(data).advance()
    assert (report["epochs"], report["samples"]) == (1.0, 320)
    assert set(report) == {
        "epochs",
        "samples",
        "train_loss",
        "val_loss",
        "val_accuracy",
        "samples_per_second",
        "padding",
    }
    assert report["samples_per_second"] > 0


@pytest.mark.parametrize(
    ("every", "epochs", "expected"),
    [(1.0, 3.0, [1, 2, 3]), (0.5, 1.5, [0.5, 1, 1.5]), (0.1, 0.3, [0.1, 0.2, 0.3]), (2.0, 3.0, [2, 3, 4])],
)
def test_when_reports_are_due(data, every, epochs, expected):
    training = loop(data, report_every=every, epochs=epochs)
    reports = [training.advance() for _ in expected]
    assert [report["epochs"] for report in reports] == expected
    assert [report["samples"] for report in reports] == [320 * epochs for epochs in expected]


def test_an_epoch_holds_every_sample_once_and_padding_is_measured(data):
    seen = []

    def watched(model, examples):
        seen.append(examples.rows)
        return cross_entropy(model, examples)

    report = loop(data, loss=watched, report_every=0.5, epochs=1.0)
    first, second = report.advance(), report.advance()
    assert sorted(np.concatenate(seen)) == list(range(320))
    assert first["padding"] == padding(data.splits["train"].lengths, seen[:5])
    assert second["padding"] == padding(data.splits["train"].lengths, seen[5:])


def test_rates_follow_the_schedule(data):
    training = loop(data, epochs=1.0, warmup=0.2, learning_rate=1.0)
    rates = []
    training.optimizer.step = lambda rate: rates.append(rate) or training.model.zero_grad()
    training.advance()
    assert rates == pytest.approx([0, 0.5, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125])


def test_equals_a_plain_loop(data):
    training = loop(data, dropout=0.0, epochs=1.0, warmup=0.0, schedule="constant", precision="fp32", weight_decay=0.0)
    plain = build(training.model.architecture, data.signature)
    plain.load_state_dict(training.model.state_dict())
    optimizer = torch.optim.AdamW(plain.parameters(), lr=5e-3, weight_decay=0.0)
    total = 0.0

    def remembered(model, examples):
        batches.append(examples)
        return cross_entropy(model, examples)

    batches, training.loss = [], remembered
    report = training.advance()
    for examples in batches:
        loss = cross_entropy(plain, examples)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        total += loss.item() * len(examples.rows)
    assert report["train_loss"] == pytest.approx(total / 320, rel=1e-4)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(
            training.model.state_dict()[name], value, rtol=1e-3, atol=3e-4
        )  # ten steps of up to 5e-3


def test_evaluation_equals_a_plain_one(data):
    training = loop(data, dropout=0.5)
    split = data.splits["validation"]
    found = logits(training.model.train(), split, precision="fp32", batch_size=7)
    training.model.eval()
    for row in range(0, 100, 9):
        batch = split.batch(np.array([row]))
        with torch.no_grad():
            expected = training.model(torch.from_numpy(batch.inputs["tokens"]))[0]
        np.testing.assert_allclose(found[row], expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_stretch(data, bad):
    calls = []

    def diverging(model, examples):
        calls.append(examples)
        return cross_entropy(model, examples) * (bad if len(calls) == 3 else 1)

    report = loop(data, loss=diverging, batch_size=4).advance()
    assert len(calls) == 16  # of 80
    assert all(math.isnan(report[name]) for name in ("train_loss", "val_loss", "val_accuracy"))


@pytest.mark.parametrize("interrupted_after", [1, 3])
def test_goes_on_from_its_state_as_if_nothing_had_happened(data, interrupted_after):
    settings = {"report_every": 0.5, "dropout": 0.3, "epochs": 3.0, "batch_size": 24}
    whole = loop(data, **settings)
    reports = [timeless(whole.advance()) for _ in range(6)]
    first = loop(data, **settings)
    for _ in range(interrupted_after):
        first.advance()
    weights = {name: value.clone() for name, value in first.model.state_dict().items()}
    tensors = {name: value.clone() for name, value in first.optimizer.state().items()}
    state = json.loads(json.dumps(first.state()))
    torch.manual_seed(99)
    second = loop(data, **settings)
    second.model.load_state_dict(weights)
    second.optimizer.load_state(tensors)
    second.load_state(state)
    assert [timeless(second.advance()) for _ in range(6 - interrupted_after)] == reports[interrupted_after:]


def test_another_batch_size_goes_on_at_the_same_place(data):
    first = loop(data, report_every=0.5)
    first.advance()
    second = loop(data, report_every=0.5, batch_size=64)
    second.load_state(first.state())
    report = second.advance()
    assert (report["epochs"], report["samples"]) == (1.0, 160 + 3 * 64)  # the batch of rows 128 to 191 is repeated
    assert [second.advance()["epochs"] for _ in range(2)] == [1.5, 2.0]


def test_order_follows_from_the_seed(data):
    first, same, other = (loop(data, seed=seed).advance()["train_loss"] for seed in (0, 0, 1))
    assert first == same != other
