"""Weights of the BERT family (BERT, MiniLM, DistilBERT) from a Hugging Face folder or hub name, into our modules.

BERT: Devlin et al. 2018, arXiv:1810.04805; DistilBERT: Sanh et al. 2019, arXiv:1910.01108; MiniLM: Wang et al. 2020,
arXiv:2002.10957. The only file that knows Hugging Face's names. What BERT adds for the first segment is the same at
every position and is folded into the positions; the pooler and the heads of other tasks are left behind.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from models.architecture import Activation, Architecture, Layer, TokenSignature
from models.encoder import Classifier

_WEIGHTS = "model.safetensors"
_FILES = ["config.json", _WEIGHTS, "tokenizer.json", "tokenizer_config.json", "vocab.txt"]
_ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
_PARTS = ("weight", "bias")
# What all of the family have in common.
_KIND: dict[str, Any] = {
    "norm": "layer",
    "norm_placement": "post",
    "positions": "learned",
    "embedding_norm": True,
}

_Read = Callable[[str], Tensor]  # a tensor by its name in the file


class _Family(NamedTuple):
    """How one model type names its settings and tensors."""

    settings: dict[str, str]  # field of Architecture → key in config.json
    embeddings: dict[str, str]
    layer: str
    modules: dict[str, str]  # module of our block (q, k, v: of its qkv) → module of theirs
    left_behind: str  # pattern of tensors that an encoder has no use for


_BERT = _Family(
    settings={
        "n_layers": "num_hidden_layers",
        "n_heads": "num_attention_heads",
        "d_model": "hidden_size",
        "d_ff": "intermediate_size",
        "activation": "hidden_act",
        "dropout": "hidden_dropout_prob",
        "norm_eps": "layer_norm_eps",
    },
    embeddings={
        "word": "embeddings.word_embeddings.weight",
        "position": "embeddings.position_embeddings.weight",
        "segment": "embeddings.token_type_embeddings.weight",
        "norm": "embeddings.LayerNorm",
    },
    layer="encoder.layer.{}.",
    modules={
        "q": "attention.self.query",
        "k": "attention.self.key",
        "v": "attention.self.value",
        "attention.out": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "feed_forward.inner": "intermediate.dense",
        "feed_forward.outer": "output.dense",
        "feed_forward_norm": "output.LayerNorm",
    },
    left_behind=r"(pooler|cls|classifier|qa_outputs)\.|embeddings\.position_ids$",
)
_DISTILBERT = _Family(
    settings={
        "n_layers": "n_layers",
        "n_heads": "n_heads",
        "d_model": "dim",
        "d_ff": "hidden_dim",
        "activation": "activation",
        "dropout": "dropout",
    },
    embeddings={
        "word": "embeddings.word_embeddings.weight",
        "position": "embeddings.position_embeddings.weight",
        "norm": "embeddings.LayerNorm",
    },
    layer="transformer.layer.{}.",
    modules={
        "q": "attention.q_lin",
        "k": "attention.k_lin",
        "v": "attention.v_lin",
        "attention.out": "attention.out_lin",
        "attention_norm": "sa_layer_norm",
        "feed_forward.inner": "ffn.lin1",
        "feed_forward.outer": "ffn.lin2",
        "feed_forward_norm": "output_layer_norm",
    },
    left_behind=r"(pre_classifier|classifier|qa_outputs|vocab_transform|vocab_layer_norm|vocab_projector)\.",
)
_FAMILIES = {"bert": _BERT, "distilbert": _DISTILBERT}


def folder(folder_or_name: str | Path) -> Path:
    """The folder of a pretrained model: as given, or fetched from the Hugging Face hub.

    Raises ValueError for what is neither, or cannot be fetched.
    """
    path = Path(folder_or_name)
    if path.is_dir():
        return path
    if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", str(folder_or_name)):
        raise ValueError(
            f"pretrained is '{folder_or_name}', must be a folder that exists or a name on the Hugging Face hub; "
            "check the path"
        )
    return _fetch(str(folder_or_name))


def architecture(folder_or_name: str | Path) -> Architecture:
    """The architecture that takes a pretrained model's weights; it pools by the mean.

    Raises ValueError, a line a fault, for a model that is not of the BERT family.
    """
    path = folder(folder_or_name)
    config, family = read_config(path)
    if faults := _size_faults(path, config, family) or _config_faults(path, config, family):
        raise ValueError("\n".join(faults))
    fields = {name: config[key] for name, key in family.settings.items()}
    fields |= {"activation": _ACTIVATIONS[fields["activation"]], "d_head": fields["d_model"] // fields["n_heads"]}
    return Architecture(**{"norm_eps": 1e-12, **_KIND, **fields})


def load_into(model: Classifier, folder_or_name: str | Path) -> None:
    """Copy pretrained weights into a model of `architecture(folder_or_name)`; its head stays as it is.

    A model of fewer layers takes evenly spaced ones (3 of 6: the first, third and fifth). Raises ValueError, a line
    a fault, where sizes or kinds disagree and where tensors are missing or not known.
    """
    path = folder(folder_or_name)
    pretrained, family = architecture(path), read_config(path)[1]
    with open_weights(path) as file:
        names = {canonical(name, family): name for name in file.keys()}  # noqa: SIM118 (it is no mapping)
        if faults := _tensor_faults(path, set(names), family, pretrained.n_layers):
            raise ValueError("\n".join(faults))
        read: _Read = lambda name: file.get_tensor(names[name])  # noqa: E731
        table = {key: read(family.embeddings[key]).shape[0] for key in ("word", "position")}
        if faults := _model_faults(path, model, pretrained, table):
            raise ValueError("\n".join(faults))
        _copy(model, _translated(read, family, _spaced(model.architecture.n_layers, pretrained.n_layers)))


def _fetch(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download  # an extra: folders on disk need none of it
    except ImportError:
        raise ValueError(
            f"pretrained is '{name}', which is no folder here, and names on the Hugging Face hub need "
            "huggingface_hub; install fitformer[pretrained] or give a folder"
        ) from None
    try:
        return Path(snapshot_download(name, allow_patterns=_FILES))
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"pretrained is '{name}', which is no folder here and could not be fetched from the Hugging Face hub "
            f"({type(error).__name__}: {reason}); check the name and the network, or give a folder"
        ) from error


def read_config(path: Path) -> tuple[dict[str, Any], _Family]:
    """config.json of a model's folder, and how that kind names things. ValueError where it is of no known kind."""
    file = path / "config.json"
    if not file.is_file():
        raise ValueError(f"{path} has no config.json, must be a folder written by save_pretrained; check the path")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} must hold JSON: {error}; fetch the model again") from None
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind not in _FAMILIES:
        raise ValueError(
            f"{file}: model_type is {kind!r}, must be one of {', '.join(_FAMILIES)}; choose a model of these"
        )
    return config, _FAMILIES[kind]


