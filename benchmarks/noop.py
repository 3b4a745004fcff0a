"""A routine that does nothing: what is left is the cost of running a trial at all."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from trainables.routine import Workspace


class Noop:
    """Three reports of a score that its one parameter decides."""

    class Config(BaseModel):
        """`height` is the score; `seed` comes with every trial."""

        model_config = ConfigDict(frozen=True, extra="forbid")
        height: float
        seed: int = 0

    def __init__(self, config: Config, workspace: Workspace) -> None:
        self._height = config.height
        self._epochs = 0

    def advance(self) -> dict[str, Any]:
        """One epoch of nothing."""
        self._epochs += 1
        return {"epochs": self._epochs, "score": self._height}

    def save(self, folder: Path) -> None:
        """The state is one number."""
        (folder / "epochs.txt").write_text(str(self._epochs))

    def load(self, folder: Path) -> None:
        """Goes on from there."""
        self._epochs = int((folder / "epochs.txt").read_text())


ROUTINE = Noop
