import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models import artifact, cost
from models.architecture import Architecture
from models.artifact import Origin
from models.compression.compressor import Network
from models.compression.vocabulary import trimmed
from models.encoder import build
from models.predictor import Predictor
from trainables import checkpoint
from trainables.compress import Compress
from trainables.data import prepare
from trainables.loop import logits
from trainables.parsing import ParseError, parse
from trainables.pruning import CompressConfig, sizes, step
from trainables.retokenized import as_read_by, retokenized
from trainables.routine import Workspace
from trainables.train import Train, TrainConfig

TASK = {"name": "image_classification", "data": "digits"}
SHAPE = {"n_layers": 2, "d_model": 16, "n_heads": 2, "d_head": 8, "d_ff": 32, "positions": "sinusoidal"}
FAST = {"learning_rate": 1e-2, "batch_size": 64}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return Workspace(tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def trained(workspace):
    """A checkpoint that has learned the digits somewhat, and its last report."""
    return learn(workspace, "trained", task=TASK, patch=4, epochs=4.0, report_every=4.0)


def learn(workspace, name, **values):
    torch.set_num_threads(1)
    routine = Train(parse(TrainConfig, {**SHAPE, **FAST, **values}), workspace)
    report = routine.advance()
    routine.save(workspace.folder / name)
    return str(workspace.folder / name), report


def compress(workspace, start, **values):
    values = {"task": TASK, "start": start, "epochs": 3.0, "importance": "magnitude", **FAST, **values}
    return Compress(parse(CompressConfig, values, "compress"), workspace)


def timeless(report):
    return {name: value for name, value in report.items() if name != "samples_per_second"}


def test_it_loses_parts_round_by_round_and_recovers(workspace, trained):
    start, before = trained
    routine = compress(
        workspace, start, units_ratio=0.75, heads_ratio=0.5, rounds=2, prune_until=0.7, importance="taylor"
    )
    reports = [routine.advance() for _ in range(3)]
    assert [report["rounds"] for report in reports] == [1, 1, 2]  # at 0 and 1.05 epochs, which is the third report
    assert [report["epochs"] for report in reports] == [1.0, 2.0, 3.0]
    assert before["params"] > reports[0]["params"] == reports[1]["params"] > reports[2]["params"]
    assert (routine.model.architecture.n_heads, routine.model.architecture.d_ff) == (1, 8)
    assert reports[2]["params"] == sum(p.numel() for p in routine.model.parameters())
    assert reports[2]["flops"] == cost.flops(routine.model.architecture, routine.data.signature)
    assert reports[2]["val_accuracy"] > 0.8 * before["val_accuracy"] > 0.6


def test_without_a_ratio_it_begins_where_the_start_ended(workspace, trained):
    start, before = trained
    routine = compress(workspace, start)
    answers = logits(routine.model, routine.data.splits["validation"])
    model, _, _ = checkpoint.load_model(workspace.folder / "trained")
    np.testing.assert_array_equal(answers, logits(model, routine.data.splits["validation"]))
    assert routine.advance()["params"] == before["params"]


def test_resumed_it_reports_the_same_in_the_pruned_shape(workspace, trained, tmp_path):
    values = {
        "units_ratio": 0.5,
        "hidden_ratio": 0.5,
        "rounds": 2,
        "prune_until": 1.0,
        "report_every": 0.75,
        "teacher": trained[0],
    }
    whole, first, second = (compress(workspace, trained[0], **values) for _ in range(3))
    reports = [timeless(whole.advance()) for _ in range(3)]
    first.advance()
    first.save(tmp_path / "checkpoint")
    second.load(tmp_path / "checkpoint")
    assert [timeless(second.advance()) for _ in range(2)] == reports[1:]
    assert len({report["params"] for report in reports}) == 2


def test_an_explored_value_holds_after_a_load(workspace, trained, tmp_path):
    first = compress(workspace, trained[0], units_ratio=0.5)
    first.advance()
    first.save(tmp_path)
    second = compress(workspace, trained[0], units_ratio=0.5, learning_rate=0.25, schedule="constant")
    second.load(tmp_path)
    second.advance()
    assert second.loop.optimizer.dense.param_groups[0]["lr"] == 0.25


def test_its_checkpoint_is_one_to_load_and_to_start_from(workspace, trained, tmp_path):
    first = compress(workspace, trained[0], units_ratio=0.5, layers_ratio=0.5)
    first.advance()
    first.save(tmp_path)
    model, architecture, config = checkpoint.load_model(tmp_path)
    assert (architecture.n_layers, architecture.d_ff) == (1, 16)
    assert config["task"] == TASK
    again = compress(workspace, str(tmp_path), heads_ratio=0.5)
    assert again.model.architecture == architecture
    assert torch.equal(again.model.head.linear.weight, model.head.linear.weight)


def test_the_loss_is_that_of_labels_and_teacher(workspace, trained):
    plain = compress(workspace, trained[0], precision="fp32")
    taught = compress(workspace, trained[0], precision="fp32", teacher=trained[0], soft_weight=0.25, temperature=2.0)
    split = taught.data.splits["train"]
    from trainables.loop import Examples, on_device

    rows = np.arange(7)
    examples = Examples(rows, *on_device(split.batch(rows), "cpu"))
    own, said = taught.model(**examples.inputs), plain.model(**examples.inputs).detach()
    hard = F.cross_entropy(own, examples.targets)
    torch.testing.assert_close(plain._loss(plain.model, examples), hard)
    soft = F.kl_div((own / 2).log_softmax(1), (said / 2).softmax(1), reduction="batchmean") * 4
    torch.testing.assert_close(taught._loss(taught.model, examples), 0.25 * soft + 0.75 * hard, rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        taught.model.head.linear.bias += torch.randn(10)
    own = taught.model(**examples.inputs)
    soft = F.kl_div((own / 2).log_softmax(1), (said / 2).softmax(1), reduction="batchmean") * 4
    expected = 0.25 * soft + 0.75 * F.cross_entropy(own, examples.targets)
    torch.testing.assert_close(taught._loss(taught.model, examples), expected, rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefgh"), 5)) for _ in range(400)]
    rows = [{"text": " ".join(rng.choice(words[i % 2 :: 2], 4)), "label": "ab"[i % 2]} for i in range(300)]
    file = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return {"name": "text_classification", "data": str(file), "tokenizer": {"vocab_size": 400}}


def test_a_smaller_vocabulary_reads_the_data_anew(workspace, texts, tmp_path):
    start, before = learn(workspace, "texts", task=texts, epochs=1.0)
    values = {"task": texts, "vocabulary_ratio": 0.5, "units_ratio": 0.5, "rounds": 2, "teacher": start, "epochs": 2.0}
    whole, first, second = (compress(workspace, start, **values) for _ in range(3))
    reports = [timeless(whole.advance()) for _ in range(2)]
    first.advance()
    first.save(tmp_path / "c")
    second.load(tmp_path / "c")
    assert timeless(second.advance()) == reports[1]
    assert reports[1]["params"] < 0.7 * before["params"]
    data = as_read_by(tmp_path / "c", first.given, workspace.cache)
    assert data.signature == second.model.signature.model_dump() == {**first.given.signature, "vocab_size": 200}
    assert data.splits["train"].lengths.mean() > first.given.splits["train"].lengths.mean()
    ship(second, data, tmp_path / "a")
    rows = np.arange(len(data.splits["test"]))
    found = Predictor(tmp_path / "a").logits(data.splits["test"].raw(rows))
    np.testing.assert_allclose(found, logits(second.model, data.splits["test"], precision="fp32"), atol=1e-4)
    assert compress(workspace, str(tmp_path / "a"), task=texts).model.signature == second.model.signature


def ship(routine, data, folder):
    artifact.save(
        folder,
        routine.model,
        architecture=routine.model.architecture,
        signature=data.signature,
        labels=data.labels,
        files=data.files,
        metrics={},
        origin=Origin(name="toy", task="text_classification", data="toy", fingerprint="0"),
    )


def network(**values):
    architecture = Architecture(**{**SHAPE, "n_heads": (2, 4), **values})
    signature = {"input": "tokens", "vocab_size": 100, "max_length": 9, "pad_id": 0, "n_classes": 2}
    return Network(build(architecture, signature), architecture, signature)


def test_the_rounds_share_the_ratio_and_make_up_for_rounding():
    ratios = {"units": 0.75, "heads": 0.5, "low_rank": 0.3, "hidden": 0.5, "vocabulary": 0.5}
    config = parse(CompressConfig, {"task": TASK, "start": "x", "rounds": 2, "ratios": ratios})
    found = network()
    began = sizes(config, found)
    assert list(began) == ["vocabulary", "heads", "hidden", "units", "low_rank"]
    assert began == {"vocabulary": 100, "heads": 3, "hidden": 16, "units": 32, "low_rank": 1}
    whole = dict.fromkeys(began, 1.0)
    for number, left in enumerate(({"units": 0.625, "heads": 0.75, "low_rank": 0.85}, {"units": 0.25, "heads": 0.5})):
        for name, expected in left.items():
            assert step(config, name, number, found, whole | began).config.ratio == pytest.approx(1 - expected)
    smaller = network(d_ff=24)  # 0.625 of 32 is 20, rounded up
    assert step(config, "units", 1, smaller, began).config.ratio == pytest.approx(2 / 3)
    assert step(config, "units", 0, network(d_ff=16), began).config.ratio == 0
    assert [step(config, "vocabulary", number, found, began).config.ratio for number in (0, 1)] == [0.5, 0.5]


def test_the_shape_is_known_beforehand(workspace, trained, monkeypatch):
    monkeypatch.setenv("FITFORMER_CACHE", str(workspace.cache))
    values = {"units_ratio": 0.7, "heads_ratio": 0.5, "layers_ratio": 0.5, "low_rank_ratio": 0.2, "rounds": 2}
    values |= {"settings": {"layers": {"importance": "activation"}}, "prune_until": 0.0, "epochs": 1.0}
    routine = compress(workspace, trained[0], **values)
    routine.advance()
    assert Compress.architecture(routine.config) == routine.model.architecture
    assert Compress.architecture(routine.config).n_layers == 1


def test_settings_and_importance_where_they_apply():
    ratios = {"units": 0.5, "low_rank": 0.5, "layers": 0.5}
    values = {"task": TASK, "start": "x", "ratios": ratios, "settings": {"units": {"round_to": 32}}}
    for importance, of_low_rank in (("activation", "activation"), ("taylor", "magnitude")):
        config, found = parse(CompressConfig, {**values, "importance": importance}), network()
        units, low_rank, layers = (step(config, name, 0, found, sizes(config, found)).config for name in ratios)
        assert (units.round_to, units.importance, low_rank.importance) == (32, importance, of_low_rank)
        assert layers.importance == "spaced"


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"units_ratio": 1.0}, "units.ratio must be below 1, got 1.0"),
        ({"ratios": {"heads": -0.1}}, "heads.ratio must be at least 0, got -0.1"),
        ({"ratios": {"head": 0.1}}, "ratios has no 'head'; did you mean 'heads'?"),
        ({"unit_ratio": 0.1}, "compress has no 'unit_ratio'; did you mean 'ratios'?"),
        ({"settings": {"units": {"rounds": 8}}}, "units has no 'rounds'; did you mean 'round_to'?"),
    ],
)
def test_faults(values, rule):
    with pytest.raises(ParseError) as error:
        parse(CompressConfig, {"task": TASK, "start": "x", **values}, "compress")
    assert [line.removeprefix("compress: ")[: len(rule)] for line in error.value.faults] == [rule]


