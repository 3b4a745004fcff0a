import itertools
import statistics

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from benchmarks import measuring
from benchmarks.measuring import INT8, ONNX, PYTORCH, Labelled, baselines, shipped, typical
from models import artifact
from models.architecture import Architecture
from models.encoder import build
from models.latency import Timing
from models.predictor import Predictor
from tasks import glosses
from tests.benchmarks import small


def test_the_test_split_is_what_the_bundled_file_calls_so():
    rows = [row for row in pq.read_table(glosses.PATH).to_pylist() if row["split"] == "test"]
    found = measuring.glosses_test()
    assert len(found.texts) == 5874
    assert [*zip(found.texts, found.labels, strict=True)] == [(row["gloss"], row["label"]) for row in rows]


@pytest.mark.parametrize(("batch", "shape"), [(1, (32, 1)), (8, (4, 8)), (32, (4, 32))])
def test_typical_texts_have_the_lengths_of_all(batch, shape):
    rng = np.random.default_rng(0)
    texts = ["x" * int(n) for n in rng.gamma(4.0, 15.0, 5000)]
    chosen = typical(texts, batch)
    lengths = np.array([[len(text) for text in row] for row in chosen])
    assert lengths.shape == shape
    everywhere = np.quantile([len(text) for text in texts], [0.1, 0.5, 0.9])
    np.testing.assert_allclose(np.quantile(lengths, [0.1, 0.5, 0.9]), everywhere, rtol=0.1)
    assert chosen == typical(list(reversed(texts)), batch)
    assert lengths.ravel().tolist() != sorted(lengths.ravel())


def test_bert_of_transformers_has_the_weights_of_ours_and_its_pooler():
    ours = build(small.BERT, small.SIGNATURE)
    theirs = measuring._bert(small.BERT, small.SIGNATURE)
    count = lambda model: sum(parameter.numel() for parameter in model.parameters())  # noqa: E731
    d = small.BERT.d_model
    assert type(theirs).__name__ == "BertForSequenceClassification"
    assert not theirs.training
    assert count(theirs) == count(ours) + (d * d + d) + 2 * d  # and two rows of segments


@pytest.mark.parametrize(
    "change",
    [
        {"norm_placement": "pre"},
        {"positions": "rotary"},
        {"activation": "relu"},
        {"embedding_norm": False},
        {"embedding_rank": 8},
        {"feed_forward_rank": 4},
        {"d_ff": (128, 64)},
        {"d_head": 4},
    ],
)
def test_what_bert_cannot_have_is_measured_in_our_network(change):
    shape = Architecture(**{**small.BERT.model_dump(), **change})
    assert measuring._bert(shape, small.SIGNATURE) is None


def test_without_transformers_the_baseline_is_our_network(tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "find_spec", lambda name: None)
    made = baselines(small.BERT, small.SIGNATURE, small.tokenizer(tmp_path))
    assert made[PYTORCH].what == "float32 in PyTorch (Classifier)"


def test_baselines_are_one_network_in_three_forms(tmp_path):
    made = baselines(small.TEACHER, small.SIGNATURE, small.tokenizer(tmp_path))
    logits = {name: np.asarray(each.run(each.read(small.TEXTS[:5]))) for name, each in made.items()}
    assert {found.shape for found in logits.values()} == {(5, 3)}
    np.testing.assert_allclose(logits[ONNX], logits[PYTORCH], atol=1e-5)
    assert 0 < np.abs(logits[INT8] - logits[ONNX]).max() < 0.1 * np.abs(logits[ONNX]).max()
    weights = 4 * sum(value.numel() for value in build(small.TEACHER, small.SIGNATURE).state_dict().values())
    words = (tmp_path / "tokenizer.json").stat().st_size
    assert weights + words < made[PYTORCH].size_bytes < weights + words + 8_000  # the names of the tensors
    assert made[INT8].size_bytes < made[ONNX].size_bytes
    assert made[PYTORCH].label(small.TEXTS[0]) == logits[PYTORCH][0].argmax()


def test_baselines_leave_the_random_numbers_alone(tmp_path):
    before = torch.get_rng_state()
    baselines(small.TEACHER, small.SIGNATURE, small.tokenizer(tmp_path))
    assert torch.equal(before, torch.get_rng_state())


class Turns:
    """Stands for `models.latency.measure`: the order of turns, and a timing for each by contender."""

    def __init__(self, timings):
        self.timings, self.order = {name: iter(each) for name, each in timings.items()}, []

    def __call__(self, run, inputs, *, rounds):
        assert rounds == 1
        self.order.append(run(None))
        p50, quiet = next(self.timings[run(None)])
        return Timing(p50, 2 * p50, quiet)


def raced(monkeypatch, rounds=None, **timings):
    turns = Turns(timings)
    monkeypatch.setattr(measuring.latency, "measure", turns)
    contender = lambda name: measuring.Contender(name, list, lambda _: name, str, 1)  # noqa: E731
    contenders = {name: contender(name) for name in timings}
    n = rounds or len(next(iter(timings.values())))
    return measuring.measure(contenders, small.TEXTS, rounds=n), turns.order