def _size_faults(path: Path, config: dict[str, Any], family: _Family) -> list[str]:
    file, settings = path / "config.json", family.settings
    missing = [key for key in settings.values() if key not in config]
    sizes = {key: config.get(key) for key in (settings[name] for name in ("n_layers", "n_heads", "d_model", "d_ff"))}
    return [f"{file} has no '{key}'; save the model again with transformers' save_pretrained" for key in missing] + [
        f"{file}: {key} is {size!r}, must be a whole number from 1; choose another model"
        for key, size in sizes.items()
        if key not in missing and not (type(size) is int and size > 0)
    ]


def _config_faults(path: Path, config: dict[str, Any], family: _Family) -> list[str]:
    file, key = path / "config.json", family.settings["activation"]
    rules: list[tuple[str, Any, list[Any]]] = [
        (key, config[key], list(_ACTIVATIONS)),
        ("position_embedding_type", config.get("position_embedding_type", "absolute"), ["absolute"]),
        ("is_decoder", config.get("is_decoder", False), [False]),
    ]
    faults = [
        f"{file}: {name} is {value!r}, must be {' or '.join(map(repr, allowed))}; choose another model"
        for name, value, allowed in rules
        if value not in allowed
    ]
    d_model, n_heads = (config[family.settings[name]] for name in ("d_model", "n_heads"))
    if d_model % n_heads:
        faults.append(f"{file}: the width {d_model} must be a multiple of the {n_heads} heads; choose another model")
    return faults


