"""Preprocessed data on disk: one folder for each fingerprint, written once, whole, and never changed.

A file's content is hashed once; its hash is remembered by path, size and modification time, so that the thousand
trials that open the same data do not read it a thousand times.
"""

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

# Times of files tick slowly (2 s on some systems): a file this young may change again without a new time.
SETTLED_S = 3.0


def digest(path: Path, cache: Path) -> str:
    """SHA-256 of a file's content, in hex; from memory if the file has not changed since `remember`."""
    known = _recalled(path, cache)
    if known.get("state") == _state(path):
        return str(known["sha256"])
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remember(digests: Mapping[Path, str], cache: Path) -> None:
    """Keep what `digest` found, for the next process. Apart from it, since refused data must leave nothing behind."""
    for path, sha256 in digests.items():
        known = {"state": _state(path), "sha256": sha256}
        if time.time() - path.stat().st_mtime > SETTLED_S and _recalled(path, cache) != known:
            _replace(_memory(path, cache), json.dumps(known))


def fingerprint(parts: Mapping[str, Any]) -> str:
    """16 hex digits that stand for a JSON-able value."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def stored(folder: Path, build: Callable[[Path], None]) -> Path:
    """`folder`, filled by `build` unless it is there. Complete or absent, whoever else builds it meanwhile."""
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        build(unfinished)
        _sync(unfinished)
        unfinished.chmod(0o755)
        with suppress(OSError):  # the folder is there: another process was quicker, with the same content
            unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    if not folder.is_dir():
        raise OSError(f"the cache folder {folder} could not be put in place")
    return folder


def _state(path: Path) -> list[Any]:
    stat = path.stat()
    return [str(path.resolve()), stat.st_size, stat.st_mtime_ns]


def _memory(path: Path, cache: Path) -> Path:
    return cache / "hashes" / f"{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32]}.json"


def _recalled(path: Path, cache: Path) -> dict[str, Any]:
    try:
        known = json.loads(_memory(path, cache).read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}")
    unfinished.write_text(text)
    unfinished.replace(path)


def _sync(folder: Path) -> None:
    """To disk before the rename, lest a power cut leave a finished name on unfinished files."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
