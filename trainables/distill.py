"""A student learns from a teacher: from its answers, from its layers where matches say so, and from the labels.

The loss of a batch is soft_weight of the divergence from the teacher's answers (Hinton et al. 2015, arXiv:1503.02531)
and the rest of the labels' loss, plus the weighted matches (`trainables.matches`). An example without a label, or
mixed with another one, counts in the first alone.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.architecture import Architecture
from models.encoder import Classifier
from models.own import Own
from tasks.task import Data
from trainables import checkpoint, distillation, teacher, used
from trainables.data import default_cache, prepare
from trainables.distillation import DistillConfig
from trainables.lessons import Lessons, told
from trainables.loop import Examples, Loop, Optimization
from trainables.losses import observed
from trainables.mixup import mixed
from trainables.routine import Infeasible, Workspace
from trainables.teacher import Teacher
from trainables.train import COSTS, PASSES, Train, costs, figures, forward_flops

_PROJECTIONS = "projections.safetensors"


class Distill:
    """Trains one student."""

    Config = DistillConfig
    check_early = staticmethod(distillation.check_early)

    def __init__(self, config: DistillConfig, workspace: Workspace) -> None:
        self.config = config
        self.data = prepare(config.task, workspace.cache)
        found = _fitting(config, self.data, workspace.cache)
        torch.manual_seed(config.seed)
        self.model = distillation.student(config, self.data, found, workspace.cache)
        self.kind = distillation.architecture(config, found.architecture, workspace.cache)
        self.matching = distillation.matching(config, self.kind, found)
        self.lessons = Lessons(
            found,
            self.data,
            config,
            self.matching.of_teacher,
            seed=config.seed,
            precision=config.precision,
            workspace=workspace,
        )
        self.loop = Loop(
            self.model,
            self.data,
            Optimization(**config.model_dump(include=set(Optimization.model_fields))),
            self._loss,
            seed=config.seed,
            device=workspace.device,
            train=self.lessons.split,
            beside=self.matching,
        )
        self.flops = 0
        self.cost = costs(self.kind, self.model, self.data, workspace)
        training = used.of_training(self.loop)
        self.used = used.digest(**training, lessons=self.lessons.told(config.label_smoothing), until=config.match_until)

    @property
    def signature(self) -> dict[str, Any]:
        """What the student reads, which may be longer than the data's longest."""
        return self.model.signature.model_dump() if isinstance(self.model, Classifier) else self.data.signature

    @staticmethod
    def architecture(config: DistillConfig) -> Architecture | Own:
        """What the config trains."""
        cache = default_cache()
        return distillation.architecture(config, teacher.read(config.teacher, cache).architecture, cache)

    @staticmethod
    def check(config: DistillConfig, data: Data) -> None:
        """Raises ValueError, a line a fault, where config, teacher and data do not fit together."""
        cache = default_cache()
        distillation.check(config, data, teacher.read(config.teacher, cache), cache)

    @staticmethod
    def known(config: DistillConfig, data: Data, inputs: Mapping[str, Any]) -> dict[str, float]:
        """What the student costs, before it is trained; nothing where it begins as one that is not here yet."""
        if config.student == "scratch":
            return Train.known(config, data, inputs)
        begun = config.teacher if config.student == "slices" else config.student
        if not Path(begun).is_dir() or not Path(config.teacher).is_dir():
            return {}
        architecture = Distill.architecture(config)
        assert isinstance(architecture, Architecture)
        return figures(architecture, teacher.read(begun, default_cache()).config["signature"], data, inputs)

    @staticmethod
    def metrics(config: DistillConfig, data: Data) -> list[str]:
        """The names in its reports."""
        return [*Loop.metrics(data), *COSTS, "training_flops"]

    def advance(self) -> dict[str, Any]:
        """The loop's report (see `Loop.advance`), what the student costs (see `Train.advance`), and `training_flops`:
        those of the student, backward counted as two forward, and of the teacher where it was asked meanwhile."""
        self.flops = self.lessons.flops = 0
        report = self.loop.advance()
        flops = PASSES * self.flops + self.lessons.flops
        return {**report, **self.cost, "training_flops": flops, "used": self.used}

    def save(self, folder: Path) -> None:
        """Write a checkpoint (see `trainables.checkpoint`), with the projections of the matches beside it."""
        about = {
            "architecture": self.kind.model_dump(),
            "signature": self.signature,
            "task": self.config.task,
            "config": self.config.model_dump(mode="json", exclude_unset=True),
        }
        checkpoint.save(folder, self.loop, about)
        projections = {name: value.detach().cpu().contiguous() for name, value in self.matching.state_dict().items()}
        save_file(projections, folder / _PROJECTIONS)

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint, with this routine's settings; matches that it has not begin afresh."""
        checkpoint.load(folder, self.loop)
        known, found = self.matching.state_dict(), load_file(folder / _PROJECTIONS)
        self.matching.load_state_dict({name: found.get(name, value) for name, value in known.items()})

    def _loss(self, model: nn.Module, examples: Examples) -> Tensor:
        config, epoch = self.config, self.loop.epoch
        matches = self.matching.pairs and self._progress() < config.match_until
        of_teacher, of_student = (self.matching.of_teacher, self.matching.of_student) if matches else ((), ())
        said_BC, theirs = self.lessons.taught(epoch, examples.rows, examples.inputs, of_teacher)
        mix = mixed(examples, config.mixup, seed=config.seed, epoch=epoch)
        with observed(model, of_student) as own, mix.within(model) if config.mixup else nullcontext():
            logits_BC: Tensor = model(**mix.inputs)
        if isinstance(self.kind, Architecture):  # of a network of the user's own nothing is known
            self.flops += forward_flops(self.kind, self.signature, mix.inputs)
        loss = told(
            config,
            self.data,
            logits_BC,
            said_BC,
            targets_B=examples.targets,
            mix=mix,
            smoothing=config.label_smoothing,
        )
        if not matches:
            return loss
        keep_BL = examples.inputs.get("keep", torch.ones_like(next(iter(own.values()))[..., 0], dtype=torch.bool))
        matched: Tensor = self.matching(own, theirs, keep_BL & mix.alone[:, None])
        return loss + matched

    def _progress(self) -> float:
        """Share of all steps done."""
        loop = self.loop
        return (loop.epoch + loop.place / len(self.lessons.split(loop.epoch))) / self.config.epochs


def _fitting(config: DistillConfig, data: Data, cache: Path) -> Teacher:
    """The teacher. Raises Infeasible: what does not fit together will not do so at a second attempt."""
    try:
        found = teacher.read(config.teacher, cache)
        distillation.check(config, data, found, cache)
    except ValueError as error:
        raise Infeasible(str(error)) from error
    return found


ROUTINE = Distill
