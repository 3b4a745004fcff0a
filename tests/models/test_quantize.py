import collections
import sys

import numpy as np
import onnx
import pytest
import torch

from models import quantize
from models.architecture import Architecture, parse_signature
from models.encoder import build
from models.export import random_feeds, to_onnx
from models.latency import Target, Timing
from models.predictor import session
from models.quantize import KINDS, Choice, choose, in_bf16, layers, quantized, sensitivity

TEXT = {"input": "tokens", "vocab_size": 600, "max_length": 16, "pad_id": 0, "n_classes": 3}
IMAGE = {"input": "pixels", "height": 4, "width": 6, "channels": 2, "scale": 0.1, "n_classes": 3}
SIZES = {"n_layers": 2, "d_model": 40, "n_heads": 2, "d_head": 20, "d_ff": 72}
QUANTIZED = [kind for kind in KINDS if kind != "fp32"]


def make(signature=TEXT, **values):
    torch.manual_seed(0)
    model = build(Architecture(**{**SIZES, **values}), signature).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.5 if "embedding" in name else 0.2)
    return model, to_onnx(model, random_feeds(model.signature, [5, 3], 0))


@pytest.fixture(scope="module")
def data():
    return make()[1]


def logits(data, signature=TEXT):
    lengths = np.random.default_rng(0).integers(1, 17, 60)
    return session(data, 1).run(["logits"], random_feeds(parse_signature(signature), lengths.tolist(), 0))[0]


def away(found, expected):
    """Root mean squared error as a share of the spread."""
    return float(np.sqrt(((found - expected) ** 2).mean()) / expected.std())


def operators(data):
    return collections.Counter(node.op_type for node in onnx.load_from_string(data).graph.node)


@pytest.mark.parametrize("kind", QUANTIZED)
def test_it_is_smaller_and_nearly_as_before(data, kind):
    found = quantized(data, kind)
    bits = 4.0 if kind == "weights4" else 8.0
    assert len(found) < len(data) * bits / 32 + 40_000  # names of nodes, scales and norms
    assert 0 < away(logits(found), logits(data)) < (0.25 if "4" in kind else 0.06)
    assert quantized(data, kind) == found


def test_which_operators_each_kind_has(data):
    found = {kind: operators(quantized(data, kind)) for kind in KINDS}
    assert quantized(data, "fp32") == data
    assert (found["int8"]["MatMulInteger"], found["int8"]["MatMul"], found["int8"]["Gemm"]) == (9, 0, 0)
    assert (found["int8_embedding4"]["MatMulInteger"], found["int8_embedding4"]["GatherBlockQuantized"]) == (9, 1)
    assert (found["weights8"]["MatMulNBits"], found["weights8"]["Gemm"]) == (9, 0)
    assert (found["weights4"]["MatMulNBits"], found["weights4"]["GatherBlockQuantized"]) == (8, 1)


@pytest.mark.parametrize("kind", QUANTIZED)
def test_factored_networks(kind):
    _, whole = make(embedding_rank=16, attention_rank=8, positions="rotary")
    assert away(logits(quantized(whole, kind)), logits(whole)) < 0.4


@pytest.mark.parametrize("kind", ["int8", "weights4"])
def test_images(kind):
    _, whole = make(IMAGE, patch=2)
    assert away(logits(quantized(whole, kind), IMAGE), logits(whole, IMAGE)) < 0.4


def test_the_layers_by_name(data):
    names = layers(data)
    assert names[0] == "/model/front_end/embedding/Gather"
    assert names[-1] == "/model/head/linear/Gemm"
    assert names[1:5] == [
        f"/model/blocks.0/{part}MatMul"
        for part in ("attention/", "attention/out/", "feed_forward/inner/", "feed_forward/outer/")
    ]
    assert len(names) == 10


@pytest.mark.parametrize("kind", QUANTIZED)
def test_what_is_left_out_stays_as_it_was(data, kind):
    assert away(logits(quantized(data, kind, layers(data))), logits(data)) < 1e-6
    assert operators(quantized(data, kind, ["/model/blocks.0/attention/MatMul"]))["MatMul"] == 1


def test_a_layer_that_is_not_there(data):
    with pytest.raises(
        ValueError, match=r"^exclude has /model/x, must be of /model/front_end/embedding/Gather, [^\n]*; choose one"
    ):
        quantized(data, "int8", ["/model/x"])


def test_what_this_runtime_does_not_run(data, monkeypatch):
    def refusing(*_, **__):
        raise RuntimeError("[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : no kernel\nmore")

    monkeypatch.setattr(quantize, "session", refusing)
    with pytest.raises(
        ValueError, match=r"^quantization is weights4, which onnxruntime \S+ does not run here \(.*no kernel\)"
    ):
        quantized(data, "weights4")


