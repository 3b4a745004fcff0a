import itertools
import json
import re

import numpy as np
import onnx
import pytest
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from safetensors.torch import load_file, save_file

from models import artifact, own
from models.architecture import Architecture, parse_signature
from models.artifact import Origin, add_metrics, convert, load, save
from models.encoder import build
from models.export import agreement, parity, random_feeds, to_onnx
from models.predictor import Predictor, file_hash, session

TOKENS = {"input": "tokens", "vocab_size": 50, "max_length": 12, "pad_id": 0, "n_classes": 3}
PIXELS = {"input": "pixels", "height": 4, "width": 6, "channels": 2, "scale": 1 / 16, "n_classes": 3}
ORIGIN = Origin(name="toy", task="text_classification", data="toy.csv", fingerprint="0123abcd", licence="CC0-1.0")
PER_LAYER = {"n_layers": 3, "n_heads": (1, 2, 4), "d_head": (8, 4, 6), "d_ff": (24, 7, 40)}
KINDS = [
    {},
    PER_LAYER,
    *({"activation": a} for a in ("gelu_tanh", "relu", "silu", "geglu", "swiglu")),
    {"norm": "rms"},
    {"norm_placement": "post", "embedding_norm": True},
    *({"positions": p} for p in ("sinusoidal", "rotary", "alibi", "none")),
    *({"pooling": p} for p in ("cls", "max")),
    {"attention_rank": 3, "feed_forward_rank": (4, 2)},
]


def make(signature=TOKENS, seed=0, **kind):
    """An architecture and a model of it whose every weight counts."""
    torch.manual_seed(seed)
    patch = {"patch": 2} if signature["input"] == "pixels" else {}
    architecture = Architecture(**({"d_model": 16, "n_heads": 2, "d_head": 8, "d_ff": 24} | patch | kind))
    model = build(architecture, signature).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return architecture, model


def ship(folder, *, signature=TOKENS, metrics=None, files=None, precision="fp32", exclude=(), **kind):
    architecture, model = make(signature, **kind)
    found = save(
        folder,
        model,
        architecture=architecture,
        signature=signature,
        labels=["a", "b", "c"],
        files=files or {},
        metrics=metrics or {},
        origin=ORIGIN,
        precision=precision,
        exclude=exclude,
    )
    return model, found


def logits(model, feeds):
    with torch.inference_mode():
        return model(**{name: torch.from_numpy(value) for name, value in feeds.items()}).numpy()


@pytest.mark.parametrize(
    ("signature", "kind"),
    [*itertools.product([TOKENS, PIXELS], KINDS), (TOKENS, {"embedding_rank": 4})],
    ids=lambda value: value.get("input") or str(value),
)
def test_onnx_runtime_gives_the_logits_of_torch_for_any_batch_and_length(signature, kind):
    _, model = make(signature, **kind)
    run = session(to_onnx(model, random_feeds(model.signature, [5, 3], 0)), 1).run
    for seed, lengths in enumerate([[1], [12], [12, 1, 7], [2, 2, 2, 2]]):
        feeds = random_feeds(model.signature, lengths, seed)
        np.testing.assert_allclose(run(["logits"], feeds)[0], logits(model, feeds), atol=1e-5)


def test_what_the_model_computes_at_padding_does_not_reach_its_onnx_logits():
    _, model = make()
    run = session(to_onnx(model, random_feeds(model.signature, [5, 3], 0)), 1).run
    feeds = random_feeds(model.signature, [4, 9], 0)
    other = {"tokens": np.where(feeds["keep"], feeds["tokens"], 7), "keep": feeds["keep"]}
    np.testing.assert_array_equal(run(None, feeds)[0], run(None, other)[0])


