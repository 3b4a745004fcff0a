"""The artifact: a folder with all that a trained model needs, to be rebuilt in torch or to predict without it.

config.json         format, architecture, signature, labels, what it was trained on, SHA-256 of each file
model.safetensors   the weights, float32
model.onnx          the same model for onnxruntime (models/predictor.py)
tokenizer.json      and whatever else the task needs in order to read an input
metrics.json        scores, sizes, latency, parity of the two models
card.md             the same for people
"""

import contextlib
import copy
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file, save_file
from torch import nn

from models.architecture import Architecture, parse_signature
from models.card import card
from models.encoder import Classifier, build
from models.export import parity, random_feeds, to_onnx
from models.own import Own
from models.predictor import FORMAT_VERSION, check_files, file_hash, read_config

WEIGHTS, ONNX = "model.safetensors", "model.onnx"


class Origin(BaseModel):
    """Where a model comes from, as its card tells."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    task: str
    data: str
    fingerprint: str
    licence: str | None = None


def save(
    folder: Path,
    model: nn.Module,
    *,
    architecture: Architecture | Own,
    signature: Mapping[str, Any],
    labels: Sequence[Any],
    files: Mapping[str, Path],
    metrics: Mapping[str, Any],
    origin: Origin,
) -> dict[str, Any]:
    """Write an artifact, whole or not at all, in place of an older one; its metrics with params, size and parity.

    files: what else belongs to it, by the name it gets. metrics: plain JSON, see `models/card.py`.
    Raises ValueError where `folder` holds something else, and where the ONNX model is not equal to this one.
    """
    _refuse_other(folder)
    model = copy.deepcopy(model).float().cpu().eval()
    with _draft(folder) as draft:
        difference = _write_models(draft, model, dict(signature))
        for name, path in files.items():
            shutil.copyfile(path, draft / name)
        config = {
            "format_version": FORMAT_VERSION,
            "architecture": architecture.model_dump(mode="json"),
            "signature": dict(signature),
            "labels": list(labels),
            "origin": origin.model_dump(),
            "sha256": {path.name: file_hash(path) for path in sorted(draft.iterdir())},
        }
        _write_json(draft / "config.json", config)
        sizes = [(draft / name).stat().st_size for name in ("config.json", ONNX, *files)]
        measured = {
            "params": sum(parameter.numel() for parameter in model.parameters()),
            "size_mb": sum(sizes) / 1e6,
            "onnx_parity": difference,
        }
        return _write_metrics(draft, config, {**metrics, **measured})


def load(folder: Path) -> tuple[Classifier, dict[str, Any]]:
    """The model, ready to predict, and config.json.

    Raises ValueError (one line a fault) for a folder that is missing, damaged or of a newer format.
    """
    config = read_config(folder)
    check_files(folder, [WEIGHTS], config["sha256"])
    if "model" in config["architecture"]:
        raise ValueError(
            f"{folder} is of the network {config['architecture']['model']!r}, whose code an artifact does not hold; "
            f"predict from {ONNX}, or load {WEIGHTS} into your own network"
        )
    model = build(Architecture.model_validate(config["architecture"]), config["signature"])
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{folder / WEIGHTS} does not fit the architecture in config.json: {reason}") from error
    return model.eval(), config


def add_metrics(folder: Path, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Add what was measured since (latency on a quiet machine, scores on test) to metrics.json and the card."""
    known = json.loads((folder / "metrics.json").read_bytes())
    return _write_metrics(folder, read_config(folder), {**known, **metrics})


def _write_models(draft: Path, model: nn.Module, signature: dict[str, Any]) -> float:
    """Both forms of the model; how far the second is from the first."""
    # Cloned: weights that a network of the user's own shares are each written.
    save_file({name: value.clone().contiguous() for name, value in model.state_dict().items()}, draft / WEIGHTS)
    typed = parse_signature(signature)
    data = to_onnx(model, random_feeds(typed, [5, 3], 0))
    (draft / ONNX).write_bytes(data)
    return parity(model, typed, data)


def _write_metrics(folder: Path, config: dict[str, Any], metrics: dict[str, Any]) -> dict[str, Any]:
    _write_json(folder / "metrics.json", metrics)
    _replace(folder / "card.md", card(config, metrics))
    return metrics


def _write_json(path: Path, value: Any) -> None:
    _replace(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def _replace(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _refuse_other(folder: Path) -> None:
    if folder.exists() and not (folder / "config.json").is_file() and (folder.is_file() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is no artifact; choose another folder, or remove it")


@contextlib.contextmanager
def _draft(folder: Path) -> Iterator[Path]:
    """A folder beside this one that takes its place once it is complete and on disk."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent, ignore_cleanup_errors=True) as room:
        draft, older = Path(room) / "new", Path(room) / "old"
        draft.mkdir()
        yield draft
        for path in draft.iterdir():
            _sync(path)
        if folder.exists():
            folder.rename(older)
        draft.rename(folder)
        _sync(folder.parent)


def _sync(path: Path) -> None:
    """Onto the disk, so that a power cut after the renaming leaves no empty file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
