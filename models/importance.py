"""What a network would miss least: a score for each head, feed-forward unit, hidden dimension and layer.

magnitude   L2 norm of all weights that belong to it (Han et al. 2015, arXiv:1506.02626)
taylor      first-order estimate of what the loss changes by without it: |sum of weight * gradient|, the mean over
            batches (DynaBERT, Hou et al. 2020, arXiv:2004.04037); over its outgoing weights, for a hidden dimension
            over all of its weights, for a layer over those by which its two branches enter the residual stream
activation  how much passes through it (Minitron, Muralidharan et al. 2024, arXiv:2407.14679): the mean norm of a
            head's output, of a unit's, of a hidden dimension after each norm; for a layer how far it turns its input,
            1 - cosine (ShortGPT, Men et al. 2024, arXiv:2403.03853)

Scores compare within one kind and one sort of thing only.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from models.architecture import Layer
from models.encoder import Classifier
from models.slicing import axes

Kind = Literal["magnitude", "taylor", "activation"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Loss = Callable[[nn.Module, Any], Tensor]

_OUTGOING = {"units": "units", "values": "heads", "hidden": "hidden"}
_OUT = re.compile(r"\.(out|outer)\.(up\.)?(weight|bias)$")
_ALL = _OUTGOING | {"inner": "units", "qkv": "heads"}


@dataclass(frozen=True)
class Importance:
    """Higher is more: scores (n_heads,) and (d_ff,) for each layer, hidden (d_model,), layers (n_layers,)."""

    heads: tuple[Tensor, ...]
    units: tuple[Tensor, ...]
    hidden: Tensor
    layers: Tensor


def importance(model: Classifier, batches: Sequence[Any], loss: Loss | None, kind: Kind) -> Importance:
    """Scores of the model as it stands, without dropout; it is left unchanged.

    batches: examples, as `loss(model, batch)` takes them, which calls the model by keyword and gives a scalar.
    magnitude needs neither. Raises ValueError where they are missing.
    """
    if kind == "magnitude":
        return _root(_sums(model, {name: p.detach().square() for name, p in model.named_parameters()}, _ALL, "blocks"))
    if loss is None or not batches:
        raise ValueError(f"importance is {kind}, which needs examples and a loss; give both, or choose magnitude")
    training = model.training
    model.eval()
    try:
        if kind == "activation":
            return _activation(model, batches, loss)
        return _mean([_absolute(_taylor(model, batch, loss)) for batch in batches])
    finally:
        model.train(training)


def _taylor(model: Classifier, batch: Any, loss: Loss) -> Importance:
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    gradients = torch.autograd.grad(loss(model, batch), list(trained.values()), allow_unused=True)
    products = {
        name: torch.zeros_like(p) if gradient is None else p.detach() * gradient
        for (name, p), gradient in zip(trained.items(), gradients, strict=True)
    }
    return _sums(model, products, _OUTGOING, "branches")


def _sums(model: Classifier, values: dict[str, Tensor], counted: dict[str, str], of_layer: str) -> Importance:
    """Add up what belongs to each head, unit, hidden dimension and layer. values: like the parameters, by name."""
    layers, like = model.architecture.layers, next(iter(values.values()))
    heads = [like.new_zeros(layer.n_heads) for layer in layers]
    units = [like.new_zeros(layer.d_ff) for layer in layers]
    hidden, whole = like.new_zeros(model.architecture.d_model), like.new_zeros(len(layers))
    for name, value in values.items():
        place = int(name.split(".")[1]) if name.startswith("blocks.") else None
        if place is not None and (of_layer == "blocks" or _OUT.search(name)):
            whole[place] += value.sum()
        for axis, axis_name in enumerate(axes(model, name)):
            group = counted.get(axis_name or "")
            if group is None:
                continue
            along = value.sum([other for other in range(value.ndim) if other != axis]) if value.ndim > 1 else value
            if group == "hidden":
                hidden += along
            elif place is not None:
                (heads if group == "heads" else units)[place] += _folded(along, axis_name, layers[place])
    return Importance(tuple(heads), tuple(units), hidden, whole)


def _folded(along: Tensor, axis: str | None, layer: Layer) -> Tensor:
    """Per head or unit what stands along an axis that counts several numbers of each."""
    if axis in ("qkv", "values"):
        return along.view(-1, layer.n_heads, layer.d_head).sum((0, 2))
    return along.view(-1, layer.d_ff).sum(0)


def _activation(model: Classifier, batches: Sequence[Any], loss: Loss) -> Importance:
    with _watched(model) as means, torch.no_grad():
        for batch in batches:
            loss(model, batch)
    layers = range(len(model.blocks))
    norms = [value for name, value in means.items() if name.endswith("norm")]
    return Importance(
        heads=tuple(means[f"blocks.{i}.attention.out"] for i in layers),
        units=tuple(means[f"blocks.{i}.feed_forward.outer"] for i in layers),
        hidden=torch.stack(norms).sum(0),
        layers=torch.stack([means[f"blocks.{i}"] for i in layers]),
    )


@contextmanager
def _watched(model: Classifier) -> Iterator[dict[str, Tensor]]:
    """By the name of a module the mean over all positions, padding left out, of what passes it."""
    keep: list[Tensor | None] = [None]
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    def add(name: str, size_BLX: Tensor) -> None:
        kept = size_BLX.flatten(0, 1) if keep[0] is None else size_BLX[keep[0]]
        sums[name] = sums.get(name, 0) + kept.sum(0)
        counts[name] = counts.get(name, 0) + len(kept)

    def begin(_: nn.Module, __: Any, inputs: dict[str, Any]) -> None:
        keep[0] = inputs.get("keep")

    handles = [model.register_forward_pre_hook(begin, with_kwargs=True)]
    handles += [_hook(name, module, model, add) for name, module in model.named_modules() if _passes(name)]
    found: dict[str, Tensor] = {}
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
    found.update({name: total / counts[name] for name, total in sums.items()})


def _passes(name: str) -> bool:
    return name.endswith(("norm", "attention.out", "feed_forward.outer")) or name.rpartition(".")[0] == "blocks"


def _hook(name: str, module: nn.Module, model: Classifier, add: Callable[[str, Tensor], None]) -> Any:
    if name.endswith("norm"):
        return module.register_forward_hook(lambda _, __, y_BLD: add(name, y_BLD.abs()))
    if name.endswith("outer"):
        return module.register_forward_pre_hook(lambda _, inputs: add(name, inputs[0].abs()))
    if name.endswith("out"):
        layer = model.architecture.layers[int(name.split(".")[1])]
        size = (layer.n_heads, layer.d_head)
        return module.register_forward_pre_hook(lambda _, inputs: add(name, inputs[0].unflatten(-1, size).norm(dim=-1)))
    return module.register_forward_hook(
        lambda _, inputs, y_BLD: add(name, 1 - torch.cosine_similarity(inputs[0], y_BLD, dim=-1))
    )


def _root(scores: Importance) -> Importance:
    return _each(scores, Tensor.sqrt)


def _absolute(scores: Importance) -> Importance:
    return _each(scores, Tensor.abs)


def _each(scores: Importance, change: Callable[[Tensor], Tensor]) -> Importance:
    return Importance(
        heads=tuple(map(change, scores.heads)),
        units=tuple(map(change, scores.units)),
        hidden=change(scores.hidden),
        layers=change(scores.layers),
    )


def _mean(scores: Sequence[Importance]) -> Importance:
    return Importance(
        heads=tuple(torch.stack(many).mean(0) for many in zip(*(each.heads for each in scores), strict=True)),
        units=tuple(torch.stack(many).mean(0) for many in zip(*(each.units for each in scores), strict=True)),
        hidden=torch.stack([each.hidden for each in scores]).mean(0),
        layers=torch.stack([each.layers for each in scores]).mean(0),
    )
