"""A routine that writes down every epoch it trained, so that what a fault cost can be counted; and its space.

It is the ordinary training of a tiny encoder. Only its score is made up, height * (1 - 0.5 ** epochs), so that every
contestant meets the same curves. Each line of `log` is one epoch: height, pid, born (when its process took the trial
up), epoch, score, at.
"""

import json
import math
import os
import time
from pathlib import Path
from typing import Any

from ConfigSpace import ConfigurationSpace
from ConfigSpace.hyperparameters import UniformFloatHyperparameter
from pydantic import Field

from trainables.routine import Workspace
from trainables.train import Train, TrainConfig


class CountingConfig(TrainConfig):
    """What an ordinary training is told, and how this one is counted."""

    height: float = Field(description="what the score approaches")
    log: str = Field(description="where epochs are written down")
    seconds: float = Field(default=0.0, ge=0, description="an epoch takes so much longer")
    diverges: dict[str, int] = Field(default={}, description="height, as text: the epoch from which it reports NaN")


class Counting(Train):
    """Trains, sleeps, writes the epoch down."""

    Config: type[TrainConfig] = CountingConfig

    def __init__(self, config: CountingConfig, workspace: Workspace) -> None:
        super().__init__(config, workspace)
        self._settings, self._born = config, time.time()

    def advance(self) -> dict[str, Any]:
        """The ordinary report with another score."""
        report, settings = super().advance(), self._settings
        time.sleep(settings.seconds)
        epoch = int(report["epochs"])
        score = settings.height * (1 - 0.5**epoch)
        if epoch >= settings.diverges.get(f"{settings.height:g}", math.inf):
            score = math.nan
        line = {"height": settings.height, "pid": os.getpid(), "born": self._born, "epoch": epoch, "score": score}
        with Path(settings.log).open("a") as log:
            log.write(json.dumps({**line, "at": time.time()}) + "\n")
        return {**report, "epochs": epoch, "val_accuracy": score}


ROUTINE = Counting
SPACE = ConfigurationSpace(name="counting")
SPACE.add(UniformFloatHyperparameter("height", 0.0, 1.0, default_value=0.5))
