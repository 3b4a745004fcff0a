"""One network whose slices are all trained, so that many sizes can be tried and none is trained by itself (`subnet`).

It begins as a fine-tuned teacher, with its heads, units and hidden dimensions in the order of their importance
(DynaBERT, Hou et al. 2020, arXiv:2004.04037). Each batch trains the largest, the smallest and some drawn subnets (the
sandwich rule: Yu and Huang 2019, arXiv:1903.05134), each on the labels and on the teacher's answers to this batch,
which were computed once: the largest need not be run to teach the others.
"""

import math
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from models import elastic
from models.architecture import Architecture
from models.elastic import Choices, Shape
from models.encoder import Classifier, build
from models.importance import Kind
from tasks.task import Data
from trainables import checkpoint, lessons, students, teacher, used
from trainables.data import default_cache, prepare
from trainables.lessons import Lessons, LessonSettings, told
from trainables.loop import Examples, Loop, Optimization, logits
from trainables.mixup import mixed
from trainables.routine import Infeasible, Workspace
from trainables.teacher import Teacher
from trainables.train import COSTS, PASSES, costs, forward_flops


class SupernetConfig(Optimization, LessonSettings):
    """What it begins as, its sizes, and how it is trained."""

    task: dict[str, Any] = Field(description="name of a task, and that task's own settings")
    seed: int = Field(default=0, ge=0, lt=2**63, description="decides the order of samples, the subnets, the dropout")
    teacher: str = Field(description="folder of an artifact, or of a trial's checkpoint: what it begins as")
    choices: Choices = Field(default=Choices(), description="the sizes of its subnets")
    drawn: int = Field(default=2, ge=0, description="subnets drawn for each batch, beside the smallest and the largest")
    largest: float = Field(default=1.0, ge=0, le=1, description="share of the batches that train the largest, too")
    importance: Kind = Field(default="taylor", description="which heads, units and dimensions come first")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="in all subnets")


