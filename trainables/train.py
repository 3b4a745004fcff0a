"""Supervised training of an encoder, from scratch or from pretrained weights: the ordinary routine."""

from pathlib import Path
from typing import Any, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from models import cost, pretrained
from models.architecture import Architecture, check_fit, parse_signature
from models.encoder import Classifier, build
from tasks.task import Data
from trainables import checkpoint
from trainables.data import prepare
from trainables.loop import Examples, Loop, Optimization
from trainables.routine import Workspace

FREE = {"dropout", "pooling"}  # what a pretrained model does not fix


class TrainConfig(Architecture, Optimization):
    """An architecture, an optimization, what to train on, and a seed."""

    task: dict[str, Any] = Field(description="name of a task, and that task's own settings")
    seed: int = Field(
        default=0, ge=0, lt=2**63, description="decides the first weights, the order of samples and the dropout"
    )
    pretrained: str | None = Field(
        default=None,
        description="folder or Hugging Face name of a model to begin with, which then gives the architecture",
    )

    @model_validator(mode="after")
    def _one_architecture(self) -> Self:
        given = sorted(self.model_fields_set & set(Architecture.model_fields) - FREE)
        if self.pretrained is not None and given:
            raise ValueError(
                f"pretrained is {self.pretrained!r}, which gives the architecture; leave out {', '.join(given)}"
            )
        if not isinstance(self.task.get("name"), str):
            raise ValueError("task must have a name; add name: text_classification")
        return self


class Train:
    """Trains one classifier on one task."""

    Config = TrainConfig

    def __init__(self, config: TrainConfig, workspace: Workspace) -> None:
        self.config = config
        self.data = prepare(config.task, workspace.cache)
        torch.manual_seed(config.seed)
        self.model = make_model(config, self.data.signature)
        optimization = Optimization(**config.model_dump(include=set(Optimization.model_fields)))
        self.loop = Loop(self.model, self.data, optimization, self._loss, seed=config.seed, device=workspace.device)
        self.cost = _cost(self.model.architecture, self.data, workspace)

    @staticmethod
    def architecture(config: TrainConfig) -> Architecture:
        """What the config trains."""
        if config.pretrained is None:
            return Architecture(**config.model_dump(include=set(Architecture.model_fields)))
        given = config.model_dump(include=FREE & config.model_fields_set)
        return pretrained.architecture(config.pretrained).model_copy(update=given)

    @staticmethod
    def check(config: TrainConfig, data: Data) -> None:
        """Raises ValueError, a line a fault, where the config's model and the data do not fit together."""
        check_fit(Train.architecture(config), parse_signature(data.signature))
        if config.pretrained is not None:  # its vocabulary and positions are only known with its weights
            make_model(config, data.signature)

    def advance(self) -> dict[str, Any]:
        """The loop's report (see `Loop.advance`), and what the model costs: params, flops (of an example of the
        validation split's mean length), size_mb (float32), and latency_ms where the stage has a layer table."""
        return {**self.loop.advance(), **self.cost}

    def save(self, folder: Path) -> None:
        """Write a checkpoint (see `trainables.checkpoint`)."""
        checkpoint.save(
            folder,
            self.loop,
            {
                "architecture": self.model.architecture.model_dump(),
                "signature": self.data.signature,
                "task": self.config.task,
                "config": self.config.model_dump(exclude_unset=True),
            },
        )

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint, with this routine's settings."""
        checkpoint.load(folder, self.loop)

    def _loss(self, model: nn.Module, examples: Examples) -> Tensor:
        logits_BC = model(**examples.inputs)
        loss = self.data.loss(logits_BC, examples.targets)
        smoothing = self.config.label_smoothing
        if smoothing == 0:
            return loss
        return (1 - smoothing) * loss - smoothing * F.log_softmax(logits_BC.float(), dim=-1).mean()


def make_model(config: TrainConfig, signature: dict[str, Any]) -> Classifier:
    """A model for the signature: freshly initialised from torch's generator, or with pretrained weights."""
    model = build(Train.architecture(config), signature)
    if config.pretrained is not None:
        pretrained.load_into(model, config.pretrained)
    return model


def _cost(architecture: Architecture, data: Data, workspace: Workspace) -> dict[str, float]:
    length = round(float(data.splits["validation"].lengths.mean()))
    found = {
        "params": cost.params(architecture, data.signature),
        "flops": cost.flops(architecture, data.signature, length),
        "size_mb": cost.weight_bytes(architecture, data.signature) / 1e6,
    }
    if "layer_table" in workspace.inputs:
        from trainables.layers import read  # with onnxruntime, which training does without

        found["latency_ms"] = read(workspace.inputs["layer_table"]).predict(architecture, data.signature)
    return found


ROUTINE = Train
