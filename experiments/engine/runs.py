"""The folders runs lie in: `<storage>/<name>-<date>-<4 hex>`, each with its ledger."""

import datetime
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from experiments.engine import ledger

LEDGER = "ledger.jsonl"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*-\d{8}-[0-9a-f]{4}")


@dataclass(frozen=True)
class Run:
    """One run on disk; `header` is the ledger's first record: spec, fingerprint, versions."""

    folder: Path
    records: list[dict[str, Any]]

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def header(self) -> dict[str, Any]:
        """What was opened: experiment, spec, fingerprint, versions, when."""
        return self.records[0]

    @property
    def finished(self) -> bool:
        """Whether it came to its end."""
        return bool(self.records[-1]["event"] == "finished")


def storage_folder(storage: str | None) -> Path:
    """The folder that `--storage` names: a path, or a file:// URI. Absolute.

    Raises ValueError for other URIs and for a place that cannot be written to.
    """
    text = storage or default_storage()
    parsed = urlparse(text)
    if parsed.scheme and parsed.scheme != "file":
        raise ValueError(
            f"storage {text!r} must be a local or shared folder, as a path or file:// URI; "
            f"{parsed.scheme}:// is not supported"
        )
    folder = Path(unquote(parsed.path) if parsed.scheme else text).expanduser().absolute()
    fault = _unwritable(folder)
    if fault:
        raise ValueError(f"storage {text!r} {fault}; choose another with --storage")
    return folder


def default_storage() -> str:
    """`results` here; within a Ray job, whose own folder is removed, in the user's home on the head node."""
    return str(Path.home() / "fitformer-results") if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ else "results"


def _unwritable(folder: Path) -> str:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir():
        return f"must be a folder, but {there} is a file"
    try:
        probe = there / f".fitformer-{secrets.token_hex(4)}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        return f"must be writable, but {there} is not ({error.strerror})"
    return ""


def create(storage: Path, name: str) -> Path:
    """A new, empty run folder."""
    date = datetime.datetime.now(tz=datetime.UTC).strftime("%Y%m%d")
    folder = storage / f"{name}-{date}-{secrets.token_hex(2)}"
    folder.mkdir(parents=True)
    return folder


def every(storage: Path) -> Iterator[Run]:
    """The runs under a storage folder, newest first. Folders of other kinds are passed over."""
    folders = [path for path in storage.glob("*") if _NAME.fullmatch(path.name) and (path / LEDGER).is_file()]
    for folder in sorted(folders, key=lambda path: (path / LEDGER).stat().st_mtime, reverse=True):
        records = ledger.read(folder / LEDGER)
        if records:
            yield Run(folder, records)


def find(storage: Path, name: str | None) -> Run:
    """The run called `name` (or the folder at that path), or the newest one."""
    if name is not None and (Path(name) / LEDGER).is_file():
        return Run(Path(name).absolute(), ledger.read(Path(name) / LEDGER))
    for run in every(storage):
        if name in (None, run.name):
            return run
    there = ", ".join(run.name for run in every(storage)) or "none"
    what = f"run {name!r} does not exist" if name else "there is no run yet"
    raise ValueError(f"{what} under {storage} (there: {there}); see `runs`")


def unfinished(storage: Path, fingerprint: str) -> Run | None:
    """The newest run of equal fingerprint that did not come to its end."""
    runs = (run for run in every(storage) if run.header["fingerprint"] == fingerprint)
    return next((run for run in runs if not run.finished), None)


def delete(run: Run) -> None:
    """Removes a run's folder. Symbolic links are removed, never followed."""
    shutil.rmtree(run.folder)
