"""One set of weights, many networks: any depth, width, number of heads and of feed-forward units, as leading slices.

Slimmable networks (Yu et al. 2018, arXiv:1812.08928); for Transformers DynaBERT (Hou et al. 2020, arXiv:2004.04037) and
HAT (Wang et al. 2020, arXiv:2005.14187). Of hidden dimensions, heads and units the first ones, where `ordered` has put
the best; of layers evenly spaced ones. A subnet runs on the supernet's own weights, so that gradients reach them, and
is the network that `extracted` copies out of it.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Annotated

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.func import functional_call

from models.architecture import Architecture, PerLayer, Signature, Size
from models.encoder import Classifier
from models.importance import Importance
from models.slicing import Keep, Places, axes, evenly_spaced, of_slice, sliced

_List = Annotated[tuple[Size, ...], Field(min_length=1)] | None


class Shape(BaseModel):
    """What a subnet has of its supernet; null: all there is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_layers: Size | None = Field(default=None, description="layers of the subnet, evenly spaced in the supernet")
    d_model: Size | None = Field(default=None, description="width of its residual stream")
    n_heads: PerLayer | None = Field(default=None, description="its attention heads; one number, or one per layer")
    d_ff: PerLayer | None = Field(default=None, description="its feed-forward units; one number, or one per layer")


class Choices(BaseModel):
    """The sizes that a supernet is trained for, each with each; null: what the teacher has, no other."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_layers: _List = Field(default=None, description="depths")
    d_model: _List = Field(default=None, description="widths of the residual stream")
    n_heads: _List = Field(default=None, description="attention heads of every layer")
    d_ff: _List = Field(default=None, description="feed-forward units of every layer")

    @property
    def largest(self) -> Shape:
        """The largest of each list."""
        return self._each(max)

    @property
    def smallest(self) -> Shape:
        """The smallest of each list."""
        return self._each(min)

    def draw(self, rng: np.random.Generator) -> Shape:
        """One of each list."""
        return self._each(lambda sizes: int(rng.choice(sizes)))

    def _each(self, pick: Callable[[tuple[int, ...]], int]) -> Shape:
        return Shape(**{name: None if sizes is None else pick(sizes) for name, sizes in self})


def ordered(model: Classifier, scores: Importance) -> Classifier:
    """The same function of its inputs, with the heads, units and hidden dimensions of the highest scores first."""
    keep = Keep(
        heads=tuple(map(_descending, scores.heads)),
        units=tuple(map(_descending, scores.units)),
        hidden=_descending(scores.hidden),
    )
    return sliced(model, model.architecture, model.signature.model_dump(), keep)[0]


def shaped(architecture: Architecture, shape: Shape) -> Architecture:
    """The architecture of a subnet. Raises ValueError, a line a fault, for more than there is."""
    return of_slice(architecture, _keep(architecture, shape))


def extracted(model: Classifier, shape: Shape) -> Classifier:
    """A subnet as a network of its own. Raises ValueError as `shaped` does."""
    keep = _keep(model.architecture, shape)
    return sliced(model, model.architecture, model.signature.model_dump(), keep)[0]


def logits(
    model: Classifier,
    shapes: Sequence[Shape],
    tokens: Tensor | None = None,
    keep: Tensor | None = None,
    pixels: Tensor | None = None,
) -> list[Tensor]:
    """logits_BC of the subnet of each shape, of the inputs of a Classifier; with dropout where the model trains.

    Embeddings are looked up once for all. Raises ValueError as `shaped` does.
    """
    x_BLD: Tensor = model.front_end(pixels if tokens is None else tokens)
    if model.positions is not None:
        x_BLD = model.positions(x_BLD)
    return [_run(model, shape, x_BLD, keep) for shape in shapes]


def _run(model: Classifier, shape: Shape, x_BLD: Tensor, keep_BL: Tensor | None) -> Tensor:
    small = shaped(model.architecture, shape)
    frame = _frame(small, model.signature).train(model.training)
    layers = _layers(model.architecture, shape)
    names = [name for name, _ in (*frame.named_parameters(), *frame.named_buffers())]
    tensors = {name: _leading(model, name, layers, small) for name in names}
    logits_BC: Tensor = functional_call(frame, tensors, (x_BLD[..., : small.d_model], keep_BL))
    return logits_BC


@lru_cache(maxsize=64)
def _frame(architecture: Architecture, signature: Signature) -> Classifier:
    """A network without numbers, to be called with those of another; its inputs are embedded already."""
    inside = architecture.positions if architecture.positions in ("rotary", "alibi") else "none"
    with torch.device("meta"):
        frame = Classifier(architecture.model_copy(update={"positions": inside}), signature)
    frame.front_end = nn.Identity()
    return frame


def _leading(model: Classifier, name: str, layers: Places, small: Architecture) -> Tensor:
    """What a subnet has of its supernet's tensor, which it calls `name`; a view where that can be."""
    if not name.startswith("blocks."):
        return _cut(_tensor(model, name), axes(model, name), {"hidden": (1, small.d_model)})
    _, new, rest = name.split(".", 2)
    theirs, layer = f"blocks.{layers[int(new)]}.{rest}", small.layers[int(new)]
    if rest in ("attention.cosines", "attention.sines"):
        return _tensor(model, theirs)  # the same in every head
    inner = layer.n_heads * layer.d_head
    sizes = {
        "hidden": (1, small.d_model),
        "heads": (1, layer.n_heads),
        "values": (1, inner),
        "qkv": (3, inner),
        "units": (1, layer.d_ff),
        "inner": (2 if small.gated else 1, layer.d_ff),
    }
    return _cut(_tensor(model, theirs), axes(model, theirs), sizes)