def open_weights(path: Path) -> Any:
    """The folder's safetensors file, opened. ValueError where there is none."""
    weights = path / _WEIGHTS
    if weights.is_file():
        try:
            return safe_open(weights, framework="pt")
        except SafetensorError as error:
            raise ValueError(f"{weights} must be a safetensors file: {error}; fetch the model again") from None
    pickled = "; its pytorch_model.bin is a pickle, which can run code, and is not read"
    raise ValueError(
        f"{path} has no {_WEIGHTS}, must hold the weights in it"
        f"{pickled if (path / 'pytorch_model.bin').exists() else ''}; "
        "save the model again with transformers' save_pretrained"
    )


def canonical(name: str, family: _Family) -> str:
    """Without the prefix that a model with a head puts before its encoder, and with today's names of norms."""
    prefix = next(key for key, value in _FAMILIES.items() if value is family)
    name = name.removeprefix(f"{prefix}.")
    return re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name))


def _tensor_faults(path: Path, names: set[str], family: _Family, n_layers: int) -> list[str]:
    norm = family.embeddings["norm"]
    wanted = {name for key, name in family.embeddings.items() if key != "norm"}
    wanted |= {f"{norm}.{part}" for part in _PARTS}
    for layer in range(n_layers):
        prefix = family.layer.format(layer)
        wanted |= {f"{prefix}{module}.{part}" for module in family.modules.values() for part in _PARTS}
    unexpected = {name for name in names - wanted if not re.match(family.left_behind, name)}
    return [
        f"{path / _WEIGHTS} {verb} {', '.join(sorted(tensors))}; {way_out}"
        for verb, tensors, way_out in (
            ("lacks", wanted - names, "it must hold every tensor of config.json's layers: fetch the model again"),
            ("has unexpected", unexpected, "it must be a plain encoder of its model_type: choose another model"),
        )
        if tensors
    ]


def _model_faults(path: Path, model: Classifier, pretrained: Architecture, table: dict[str, int]) -> list[str]:
    ours, signature = model.architecture, model.signature
    if not isinstance(signature, TokenSignature):
        return [f"input is {signature.input}, must be tokens for the weights in {path}; leave pretrained out"]
    faults = [
        f"{name} is {getattr(ours, name)}, must be {getattr(pretrained, name)} as in {path}; set it so"
        for name in ("d_model", "activation", "embedding_rank", *_KIND)
        if getattr(ours, name) != getattr(pretrained, name)
    ]
    faults += [
        f"{name} is {getattr(ours, name)}, must be {getattr(pretrained, name)} in every layer as in {path}; set it so"
        for name in Layer._fields
        if {getattr(layer, name) for layer in ours.layers} != {getattr(pretrained, name)}
    ]
    if ours.n_layers > pretrained.n_layers:
        faults.append(f"n_layers is {ours.n_layers}, must be at most {pretrained.n_layers} as in {path}; lower it")
    if signature.vocab_size != table["word"]:
        faults.append(
            f"vocab_size is {signature.vocab_size}, must be {table['word']} as in {path}; use that model's tokenizer"
        )
    if signature.max_length > table["position"]:
        faults.append(
            f"max_length is {signature.max_length}, must be at most {table['position']} as in {path}; lower it"
        )
    return faults


def _spaced(n: int, of: int) -> list[int]:
    return [i * of // n for i in range(n)]


def _translated(read: _Read, family: _Family, layers: list[int]) -> Iterator[tuple[str, Tensor]]:
    """Our names and tensors; `layers` are those of theirs that ours are taken from."""
    names = family.embeddings
    yield "front_end.embedding.weight", read(names["word"])
    positions = read(names["position"])
    yield "positions.weight", positions + read(names["segment"])[0] if "segment" in names else positions
    for part in _PARTS:
        yield f"embedding_norm.{part}", read(f"{names['norm']}.{part}")
        for ours, theirs in enumerate(layers):
            layer = {key: f"{family.layer.format(theirs)}{name}.{part}" for key, name in family.modules.items()}
            yield f"blocks.{ours}.attention.qkv.{part}", torch.cat([read(layer.pop(key)) for key in "qkv"])
            yield from ((f"blocks.{ours}.{module}.{part}", read(name)) for module, name in layer.items())


def _copy(model: Classifier, tensors: Iterator[tuple[str, Tensor]]) -> None:
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in tensors:
            # The model may take fewer positions than were trained; all else is of equal shape.
            parameters[name].copy_(tensor[: parameters[name].shape[0]])
