"""What a model's latency is the sum of: its two ends, its layers, and what its weights cost beyond the caches."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from models.architecture import Architecture, Layer, Signature, TokenSignature, products
from models.encoder import Classifier

VOCABULARY = 4096  # rows of the embedding table in a measured model; more change nothing but the time to export
STACK_MB = 6.0  # a stack is no larger, so that its weights stay in the caches of most processors
LAYERS = 4  # nor deeper
REFERENCE = {"d_model": 256, "n_heads": 4, "d_head": 32, "d_ff": 1024}  # 2.6 MB a layer
DEPTHS = (4, 6, 8, 12, 18)  # of the stacks of reference layers that outgrow the caches: 10 to 47 MB

Json = dict[str, Any]


class Part(NamedTuple):
    """One part, and how it is measured: a stack of its layers, less other parts, divided."""

    shape: Json
    architecture: Architecture
    n_layers: int
    less: tuple[Json, ...] = ()
    divisor: float = 1.0


def parts(architecture: Architecture, signature: Signature, length: int) -> Iterator[Part]:
    """The ends, then every layer."""
    ends = _ends(architecture, signature, length)
    yield Part(ends, architecture, 0)
    for layer in architecture.layers:
        uniform = Architecture.model_validate(architecture.model_dump() | layer._asdict() | {"n_layers": 1})
        n_layers = min(LAYERS, max(1, int(STACK_MB / megabytes(uniform))))
        yield Part(_layer(architecture, signature, layer, length), uniform, n_layers, (ends,), n_layers)


def memory_parts(patch: int | None, signature: Signature, length: int, largest: float) -> Iterator[Part]:
    """What a megabyte of weights costs in stacks up to the one that is as large as the `largest` model."""
    reference = Architecture.model_validate({**REFERENCE, "n_layers": 1, "patch": patch})
    ends, layer = parts(reference, signature, length)
    reached = LAYERS / 2 * megabytes(reference)
    for depth in DEPTHS:
        if reached >= largest:
            return
        if depth == DEPTHS[0]:
            yield from (ends, layer)
        reached = depth * megabytes(reference)
        shape = {"part": "memory", "megabytes": reached, "length": length, "input": signature.input}
        yield Part(shape, reference, depth, (ends.shape, *[layer.shape] * depth), reached)


def megabytes(architecture: Architecture) -> float:
    """Weights of all layers in float32; MB = 1e6 bytes."""
    matrices = [products(architecture.d_model, layer, architecture.gated) for layer in architecture.layers]
    return 4e-6 * sum(product.weights for layer in matrices for product in layer)


def stack(architecture: Architecture, signature: Signature, n_layers: int) -> Classifier:
    """A model of n_layers like the architecture's only one; without any, only its ends."""
    if isinstance(signature, TokenSignature):
        size = {"vocab_size": min(signature.vocab_size, VOCABULARY), "pad_id": 0}
        signature = signature.model_copy(update=size)
    like = architecture.layers[0]._asdict() | {"n_layers": max(n_layers, 1)}
    with torch.random.fork_rng(devices=[]):  # a search must not depend on what was measured
        model = Classifier(Architecture.model_validate(architecture.model_dump() | like), signature)
    if n_layers == 0:
        model.blocks = nn.ModuleList()
    return model


def work(shape: Json) -> npt.NDArray[np.float64]:
    """What the time of a part grows with: nothing, its products, its activations, its heads."""
    length, d_model = shape["length"], shape["d_model"]
    if shape["part"] == "ends":
        inner = shape["embedding_rank"] or math.prod(shape.get(k, 0) or 0 for k in ("patch", "patch", "channels"))
        return np.array([1, length * d_model * inner, d_model * shape["n_classes"], length * d_model], dtype=float)
    layer = Layer(**{name: shape[name] for name in Layer._fields if name in shape})
    inner = layer.n_heads * layer.d_head
    qkv, out, into, outer = products(d_model, layer, gated=shape["activation"] in ("geglu", "swiglu"))
    counts = [qkv.weights + out.weights, into.weights + outer.weights, length * inner]
    return np.array([1, *(length * each for each in (*counts, d_model, inner, into.n_out, length * layer.n_heads))])


def _ends(architecture: Architecture, signature: Signature, length: int) -> Json:
    fields = {"d_model", "embedding_rank", "embedding_norm", "norm", "norm_placement", "pooling", "patch"}
    added = architecture.positions in ("learned", "sinusoidal")
    size = signature.model_dump(include={"input", "n_classes", "height", "width", "channels"})
    return architecture.model_dump(include=fields) | size | {"part": "ends", "added": added, "length": length}


def _layer(architecture: Architecture, signature: Signature, layer: Layer, length: int) -> Json:
    shape = architecture.model_dump(include={"d_model", "activation", "norm", "norm_placement"})
    inside = architecture.positions if architecture.positions in ("rotary", "alibi") else "none"
    sizes = {name: size for name, size in layer._asdict().items() if size is not None}
    return shape | sizes | {"part": "layer", "positions": inside, "length": length, "input": signature.input}