def _tensor(model: Classifier, name: str) -> Tensor:
    module, _, last = name.rpartition(".")
    tensor: Tensor = getattr(model.get_submodule(module), last)
    return tensor


def _cut(tensor: Tensor, counted: Sequence[str | None], sizes: dict[str, tuple[int, int]]) -> Tensor:
    """The first ones along each axis. sizes: by what an axis counts, its equal parts, and how many of each remain."""
    for axis, name in enumerate(counted):
        parts, n = sizes.get(name or "", (1, tensor.shape[axis]))
        if parts * n < tensor.shape[axis]:
            split = (*tensor.shape[:axis], parts, -1, *tensor.shape[axis + 1 :])
            tensor = tensor.reshape(split).narrow(axis + 1, 0, n).flatten(axis, axis + 1)
    return tensor


def _keep(architecture: Architecture, shape: Shape) -> Keep:
    if faults := _faults(architecture, shape):
        raise ValueError("\n".join(faults))
    layers = _layers(architecture, shape)
    there = [architecture.layers[layer] for layer in layers]
    d_model = shape.d_model or architecture.d_model
    return Keep(
        layers=layers,
        heads=tuple(map(_first, _spread(shape.n_heads, [layer.n_heads for layer in there]))),
        units=tuple(map(_first, _spread(shape.d_ff, [layer.d_ff for layer in there]))),
        hidden=_first(d_model) if d_model < architecture.d_model else None,
    )


def _layers(architecture: Architecture, shape: Shape) -> Places:
    return evenly_spaced(shape.n_layers or architecture.n_layers, architecture.n_layers)


def _first(n: int) -> Places:
    return tuple(range(n))


def _spread(size: int | tuple[int, ...] | None, there: list[int]) -> tuple[int, ...]:
    """One for each layer."""
    if isinstance(size, tuple):
        return size
    return tuple(there) if size is None else (size,) * len(there)


def _descending(scores: Tensor) -> Places:
    return tuple(scores.argsort(descending=True, stable=True).tolist())


def _faults(architecture: Architecture, shape: Shape) -> list[str]:
    faults = [
        f"{name} is {getattr(architecture, name)}, must be null in a supernet; choose a network without"
        for name in ("attention_rank", "feed_forward_rank")
        if getattr(architecture, name) is not None
    ]
    faults += [
        f"{name} is {size}, must be at most {getattr(architecture, name)}, as many as there are; lower it"
        for name in ("d_model", "n_layers")
        if (size := getattr(shape, name)) is not None and size > getattr(architecture, name)
    ]
    if (shape.n_layers or 0) > architecture.n_layers:
        return faults
    return faults + _layer_faults(architecture, shape, "n_heads") + _layer_faults(architecture, shape, "d_ff")


def _layer_faults(architecture: Architecture, shape: Shape, name: str) -> list[str]:
    layers, given = _layers(architecture, shape), getattr(shape, name)
    if isinstance(given, tuple) and len(given) != len(layers):
        return [f"{name} has {len(given)} values, must have one for each of the {len(layers)} layers; give as many"]
    there = [getattr(architecture.layers[layer], name) for layer in layers]
    return [
        f"{name} is {n}, must be at most {most}, as many as layer {layer} has; lower it"
        for layer, n, most in zip(layers, _spread(given, there), there, strict=True)
        if n > most
    ][:1]
