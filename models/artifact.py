"""The artifact: a folder with all that a trained model needs, to be rebuilt in torch or to predict without it.

config.json         format, architecture, signature, labels, what it was trained on, SHA-256 of each file
model.safetensors   the weights, float32 or bfloat16
model.onnx          the same model for onnxruntime (models/predictor.py), of the precision that config.json names
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
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import nn

from models.architecture import Architecture, parse_signature
from models.card import card
from models.encoder import Classifier, build
from models.export import agreement, parity, random_feeds, to_onnx
from models.latency import Kind
from models.own import Own
from models.predictor import FORMAT_VERSION, check_files, file_hash, read_config
from models.quantize import in_bf16, quantized

WEIGHTS, ONNX = "model.safetensors", "model.onnx"

Precision = Kind | Literal["bf16"]
PRECISIONS: tuple[Precision, ...] = (*get_args(Kind), "bf16")


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
    precision: Precision = "fp32",
    exclude: Sequence[str] = (),
    without: str | None = None,
) -> dict[str, Any]:
    """Write an artifact, whole or not at all, in place of an older one; its metrics with params, size and parity.

    files: what else belongs to it, by the name it gets. metrics: plain JSON, see `models/card.py`. precision: of
    model.onnx (see `models/quantize.py`; exclude: layers left in float32), or bf16, which is for torch. without: the
    form of the model that is compared, but not kept.
    Raises ValueError where `folder` holds something else, where the ONNX model is not equal to this one, unless
    quantized, and for a precision that this machine lacks.
    """
    _refuse_other(folder)
    model = copy.deepcopy(model).float().cpu().eval()
    with _draft(folder) as draft:
        compared = _write_models(draft, model, dict(signature), precision, exclude)
        if without is not None:
            (draft / without).unlink()
        for name, path in files.items():
            shutil.copyfile(path, draft / name)
        config = {
            "format_version": FORMAT_VERSION,
            "architecture": architecture.model_dump(mode="json"),
            "signature": dict(signature),
            "labels": list(labels),
            "origin": origin.model_dump(),
            "precision": {"kind": precision, "exclude": list(exclude)},
            "sha256": {path.name: file_hash(path) for path in sorted(draft.iterdir())},
        }
        _write_json(draft / "config.json", config)
        model_file = WEIGHTS if precision == "bf16" or without == ONNX else ONNX
        sizes = [(draft / name).stat().st_size for name in ("config.json", model_file, *files)]
        measured = {
            "params": sum(parameter.numel() for parameter in model.parameters()),
            "size_mb": sum(sizes) / 1e6,
            **compared,
        }
        return _write_metrics(draft, config, {**metrics, **measured})


def load(folder: Path | str) -> tuple[Classifier, dict[str, Any]]:
    """The model, ready to predict, and config.json.

    Raises ValueError (one line a fault) for a folder that is missing, damaged, of a newer format or without weights.
    """
    folder = Path(folder)
    config = read_config(folder)
    if not (folder / WEIGHTS).is_file():
        raise ValueError(
            f"{folder} lacks {WEIGHTS}, which torch and export need; copy the whole artifact again, or "
            "take the one that its run made if this one came without"
        )
    check_files(folder, [WEIGHTS], config["sha256"])
    if "model" in config["architecture"]:
        raise ValueError(
            f"{folder} is of the network {config['architecture']['model']!r}, whose code an artifact does not hold; "
            f"predict from {ONNX}, or load {WEIGHTS} into your own network"
        )
    try:
        model = build(Architecture.model_validate(config["architecture"]), config["signature"])
    except ValueError as error:
        raise ValueError(f"{folder / 'config.json'} is damaged ({_reason(error)}); copy the artifact again") from None
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{folder / WEIGHTS} does not fit the architecture in config.json ({reason:.160}); copy the artifact again"
        ) from error
    return (model.bfloat16() if _precision(config) == "bf16" else model).eval(), config


def _reason(error: ValueError) -> str:
    """The first fault of a config."""
    if not isinstance(error, ValidationError):
        return str(error).splitlines()[0]
    fault = error.errors(include_url=False)[0]
    return f"{'.'.join(['architecture', *map(str, fault['loc'])])}: {fault['msg']}"


def convert(
    source: Path, folder: Path, precision: Precision, exclude: Sequence[str] = (), *, without: str | None = None
) -> dict[str, Any]:
    """Write the artifact `source` anew, in another precision; its metrics, without what was measured of the other.

    Raises ValueError where `save` or `load` do, and for weights that were rounded already.
    """
    model, config = load(source)
    if _precision(config) == "bf16":
        raise ValueError(f"{source} is in bf16, must be the artifact in fp32 that it was made of; convert that one")
    files = {name: source / name for name in config["sha256"] if name not in (WEIGHTS, ONNX)}
    if outside := [name for name in files if Path(name).name != name]:
        raise ValueError(f"{source / 'config.json'} names the file {outside[0]!r}, must name files in its own folder")
    check_files(source, list(files), config["sha256"])
    return save(
        folder,
        model,
        architecture=model.architecture,
        signature=config["signature"],
        labels=config["labels"],
        files=files,
        metrics={},
        origin=_origin(source, config),
        precision=precision,
        exclude=exclude,
        without=without,
    )


def _origin(folder: Path, config: Mapping[str, Any]) -> Origin:
    try:
        return Origin.model_validate(config.get("origin"))
    except ValueError:
        raise ValueError(
            f"{folder / 'config.json'} is damaged (origin is {config.get('origin')!r:.40}); copy the artifact again"
        ) from None


def add_metrics(folder: Path, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Add what was measured since (latency on a quiet machine, scores on test) to metrics.json and the card."""
    known = json.loads((folder / "metrics.json").read_bytes())
    return _write_metrics(folder, read_config(folder), {**known, **metrics})


def _write_models(
    draft: Path, model: nn.Module, signature: dict[str, Any], precision: Precision, exclude: Sequence[str]
) -> dict[str, Any]:
    """Both forms of the model; how far the second is from the first."""
    stored = in_bf16(model) if precision == "bf16" else model
    # Cloned: weights that a network of the user's own shares are each written.
    tensors = {name: value.clone().contiguous() for name, value in stored.state_dict().items()}
    (draft / WEIGHTS).write_bytes(to_bytes(tensors))  # safetensors' own file is for its owner alone
    model, typed = stored.float(), parse_signature(signature)
    data = to_onnx(model, random_feeds(typed, [5, 3], 0))
    difference = parity(model, typed, data)
    shipped = data if precision == "bf16" else quantized(data, precision, exclude)
    (draft / ONNX).write_bytes(shipped)
    if shipped is data:
        return {"onnx_parity": difference}
    found = agreement(model, typed, shipped)
    return {"onnx_parity": found.difference, "onnx_agreement": found.same}


def _precision(config: Mapping[str, Any]) -> str:
    return str(config.get("precision", {"kind": "fp32"})["kind"])  # the first artifacts say nothing


def _write_metrics(folder: Path, config: dict[str, Any], metrics: dict[str, Any]) -> dict[str, Any]:
    _write_json(folder / "metrics.json", metrics)
    forms = [name for name in (WEIGHTS, ONNX) if (folder / name).is_file()]
    _replace(folder / "card.md", card(config, metrics, forms))
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