def test_a_start_that_is_none_or_of_other_labels(workspace, trained, texts, tmp_path):
    with pytest.raises(ValueError, match="^start: .* has no config.json, must be an artifact"):
        compress(workspace, str(tmp_path))
    with pytest.raises(ValueError, match="^start has input pixels, must have the data's tokens; choose another one"):
        compress(workspace, trained[0], task=texts)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"embedding_ratio": 0.5}, "embedding: the network reads images, must read tokens to have one; leave it out"),
        ({"low_rank_ratio": 0.95}, "low_rank: ratio is 0.95, which rank 1 in attention of layer 0 does not reach"),
        (
            {"settings": {"heads": {"keep": 3}}},
            "heads of layer 0: keep is 3, must be at most 2, all there are; lower it",
        ),
    ],
)
def test_checked_before_a_trial_starts(workspace, trained, monkeypatch, values, message):
    monkeypatch.setenv("FITFORMER_CACHE", str(workspace.cache))
    routine = compress(workspace, trained[0])
    Compress.check(routine.config, routine.data)
    config = parse(CompressConfig, {"task": TASK, "start": trained[0], **values})
    with pytest.raises(ValueError, match=f"^{message}"):
        Compress.check(config, routine.data)


def test_the_same_tokenizer_changes_nothing_and_another_is_stored_once(texts, tmp_path):
    data = prepare(texts, tmp_path / "cache")
    own = data.files["tokenizer.json"].read_text()
    assert retokenized(data, own, tmp_path / "cache") is data
    assert retokenized(data, json.dumps(json.loads(own)), tmp_path / "cache") is data
    other = trimmed(own, range(300))
    first, second = (retokenized(data, other, tmp_path / "cache") for _ in range(2))
    assert first.folder == second.folder != data.folder
    assert (first.labels, first.record["source"]) == (data.labels, data.record["source"])
    assert first.splits["test"].raw(np.arange(3)) == data.splits["test"].raw(np.arange(3))
    assert as_read_by(first.folder, data, tmp_path / "cache").folder == first.folder


def test_training_flops_fall_with_what_is_left(workspace, trained):
    routine = compress(workspace, trained[0], epochs=2.0, rounds=2, prune_until=1.0, units_ratio=0.5)
    reports = [routine.advance() for _ in range(2)]
    samples = [reports[0]["samples"], reports[1]["samples"] - reports[0]["samples"]]
    assert [report["training_flops"] for report in reports] == [
        3 * n * report["flops"] for n, report in zip(samples, reports, strict=True)
    ]
    assert reports[1]["training_flops"] < reports[0]["training_flops"]
    assert {*routine.metrics(routine.config, routine.data)} == {*reports[0], "latency_ms"} - {"used"}
