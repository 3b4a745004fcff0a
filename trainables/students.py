"""A student that begins as slices of its teacher: evenly spaced layers, and of each what matters most.

Its token embedding may be factored, too: then it begins as the principal components of what is left of the table.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.architecture import Architecture
from models.compression.compressor import Context, Network, best
from models.compression.embedding import Embedding, EmbeddingConfig
from models.encoder import Classifier
from models.importance import Importance, Kind, importance
from models.slicing import Keep, Places, evenly_spaced, of_slice, sliced
from tasks import cache
from tasks.batches import sorted_by_length
from tasks.task import Data
from trainables.loop import on_device
from trainables.teacher import Teacher

SIZES = ("n_layers", "d_model", "n_heads", "d_ff", "embedding_rank")  # what a slice may have less of
OF_LAYERS = {"n_layers", "d_model", "n_heads", "d_ff"}
PER_LAYER = {"n_heads", "d_ff"}
_SCORED, _AT_ONCE = 512, 64  # training examples that tell what is important
_FILE = "scores.safetensors"


def shape(teacher: Architecture, sizes: Mapping[str, Any]) -> Architecture:
    """The architecture of a teacher's slices of these sizes.

    Raises ValueError, a line a fault, for more than the teacher has, and where nothing is left out.
    """
    wanted = {"n_layers": teacher.n_layers, "d_model": teacher.d_model, **sizes}
    faults = [
        f"{name} is {wanted[name]}, must be at most the teacher's {getattr(teacher, name)}; lower it"
        for name in ("n_layers", "d_model")
        if wanted[name] > getattr(teacher, name)
    ]
    if not faults:
        layers = evenly_spaced(wanted["n_layers"], teacher.n_layers)
        faults = [fault for place, layer in enumerate(layers) for fault in _layer_faults(teacher, sizes, place, layer)]
    if faults:
        raise ValueError("\n".join(faults))
    found = with_rank(of_slice(teacher, _keep(teacher, sizes, lambda _, __, n: tuple(range(n)))), sizes)
    if (found.layers, found.d_model, found.embedding_rank) == (teacher.layers, teacher.d_model, teacher.embedding_rank):
        raise ValueError(f"the student is the teacher: its slices keep all there is; give less of {', '.join(SIZES)}")
    return found


def slices(teacher: Teacher, sizes: Mapping[str, Any], scores: Importance) -> Classifier:
    """A student of the architecture `shape`: evenly spaced layers, and of each what matters most."""

    def most_important(name: str, layer: int, n: int) -> Places:
        found = scores.hidden if name == "d_model" else (scores.heads if name == "n_heads" else scores.units)[layer]
        return best(found, n)

    keep = _keep(teacher.architecture, sizes, most_important)
    whole = sliced(teacher.model, teacher.architecture, dict(teacher.config["signature"]), keep)[0]
    return factored(whole, sizes)


def with_rank(architecture: Architecture, sizes: Mapping[str, Any]) -> Architecture:
    """The architecture with its token embedding factored, where `sizes` has an embedding_rank that is less.

    Raises ValueError for a network of images, which has none.
    """
    rank = sizes.get("embedding_rank")
    if rank is not None and architecture.patch is not None:
        raise ValueError(
            f"embedding_rank is {rank}, must be null for images, which have no token embedding; leave it out"
        )
    if rank is None or rank >= (architecture.embedding_rank or architecture.d_model):
        return architecture
    return architecture.model_copy(update={"embedding_rank": rank})


def factored(model: Classifier, sizes: Mapping[str, Any]) -> Classifier:
    """The model with its token embedding factored as `with_rank` says."""
    if with_rank(model.architecture, sizes) == model.architecture:
        return model
    network = Network(model, model.architecture, model.signature.model_dump())
    return (
        Embedding(EmbeddingConfig.model_validate({"keep": sizes["embedding_rank"]})).compress(network, Context()).model
    )


def _keep(teacher: Architecture, sizes: Mapping[str, Any], pick: Callable[[str, int, int], Places]) -> Keep:
    """pick: of a size, in a layer of the teacher, so many."""
    layers = evenly_spaced(sizes.get("n_layers", teacher.n_layers), teacher.n_layers)
    heads, units = (
        tuple(pick(name, layer, _of_layer(sizes[name], place)) for place, layer in enumerate(layers))
        if name in sizes
        else None
        for name in ("n_heads", "d_ff")
    )
    hidden = pick("d_model", 0, sizes["d_model"]) if sizes.get("d_model", teacher.d_model) < teacher.d_model else None
    return Keep(layers=layers, heads=heads, units=units, hidden=hidden)


def _layer_faults(teacher: Architecture, sizes: Mapping[str, Any], place: int, layer: int) -> list[str]:
    own = {
        name: (_of_layer(sizes[name], place), getattr(teacher.layers[layer], name)) for name in PER_LAYER & set(sizes)
    }
    return [
        f"{name} of layer {place} is {wanted}, must be at most the teacher's {there}; lower it"
        for name, (wanted, there) in sorted(own.items())
        if wanted > there
    ]


def _of_layer(size: int | Sequence[int], place: int) -> int:
    return size if isinstance(size, int) else size[place]


def scores(teacher: Teacher, data: Data, kind: Kind, folder: Path) -> Importance:
    """What matters in a teacher, by some examples of the training split; computed once and kept in the cache."""
    said = cache.fingerprint(
        {"teacher": teacher.fingerprint, "data": data.record["fingerprint"], "kind": kind, "n": _SCORED}
    )
    kept = cache.stored(folder / f"importance-{said}", partial(_write, teacher, data, kind))
    found = load_file(kept / _FILE)
    layers = range(teacher.architecture.n_layers)
    heads, units = (tuple(found[f"{name}.{layer}"] for layer in layers) for name in ("heads", "units"))
    return Importance(heads, units, found["hidden"], found["layers"])


def _write(teacher: Teacher, data: Data, kind: Kind, folder: Path) -> None:
    train = data.splits["train"]
    rows = np.random.default_rng(0).permutation(len(train))[:_SCORED]
    batches = [train.batch(rows[places]) for places in sorted_by_length(train.lengths[rows], _AT_ONCE)]
    device = str(next(teacher.model.parameters()).device)

    def loss(model: nn.Module, batch: Any) -> Tensor:
        inputs, targets = on_device(batch, device)
        return data.loss(model(**inputs), targets)

    with torch.enable_grad():
        teacher.model.requires_grad_(True)
        found = importance(teacher.model, batches, loss, kind)
        teacher.model.requires_grad_(False)
    tensors = {f"heads.{layer}": each for layer, each in enumerate(found.heads)}
    tensors |= {f"units.{layer}": each for layer, each in enumerate(found.units)}
    tensors |= {"hidden": found.hidden, "layers": found.layers}
    save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, folder / _FILE)
