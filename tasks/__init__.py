"""What a trial is scored on: data sources, preprocessing, batches, metrics. Knows nothing of Ray and of `models`.

A task is a module of this folder with one public name, `TASK` (see `tasks.task.Task`). Files are found, not
registered; a file of the user's own serves as well: `my_task.py:TASK`. Such files are code and run as code.
"""

import difflib
import hashlib
import importlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from tasks.task import Task

_FOLDER = Path(__file__).parent


def find() -> list[str]:
    """Names of the tasks here: modules with a `TASK`. Nothing is imported."""
    return sorted(path.stem for path in _FOLDER.glob("*.py") if re.search(r"^TASK\b", path.read_text(), re.M))


def load(name: str) -> "Task":
    """The task called `name`, or that of a user's own file: `file.py:TASK`. ValueError if there is none."""
    file, colon, attribute = name.rpartition(":")
    if colon and file.endswith(".py"):
        return cast("Task", _attribute(_module(Path(file)), attribute, name))
    if name not in find():
        raise ValueError(_unknown(name))
    return cast("Task", importlib.import_module(f"tasks.{name}").TASK)


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, find(), n=1)
    hint = f"did you mean {near[0]!r}?" if near else "your own is given as file.py:TASK."
    return f"task: {name!r} is unknown; there are {', '.join(find())}; {hint}"


def _module(file: Path) -> ModuleType:
    """The user's file as a module. One name a path, so that its classes stay the same on a second load."""
    if not file.is_file():
        raise ValueError(f"task: the file {file} does not exist; give the path of a Python file that has a task.")
    path = file.resolve()
    name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name not in sys.modules:
        sys.modules[name] = _run(name, path)
    return sys.modules[name]


def _run(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # pydantic looks a class's module up there while the file still runs
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _attribute(module: ModuleType, attribute: str, name: str) -> object:
    if not hasattr(module, attribute):
        public = ", ".join(sorted(key for key in vars(module) if not key.startswith("_")))
        raise ValueError(f"task: {name!r} has no {attribute!r}; the file defines {public or 'nothing'}.")
    return getattr(module, attribute)
