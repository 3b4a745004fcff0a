"""A trained classifier that students learn from: an artifact, the checkpoint of a trial, or one of Hugging Face's."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models import pretrained_classifier
from models.architecture import Architecture
from models.encoder import Classifier
from tasks import cache
from tasks.task import Data
from trainables import checkpoint
from trainables.data import prepare
from trainables.losses import observed


@dataclass(frozen=True)
class Teacher:
    """A teacher in a folder. role: what messages call it. kind: artifact, checkpoint or pretrained. config: its
    architecture and signature, and what its kind has besides. fingerprint: of its weights and its config.json."""

    role: str
    folder: Path
    kind: str
    config: Mapping[str, Any]
    fingerprint: str

    @property
    def architecture(self) -> Architecture:
        """Its shape."""
        return Architecture.model_validate_json(json.dumps(self.config["architecture"]))

    @cached_property
    def model(self) -> Classifier:
        """The network, ready to answer; read when it is first needed, which it often is not."""
        if self.kind == "pretrained":
            model: Any = pretrained_classifier.load(pretrained_classifier.describe(self.folder))
        elif self.kind == "checkpoint":
            model = checkpoint.load_model(self.folder)[0]
        else:
            from models import artifact  # with onnxruntime, which training does without

            model = artifact.load(self.folder)[0]
        classifier: Classifier = model.eval().requires_grad_(False)
        return classifier

    @torch.no_grad()
    def answer(self, inputs: Mapping[str, Tensor], names: Iterable[str] = ()) -> tuple[Tensor, dict[str, Tensor]]:
        """logits_BC and the features `names` of a batch."""
        with observed(self.model, names) as seen:
            logits_BC = self.model(**inputs)
        return logits_BC, seen


def read(place: str, cache_folder: Path, role: str = "teacher") -> Teacher:
    """The teacher in a folder, or of a name on the Hugging Face hub. Raises ValueError where there is none."""
    folder = Path(place).expanduser()
    if not folder.is_dir() or _is_pretrained(folder):
        folder, kind, config = _pretrained(place, role)
    else:
        config = _config(folder, f"{role}: {place}")
        kind = "artifact" if "sha256" in config else "checkpoint"
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise ValueError(f"{role}: {place} lacks model.safetensors; copy the whole folder again")
    digests = [cache.digest(path, cache_folder) for path in (weights, folder / "config.json")]
    cache.remember({weights: digests[0]}, cache_folder)
    return Teacher(role, folder, kind, config, cache.fingerprint({"files": digests}))


def _is_pretrained(folder: Path) -> bool:
    try:
        return "model_type" in json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, TypeError):
        return False


def _pretrained(place: str, role: str) -> tuple[Path, str, dict[str, Any]]:
    try:
        found = pretrained_classifier.describe(place)
    except ValueError as error:
        raise ValueError("\n".join(f"{role}: {line}" for line in str(error).splitlines())) from None
    config = {"architecture": found.architecture.model_dump(), "signature": found.signature, "labels": found.labels}
    return found.folder, "pretrained", config


def _config(folder: Path, subject: str) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"{subject} has no config.json, must be an artifact or a trial's checkpoint; check the path")
    try:
        config = dict(json.loads(path.read_bytes()))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{subject} has a config.json that is damaged: {error}; copy the folder again") from None
    if not {"architecture", "signature"} <= set(config) or not {"sha256", "task"} & set(config):
        raise ValueError(
            f"{subject} is neither an artifact nor a checkpoint of a trial nor of Hugging Face; give the folder of one"
        )
    if "model" in config["architecture"]:
        raise ValueError(
            f"{subject} is of the network {config['architecture']['model']!r}, must be an encoder of ours; choose "
            "another one"
        )
    return config


def check(teacher: Teacher, task: Mapping[str, Any], data: Data, cache_folder: Path) -> None:
    """Raises ValueError, a line a fault, where a teacher does not tell the data's labels or read its vocabulary."""
    if teacher.kind == "checkpoint" and teacher.config["task"] == task:
        return
    labels, tokenizer = _knowledge(teacher, cache_folder)
    faults = _size_faults(teacher, data.signature)
    told = list(map(str, data.labels)) if teacher.kind == "pretrained" else list(data.labels)
    if labels != told:
        faults.append(f"tells {_some(labels)}, must tell the data's labels {_some(list(data.labels))}")
    if tokenizer is not None and "tokenizer.json" in data.files:
        faults += _vocabulary_faults(tokenizer, data.files["tokenizer.json"])
    if faults:
        raise ValueError(
            "\n".join(f"{teacher.role} {fault}; choose another one ({teacher.folder})" for fault in faults)
        )


def _knowledge(teacher: Teacher, cache_folder: Path) -> tuple[list[Any], Path | None]:
    """Labels and tokenizer."""
    if teacher.kind != "checkpoint":
        path = teacher.folder / "tokenizer.json"
        return list(teacher.config["labels"]), path if path.is_file() else None
    known = prepare(teacher.config["task"], cache_folder)
    return list(known.labels), known.files.get("tokenizer.json")


def _size_faults(teacher: Teacher, signature: Mapping[str, Any]) -> list[str]:
    own = teacher.config["signature"]
    faults = [
        f"has {name} {own.get(name)}, must have the data's {signature[name]}"
        for name in ("input", "pad_id", "height", "width", "channels", "scale")
        if name in signature and own.get(name) != signature[name]
    ]
    if not faults and own.get("max_length", 0) < signature.get("max_length", 0):
        faults.append(f"reads {own['max_length']} tokens, must read the data's {signature['max_length']}")
    return faults


def _vocabulary_faults(own: Path, of_data: Path) -> list[str]:
    ours, theirs = (_vocabulary(path) for path in (own, of_data))
    if ours == theirs:
        return []
    token = min(ours.items() ^ theirs.items())[0]
    return [
        f"has another vocabulary ({len(ours):,} tokens) than the data ({len(theirs):,}), such as in {token!r}, must "
        "have the same: set task.tokenizer to its own"
    ]


def _vocabulary(tokenizer: Path) -> dict[str, int]:
    known = json.loads(tokenizer.read_bytes())
    vocabulary = known["model"]["vocab"]
    found = dict(vocabulary) if isinstance(vocabulary, dict) else {entry[0]: i for i, entry in enumerate(vocabulary)}
    return found | {token["content"]: token["id"] for token in known["added_tokens"]}


def _some(labels: Sequence[Any]) -> str:
    shown = ", ".join(map(repr, labels[:5]))
    return f"{shown}{', …' if len(labels) > 5 else ''} ({len(labels)})"
