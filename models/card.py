"""The card of an artifact: what it is, what it scores, how to use it, in one page of Markdown."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

TEXT = """\
import json, numpy, onnxruntime, tokenizers
text = tokenizers.Tokenizer.from_file("tokenizer.json").encode("a text")
feeds = {"tokens": numpy.array([text.ids]), "keep": numpy.array([text.attention_mask], dtype=bool)}
logits = onnxruntime.InferenceSession("model.onnx").run(["logits"], feeds)[0]
print(json.load(open("config.json"))["labels"][logits.argmax()])
"""
IMAGE = """\
import json, numpy, onnxruntime
image = numpy.zeros(({height}, {width}, {channels}))  # height, width, channels, values as in the data
feeds = {{"pixels": numpy.float32([image]) * numpy.float32({scale})}}
logits = onnxruntime.InferenceSession("model.onnx").run(["logits"], feeds)[0]
print(json.load(open("config.json"))["labels"][logits.argmax()])
"""


def card(config: Mapping[str, Any], metrics: Mapping[str, Any], forms: Collection[str]) -> str:
    """Markdown from config.json and metrics.json, and from which files of the model there are.

    Of the metrics it knows `validation` (name → value), `test` (name → value, low, high: a 95 % interval),
    `latency_ms`, `latency_p95_ms`, `latency_quiet` and `target`, `size_mb`, `params`, `onnx_parity`,
    `onnx_agreement` and `sensitivity` (of a quantized model); others stay in metrics.json.
    """
    rows = "\n".join(f"| {name} | {value} |" for name, value in (*_origin(config), *_figures(metrics)))
    return (
        f"# {config['origin']['name']}\n\n"
        f"A Transformer that classifies {_INPUT[config['signature']['input']]}, made by Fitformer.\n\n"
        f"| | |\n|---|---|\n{rows}\n\n"
        f"{_sensitivity(metrics)}"
        f"{_use(config['signature'], forms)}"
    )


_INPUT = {"tokens": "texts", "pixels": "images"}


def _origin(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    origin, architecture = config["origin"], config["architecture"]
    yield "task", origin["task"]
    yield "classes", str(len(config["labels"]))
    yield "data", f"{origin['data']} (fingerprint {origin['fingerprint']})"
    yield "licence of the data", origin["licence"] or "not known"
    if "model" in architecture:
        yield "network", f"{architecture['model']} {architecture['arguments']}"
    else:
        yield "layers × width", f"{architecture['n_layers']} × {architecture['d_model']}"
        for name, field in (
            ("heads", "n_heads"),
            ("feed-forward units", "d_ff"),
            ("rank of the embedding", "embedding_rank"),
        ):
            if sizes := architecture.get(field):
                yield name, ", ".join(map(str, sizes)) if isinstance(sizes, list) else str(sizes)
    precision = config.get("precision", {"kind": "fp32", "exclude": []})
    spared = ", ".join(precision["exclude"])
    yield "precision", precision["kind"] + (f"; in float32: {spared}" if spared else "")


def _figures(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "parameters", f"{metrics['params']:,}"
    yield "size to predict", f"{metrics['size_mb']:.2f} MB"
    for name, value in metrics.get("validation", {}).items():
        yield f"validation {name}", f"{value:.4f}"
    for name, score in metrics.get("test", {}).items():
        yield f"test {name}", f"{score['value']:.4f} (95 % interval {score['low']:.4f} to {score['high']:.4f})"
    if "latency_ms" in metrics:
        yield "latency", _latency(metrics)
    yield "largest difference of ONNX and torch logits", f"{metrics['onnx_parity']:.1e}"
    if "onnx_agreement" in metrics:
        yield "same answer as in float32", f"{metrics['onnx_agreement']:.1%} of 256 random inputs"


def _sensitivity(metrics: Mapping[str, Any]) -> str:
    """What each layer costs, if that was measured: see `models.quantize.sensitivity`."""
    if "sensitivity" not in metrics:
        return ""
    rows = "\n".join(f"| {layer} | {lost:+.4f} |" for layer, lost in metrics["sensitivity"].items())
    return f"What the score loses when nothing but one layer is quantized:\n\n| layer | lost |\n|---|---|\n{rows}\n\n"


def _latency(metrics: Mapping[str, Any]) -> str:
    target = ", ".join(f"{name} {value}" for name, value in metrics["target"].items())
    noise = "" if metrics["latency_quiet"] else "; the machine was not quiet"
    return f"p50 {metrics['latency_ms']:.3f} ms, p95 {metrics['latency_p95_ms']:.3f} ms ({target}{noise})"


def _use(signature: Mapping[str, Any], forms: Collection[str]) -> str:
    said = ""
    if "model.onnx" in forms:
        code = TEXT if signature["input"] == "tokens" else IMAGE.format(**signature)
        said += (
            f"In this folder, with nothing but what the first line imports:\n\n```python\n{code}```\n\n"
            "For many inputs: `Predictor(folder).predict(inputs, top=3)` of Fitformer's `models/predictor.py`, a file "
            "that works alone.\n"
        )
    if "model.safetensors" in forms:
        said += "In torch: `load(folder)` of Fitformer's `models/artifact.py`.\n"
    return said
