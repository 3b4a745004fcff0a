"""One subnet of a trained supernet, copied out of it and scored as it is: so little work that thousands compare.

Scores with inherited weights rank subnets (Guo et al. 2019, arXiv:1904.00420); what a subnet reaches when it is trained
further is for other routines to find out, which begin with its checkpoint.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from models import elastic
from models.architecture import Architecture
from models.elastic import Shape
from models.encoder import Classifier
from tasks.batches import Rows
from tasks.task import Batch, Data, Split
from trainables import checkpoint, teacher, used
from trainables.data import default_cache, prepare
from trainables.loop import Examples, Loop, Optimization, logits
from trainables.optimization import Precision
from trainables.routine import Infeasible, Workspace
from trainables.teacher import Teacher
from trainables.train import COSTS, costs, figures


class SubnetConfig(Shape):
    """Which subnet of which supernet, and on what it is scored."""

    task: dict[str, Any] = Field(description="name of a task, and that task's own settings")
    seed: int = Field(default=0, ge=0, lt=2**63, description="decides nothing: every subnet is scored alike")
    supernet: str = Field(description="folder of a supernet's checkpoint, or of its artifact")
    examples: int = Field(default=1000, ge=1, description="of the validation split, at most; the same for every subnet")
    precision: Precision = Field(default="auto", description="auto: bf16 where the hardware computes in it, else fp32")
    epochs: int = Field(default=1, ge=1, le=1, description="always 1: nothing is trained, and there is one report")


class Subnet:
    """One step: extract, score, count. Its checkpoint is that of a training which has yet to begin."""

    Config = SubnetConfig

    def __init__(self, config: SubnetConfig, workspace: Workspace) -> None:
        self.config, self.workspace = config, workspace
        self.data = prepare(config.task, workspace.cache)
        found = _supernet(config, workspace.cache)
        _check(config, self.data, found, workspace.cache)
        whole = _network(config.supernet, workspace.cache, found.fingerprint)
        self.model = elastic.extracted(whole, _shape(config)).to(workspace.device)
        data = [self.data.record["fingerprint"], config.examples]
        self.used = used.digest(model=used.of_model(self.model), data=data)

    @staticmethod
    def architecture(config: SubnetConfig) -> Architecture:
        """Of the subnet. Raises ValueError, a line a fault, where the supernet has no such subnet."""
        return elastic.shaped(_supernet(config, default_cache()).architecture, _shape(config))

    @staticmethod
    def check(config: SubnetConfig, data: Data) -> None:
        """Raises ValueError, a line a fault, where the supernet has no such subnet, or is not for the data."""
        _check(config, data, _supernet(config, default_cache()), default_cache())

    @staticmethod
    def known(config: SubnetConfig, data: Data, inputs: Mapping[str, Any]) -> dict[str, float]:
        """What it costs, before it is scored; nothing while its supernet is not here."""
        if not Path(config.supernet).is_dir():
            return {}
        found = _supernet(config, default_cache())
        return figures(elastic.shaped(found.architecture, _shape(config)), found.config["signature"], data, inputs)

    @staticmethod
    def metrics(config: SubnetConfig, data: Data) -> list[str]:
        """The names in its reports."""
        return ["epochs", *(name for name in Loop.metrics(data) if name.startswith("val_")), *COSTS]

    def advance(self) -> dict[str, Any]:
        """Scores on a sample of validation, and what the subnet costs (see `Train.advance`)."""
        split = _sample(self.data.splits["validation"], self.config.examples)
        logits_NC = logits(self.model, split, precision=self.config.precision, device=self.workspace.device)
        scores = self.data.metrics(logits_NC, split.targets)
        return {
            "epochs": 1.0,
            **{f"val_{name}": float(score) for name, score in scores.items()},
            **costs(self.model.architecture, self.model, self.data, self.workspace),
            "used": self.used,
        }

    def save(self, folder: Path) -> None:
        """Write a checkpoint (see `trainables.checkpoint`), at 0 epochs."""
        about = {
            "architecture": self.model.architecture.model_dump(),
            "signature": self.model.signature.model_dump(),
            "task": self.config.task,
            "config": self.config.model_dump(exclude_unset=True),
        }
        loop = Loop(self.model, self.data, Optimization(), _untrained, seed=self.config.seed)
        checkpoint.save(folder, loop, about)

    def load(self, folder: Path) -> None:
        """The one step begins anew."""


@dataclass(frozen=True)
class _Sample:
    """Some examples of a split, as a split."""

    split: Split
    rows: Rows

    @property
    def lengths(self) -> NDArray[np.int32]:
        return self.split.lengths[self.rows]

    @property
    def targets(self) -> NDArray[np.int64]:
        return self.split.targets[self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, rows: Rows) -> Batch:
        return self.split.batch(self.rows[rows])

    def raw(self, rows: Rows) -> list[Any]:
        return self.split.raw(self.rows[rows])


def _sample(split: Split, n: int) -> Split:
    """The same ones for every subnet, so that chance favours none."""
    return _Sample(split, np.sort(np.random.default_rng(0).permutation(len(split))[:n]))


def _untrained(model: nn.Module, examples: Examples) -> Tensor:
    raise NotImplementedError("a subnet is not trained")


def _shape(config: SubnetConfig) -> Shape:
    return Shape(**config.model_dump(include=set(Shape.model_fields)))


def _check(config: SubnetConfig, data: Data, found: Teacher, cache: Path) -> None:
    faults = []
    for check in (
        partial(teacher.check, found, config.task, data, cache),
        partial(elastic.shaped, found.architecture, _shape(config)),
    ):
        try:
            check()
        except ValueError as error:
            faults += str(error).splitlines()
    if faults:
        raise Infeasible("\n".join(faults))  # also at a second attempt


def _supernet(config: SubnetConfig, cache: Path) -> Teacher:
    return teacher.read(config.supernet, cache, "supernet")


@lru_cache(maxsize=1)
def _network(place: str, cache: Path, fingerprint: str) -> Classifier:
    """Kept for the next subnet in this process, as long as the folder holds the same."""
    return teacher.read(place, cache, "supernet").model


ROUTINE = Subnet
