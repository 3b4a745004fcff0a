"""A fine-tuned classifier of the BERT family, as Hugging Face saves it: our encoder with the head it was trained with.

It answers as a teacher does. Its classes come in the order that a data set's labels have, numbers by their value.
"""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from models.architecture import Architecture
from models.encoder import Classifier, build
from models.pretrained import architecture, canonical, folder, load_into, open_weights, read_config

_INNER = {"bert": ("pooler.dense", nn.Tanh), "distilbert": ("pre_classifier", nn.ReLU)}
_OUTER = "classifier"
_PARTS = ("weight", "bias")


class Described(NamedTuple):
    """A classifier in a folder: its encoder, the signature that goes with it, and what its classes stand for."""

    folder: Path
    architecture: Architecture
    signature: dict[str, Any]
    labels: list[str]


class FirstTokenHead(nn.Module):
    """The first position through two products, as BERT and DistilBERT classify: logits_BC."""

    def __init__(self, inner: nn.Linear, activate: nn.Module, outer: nn.Linear) -> None:
        super().__init__()
        self.inner, self.activate, self.outer = inner, activate, outer

    def forward(self, x_BLD: Tensor, keep_BL: Tensor | None) -> Tensor:
        logits_BC: Tensor = self.outer(self.activate(self.inner(x_BLD[:, 0])))
        return logits_BC


def describe(folder_or_name: str | Path) -> Described:
    """What a folder or a name on the Hugging Face hub holds, without its weights.

    Raises ValueError, a line a fault, where that is no classifier of one class an example, or its labels have no
    names.
    """
    path = folder(folder_or_name)
    config, shape = read_config(path)[0], architecture(path)
    names = {int(number): str(name) for number, name in config.get("id2label", {}).items()}
    if faults := _faults(path, config, names):
        raise ValueError("\n".join(faults))
    signature = {
        "input": "tokens",
        "vocab_size": config["vocab_size"],
        "max_length": config["max_position_embeddings"],
        "pad_id": config.get("pad_token_id") or 0,
        "n_classes": len(names),
    }
    return Described(path, shape, signature, sorted(names.values(), key=_rank))


def _faults(path: Path, config: dict[str, Any], names: dict[int, str]) -> list[str]:
    faults, file = [], path / "config.json"
    unnamed = sorted(names) != list(range(len(names))) or any(name == f"LABEL_{i}" for i, name in names.items())
    if not any(kind.endswith("ForSequenceClassification") for kind in config.get("architectures") or []):
        faults.append(f"{path} has no classification head, must be fine-tuned: give it to routine train as pretrained")
    elif unnamed or not names:
        faults.append(f"{file}: id2label names no labels, must name each class; write them there")
    if (kind := config.get("problem_type")) not in (None, "single_label_classification"):
        faults.append(f"{file}: problem_type is {kind!r}, must be one class an example; choose another")
    return faults


def load(found: Described) -> Classifier:
    """The network, ready to answer. Raises ValueError where the weights are not all there."""
    model = build(found.architecture, found.signature)
    load_into(model, found.folder)
    config, family = read_config(found.folder)
    inner, activation = _INNER[config["model_type"]]
    order = sorted(range(len(found.labels)), key=lambda number: _rank(str(config["id2label"][str(number)])))
    d_model = found.architecture.d_model
    head = FirstTokenHead(nn.Linear(d_model, d_model), activation(), nn.Linear(d_model, len(order)))
    with open_weights(found.folder) as file, torch.no_grad():
        names = {canonical(name, family): name for name in file.keys()}  # noqa: SIM118 (it is no mapping)
        wanted = [f"{module}.{part}" for module in (inner, _OUTER) for part in _PARTS]
        if missing := [name for name in wanted if name not in names]:
            raise ValueError(f"{found.folder} lacks {', '.join(missing)}, must hold its whole head; fetch it again")
        for part in _PARTS:
            head.inner.get_parameter(part).copy_(file.get_tensor(names[f"{inner}.{part}"]))
            head.outer.get_parameter(part).copy_(file.get_tensor(names[f"{_OUTER}.{part}"])[order])
    model.head = head  # type: ignore[assignment]
    return model.eval()


def _rank(label: str) -> tuple[bool, int, str]:
    return (False, int(label), label) if label.removeprefix("-").isdecimal() else (True, 0, label)
