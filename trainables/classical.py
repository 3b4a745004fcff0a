"""The classical baseline of a task (house §3.10): fitted once, so that a search has to prove its worth."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

import tasks
from trainables.data import prepare
from trainables.routine import Workspace


class ClassicalConfig(BaseModel):
    """Which task."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    task: dict[str, Any] = Field(description="name of a task, and that task's own settings")
    seed: int = Field(default=0, ge=0)


class Classical:
    """One step: fit, and score on validation and test."""

    Config = ClassicalConfig

    def __init__(self, config: ClassicalConfig, workspace: Workspace) -> None:
        self._task = tasks.load(config.task["name"])
        self._data = prepare(config.task, workspace.cache)

    def advance(self) -> dict[str, Any]:
        """name, validation metrics, test intervals."""
        return {"epochs": 1, **self._task.classical(self._data)}

    def save(self, folder: Path) -> None:
        """Nothing outlasts the one step."""

    def load(self, folder: Path) -> None:
        """Nothing outlasts the one step."""


ROUTINE = Classical
