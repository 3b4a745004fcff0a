"""The manifest of a folder: size and SHA-256 of each file, so that what came back is known to be what was written."""

import hashlib
import json
from pathlib import Path
from typing import Any

NAME = "manifest.json"


class Damaged(ValueError):  # noqa: N818
    """A folder that is missing, or not as it was written. One line."""


def write(folder: Path) -> int:
    """Describes the folder in a file of its own; the bytes of all others together."""
    files = {name: [path.stat().st_size, _hash(path)] for name, path in _files(folder).items()}
    (folder / NAME).write_text(json.dumps({"format_version": 1, "files": files}))
    return sum(path.stat().st_size for path in _files(folder).values())


def check(folder: Path) -> None:
    """Raises Damaged where the folder is not as its manifest says, or has none."""
    try:
        listed: dict[str, list[Any]] = json.loads((folder / NAME).read_text())["files"]
        there = _files(folder)
        for name, (size, digest) in listed.items():
            if name not in there:
                raise Damaged(f"{folder} is damaged: {name} is missing")
            if there[name].stat().st_size != size or _hash(there[name]) != digest:
                raise Damaged(f"{folder} is damaged: {name} is not what was written")
    except FileNotFoundError:
        raise Damaged(f"{folder} is missing, or was never whole") from None
    except Damaged:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise Damaged(f"{folder} is damaged: {NAME} cannot be read ({error})") from None


def _files(folder: Path) -> dict[str, Path]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path for path in paths if path != folder / NAME}


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
