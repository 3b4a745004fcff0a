"""Fewer bits: an ONNX model in 8 or 4, chosen by what is quickest on the target and still right; torch in bfloat16.

int8             products in 8 bits, inputs quantized as they come, weights by output; embedding in 8 bits
int8_embedding4  the same with the embedding in 4 bits, by blocks of 32
weights8         weights of products in 8 bits, by blocks of 32, inputs in float32; embedding in 8 bits
weights4         weights and embedding in 4 bits, by blocks of 32

The quantizers are those of ONNX Runtime (https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html).
"""

import copy
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import nn

from models.architecture import Signature
from models.latency import Kind, Target, Timing, measure_model
from models.predictor import session

KINDS: tuple[Kind, ...] = get_args(Kind)
Score = Callable[[bytes], float]  # of an ONNX model; higher is better

_BLOCK = 32
_OPSET, _IR_VERSION = 17, 8  # what older ONNX Runtimes know, too
_COMPUTE_IN_INT8 = 4  # what ONNX Runtime calls the accuracy level; in float32 it took 20 times as long


class _Recipe(NamedTuple):
    """Kinds of nodes that are quantized dynamically, and those whose weights are by blocks, with the bits."""

    dynamic: tuple[str, ...] = ()
    blocks: tuple[tuple[str, int], ...] = ()


_RECIPES: dict[str, _Recipe] = {
    "int8": _Recipe(dynamic=("MatMul", "Gemm", "Gather")),
    "int8_embedding4": _Recipe(dynamic=("MatMul", "Gemm"), blocks=(("Gather", 4),)),
    "weights8": _Recipe(dynamic=("Gather",), blocks=(("MatMul", 8),)),
    "weights4": _Recipe(blocks=(("MatMul", 4), ("Gather", 4))),
}


class Choice(NamedTuple):
    """A backend as it was measured: its score, its timing, and the nodes left in float32."""

    kind: Kind
    exclude: tuple[str, ...]
    data: bytes
    score: float
    timing: Timing


def quantized(data: bytes, kind: Kind, exclude: Sequence[str] = ()) -> bytes:
    """An ONNX model in fewer bits; the nodes in `exclude` (see `layers`) stay as they are.

    Raises ValueError for nodes that it does not have, and where this ONNX Runtime cannot run the result.
    """
    if kind == "fp32" and not exclude:
        return data
    if unknown := sorted(set(exclude) - set(layers(data))):
        raise ValueError(f"exclude has {unknown[0]}, must be of {', '.join(layers(data))}; choose one of these")
    if kind == "fp32":
        return data
    exclude = [*exclude, *(f"{name}_MatMul" for name in exclude)]  # what quantize_dynamic makes of a Gemm
    recipe, graph = _RECIPES[kind], onnx.load_from_string(data)
    del graph.graph.value_info[:]  # stale shapes make quantize_dynamic fail
    with _quietly():
        graph = _dynamically(graph, recipe.dynamic, exclude)
        for operator, bits in recipe.blocks:
            graph = _by_blocks(graph, operator, bits, exclude)
    found = bytes(graph.SerializeToString(deterministic=True))
    try:
        session(found, threads=1)
    except Exception as error:  # onnxruntime's own classes
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"quantization is {kind}, which onnxruntime {onnxruntime.__version__} does not run here ({reason}); "
            "choose another"
        ) from error
    return found


def check(kind: Kind) -> None:
    """Raises ValueError where this machine does not run what is quantized so; told by a product and a table alone."""
    quantized(_smallest(), kind)


def layers(data: bytes) -> list[str]:
    """Names of the nodes that can be quantized, first to last: products by weights, and the embedding."""
    graph = onnx.load_from_string(data).graph
    matrices = {weight.name for weight in graph.initializer if len(weight.dims) == 2}
    kinds = {"MatMul", "Gemm", "Gather"}
    return [node.name for node in graph.node if node.op_type in kinds and matrices & set(node.input)]


def sensitivity(data: bytes, kind: Kind, score: Score) -> dict[str, float]:
    """By node what the score loses when nothing but that node is quantized, the costliest first."""
    names, whole = layers(data), score(data)
    lost = {name: whole - score(quantized(data, kind, [n for n in names if n != name])) for name in names}
    return dict(sorted(lost.items(), key=lambda entry: -entry[1]))