def test_equal_models_give_equal_files_and_no_path_of_this_machine(tmp_path):
    ship(tmp_path / "a")
    ship(tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name
        assert b".py" not in path.read_bytes().replace(b"models/predictor.py", b"").replace(b"models/artifact.py", b"")


def test_the_graph_is_valid_onnx_and_can_be_quantized(tmp_path):
    _, model = make(d_model=64, d_ff=128)
    data = to_onnx(model, random_feeds(model.signature, [5, 3], 0))
    onnx.checker.check_model(onnx.load_from_string(data))
    (tmp_path / "fp32.onnx").write_bytes(data)
    float32 = {"DefaultTensorType": onnx.TensorProto.FLOAT}
    quantize_dynamic(tmp_path / "fp32.onnx", tmp_path / "int8.onnx", weight_type=QuantType.QInt8, extra_options=float32)
    int8 = onnx.load(tmp_path / "int8.onnx")
    kinds = [node.op_type for node in int8.graph.node]
    assert "MatMul" not in kinds
    assert kinds.count("MultiHeadAttention") == 2


def test_parity_refuses_a_model_that_is_not_the_same():
    _, model = make()
    _, other = make(seed=1)
    data = to_onnx(other, random_feeds(other.signature, [5, 3], 0))
    with pytest.raises(ValueError, match=r"the ONNX model's logits differ from torch's by \d\.\de[+-]\d\d, allowed"):
        parity(model, model.signature, data)


def test_parity_refuses_logits_that_are_not_numbers():
    _, model = make()
    data = to_onnx(model, random_feeds(model.signature, [5, 3], 0))
    with torch.no_grad():
        model.head.linear.bias.fill_(float("nan"))
    with pytest.raises(ValueError, match="differ from torch's by nan, allowed is 1e-04"):
        parity(model, model.signature, data)


@pytest.mark.parametrize("signature", [TOKENS, PIXELS], ids=["tokens", "pixels"])
@pytest.mark.parametrize("kind", [{}, PER_LAYER], ids=["equal layers", "layers of their own"])
def test_a_loaded_model_has_the_very_logits_of_the_saved_one(tmp_path, signature, kind):
    model, _ = ship(tmp_path / "a", signature=signature, **kind)
    loaded, config = load(tmp_path / "a")
    feeds = random_feeds(parse_signature(signature), [12, 3, 1], 0)
    np.testing.assert_array_equal(logits(loaded, feeds), logits(model, feeds))
    assert not loaded.training
    assert (config["signature"], config["labels"]) == (signature, ["a", "b", "c"])


def test_metrics_hold_size_and_parity_of_what_was_written(tmp_path):
    (tmp_path / "tokenizer.json").write_text("x" * 5000)
    files = {"tokenizer.json": tmp_path / "tokenizer.json"}
    model, metrics = ship(tmp_path / "a", files=files, metrics={"validation": {"accuracy": 0.5}})
    assert metrics == json.loads((tmp_path / "a" / "metrics.json").read_text())
    needed = ["config.json", "model.onnx", "tokenizer.json"]
    assert metrics["size_mb"] == sum((tmp_path / "a" / name).stat().st_size for name in needed) / 1e6
    assert metrics["params"] == sum(p.numel() for p in model.parameters())
    assert 0 < metrics["onnx_parity"] < 1e-5
    assert metrics["validation"] == {"accuracy": 0.5}


def test_the_config_has_the_hash_of_every_other_file_that_stays_the_same(tmp_path):
    (tmp_path / "t").write_text("{}")
    ship(tmp_path / "a", files={"tokenizer.json": tmp_path / "t"})
    recorded = json.loads((tmp_path / "a" / "config.json").read_text())["sha256"]
    stays = ["model.onnx", "model.safetensors", "tokenizer.json"]
    assert recorded == {name: file_hash(tmp_path / "a" / name) for name in stays}


def test_the_card_tells_every_figure(tmp_path):
    ship(tmp_path / "a", metrics={"validation": {"accuracy": 0.71234}})
    latency = {"latency_ms": 0.3214, "latency_p95_ms": 0.5, "latency_quiet": False, "target": {"device": "cpu"}}
    add_metrics(tmp_path / "a", {"test": {"f1": {"value": 0.7, "low": 0.65, "high": 0.75}}, **latency})
    card = (tmp_path / "a" / "card.md").read_text()
    for row in (
        "| task | text_classification |",
        "| classes | 3 |",
        "| data | toy.csv (fingerprint 0123abcd) |",
        "| licence of the data | CC0-1.0 |",
        "| validation accuracy | 0.7123 |",
        "| test f1 | 0.7000 (95 % interval 0.6500 to 0.7500) |",
        "| latency | p50 0.321 ms, p95 0.500 ms (device cpu; the machine was not quiet) |",
    ):
        assert row in card
    assert re.search(r"largest difference of ONNX and torch logits \| \d\.\de-0\d \|", card)


def test_the_card_of_an_image_model_can_be_followed(tmp_path, monkeypatch, capsys):
    model, _ = ship(tmp_path / "a", signature=PIXELS)
    code = (tmp_path / "a" / "card.md").read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path / "a")
    exec(code, {})
    best = logits(model, {"pixels": np.zeros((1, 4, 6, 2), np.float32)}).argmax()
    assert capsys.readouterr().out.strip() == "abc"[best]


