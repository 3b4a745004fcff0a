"""The data of a task block, as every routine opens it."""

import os
from pathlib import Path
from typing import Any

import tasks
from tasks.task import Data
from trainables.parsing import parse


def prepare(task: dict[str, Any], cache: Path) -> Data:
    """The data of a task block: `name` and the task's own settings. ValueError with one line a fault."""
    found = tasks.load(task["name"])
    settings = {key: value for key, value in task.items() if key != "name"}
    return found.prepare(parse(found.Config, settings, "task"), cache)


def default_cache() -> Path:
    """Where prepared data sets are kept on a node: `FITFORMER_CACHE`, else the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    return Path(os.environ.get("FITFORMER_CACHE", str(Path(home) / "fitformer")))
