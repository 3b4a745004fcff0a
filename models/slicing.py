"""A smaller network out of a larger one: chosen layers, heads, feed-forward units, hidden dimensions and tokens.

The tensors are really smaller and shared with nobody; nothing is masked. What is kept comes in the order in which it
is named, so that a permutation is a slice, too.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from models.architecture import Architecture, Layer, products
from models.encoder import Classifier, build

Places = tuple[int, ...]

# The axes of a module's weight, (outputs, inputs), by the name of what they count.
_LINEAR = {
    "front_end.embedding": ("tokens", "hidden"),
    "front_end.expand": ("hidden", None),
    "front_end.project": ("hidden", None),
    "attention.qkv": ("qkv", "hidden"),
    "attention.out": ("hidden", "values"),
    "feed_forward.inner": ("inner", "hidden"),
    "feed_forward.outer": ("hidden", "units"),
    "head.linear": (None, "hidden"),
}


@dataclass(frozen=True)
class Keep:
    """What a slice keeps, by its number in the larger network; None: all.

    heads and units: for each kept layer, in the order of `layers`, which of that layer. hidden: dimensions of the
    residual stream. tokens: entries of the vocabulary, the padding token among them.
    """

    layers: Places | None = None
    heads: tuple[Places | None, ...] | None = None
    units: tuple[Places | None, ...] | None = None
    hidden: Places | None = None
    tokens: Places | None = None


def evenly_spaced(n: int, of: int) -> Places:
    """n of `of` layers, the first among them: 3 of 6 are 0, 2, 4."""
    return tuple(i * of // n for i in range(n))


def sliced(
    model: Classifier, architecture: Architecture, signature: dict[str, Any], keep: Keep
) -> tuple[Classifier, Architecture, dict[str, Any]]:
    """A new, independent network of what is kept, with its architecture and signature; in model's dtype and mode.

    Heads and units may be removed without a trace where their outgoing weights are zero. Without some hidden
    dimensions a norm has other statistics. Sinusoids of fewer dimensions become learned positions; what was factored
    through a rank that is no longer the smaller number is multiplied out.
    Raises ValueError, a line a fault, for what is not there, is named twice, or leaves nothing.
    """
    if faults := _faults(architecture, signature, keep):
        raise ValueError("\n".join(faults))
    smaller, seen = of_slice(architecture, keep), _signature(signature, keep)
    tensors = _multiplied_out(_tensors(model, keep), smaller)
    return assembled(smaller, seen, tensors, model), smaller, seen


def assembled(
    architecture: Architecture, signature: dict[str, Any], tensors: dict[str, Tensor], like: Classifier
) -> Classifier:
    """A network with these tensors, copied, in the dtype, mode and place of another; draws no random number."""
    with torch.random.fork_rng(devices=[]):  # first weights are drawn, and then overwritten
        model = build(architecture, signature)
    parameter = next(like.parameters())
    model.to(device=parameter.device, dtype=parameter.dtype).load_state_dict(tensors)
    return model.train(like.training)


def axes(model: Classifier, name: str) -> tuple[str | None, ...]:
    """What the axes of a Classifier's tensor count: hidden, tokens, qkv, values, inner, units, heads, or None.

    qkv are the rows (query, key, value) by head; values the inputs of the product after attention, by head; inner the
    rows of the first product of the feed-forward (units, and as many gates where it is gated).
    """
    module, _, part = re.sub(r"^blocks\.\d+\.", "", name).rpartition(".")
    if module == "front_end.embedding" and model.architecture.embedding_rank is not None:
        return ("tokens", None)
    if module in _LINEAR:
        return _LINEAR[module][: 1 if part == "bias" else 2]
    whole, _, half = module.rpartition(".")
    if whole in _LINEAR:  # of a factored product
        outputs, inputs = _LINEAR[whole]
        return (None, inputs) if half == "down" else (outputs, None)[: 1 if part == "bias" else 2]
    if part == "slopes":
        return ("heads",)
    return (None, "hidden") if module == "positions" else ("hidden",)  # others: norms, a vector before patches


def _tensors(model: Classifier, keep: Keep) -> dict[str, Tensor]:
    layers = range(len(model.blocks)) if keep.layers is None else keep.layers
    whole = model.state_dict()
    if keep.hidden is not None and model.architecture.positions == "sinusoidal":
        whole["positions.weight"] = model.get_buffer("positions.weight")
    chosen = {name: tensor for name, tensor in whole.items() if not name.startswith("blocks.")}
    tensors = {name: _cut(model, name, tensor, _outside(keep)) for name, tensor in chosen.items()}
    for new, old in enumerate(layers):
        places = _outside(keep) | _inside(model.architecture, old, _of(keep.heads, new), _of(keep.units, new))
        prefix = f"blocks.{old}."
        for name, tensor in whole.items():
            if name.startswith(prefix):
                tensors[f"blocks.{new}.{name.removeprefix(prefix)}"] = _cut(model, name, tensor, places)
    return tensors


def _multiplied_out(tensors: dict[str, Tensor], architecture: Architecture) -> dict[str, Tensor]:
    """One matrix for those pairs of which this architecture has one."""
    if "front_end.expand.weight" in tensors and architecture.embedding_rank is None:
        expand_DR = tensors.pop("front_end.expand.weight")
        tensors["front_end.embedding.weight"] = tensors["front_end.embedding.weight"] @ expand_DR.T
    for module in [name.removesuffix(".down.weight") for name in tensors if name.endswith(".down.weight")]:
        _, layer, _, part = module.split(".")
        matrices = products(architecture.d_model, architecture.layers[int(layer)], architecture.gated)
        if not getattr(matrices, part).factored:
            tensors[f"{module}.weight"] = tensors.pop(f"{module}.up.weight") @ tensors.pop(f"{module}.down.weight")
            tensors[f"{module}.bias"] = tensors.pop(f"{module}.up.bias")
    return tensors


def _cut(model: Classifier, name: str, tensor: Tensor, places: dict[str, Places]) -> Tensor:
    for axis, counted in enumerate(axes(model, name)):
        if counted in places:
            tensor = tensor.index_select(axis, torch.tensor(places[counted], device=tensor.device))
    return tensor


def _outside(keep: Keep) -> dict[str, Places]:
    found = {"hidden": keep.hidden, "tokens": keep.tokens}
    return {name: places for name, places in found.items() if places is not None}


def _inside(architecture: Architecture, layer: int, heads: Places | None, units: Places | None) -> dict[str, Places]:
    """Places along the axes of one layer's tensors."""
    n_heads, d_head, d_ff = architecture.layers[layer][:3]
    found: dict[str, Places] = {}
    if heads is not None:
        values = tuple(head * d_head + i for head in heads for i in range(d_head))
        thirds = tuple(part * n_heads * d_head + value for part in range(3) for value in values)
        found |= {"heads": heads, "values": values, "qkv": thirds}
    if units is not None:
        gates = tuple(d_ff + unit for unit in units) if architecture.gated else ()
        found |= {"units": units, "inner": units + gates}
    return found


