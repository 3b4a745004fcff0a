"""Search spaces: one module a space, each declaring `SPACE` in ConfigSpace's language. Declares; computes nothing.

`load("encoder")` or `load(["encoder", "my_space.py:SPACE"])` gives a `Space`: plain Python values, active parameters
only. A user's file is code and runs as code.
"""

import contextlib
import importlib
import importlib.util
import os
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ConfigSpace import ConfigurationSpace

from searchspaces import ray_domains, restriction
from searchspaces.restriction import SpaceError, first_line
from searchspaces.space import Space, nearest

__all__ = ["Space", "SpaceError", "find", "load"]

_FOLDER = Path(__file__).parent
_DECLARES = re.compile(r"^SPACE\b", re.MULTILINE)


def find() -> list[str]:
    """Names of the modules here that declare a `SPACE`."""
    return sorted(path.stem for path in _FOLDER.glob("*.py") if _DECLARES.search(path.read_text("utf-8")))


def load(names: str | Sequence[str]) -> Space:
    """The space of one name, or of several joined. A name is a module here, or `file.py:SPACE` of the user's own,
    found from the current folder: a ConfigurationSpace or a flat dict of `ray.tune` domains.

    Raises SpaceError: unknown names, parameters that two of the spaces share, a space without a legal point.
    """
    listed = [names] if isinstance(names, str) else list(names)
    if not listed:
        raise SpaceError([f"space must name at least one space; there are: {', '.join(find())}"])
    parts = _parts(listed)
    name = " + ".join(parts)
    try:
        return Space(restriction.joined(list(parts.values())), name)
    except SpaceError:
        raise
    except ValueError as error:  # a kind of parameter or clause that ConfigSpace cannot write down
        raise SpaceError([f"space {name} cannot be read: {first_line(error)}"]) from error


def _parts(names: Sequence[str]) -> dict[str, ConfigurationSpace]:
    parts: dict[str, ConfigurationSpace] = {}
    faults = [f"space {name!r} is named twice" for name, count in Counter(names).items() if count > 1]
    for name in names:
        try:
            parts[name] = _declared(name)
        except SpaceError as error:
            faults += error.faults
    if faults := faults + _clashes(parts):
        raise SpaceError(faults)
    return parts


def _clashes(parts: Mapping[str, ConfigurationSpace]) -> list[str]:
    owners: dict[str, list[str]] = {}
    for name, part in parts.items():
        for parameter in part:
            owners.setdefault(parameter, []).append(name)
    return [
        f"space: the parameter {parameter!r} is in {' and in '.join(found)}; take it out of one"
        for parameter, found in owners.items()
        if len(found) > 1
    ]


def _declared(name: str) -> ConfigurationSpace:
    declared = _object(name)
    if isinstance(declared, Mapping) and not isinstance(declared, ConfigurationSpace):
        return ray_domains.converted(declared, name)
    if not isinstance(declared, ConfigurationSpace):
        kind = type(declared).__name__
        raise SpaceError([f"space {name} must be a ConfigurationSpace or a dict of ray.tune domains, got {kind}"])
    return declared


def _object(name: str) -> Any:
    path, colon, attribute = name.rpartition(":")
    if name.endswith(".py"):
        raise SpaceError([f"space {name!r} must say which object of the file; did you mean '{name}:SPACE'?"])
    if not colon:
        return _built_in(name).SPACE
    module = _executed(Path(path), name)
    if not hasattr(module, attribute):
        raise SpaceError([f"space {name}: the file declares no {attribute!r}{nearest(attribute, vars(module))}"])
    return getattr(module, attribute)


def _built_in(name: str) -> ModuleType:
    if name not in find():
        near = nearest(name, find()) or f"; there are: {', '.join(find())}, or file.py:SPACE"
        raise SpaceError([f"space {name!r} does not exist{near}"])
    return importlib.import_module(f"searchspaces.{name}")


def _executed(path: Path, name: str) -> ModuleType:
    """The module of a user's file. What it prints goes to standard error: standard output is ours."""
    if path.suffix != ".py" or not os.path.isfile(path):  # Path.is_file raises for names that cannot be
        raise SpaceError([f"space {name!r}: there is no Python file {path} in {Path.cwd()}"])
    spec = importlib.util.spec_from_file_location(f"user_space_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the user's own code may raise anything
        raise SpaceError([f"space {name}: the file raises {type(error).__name__}: {first_line(error)}"]) from error
    return module
