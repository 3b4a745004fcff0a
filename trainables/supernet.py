"""One network whose slices are all trained, so that many sizes can be tried and none is trained by itself (`subnet`).

It begins as a fine-tuned teacher, with its heads, units and hidden dimensions in the order of their importance
(DynaBERT, Hou et al. 2020, arXiv:2004.04037). Each batch trains the largest, the smallest and some drawn subnets (the
sandwich rule: Yu and Huang 2019, arXiv:1903.05134), each on the labels and on the teacher's answers to this batch,
which were computed once: the largest need not be run to teach the others.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from models import cost, elastic
from models.architecture import Architecture
from models.elastic import Choices, Shape
from models.encoder import Classifier, build
from models.importance import Importance, Kind, importance
from tasks.batches import sorted_by_length
from tasks.task import Data
from trainables import checkpoint, teacher
from trainables.answers import answers
from trainables.data import default_cache, prepare
from trainables.loop import Examples, Loop, Optimization, logits, on_device
from trainables.losses import soft_targets
from trainables.routine import Workspace
from trainables.train import costs, label_loss

_SCORED, _AT_ONCE = 1024, 32  # training examples that tell what is important
_PASSES = 3  # of a training step: one forward, backward as much as two


class SupernetConfig(Optimization):
    """What it begins as, its sizes, and how it is trained."""

    task: dict[str, Any] = Field(description="name of a task, and that task's own settings")
    seed: int = Field(default=0, ge=0, lt=2**63, description="decides the order of samples, the subnets, the dropout")
    teacher: str = Field(
        description="folder of an artifact or of a trial's checkpoint: what it begins as, and imitates"
    )
    choices: Choices = Field(default=Choices(), description="the sizes of its subnets")
    drawn: int = Field(default=2, ge=0, description="subnets drawn for each batch, beside the smallest and the largest")
    largest: float = Field(default=1.0, ge=0, le=1, description="share of the batches that train the largest, too")
    importance: Kind = Field(default="taylor", description="which heads, units and dimensions come first")
    temperature: float = Field(default=2.0, gt=0, description="of the teacher's answers (Hinton et al. 2015)")
    soft_weight: float = Field(
        default=0.8, ge=0, le=1, description="of the teacher's answers; the labels have the rest"
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="in all subnets")


class Supernet:
    """Trains a supernet. Its checkpoint is one of its largest subnet."""

    Config = SupernetConfig

    def __init__(self, config: SupernetConfig, workspace: Workspace) -> None:
        self.config, self.workspace = config, workspace
        self.data = prepare(config.task, workspace.cache)
        self.teacher = teacher.read(config.teacher, workspace.cache)
        teacher.check(self.teacher, config.task, self.data, workspace.cache)
        torch.manual_seed(config.seed)
        self.model = build(_largest(config, self.teacher.architecture), self.data.signature)
        optimization = Optimization(**config.model_dump(include=set(Optimization.model_fields)))
        self.loop = Loop(self.model, self.data, optimization, self._loss, seed=config.seed, device=workspace.device)
        self.cost = costs(self.model.architecture, self.model, self.data, workspace)
        self.said = answers(
            self.teacher,
            self.data.splits["train"],
            {"data": self.data.record["fingerprint"], "split": "train"},
            workspace.cache,
            precision=config.precision,
            device=workspace.device,
        )
        self.flops = 0.0

    @staticmethod
    def architecture(config: SupernetConfig) -> Architecture:
        """Of the largest subnet."""
        return _largest(config, teacher.read(config.teacher, default_cache()).architecture)

    @staticmethod
    def check(config: SupernetConfig, data: Data) -> None:
        """Raises ValueError, a line a fault, where teacher, sizes and data do not fit together."""
        found = teacher.read(config.teacher, default_cache())
        teacher.check(found, config.task, data, default_cache())
        _largest(config, found.architecture)

    def advance(self) -> dict[str, Any]:
        """The loop's report on the largest subnet (see `Loop.advance`), `smallest_val_…` of the smallest, what the
        largest costs (see `Train.advance`), and `training_flops` of this stretch, evaluation left out."""
        if self.loop.samples == 0:
            self._begin()
        self.flops = 0.0
        report = self.loop.advance()
        return {**report, **self._smallest(report), **self.cost, "training_flops": self.flops}

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

    def _begin(self) -> None:
        """Take the weights of the teacher, the most important ones first."""
        whole = elastic.extracted(self.teacher.model, Shape()).to(self.workspace.device)  # the teacher stays as it is
        best = elastic.extracted(elastic.ordered(whole, self._scores(whole)), self.config.choices.largest)
        tensors = best.state_dict()
        if "positions.weight" in tensors:  # the teacher may read longer texts
            tensors["positions.weight"] = tensors["positions.weight"][
                : len(self.model.state_dict()["positions.weight"])
            ]
        self.model.load_state_dict(tensors)

    def _scores(self, model: Classifier) -> Importance:
        split, rng = self.data.splits["train"], np.random.default_rng(self.config.seed)
        rows = rng.permutation(len(split))[:_SCORED]
        batches = [rows[places] for places in sorted_by_length(split.lengths[rows], _AT_ONCE)]
        examples = [Examples(batch, *on_device(split.batch(batch), self.workspace.device)) for batch in batches]
        return importance(model, examples, self._label_loss, self.config.importance)

    def _label_loss(self, model: nn.Module, examples: Examples) -> Tensor:
        return self.data.loss(model(**examples.inputs), examples.targets)

    def _loss(self, _: nn.Module, examples: Examples) -> Tensor:
        shapes = self._sandwich()
        self.flops += _training_flops(self.model, shapes, examples)
        teacher_BC = torch.from_numpy(self.said.logits(examples.rows)).to(self.workspace.device)
        found = elastic.logits(self.model, shapes, **examples.inputs)
        return torch.stack([self._of_one(logits_BC, teacher_BC, examples.targets) for logits_BC in found]).mean()

    def _of_one(self, logits_BC: Tensor, teacher_BC: Tensor, targets_B: Tensor) -> Tensor:
        config = self.config
        hard = label_loss(self.data, logits_BC, targets_B, config.label_smoothing)
        soft = soft_targets(logits_BC, teacher_BC, config.temperature).mean()
        return (1 - config.soft_weight) * hard + config.soft_weight * soft

    def _sandwich(self) -> list[Shape]:
        """The subnets of the next batch, each once. They follow from the seed and the place alone."""
        choices, rng = self.config.choices, np.random.default_rng([self.config.seed, self.loop.samples])
        ends = [choices.largest, choices.smallest] if rng.random() < self.config.largest else [choices.smallest]
        return list(dict.fromkeys([*ends, *(choices.draw(rng) for _ in range(self.config.drawn))]))

    def _smallest(self, report: dict[str, Any]) -> dict[str, float]:
        names = [name for name in report if name.startswith("val_")]
        if not math.isfinite(report["train_loss"]):
            return {f"smallest_{name}": math.nan for name in names}
        model, split = elastic.extracted(self.model, self.config.choices.smallest), self.data.splits["validation"]
        logits_NC = logits(model, split, precision=self.config.precision, device=self.workspace.device)
        return {
            f"smallest_val_{name}": float(score) for name, score in self.data.metrics(logits_NC, split.targets).items()
        }


def _largest(config: SupernetConfig, teacher: Architecture) -> Architecture:
    """Of the largest subnet. Raises ValueError, a line a fault, where it is larger than the teacher."""
    try:
        found = elastic.shaped(teacher, config.choices.largest)
    except ValueError as error:
        raise ValueError("\n".join(f"choices: {fault}" for fault in str(error).splitlines())) from None
    positions = "learned" if found.positions == "sinusoidal" else found.positions  # in another order they are no sines
    return found.model_copy(update={"positions": positions, "dropout": config.dropout})


def _training_flops(model: Classifier, shapes: list[Shape], examples: Examples) -> float:
    signature, positions = model.signature.model_dump(), examples.inputs.get("tokens")
    length = None if positions is None else positions.shape[1]
    of_each = [cost.flops(elastic.shaped(model.architecture, shape), signature, length) for shape in shapes]
    return float(_PASSES * len(examples.rows) * sum(of_each))


ROUTINE = Supernet