class Supernet:
    """Trains a supernet. Its checkpoint is one of its largest subnet."""

    Config = SupernetConfig

    def __init__(self, config: SupernetConfig, workspace: Workspace) -> None:
        self.config, self.workspace = config, workspace
        self.data = prepare(config.task, workspace.cache)
        found = teacher.read(config.teacher, workspace.cache)
        _check(config, self.data, found, workspace.cache)
        torch.manual_seed(config.seed)
        self.model = _begun(config, self.data, found, workspace.cache)
        self.lessons = Lessons(
            found, self.data, config, (), seed=config.seed, precision=config.precision, workspace=workspace
        )
        self.loop = Loop(
            self.model,
            self.data,
            Optimization(**config.model_dump(include=set(Optimization.model_fields))),
            self._loss,
            seed=config.seed,
            device=workspace.device,
            train=self.lessons.split,
        )
        self.cost = costs(self.model.architecture, self.model, self.data, workspace)
        self.flops = 0
        subnets = config.model_dump(mode="json", include={"choices", "drawn", "largest"})
        lessons_told = self.lessons.told(config.label_smoothing)
        self.used = used.digest(**used.of_training(self.loop), lessons=lessons_told, subnets=subnets)

    @staticmethod
    def architecture(config: SupernetConfig) -> Architecture:
        """Of the largest subnet."""
        return _largest(config, teacher.read(config.teacher, default_cache()).architecture)

    @staticmethod
    def check(config: SupernetConfig, data: Data) -> None:
        """Raises ValueError, a line a fault, where sizes, teacher and data do not fit together."""
        _check(config, data, teacher.read(config.teacher, default_cache()), default_cache())

    @staticmethod
    def check_early(config: SupernetConfig, data: Data, shapes: Mapping[str, Architecture]) -> None:
        """What can be told before the teacher is there, from its architecture if `shapes` has it; as `check` does."""
        if faults := lessons.faults(config, data) + _choices_faults(config, shapes.get(config.teacher)):
            raise ValueError("\n".join(faults))

    @staticmethod
    def metrics(config: SupernetConfig, data: Data) -> list[str]:
        """The names in its reports."""
        found = Loop.metrics(data)
        return [*found, *(f"smallest_{name}" for name in found if name.startswith("val_")), *COSTS, "training_flops"]

    def advance(self) -> dict[str, Any]:
        """The loop's report on the largest subnet (see `Loop.advance`), `smallest_val_…` of the smallest, what the
        largest costs (see `Train.advance`), and `training_flops`: those of all subnets, backward counted as two
        forward, and of the teacher where it was asked meanwhile."""
        self.flops = self.lessons.flops = 0
        report = self.loop.advance()
        flops = PASSES * self.flops + self.lessons.flops
        return {**report, **self._smallest(report), **self.cost, "training_flops": flops, "used": self.used}

    def save(self, folder: Path) -> None:
        """Write a checkpoint (see `trainables.checkpoint`)."""
        about = {
            "architecture": self.model.architecture.model_dump(),
            "signature": self.model.signature.model_dump(),
            "task": self.config.task,
            "config": self.config.model_dump(mode="json", exclude_unset=True),
        }
        checkpoint.save(folder, self.loop, about)

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint, with this routine's settings."""
        checkpoint.load(folder, self.loop)

    def _loss(self, model: nn.Module, examples: Examples) -> Tensor:
        assert isinstance(model, Classifier)
        config, epoch, shapes = self.config, self.loop.epoch, self._sandwich()
        said_BC, _ = self.lessons.taught(epoch, examples.rows, examples.inputs, ())
        mix = mixed(examples, config.mixup, seed=config.seed, epoch=epoch)
        with mix.within(model) if config.mixup else nullcontext():
            found = elastic.logits(model, shapes, **mix.inputs)
        self.flops += _flops(model, shapes, mix.inputs)
        loss = partial(told, config, self.data, targets_B=examples.targets, mix=mix, smoothing=config.label_smoothing)
        losses = [loss(logits_BC, said_BC) for logits_BC in found]
        return torch.stack(losses).mean()

    def _sandwich(self) -> list[Shape]:
        """The subnets of the next batch, each once. They follow from the seed and the place alone."""
        choices, rng = self.config.choices, np.random.default_rng([self.config.seed, self.loop.samples])
        ends = [choices.largest, choices.smallest] if rng.random() < self.config.largest else [choices.smallest]
        return list(dict.fromkeys([*ends, *(choices.draw(rng) for _ in range(self.config.drawn))]))

    def _smallest(self, report: dict[str, Any]) -> dict[str, float]:
        if not math.isfinite(report["train_loss"]):
            return {f"smallest_{name}": math.nan for name in report if name.startswith("val_")}
        model, split = elastic.extracted(self.model, self.config.choices.smallest), self.data.splits["validation"]
        logits_NC = logits(model, split, precision=self.config.precision, device=self.workspace.device)
        return {f"smallest_val_{name}": float(x) for name, x in self.data.metrics(logits_NC, split.targets).items()}


def _begun(config: SupernetConfig, data: Data, found: Teacher, cache: Path) -> Classifier:
    """The teacher with what is most important first, cut to the largest subnet, with a dropout of its own."""
    scores = students.scores(found, data, config.importance, cache)
    best = elastic.extracted(elastic.ordered(found.model, scores), config.choices.largest)
    model = build(_largest(config, found.architecture), best.signature.model_dump())
    model.load_state_dict(best.state_dict())
    return model


def _largest(config: SupernetConfig, whole: Architecture) -> Architecture:
    positions = whole.positions
    if positions == "sinusoidal":
        positions = "learned"  # in another order they are no sinusoids
    own = {"positions": positions, "dropout": config.dropout}
    return elastic.shaped(whole, config.choices.largest).model_copy(update=own)


def _check(config: SupernetConfig, data: Data, found: Teacher, cache: Path) -> None:
    faults = lessons.faults(config, data)
    try:
        teacher.check(found, config.task, data, cache)
    except ValueError as error:
        faults += str(error).splitlines()
    faults += _choices_faults(config, found.architecture)
    if faults:
        raise Infeasible("\n".join(faults))  # also at a second attempt


def _choices_faults(config: SupernetConfig, whole: Architecture | None) -> list[str]:
    """What a teacher of this architecture has too little of."""
    try:
        if whole is not None:
            _largest(config, whole)
    except ValueError as error:
        return [f"choices.{line}" for line in str(error).splitlines()]
    return []


def _flops(model: Classifier, shapes: list[Shape], inputs: dict[str, Tensor]) -> int:
    architectures, signature = [elastic.shaped(model.architecture, shape) for shape in shapes], model.signature
    return sum(forward_flops(one, signature.model_dump(), inputs) for one in architectures)


ROUTINE = Supernet
