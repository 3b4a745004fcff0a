"""The folders runs lie in: `<storage>/<name>-<date>-<4 hex>`, each with its ledger."""

import datetime
import math
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.engine import ledger
from experiments.engine.chain import WAY_OUT
from experiments.engine.ledger import LedgerError, Record
from trainables.store import StorageError, Store

_NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)-\d{8}-[0-9a-f]{4}")
# How long an object store is asked before it counts as out of reach, in seconds.
_PROBE_S = 5.0


@dataclass(frozen=True)
class Run:
    """One run; where its ledger is damaged, `fault` says how and `records` are those before the damage."""

    store: Store
    records: list[Record]
    fault: str = ""

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.store.name

    @property
    def experiment(self) -> str:
        """The name of the experiment it is a run of."""
        match = _NAME.fullmatch(self.name)
        return str(self.records[0]["spec"]["name"]) if self.records else match[1] if match else self.name

    @property
    def header(self) -> dict[str, Any]:
        """What was opened (spec, fingerprint, versions, when), with the newest spec and fingerprint."""
        newer = [record for record in self.records[1:] if record.get("event") in ("accepted", "resumed")]
        changed: Record = {key: record[key] for record in newer for key in ("spec", "fingerprint") if key in record}
        return {**self.records[0], **changed}

    @property
    def spec(self) -> dict[str, Any]:
        """The newest spec, resolved."""
        found: dict[str, Any] = self.header["spec"]
        return found

    @property
    def finished(self) -> bool:
        """Whether it came to its end."""
        return bool(self.records and self.records[-1].get("event") == "finished")

    @property
    def at(self) -> float:
        """The moment of its last record, which a copied or touched folder keeps; of a damaged run the last known."""
        at = self.records[-1].get("at", 0.0) if self.records else math.inf
        return float(at) if isinstance(at, int | float) else math.inf


def storage(text: str | None) -> Store:
    """What `--storage` names: a path, a file:// URI, or one of an object store. There it can be written.

    Raises ValueError for what names no folder, and for a place that cannot be written to.
    """
    found = Store(text or default_storage())
    fault = _unreachable(found) if found.local is None else _unwritable(found.local)
    if fault:
        raise ValueError(f"storage {found.shown!r} {fault}; choose another with --storage")
    return found


def default_storage() -> str:
    """`results` here; within a Ray job, whose own folder is removed, in the user's home on the head node."""
    return str(Path.home() / "fitformer-results") if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ else "results"


def _unwritable(folder: Path) -> str:
    try:
        folder.lstat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:  # too long, or with a zero byte
        return f"must be a path that can be, but is not ({getattr(error, 'strerror', None) or error})"
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


def _unreachable(place: Store) -> str:
    probe = f".fitformer-{secrets.token_hex(4)}"
    quick = Store(place.uri, patience=_PROBE_S)
    try:
        quick.write(probe, b"")
        quick.delete(probe)
    except StorageError as error:
        return f"must be writable, but is not ({str(error).partition(' (')[2].rpartition(');')[0]})"
    return ""


def create(place: Store | Path, name: str) -> Store:
    """A new, empty run folder."""
    date = datetime.datetime.now(tz=datetime.UTC).strftime("%Y%m%d")
    folder = _store(place) / f"{name}-{date}-{secrets.token_hex(2)}"
    if folder.local is not None:
        folder.local.mkdir(parents=True)
    return folder


def load(store: Store | Path) -> Run | None:
    """The run in a folder; None where there is none, or one killed before its first record."""
    store = _store(store)
    try:
        records, fault = ledger.read(store), ""
    except LedgerError as error:
        records, fault = error.records, str(error)
    if not records and not fault:
        if "trials" not in store.folders():
            return None
        fault = f"{store.shown}: the ledger is empty or missing, but there are trials; {WAY_OUT}"
    if records and not _opened(records[0]):
        records, fault = [], fault or f"{store.shown}: the ledger does not begin with what was opened; {WAY_OUT}"
    return Run(store, records, fault)


def _opened(record: Record) -> bool:
    return record.get("event") == "opened" and isinstance(record.get("spec"), dict) and "name" in record["spec"]


def every(place: Store | Path) -> Iterator[Run]:
    """The runs under a storage, the one used last first, damaged ones too. Folders of other kinds are passed over."""
    place = _store(place)
    loaded = [load(place / name) for name in place.folders() if _NAME.fullmatch(name)]
    yield from sorted((run for run in loaded if run), key=lambda run: run.at, reverse=True)


def find(place: Store | Path, name: str | None, *, damaged: bool = False) -> Run:
    """The run called `name` (or the folder at that path or URI), or the newest one.

    Raises ValueError where there is none, LedgerError where its ledger is damaged and that is not asked for.
    """
    place = _store(place)
    run = _named(place, name) if name else next((run for run in every(place) if not run.fault), None)
    if run is None and name is None:
        run = next(every(place), None)  # damaged, then
    if run is None:
        there = ", ".join(run.name for run in every(place))
        what = f"run {name!r} does not exist" if name else "there is no run yet"
        raise ValueError(f"{what} under {place.shown}" + (f"; there are {there}" if there else ""))
    return run if damaged else _sound(run)


def _named(place: Store, name: str) -> Run | None:
    if _NAME.fullmatch(name) and name in place.folders():
        return load(place / name)
    try:
        return load(Store(name)) if "/" in name else None
    except ValueError:
        return None


def unfinished(place: Store | Path, experiment: str) -> Run | None:
    """The newest run of that experiment that did not come to its end.

    Raises LedgerError where that one's ledger is damaged.
    """
    runs = (run for run in every(place) if run.experiment == experiment)
    found = next((run for run in runs if run.fault or not run.finished), None)
    return _sound(found) if found else None


def _sound(run: Run) -> Run:
    if run.fault:
        raise LedgerError(run.fault, run.records)
    return run


def delete(run: Run) -> None:
    """Removes a run's folder. Symbolic links are removed, never followed."""
    run.store.parent.delete(run.name)


def _store(place: Store | Path) -> Store:
    return place if isinstance(place, Store) else Store(place)