def test_every_contender_takes_a_turn_a_round_and_none_is_always_first(monkeypatch):
    names = [PYTORCH, ONNX, "x", "y"]
    _, order = raced(monkeypatch, rounds=8, **{name: itertools.repeat((1.0, True)) for name in names})
    rounds = [order[start : start + 4] for start in range(0, 32, 4)]
    assert all(sorted(each) == sorted(names) for each in rounds)
    assert {each[0] for each in rounds} == set(names)
    after_pytorch = {each[each.index(PYTORCH) + 1] for each in rounds if each[-1] != PYTORCH}
    assert len(after_pytorch) > 1


def test_ratios_are_medians_of_the_ratios_within_a_round(monkeypatch):
    pytorch, onnx, x = [12.0, 24.0, 13.0], [6.0, 12.0, 5.0], [0.5, 1.0, 0.6]
    quiet = lambda times: [(time, True) for time in times]  # noqa: E731
    found, _ = raced(monkeypatch, pytorch=quiet(pytorch), onnx=quiet(onnx), x=quiet(x))
    assert list(found) == [PYTORCH, ONNX, "x"]
    assert found["x"].over_pytorch == statistics.median([24.0, 24.0, 13 / 0.6]) == 24.0
    assert found["x"].over_onnx == statistics.median([12.0, 12.0, 5 / 0.6]) == 12.0
    assert (found["x"].p50_ms, found["x"].p95_ms, found["x"].quiet) == (0.6, 1.2, True)
    assert found[PYTORCH].over_pytorch == 1.0


def test_disturbed_rounds_do_not_count(monkeypatch):
    pytorch = [(10.0, True), (10.0, False), (10.0, True), (10.0, True)]
    x = [(1.0, True), (1.0, True), (5.0, False), (2.0, True)]
    found, _ = raced(monkeypatch, pytorch=pytorch, onnx=[(4.0, True)] * 4, x=x)
    assert found["x"].over_pytorch == statistics.median([10.0, 5.0])
    assert found["x"].quiet is False
    assert found[ONNX].quiet is True


def test_where_all_was_disturbed_all_counts_and_is_said_not_to_be_quiet(monkeypatch):
    found, _ = raced(monkeypatch, pytorch=[(10.0, False)] * 3, onnx=[(4.0, True)] * 3, x=[(1.0, True)] * 3)
    assert (found["x"].over_pytorch, found["x"].quiet) == (10.0, False)


def test_a_larger_network_takes_longer_and_torch_has_its_threads_back(tmp_path):
    large = Architecture(n_layers=4, d_model=256, n_heads=4, d_head=64, d_ff=1024)
    contenders = baselines(large, small.SIGNATURE, small.tokenizer(tmp_path))
    contenders["a"] = shipped(small.ship(tmp_path / "a"))
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        single = measuring.measure(contenders, small.TEXTS, rounds=1)
        labels = measuring.measure_labels(contenders, small.TEXTS, rounds=1)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
    assert single["a"].over_pytorch > 2
    assert single["a"].over_onnx == pytest.approx(single["a"].over_pytorch * single[PYTORCH].over_onnx)
    assert 0 < single["a"].p50_ms <= single["a"].p95_ms
    assert labels["a"].p50_ms > single["a"].p50_ms


def test_right_answers_are_those_that_the_artifact_gives(tmp_path):
    folder = small.ship(tmp_path / "a", precision="int8")
    said = [answer[0][0] for answer in Predictor(folder).predict(small.TEXTS)]
    assert len(set(said)) > 1
    other = {"animal": "person", "person": "thing", "thing": "animal"}
    labels = [other[label] if i < 7 else label for i, label in enumerate(said)]
    assert measuring.right_answers(folder, Labelled(small.TEXTS, labels)) == len(small.TEXTS) - 7
    assert measuring.right_answers(folder, Labelled(small.TEXTS, labels), threads=2) == len(small.TEXTS) - 7


def test_size_is_of_the_files_without_which_nothing_is_predicted(tmp_path):
    folder = small.ship(tmp_path / "a")
    for path in folder.iterdir():
        if path.name not in measuring.files(folder):
            path.unlink()
    assert Predictor(folder).predict(["a cat"])
    sizes = [path.stat().st_size for path in folder.iterdir()]
    assert measuring.size_bytes(folder) == sum(sizes) == shipped(folder).size_bytes
    for name in measuring.files(folder):
        (folder / name).rename(tmp_path / "aside")
        with pytest.raises(ValueError, match=name):
            Predictor(folder)
        (tmp_path / "aside").rename(folder / name)


def test_an_artifact_that_reads_images_is_refused(tmp_path):
    pixels = {"input": "pixels", "height": 4, "width": 6, "channels": 2, "scale": 1 / 16, "n_classes": 3}
    shape = Architecture(d_model=16, n_heads=2, d_head=8, d_ff=32, patch=2)
    artifact.save(
        tmp_path / "a",
        build(shape, pixels).eval(),
        architecture=shape,
        signature=pixels,
        labels=[1, 2, 3],
        files={},
        metrics={},
        origin=artifact.Origin(name="toy", task="image_classification", data="toy", fingerprint="0"),
    )
    with pytest.raises(ValueError, match="a reads images, must read texts as its teacher does; choose another"):
        shipped(tmp_path / "a")
