"""What a network costs, from its description alone: parameters, floating-point operations, bytes. No torch.

A multiply and its add are 2 operations, counted in matrix products only, as torch.utils.flop_counter does.
"""

from typing import Any

from models.architecture import (
    Architecture,
    Layer,
    PixelSignature,
    Signature,
    TokenSignature,
    check_fit,
    n_positions,
    parse_signature,
    products,
)


def params(architecture: Architecture, signature: dict[str, Any]) -> int:
    """Trained numbers, embeddings and head included."""
    parsed = _parsed(architecture, signature)
    blocks = sum(_layer_params(architecture, layer) for layer in architecture.layers)
    norms = (architecture.embedding_norm + (architecture.norm_placement == "pre")) * _norm_params(architecture)
    learned = n_positions(architecture, parsed) if architecture.positions == "learned" else 0
    head = _linear(architecture.d_model, parsed.n_classes)
    return _front_end_params(architecture, parsed) + learned * architecture.d_model + blocks + norms + head


def flops(architecture: Architecture, signature: dict[str, Any], length: int | None = None) -> int:
    """Operations of one forward pass of one example of `length` tokens (None: the signature's most).

    An image has always the same patches; `length` does not matter to it.
    """
    parsed = _parsed(architecture, signature)
    positions = n_positions(architecture, parsed)
    if isinstance(parsed, TokenSignature) and length is not None:
        positions = length
    blocks = sum(_layer_flops(architecture, layer, positions) for layer in architecture.layers)
    head = 2 * architecture.d_model * parsed.n_classes
    return _front_end_flops(architecture, parsed, positions) + blocks + head


def weight_bytes(architecture: Architecture, signature: dict[str, Any]) -> int:
    """Bytes of the parameters in float32."""
    return 4 * params(architecture, signature)


def _parsed(architecture: Architecture, signature: dict[str, Any]) -> Signature:
    parsed = parse_signature(signature)
    check_fit(architecture, parsed)
    return parsed


def _linear(n_in: int, n_out: int) -> int:
    return n_in * n_out + n_out


def _norm_params(architecture: Architecture) -> int:
    return architecture.d_model * (2 if architecture.norm == "layer" else 1)


def _layer_params(architecture: Architecture, layer: Layer) -> int:
    matrices = products(architecture.d_model, layer, architecture.gated)
    return sum(product.weights + product.n_out for product in matrices) + 2 * _norm_params(architecture)


def _layer_flops(architecture: Architecture, layer: Layer, length: int) -> int:
    matrices = products(architecture.d_model, layer, architecture.gated)
    scores = 2 * length * layer.n_heads * layer.d_head
    return 2 * length * (sum(product.weights for product in matrices) + scores)


def _front_end_params(architecture: Architecture, signature: Signature) -> int:
    d_model = architecture.d_model
    if isinstance(signature, PixelSignature):
        cls = d_model if architecture.pooling == "cls" else 0
        return _linear(_patch_values(architecture, signature), d_model) + cls
    rank = architecture.embedding_rank
    return signature.vocab_size * (rank or d_model) + (rank or 0) * d_model


def _front_end_flops(architecture: Architecture, signature: Signature, length: int) -> int:
    d_model = architecture.d_model
    if isinstance(signature, PixelSignature):
        patches = length - (architecture.pooling == "cls")
        return 2 * patches * _patch_values(architecture, signature) * d_model
    return 2 * length * (architecture.embedding_rank or 0) * d_model


def _patch_values(architecture: Architecture, signature: PixelSignature) -> int:
    assert architecture.patch is not None
    return architecture.patch**2 * signature.channels