def _of(choices: tuple[Places | None, ...] | None, layer: int) -> Places | None:
    return None if choices is None else choices[layer]


def of_slice(architecture: Architecture, keep: Keep) -> Architecture:
    """The architecture of a slice."""
    kept = range(architecture.n_layers) if keep.layers is None else keep.layers
    sizes: dict[str, Any] = {"n_layers": len(kept)}
    for name in Layer._fields:
        choices = {"n_heads": keep.heads, "d_ff": keep.units}.get(name)
        given = getattr(architecture, name)
        old = [getattr(architecture.layers[layer], name) for layer in kept]
        new = [n if (places := _of(choices, i)) is None else len(places) for i, n in enumerate(old)]
        if isinstance(given, tuple) or new != old:
            sizes[name] = new[0] if len(set(new)) == 1 and not isinstance(given, tuple) else tuple(new)
    if keep.hidden is not None:
        sizes |= _narrower(architecture, len(keep.hidden))
    return Architecture(**{**architecture.model_dump(), **sizes})


def _narrower(architecture: Architecture, d_model: int) -> dict[str, Any]:
    rank, positions = architecture.embedding_rank, architecture.positions
    return {
        "d_model": d_model,
        "embedding_rank": rank if rank is not None and rank < d_model else None,
        "positions": "learned" if positions == "sinusoidal" else positions,
    }


def _signature(signature: dict[str, Any], keep: Keep) -> dict[str, Any]:
    if keep.tokens is None:
        return dict(signature)
    return {**signature, "vocab_size": len(keep.tokens), "pad_id": keep.tokens.index(signature["pad_id"])}


def _faults(architecture: Architecture, signature: dict[str, Any], keep: Keep) -> list[str]:
    faults = _place_faults("layers", keep.layers, architecture.n_layers)
    if faults:
        return faults
    faults = _place_faults("hidden", keep.hidden, architecture.d_model)
    faults += _token_faults(signature, keep.tokens)
    layers = range(architecture.n_layers) if keep.layers is None else keep.layers
    for name, size, choices in (("heads", "n_heads", keep.heads), ("units", "d_ff", keep.units)):
        if choices is not None and len(choices) != len(layers):
            faults.append(f"{name} are given for {len(choices)} layers, {len(layers)} are kept; give one for each")
            continue
        for new, old in enumerate(layers):
            there = getattr(architecture.layers[old], size)
            faults += _place_faults(f"{name} of layer {old}", _of(choices, new), there)
    return faults


def _token_faults(signature: dict[str, Any], tokens: Places | None) -> list[str]:
    if tokens is None:
        return []
    if signature["input"] != "tokens":
        return [f"tokens are kept of a network for {signature['input']}, which has none; leave them out"]
    if faults := _place_faults("tokens", tokens, signature["vocab_size"]):
        return faults
    pad_id = signature["pad_id"]
    return [] if pad_id in tokens else [f"tokens lack {pad_id}, which fills batches up; keep it"]


def _place_faults(name: str, places: Sequence[int] | None, there: int) -> list[str]:
    if places is None:
        return []
    if not places:
        return [f"{name}: none of {there} is kept, must be at least one; keep more"]
    if wrong := [place for place in places if not 0 <= place < there]:
        return [f"{name}: {wrong[0]} is kept, must be from 0 to {there - 1}; there are {there}"]
    twice = sorted({place for place in places if places.count(place) > 1}) if len(set(places)) < len(places) else []
    return [f"{name}: {twice[0]} is kept twice, must be once; name each one time"] if twice else []
