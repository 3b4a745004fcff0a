"""What earlier stages hand to a segment: checkpoints, on this machine for as long as the next segments want them."""

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainables.routine import Workspace


class Handed:
    """The checkpoints of one process. From an object store each is fetched once, however many segments take it."""

    def __init__(self) -> None:
        self._room: Path | None = None
        self._fetched: dict[str, Path] = {}

    def places(self, references: Mapping[str, str], here: Workspace) -> dict[str, str]:
        """Where the checkpoints lie, by reference. references: their paths in the run's folder.

        Those that are no longer wanted go. Raises manifest.Damaged.
        """
        if here.store is None:
            return {name: str(here.fetch(path)) for name, path in references.items()}
        self._room = self._room or Path(tempfile.mkdtemp(prefix="fitformer-"))
        for path in self._fetched.keys() - set(references.values()):
            shutil.rmtree(self._fetched.pop(path), ignore_errors=True)
        there = replace(here, folder=self._room)
        for path in set(references.values()) - self._fetched.keys():
            self._fetched[path] = there.fetch(path)
        return {name: str(self._fetched[path]) for name, path in references.items()}

    def clear(self) -> None:
        """Frees the disk."""
        if self._room is not None:
            shutil.rmtree(self._room, ignore_errors=True)
        self._room, self._fetched = None, {}


def with_paths(values: Any, places: Mapping[str, str]) -> Any:
    """Plain values, with paths in place of the references."""
    if isinstance(values, str):
        return places.get(values, values)
    if isinstance(values, Mapping):
        return {name: with_paths(value, places) for name, value in values.items()}
    return [with_paths(value, places) for value in values] if isinstance(values, list | tuple) else values