def test_an_older_runtime_without_quantization_by_blocks(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime.quantization.matmul_nbits_quantizer", None)
    with pytest.raises(
        ValueError, match=r"^quantization in 4 bits by blocks is not in onnxruntime \S+, must be in a newer"
    ):
        quantized(data, "weights4")
    assert len(quantized(data, "int8")) < len(data)


def test_sensitivity_finds_the_layer_that_is_spoiled():
    """One input is always zero, so its huge weights change nothing but what the others are rounded to."""
    model, _ = make()
    with torch.no_grad():
        model.blocks[1].feed_forward_norm.weight[7] = 0
        model.blocks[1].feed_forward_norm.bias[7] = 0
        model.blocks[1].feed_forward.inner.weight[:, 7] = 500.0
    data = to_onnx(model, random_feeds(model.signature, [5, 3], 0))
    expected = logits(data)
    lost = sensitivity(data, "int8", lambda found: -away(logits(found), expected))
    assert next(iter(lost)) == "/model/blocks.1/feed_forward/inner/MatMul"
    assert list(lost.values()) == sorted(lost.values(), reverse=True)
    assert set(lost) == set(layers(data))


class Bench:
    """Times and scores as a test wants them, by the number of layers that are quantized and their kind."""

    def __init__(self, monkeypatch, times, least=None):
        self.times, self.least, self.names = times, least or {}, {}
        monkeypatch.setattr(quantize, "quantized", lambda _, kind, exclude=(): json_of(kind, exclude))
        monkeypatch.setattr(quantize, "layers", lambda _: list("abcdef"))
        monkeypatch.setattr(quantize, "measure_model", lambda data, *_: Timing(self.times[name(data)], 9.0, quiet=True))

    def score(self, data):
        kind, _, exclude = data.decode().partition(":")
        return 1.0 - sum(lost for layer, lost in self.least.get(kind, {}).items() if layer not in exclude)


def json_of(kind, exclude):
    return f"{kind}:{''.join(exclude)}".encode()


def name(data):
    return data.decode().partition(":")[0]


def chosen(bench, **values):
    return choose(b"fp32:", parse_signature(TEXT), [[3]], Target(), bench.score, **{"most_lost": 0.01, **values})


def test_the_quickest_is_chosen_by_measurement(monkeypatch):
    bench = Bench(monkeypatch, {"fp32": 3.0, "int8": 2.0, "int8_embedding4": 2.5, "weights8": 1.5, "weights4": 4.0})
    best, found = chosen(bench)
    assert best == Choice("weights8", (), b"weights8:", 1.0, Timing(1.5, 9.0, quiet=True))
    assert [choice.kind for choice in found] == list(KINDS)


def test_where_nothing_is_quicker_it_stays_float32(monkeypatch):
    bench = Bench(monkeypatch, {"fp32": 1.0, "int8": 2.0})
    assert chosen(bench, kinds=["fp32", "int8"])[0].kind == "fp32"


def test_layers_that_break_accuracy_are_left_out(monkeypatch):
    bench = Bench(monkeypatch, {"fp32": 3.0, "int8": 2.0}, {"int8": {"b": 0.3, "e": 0.02, "c": 0.004}})
    best, _ = chosen(bench, kinds=["fp32", "int8"])
    assert (best.kind, best.exclude) == ("int8", ("b", "e"))
    assert best.score == pytest.approx(0.996)


def test_a_kind_that_breaks_more_than_half_of_the_layers_is_no_candidate(monkeypatch):
    bench = Bench(monkeypatch, {"fp32": 3.0, "int8": 2.0}, {"int8": dict.fromkeys("abcdef", 0.1)})
    best, found = chosen(bench, kinds=["fp32", "int8"])
    assert (best.kind, len(found)) == ("fp32", 1)


def test_a_kind_that_the_machine_does_not_run_is_no_candidate(monkeypatch):
    bench = Bench(monkeypatch, {"fp32": 3.0, "int8": 2.0, "weights4": 1.0})
    monkeypatch.setattr(quantize, "_runs", lambda kind: kind != "weights4")
    best, found = chosen(bench, kinds=["fp32", "int8", "weights4"])
    assert (best.kind, [choice.kind for choice in found]) == ("int8", ["fp32", "int8"])


def test_what_runs_is_told_by_the_smallest_model(monkeypatch):
    assert all(map(quantize._runs, KINDS))

    def session(model, threads):
        if b"MatMulInteger" in model:
            raise RuntimeError("no kernel for MatMulInteger")

    monkeypatch.setattr(quantize, "session", session)
    assert [kind for kind in KINDS if quantize._runs(kind)] == ["fp32", "weights8", "weights4"]
    with pytest.raises(
        ValueError, match=r"^quantization is int8, which onnxruntime .* \(no kernel for MatMulInteger\);"
    ):
        quantize.check("int8")


def test_bfloat16_in_torch(monkeypatch):
    model, _ = make()
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    feeds = {k: torch.from_numpy(v) for k, v in random_feeds(model.signature, [9, 4], 0).items()}
    found = in_bf16(model)(**feeds)
    assert found.dtype == torch.bfloat16
    assert model.head.linear.weight.dtype == torch.float32
    torch.testing.assert_close(found.float(), model(**feeds), rtol=0.05, atol=0.1)
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    with pytest.raises(ValueError, match="^quantization is bf16, which this processor does not multiply; choose int8"):
        in_bf16(model)