def test_metrics_added_later_leave_the_artifact_loadable(tmp_path):
    ship(tmp_path / "a", metrics={"validation": {"accuracy": 0.5}})
    merged = add_metrics(tmp_path / "a", {"note": 3})
    assert merged["validation"] == {"accuracy": 0.5}
    assert json.loads((tmp_path / "a" / "metrics.json").read_text())["note"] == 3
    assert load(tmp_path / "a")[1]["labels"] == ["a", "b", "c"]


def test_an_older_artifact_is_replaced_as_a_whole(tmp_path):
    (tmp_path / "t").write_text("{}")
    ship(tmp_path / "a", files={"tokenizer.json": tmp_path / "t"})
    model, _ = ship(tmp_path / "a", seed=1)
    assert not (tmp_path / "a" / "tokenizer.json").exists()
    feeds = random_feeds(model.signature, [3], 0)
    np.testing.assert_array_equal(logits(load(tmp_path / "a")[0], feeds), logits(model, feeds))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "t"]


def test_a_failure_on_the_way_leaves_the_older_artifact_and_nothing_else(tmp_path, monkeypatch):
    older, _ = ship(tmp_path / "a")
    monkeypatch.setattr(artifact, "parity", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ship(tmp_path / "a", seed=1)
    feeds = random_feeds(older.signature, [3], 0)
    np.testing.assert_array_equal(logits(load(tmp_path / "a")[0], feeds), logits(older, feeds))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_folder_of_something_else_is_not_replaced(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(ValueError, match=r"\S+/thesis exists and is no artifact; choose another folder, or remove it"):
        ship(tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "years of work"


WIDE = {"d_model": 64, "n_heads": 2, "d_head": 32, "d_ff": 128}


@pytest.mark.parametrize(("signature", "precision"), [(TOKENS, "weights8"), (TOKENS, "weights4"), (PIXELS, "int8")])
def test_a_quantized_artifact(tmp_path, signature, precision):
    whole, before = ship(tmp_path / "a", signature=signature, **WIDE)
    after = convert(tmp_path / "a", tmp_path / "b", precision)
    loaded, config = load(tmp_path / "b")
    feeds = random_feeds(parse_signature(signature), [12, 3, 1], 0)
    np.testing.assert_array_equal(logits(loaded, feeds), logits(whole, feeds))
    assert config["precision"] == {"kind": precision, "exclude": []}
    assert (
        after["size_mb"] == sum((tmp_path / "b" / name).stat().st_size for name in ("config.json", "model.onnx")) / 1e6
    )
    assert after["size_mb"] < before["size_mb"] / 1.7
    assert 1e-4 < after["onnx_parity"] < 0.5
    assert 0.6 < after["onnx_agreement"] <= 1
    card = (tmp_path / "b" / "card.md").read_text()
    assert f"| precision | {precision} |" in card
    assert f"| same answer as in float32 | {after['onnx_agreement']:.1%} of 256 random inputs |" in card


def test_agreement_is_that_of_the_answers():
    _, model = make()
    _, other = make(seed=1)
    feeds = random_feeds(model.signature, [5, 3], 0)
    assert agreement(model, model.signature, to_onnx(model, feeds)).same == 1.0
    found = agreement(model, model.signature, to_onnx(other, feeds))
    assert found.same < 0.9
    assert found.difference > 0.1


def test_layers_left_in_float32_are_named(tmp_path):
    layer = "/model/blocks.0/attention/MatMul"
    ship(tmp_path / "a", precision="int8", exclude=[layer])
    assert f"| precision | int8; in float32: {layer} |" in (tmp_path / "a" / "card.md").read_text()
    assert load(tmp_path / "a")[1]["precision"] == {"kind": "int8", "exclude": [layer]}
    add_metrics(tmp_path / "a", {"sensitivity": {layer: 0.0123, "/model/head/linear/Gemm": -0.001}})
    card = (tmp_path / "a" / "card.md").read_text()
    assert f"| layer | lost |\n|---|---|\n| {layer} | +0.0123 |\n| /model/head/linear/Gemm | -0.0010 |\n" in card


def test_an_artifact_in_bfloat16(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    model, metrics = ship(tmp_path / "a", precision="bf16")
    loaded, _ = load(tmp_path / "a")
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}
    assert (
        metrics["size_mb"]
        == sum((tmp_path / "a" / n).stat().st_size for n in ("config.json", "model.safetensors")) / 1e6
    )
    feeds = random_feeds(model.signature, [12, 3, 1], 0)
    np.testing.assert_allclose(
        logits(loaded.float(), feeds), session(tmp_path / "a" / "model.onnx", 1).run(None, feeds)[0], atol=1e-5
    )
    with pytest.raises(
        ValueError, match=r"a is in bf16, must be the artifact in fp32 that it was made of; convert that"
    ):
        convert(tmp_path / "a", tmp_path / "b", "int8")
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    with pytest.raises(ValueError, match="^quantization is bf16, which this processor does not multiply; choose int8"):
        ship(tmp_path / "c", precision="bf16")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


def test_a_converted_artifact_has_its_files_and_none_that_is_damaged(tmp_path):
    (tmp_path / "notes.json").write_text("{}")
    ship(tmp_path / "a", signature=PIXELS, files={"notes.json": tmp_path / "notes.json"})
    convert(tmp_path / "a", tmp_path / "b", "int8")
    assert (tmp_path / "b" / "notes.json").read_text() == "{}"
    assert Predictor(tmp_path / "b").labels == ["a", "b", "c"]
    (tmp_path / "a" / "notes.json").write_text("[]")
    with pytest.raises(ValueError, match=r"notes.json does not match its recorded hash: damaged or changed; copy it"):
        convert(tmp_path / "a", tmp_path / "c", "int8")
    assert not (tmp_path / "c").exists()


class Own(torch.nn.Module):
    """A network of the user's own: two names for one weight, inputs in its own order, one without use."""

    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(50, 3)
        self.again = self.embedding

    def forward(self, keep, tokens):
        return (self.embedding(tokens) + self.again(tokens)).amax(1)


def test_a_network_of_the_users_own_is_shipped_but_not_rebuilt(tmp_path):
    model = Own()
    metrics = save(
        tmp_path / "a",
        model,
        architecture=own.Own(model="mine.py:build"),
        signature=TOKENS,
        labels=["a", "b", "c"],
        files={},
        metrics={},
        origin=ORIGIN,
    )
    assert metrics["onnx_parity"] == 0
    feeds = random_feeds(parse_signature(TOKENS), [4, 2], 0)
    run = session(tmp_path / "a" / "model.onnx", 1).run
    np.testing.assert_array_equal(run(["logits"], feeds)[0], logits(model, feeds))
    assert "| network | mine.py:build {} |" in (tmp_path / "a" / "card.md").read_text()
    with pytest.raises(ValueError, match=r"is of the network 'mine.py:build', whose code an artifact does not hold"):
        load(tmp_path / "a")


def test_damaged_weights_are_told(tmp_path):
    ship(tmp_path / "a")
    weights = tmp_path / "a" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"model.safetensors does not match its recorded hash: damaged or changed"):
        load(tmp_path / "a")


def test_weights_of_another_shape_are_told(tmp_path):
    ship(tmp_path / "a")
    weights = tmp_path / "a" / "model.safetensors"
    save_file({**load_file(weights), "head.linear.bias": torch.zeros(4)}, weights)
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    config["sha256"]["model.safetensors"] = file_hash(weights)
    (tmp_path / "a" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"does not fit the architecture in config.json \(.*head.linear.bias"):
        load(tmp_path / "a")
