"""ONNX out of a torch model, and how close the two are."""

import copy
import io
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor, nn

from models.architecture import PixelSignature, Signature
from models.predictor import Feeds, session
from models.symbolics import prepare

OPSET = 20
PARITY = 1e-4


def random_feeds(signature: Signature, lengths: Sequence[int], seed: int) -> Feeds:
    """A batch as the task makes it, of random content: one text of each length, or as many images."""
    rng = np.random.default_rng(seed)
    if isinstance(signature, PixelSignature):
        shape = (len(lengths), signature.height, signature.width, signature.channels)
        return {"pixels": rng.random(shape, dtype=np.float32)}
    keep_BL = np.arange(max(lengths)) < np.array(lengths)[:, None]
    tokens_BL = np.where(keep_BL, rng.integers(0, signature.vocab_size, keep_BL.shape), signature.pad_id)
    return {"tokens": tokens_BL, "keep": keep_BL}


def to_onnx(model: nn.Module, feeds: Feeds, output: str = "logits") -> bytes:
    """The model in float32 as ONNX with these inputs and one output, any batch, any length (axes 0 and 1).

    The exporter is torch's older one. Beside the newer (`dynamo=True`; torch 2.13, onnxruntime 1.31) its
    sessions ran equally fast and its logits were as close, while exporting 2 layers took 0.06 s, not 2 s.
    Equal models give equal bytes.
    """
    model = copy.deepcopy(model).float().cpu().eval()
    prepare(model, OPSET)
    axes = {name: {0: "batch", 1: "length"} if name != "pixels" else {0: "batch"} for name in feeds}
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the exporter is the older one, and that shapes are traced
        torch.onnx.export(
            _ByPlace(model, list(feeds)),
            tuple(torch.from_numpy(value) for value in feeds.values()),
            file,  # type: ignore[arg-type]  # a file object serves the older exporter
            input_names=list(feeds),
            output_names=[output],
            dynamic_axes=axes | {output: {0: "batch"}},
            opset_version=OPSET,
            dynamo=False,
        )
    return _finished(file.getvalue(), feeds)


class _ByPlace(nn.Module):
    """Takes by place what the model takes by name: the exporter names inputs in the order of `forward`."""

    def __init__(self, model: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: Tensor) -> Any:
        return self.model(**dict(zip(self.names, inputs, strict=True)))


def _finished(data: bytes, feeds: Feeds) -> bytes:
    """The same graph with an input for everything in feeds, used or not, and without what nobody needs."""
    model = onnx.load_from_string(data)
    unused = feeds.keys() - {value.name for value in model.graph.input}
    for name in sorted(unused):
        kind = onnx.helper.np_dtype_to_tensor_dtype(feeds[name].dtype)
        model.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, [None] * feeds[name].ndim))
    del model.graph.value_info[:]  # stale after a rewrite: quantization trips over it
    for node in model.graph.node:  # paths and line numbers of the code it came from
        node.ClearField("doc_string")
        del node.metadata_props[:]
    return bytes(model.SerializeToString(deterministic=True))


def parity(model: nn.Module, signature: Signature, data: bytes) -> float:
    """The largest difference between torch's logits and ONNX Runtime's, over several lengths with padding.

    Raises ValueError where it exceeds 1e-4 (of the largest logit, if that is above 1).
    """
    model = copy.deepcopy(model).float().cpu().eval()
    run = session(data, threads=1).run
    differences = []
    for seed, lengths in enumerate(_lengths(signature)):
        feeds = random_feeds(signature, lengths, seed)
        with torch.inference_mode():
            expected_BC = model(**{k: torch.from_numpy(v) for k, v in feeds.items()}).numpy()
        differences.append(_difference(expected_BC, run(["logits"], feeds)[0]))
    worst = float(np.max(differences))
    if not worst <= PARITY:  # also when it is not a number
        raise ValueError(f"the ONNX model's logits differ from torch's by {worst:.1e}, allowed is {PARITY:.0e}")
    return worst


class Agreement(NamedTuple):
    """A quantized model on 256 random inputs: largest difference, as in `parity`; share of equal answers."""

    difference: float
    same: float


def agreement(model: nn.Module, signature: Signature, data: bytes) -> Agreement:
    """Torch's logits beside those of a model that is not meant to be equal. ValueError where they are no numbers."""
    model = copy.deepcopy(model).float().cpu().eval()
    run, most = session(data, threads=1).run, max(map(max, _lengths(signature)))
    differences, same = [], []
    for seed in range(8):
        feeds = random_feeds(signature, np.random.default_rng(seed).integers(1, most + 1, 32).tolist(), seed)
        with torch.inference_mode():
            expected_BC = model(**{k: torch.from_numpy(v) for k, v in feeds.items()}).numpy()
        got_BC = run(["logits"], feeds)[0]
        differences.append(_difference(expected_BC, got_BC))
        same.append(expected_BC.argmax(1) == got_BC.argmax(1))
    if not np.isfinite(differences).all():
        raise ValueError(
            "the quantized model's logits must be numbers, got some that are not; choose another precision"
        )
    return Agreement(max(differences), float(np.mean(same)))


def _difference(expected_BC: npt.NDArray[Any], got_BC: npt.NDArray[Any]) -> float:
    return float(np.abs(expected_BC - got_BC).max() / np.maximum(1.0, np.abs(expected_BC).max()))


def _lengths(signature: Signature) -> list[list[int]]:
    """Batches of one and of several, of the shortest and the longest input, with and without padding."""
    longest = 1 if isinstance(signature, PixelSignature) else min(signature.max_length, 256)
    middle = max(1, longest // 3)
    return [[1], [middle], [longest, 1, middle], [middle, middle, 1, max(1, middle // 2)], [longest]]
