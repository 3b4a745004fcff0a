"""The folder of a trained network, artifact or checkpoint: what its config.json says, and whether the rest is whole."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from safetensors import SafetensorError, safe_open

from models.architecture import Architecture, PixelSignature, TokenSignature, parse_signature
from models.encoder import Classifier
from tasks import cache
from trainables import checkpoint
from trainables.parsing import parse

WEIGHTS, TOKENIZER = "model.safetensors", "tokenizer.json"
_SIGNATURES: dict[str, type[BaseModel]] = {"tokens": TokenSignature, "pixels": PixelSignature}
_KINDS = {
    "format_version": int,
    "architecture": dict,
    "signature": dict,
    "labels": list,
    "sha256": dict,
    "task": dict,
}


def read_config(folder: Path, subject: str) -> dict[str, Any]:
    """The config.json of an artifact or a checkpoint. Raises ValueError, which begins with `subject`."""
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"{subject} has no config.json, must be an artifact or a trial's checkpoint; check the path")
    try:
        config = dict(json.loads(path.read_bytes()))
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{subject} has a config.json that is damaged: {error}; copy the folder again") from None
    if not {"architecture", "signature"} <= set(config) or not {"sha256", "task"} & set(config):
        raise ValueError(
            f"{subject} is neither an artifact nor a checkpoint of a trial nor of Hugging Face; give the folder of one"
        )
    version, known = config.get("format_version", 0), _known_version(config)
    if isinstance(version, int) and version > known:
        raise ValueError(f"{subject} has format_version {version}, this code reads up to {known}; update Fitformer")
    if isinstance(config["architecture"], dict) and "model" in config["architecture"]:
        raise ValueError(
            f"{subject} is of the network {config['architecture']['model']!r}, must be an encoder of ours; choose "
            "another one"
        )
    return config


def architecture(folder: Path, subject: str) -> Architecture:
    """The architecture of an artifact or a checkpoint. Raises ValueError, which begins with `subject`."""
    config = read_config(folder, subject)
    if damage := _damage(config):
        raise ValueError(f"{subject} has a config.json that is damaged: {damage}; copy the folder again")
    return Architecture.model_validate_json(json.dumps(config["architecture"]))


def check(folder: Path, subject: str, config: Mapping[str, Any], cache_folder: Path) -> None:
    """Raises ValueError, which begins with `subject`, where the folder is not as it was written.

    An artifact has recorded hashes; of a checkpoint the weights must have the shapes that its architecture has.
    """
    if not (folder / WEIGHTS).is_file():
        raise ValueError(f"{subject} lacks {WEIGHTS}; copy the whole folder again")
    if damage := _damage(config):
        raise ValueError(f"{subject} has a config.json that is damaged: {damage}; copy the folder again")
    recorded = config.get("sha256", {})
    for name in {WEIGHTS, TOKENIZER} & set(recorded):
        if not (folder / name).is_file():
            raise ValueError(f"{subject} lacks {name}; copy the whole folder again")
        if cache.digest(folder / name, cache_folder) != recorded[name]:
            raise ValueError(f"{subject} has a {name} that is not as recorded: damaged or changed; copy it again")
    _check_shapes(folder / WEIGHTS, subject, config)


def _known_version(config: Mapping[str, Any]) -> int:
    if "sha256" not in config:
        return checkpoint.FORMAT_VERSION
    from models.predictor import FORMAT_VERSION  # with onnxruntime, which training does without

    return FORMAT_VERSION


def _damage(config: Mapping[str, Any]) -> str:
    """What cannot be meant in a config.json, if anything."""
    for name, kind in _KINDS.items():
        if name in config and not isinstance(config[name], kind):
            return f"{name} is {config[name]!r:.40}"
    if "sha256" in config and "labels" not in config:
        return "no labels"
    signature = config["signature"]
    if signature.get("input") not in list(_SIGNATURES):
        return f"signature.input is {signature.get('input')!r:.40}"
    try:
        parse(Architecture, config["architecture"], "architecture")
        parse(_SIGNATURES[signature["input"]], signature, "signature")
    except ValueError as error:
        return "; ".join(str(error).splitlines())
    return ""


def _check_shapes(weights: Path, subject: str, config: Mapping[str, Any]) -> None:
    try:
        with safe_open(weights, "pt") as file:
            there = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  no mapping
    except SafetensorError as error:
        raise ValueError(f"{subject} has a {WEIGHTS} that is damaged ({error}); copy the whole folder again") from None
    architecture = Architecture.model_validate_json(json.dumps(config["architecture"]))
    with torch.device("meta"):
        frame = Classifier(architecture, parse_signature(dict(config["signature"])))
    wanted = {name: tuple(value.shape) for name, value in frame.state_dict().items()}
    if wrong := sorted(there.items() ^ wanted.items()):
        name = wrong[0][0]
        raise ValueError(
            f"{subject} has a {WEIGHTS} of another architecture than config.json: {name} has shape "
            f"{there.get(name)}, must have {wanted.get(name)}; copy the whole folder again"
        )
