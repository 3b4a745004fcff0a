"""What every task in `tasks/` keeps, found and not listed: a new file is tested without touching this one."""

import json

import numpy as np
import pytest
import torch
from sklearn import metrics as reference

import tasks
from tasks import batches


@pytest.fixture(scope="module", params=tasks.find())
def data(request, tmp_path_factory):
    task = tasks.load(request.param)
    return task.prepare(task.Config(**task.example), tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module", params=tasks.find())
def task(request):
    return tasks.load(request.param)


def rows(split, n=64):
    return np.random.default_rng(0).permutation(len(split))[:n]


def key(example):
    return example if isinstance(example, str) else np.asarray(example).tobytes()


def truth(data, split):
    return 20.0 * np.eye(len(data.labels), dtype=np.float32)[split.targets]


def test_splits_are_disjoint(data):
    seen = [{key(example) for example in split.raw(np.arange(len(split)))} for split in data.splits.values()]
    assert list(data.splits) == ["train", "validation", "test"]
    assert len(set.union(*seen)) == sum(map(len, seen)) > 0


def test_a_batch_has_the_rows_asked_for(data):
    for split in data.splits.values():
        chosen = rows(split)
        batch = split.batch(chosen)
        assert np.array_equal(batch.targets, split.targets[chosen])
        assert {len(array) for array in batch.inputs.values()} == {len(chosen)}
        assert np.array_equal(split.batch(chosen[:1]).targets, batch.targets[:1])


def test_padding_is_masked(data):
    """An example's kept positions are the same alone and beside longer ones; the rest holds nothing of it."""
    split = data.splits["train"]
    chosen = rows(split)
    together = split.batch(chosen).inputs
    if "keep" not in together:
        assert len(np.unique(split.lengths)) == 1
        return
    assert np.array_equal(together["keep"].sum(1), split.lengths[chosen])
    assert (together["tokens"][~together["keep"]] == data.signature["pad_id"]).all()
    for i, row in enumerate(chosen):
        alone = split.batch(np.array([row])).inputs
        assert alone["keep"].all()
        assert np.array_equal(together["tokens"][i][together["keep"][i]], alone["tokens"][0])


def test_inputs_fit_the_signature(data):
    inputs = data.splits["train"].batch(rows(data.splits["train"])).inputs
    if data.signature["input"] == "tokens":
        assert 0 <= inputs["tokens"].min() <= inputs["tokens"].max() < data.signature["vocab_size"]
        assert inputs["tokens"].shape[1] <= data.signature["max_length"]
    else:
        assert inputs["pixels"].shape[1:] == tuple(data.signature[size] for size in ("height", "width", "channels"))
        assert np.abs(inputs["pixels"]).max() <= 1 + 1e-6
    assert data.signature["n_classes"] == len(data.labels)


def test_the_truth_scores_best(data):
    split = data.splits["validation"]
    best = data.metrics(truth(data, split), split.targets)
    noise = np.random.default_rng(0).normal(size=(len(split), len(data.labels)))
    other = data.metrics(noise, split.targets)
    assert (best["accuracy"], best["f1"]) == (1, 1)
    assert other["accuracy"] < 0.5
    assert best["loss"] < 1e-3 < other["loss"]


def test_metrics_equal_the_reference(data):
    split = data.splits["validation"]
    logits = truth(data, split) / 20 + np.random.default_rng(0).normal(size=(len(split), len(data.labels)))
    scores, answers = data.metrics(logits, split.targets), logits.argmax(1)
    assert scores["accuracy"] == pytest.approx(reference.accuracy_score(split.targets, answers))
    assert scores["f1"] == pytest.approx(reference.f1_score(split.targets, answers, average="macro"))
    loss = torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(np.array(split.targets)))
    assert scores["loss"] == pytest.approx(loss.item())
    for name, interval in data.interval(logits, split.targets).items():
        assert interval["low"] <= scores[name] == interval["value"] <= interval["high"]


def test_the_loss_falls_towards_the_truth(data):
    split = data.splits["train"]
    targets = torch.from_numpy(np.array(split.targets[:8]))
    logits = torch.zeros(8, len(data.labels), requires_grad=True)
    loss = data.loss(logits, targets)
    loss.backward()
    assert loss.item() == pytest.approx(np.log(len(data.labels)), rel=1e-5)
    assert data.loss(logits - logits.grad, targets) < loss


def test_an_epoch_covers_train_once(data):
    lengths = data.splits["train"].lengths
    made = batches.bucketed(lengths, 32, seed=0, epoch=0)
    assert np.array_equal(np.sort(np.concatenate(made)), np.arange(len(lengths)))


def test_what_is_said_is_plain_json(data):
    for said in (data.record, data.signature, data.labels):
        assert json.loads(json.dumps(said)) == said
    assert {"fingerprint", "source", "n", "hash", "splits", "sample", "warnings", "padding"} <= set(data.record)
    assert data.record["n"] == {name: len(split) for name, split in data.splits.items()}


def test_prepared_again_it_is_the_same(task, tmp_path):
    config = task.Config(**task.example)
    first, second = task.prepare(config, tmp_path), task.prepare(config, tmp_path)
    assert first.record == second.record
    assert first.folder == second.folder


def test_unknown_keys_are_refused(task):
    with pytest.raises(ValueError, match="surprise"):
        task.Config(**task.example, surprise=1)