def choose(
    data: bytes,
    signature: Signature,
    batches: Sequence[Sequence[int]],
    target: Target,
    score: Score,
    *,
    most_lost: float,
    kinds: Sequence[Kind] = KINDS,
) -> tuple[Choice, list[Choice]]:
    """The quickest on the target that loses at most `most_lost` of the score; and all that were measured.

    A kind that loses more leaves out its costliest layers, as many as it takes; one that still loses more with half
    of them is no candidate, and neither is one that this machine does not run, nor bfloat16 in torch, as a target's
    runtime is ONNX Runtime.
    batches: lengths, see `models.latency.batches_like`.
    """
    least = score(data) - most_lost
    found = []
    for kind in kinds:
        if _runs(kind) and (candidate := _spared(data, kind, score, least)):
            exclude, smaller, reached = candidate
            timing = measure_model(smaller, signature, batches, target)
            found.append(Choice(kind, exclude, smaller, reached, timing))
    return min(found, key=lambda choice: choice.timing.p50_ms), found


def in_bf16(model: nn.Module) -> nn.Module:
    """A copy whose weights and products are bfloat16, in torch. ValueError where the processor has no such products."""
    capabilities = torch.cpu.get_capabilities()
    if not any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16")):
        raise ValueError("quantization is bf16, which this processor does not multiply; choose int8 or fp32")
    return copy.deepcopy(model).bfloat16()


def _spared(data: bytes, kind: Kind, score: Score, least: float) -> tuple[tuple[str, ...], bytes, float] | None:
    """The fewest layers to leave out, costliest first, such that the score is at least this; and what comes of it.

    None if more than half would have to be.
    """
    costliest: list[str] = []
    for n in range(len(layers(data)) // 2 + 1):
        if n == 1:
            costliest = list(sensitivity(data, kind, score))
        exclude = tuple(costliest[:n])
        smaller = quantized(data, kind, exclude)
        if (reached := score(smaller)) >= least:
            return exclude, smaller, reached
    return None


def _runs(kind: Kind) -> bool:
    try:
        check(kind)
    except ValueError:
        return False
    return True


def _smallest() -> bytes:
    """A model of one embedding and one product."""
    side = 2 * _BLOCK
    weights = [onnx.numpy_helper.from_array(np.ones((side, side), np.float32), name) for name in ("table", "matrix")]
    nodes = [
        onnx.helper.make_node("Gather", ["table", "tokens"], ["x"], name="embedding"),
        onnx.helper.make_node("MatMul", ["x", "matrix"], ["logits"], name="product"),
    ]
    tokens = onnx.helper.make_tensor_value_info("tokens", onnx.TensorProto.INT64, ["batch", "length"])
    logits = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", "length", side])
    graph = onnx.helper.make_graph(nodes, "smallest", [tokens], [logits], weights)
    opset = onnx.helper.make_opsetid("", _OPSET)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION)
    return bytes(model.SerializeToString(deterministic=True))


def _dynamically(graph: Any, operators: Sequence[str], exclude: Sequence[str]) -> Any:
    if not operators:
        return graph
    with tempfile.TemporaryDirectory() as room:
        file = Path(room) / "quantized.onnx"
        quantize_dynamic(
            graph,
            file,
            op_types_to_quantize=list(operators),
            per_channel=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=list(exclude),
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},  # of what has no shape in the graph
        )
        return onnx.load(file)


def _by_blocks(graph: Any, operator: str, bits: int, exclude: Sequence[str]) -> Any:
    try:
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
    except ImportError:
        raise ValueError(
            f"quantization in {bits} bits by blocks is not in onnxruntime {onnxruntime.__version__}, must be in a "
            "newer one; update it, or choose int8"
        ) from None
    quantizer = MatMulNBitsQuantizer(
        graph,
        bits=bits,
        block_size=_BLOCK,
        is_symmetric=True,
        accuracy_level=_COMPUTE_IN_INT8,
        nodes_to_exclude=list(exclude),
        op_types_to_quantize=(operator,),
    )
    quantizer.process()
    return quantizer.model.model


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the advice to preprocess the model, and a line for each node."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
