"""A trained classifier that students learn from: an artifact, the checkpoint of a trial, or one of Hugging Face's."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from models import pretrained_classifier
from models.architecture import Architecture
from models.encoder import Classifier
from tasks import cache
from tasks.task import Data
from trainables import checkpoint, trained
from trainables.data import prepare
from trainables.losses import observed
from trainables.trained import TOKENIZER, WEIGHTS


@dataclass(frozen=True)
class Teacher:
    """A teacher in a folder. role: what messages call it. kind: artifact, checkpoint or pretrained. config: its
    architecture and signature, and what its kind has besides. fingerprint: of its weights and its config.json.
    weights: SHA-256 of the file that holds them."""

    role: str
    folder: Path
    kind: str
    config: Mapping[str, Any]
    fingerprint: str
    weights: str

    @property
    def architecture(self) -> Architecture:
        """Its shape."""
        return Architecture.model_validate_json(json.dumps(self.config["architecture"]))

    @cached_property
    def model(self) -> Classifier:
        """The network, ready to answer; read when it is first needed, which it often is not.

        That draws no random number: whenever it happens, a student's dropout goes on as it was.
        """
        try:
            with torch.random.fork_rng(devices=[]):
                model = self._load()
        except SafetensorError as error:
            raise ValueError(
                f"{self.role}: {self.folder / WEIGHTS} is damaged ({error}); copy the whole folder again"
            ) from None
        return model.eval().requires_grad_(False)

    def _load(self) -> Classifier:
        if self.kind == "pretrained":
            return pretrained_classifier.load(pretrained_classifier.describe(self.folder))
        if self.kind == "artifact":
            from models import artifact  # with onnxruntime, which training does without

            return artifact.load(self.folder)[0]
        model = checkpoint.load_model(self.folder)[0]
        assert isinstance(model, Classifier)
        return model

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
        config = trained.read_config(folder, f"{role}: {place}")
        kind = "artifact" if "sha256" in config else "checkpoint"
        trained.check(folder, f"{role}: {place}", config, cache_folder)
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise ValueError(f"{role}: {place} lacks {WEIGHTS}; copy the whole folder again")
    digests = [cache.digest(path, cache_folder) for path in (weights, folder / "config.json")]
    cache.remember({weights: digests[0]}, cache_folder)
    return Teacher(role, folder, kind, config, cache.fingerprint({"files": digests}), digests[0])


def _is_pretrained(folder: Path) -> bool:
    try:
        return "model_type" in json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, TypeError):
        return False


def _pretrained(place: str, role: str) -> tuple[Path, str, dict[str, Any]]:
    try:
        found = pretrained_classifier.describe(place)
    except ValueError as error:
        lines = [line.removeprefix("pretrained is ") for line in str(error).splitlines()]
        raise ValueError("\n".join(f"{role}: {line}" for line in lines)) from None
    config = {"architecture": found.architecture.model_dump(), "signature": found.signature, "labels": found.labels}
    return found.folder, "pretrained", config


def check(teacher: Teacher, task: Mapping[str, Any], data: Data, cache_folder: Path) -> None:
    """Raises ValueError, a line a fault, where a teacher does not tell the data's labels or read its vocabulary.

    task: of the data; a checkpoint of the same one is known to fit, but for a vocabulary that was trimmed since.
    """
    labels, tokenizer = _knowledge(teacher, task, data, cache_folder)
    faults = _size_faults(teacher, data.signature)
    told = list(map(str, data.labels)) if teacher.kind == "pretrained" else list(data.labels)
    if labels != told:
        faults.append(f"tells {_some(labels)}, must tell the data's labels {_some(list(data.labels))}")
    if tokenizer is not None and TOKENIZER in data.files:
        faults += _vocabulary_faults(tokenizer, data.files[TOKENIZER])
    if faults:
        raise ValueError(
            "\n".join(f"{teacher.role} {fault}; choose another one ({teacher.folder})" for fault in faults)
        )


def _knowledge(
    teacher: Teacher, task: Mapping[str, Any], data: Data, cache_folder: Path
) -> tuple[list[Any], Path | None]:
    """Labels and tokenizer. A checkpoint has those of its task, unless a tokenizer of its own lies with it."""
    own = teacher.folder / TOKENIZER
    brought = own if own.is_file() else None
    if teacher.kind != "checkpoint":
        return list(teacher.config["labels"]), brought
    if teacher.config["task"] == task:
        return list(data.labels), brought
    known = prepare(teacher.config["task"], cache_folder)
    return list(known.labels), brought or known.files.get(TOKENIZER)


def _size_faults(teacher: Teacher, signature: Mapping[str, Any]) -> list[str]:
    own = teacher.config["signature"]
    faults = [
        f"has {name} {own.get(name)}, must have the data's {signature[name]}"
        for name in ("input", "pad_id", "height", "width", "channels", "scale")
        if name in signature and own.get(name) != signature[name]
    ]
    if faults or "vocab_size" not in signature:
        return faults
    if own["max_length"] < signature["max_length"]:
        faults.append(f"reads {own['max_length']} tokens, must read the data's {signature['max_length']}")
    if own["vocab_size"] < signature["vocab_size"]:
        faults.append(f"knows {own['vocab_size']:,} tokens, must know the data's {signature['vocab_size']:,}")
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
