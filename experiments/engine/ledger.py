"""The durable record of an experiment: one checksummed JSON line an event, appended in the order decided.

On a disk, local or shared, it is one file: each record goes to the operating system at once, so the kill of a process
loses nothing, and is forced to disk at most a second later, or at `sync`, which comes before anything that cannot be
undone. A torn last line is what a crash leaves and is cut off; any other damage is refused by name. In an object store
it is segments, put at most every second (`segments.py`): a kill loses at most that second.
"""

import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from experiments.engine import chain, segments
from experiments.engine.chain import LedgerError, Record
from trainables.store import StorageError, Store, disk_error, force

__all__ = ["FILE", "Ledger", "LedgerError", "Record", "read"]

FILE = "ledger.jsonl"
# How far storage may lag behind, in seconds.
_LAG_S = 1.0


def read(store: Store | Path) -> list[Record]:
    """All records of a run's ledger, without opening it; empty where there is none. LedgerError where it is damaged.

    The torn last line of a crash is left out.
    """
    store = _store(store)
    if store.local is None:
        return segments.read(store)
    return _read(store.local / FILE)[0]


def _read(path: Path) -> tuple[list[Record], int, int]:
    """Records, the chain's state after them, and their bytes."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return [], 0, 0
    except OSError as error:
        raise disk_error(f"{path} could not be read", error) from None
    records, state, torn = chain.decode(str(path), data)
    return records, state, len(data) - len(torn)


def _store(store: Store | Path) -> Store:
    return Store(store) if isinstance(store, Path) else store


class Medium(Protocol):
    """Where the lines go; `records` are those it held when it was opened."""

    records: list[Record]

    def append(self, content: bytes) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...


class Ledger:
    """Appends to a run's ledger. Opening it writes nothing.

    A storage that failed once is not trusted again: StorageError then, and at each later append. `worst_lag`: the most
    seconds that a record had to wait until it was durable.
    """

    def __init__(self, store: Store | Path) -> None:
        self.store = _store(store)
        local = self.store.local
        self._medium: Medium = segments.Segments(self.store) if local is None else _File(local / FILE)
        self.records = self._medium.records
        self._fault = ""
        self._oldest: float | None = None
        self._flushed: float | None = None
        self.worst_lag = 0.0
        self._flushing = threading.Lock()
        self._waiting: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._dirty = threading.Event()
        self._closed = threading.Event()
        self._flusher = threading.Thread(target=self._flush, name="ledger", daemon=True)
        self._flusher.start()

    @property
    def lag(self) -> float:
        """Seconds since the oldest record that is not durable yet; 0 where all are."""
        since = self._flushed or self._oldest
        return time.monotonic() - since if since else 0.0

    def append(self, record: Record) -> None:
        """Takes one record, which is durable about a second later."""
        self._trusted(lambda: self._medium.append(chain.text(record)))
        self._oldest = self._oldest or time.monotonic()
        self._dirty.set()

    def sync(self) -> None:
        """Returns when everything appended so far is durable."""
        with self._flushing:
            self._dirty.clear()
            due = [self._waiting.get() for _ in range(self._waiting.qsize())]
            self._flushed, self._oldest = self._oldest, None
            self._trusted(self._medium.flush)
            self.worst_lag = max(self.worst_lag, self.lag)
            self._flushed = None
        for action in due:
            action()

    def when_durable(self, action: Callable[[], None]) -> None:
        """Runs `action`, such as deleting a checkpoint, once everything appended before this call is durable."""
        self._waiting.put(action)
        self._dirty.set()

    def close(self) -> None:
        """Makes the rest durable and lets go."""
        self._closed.set()
        self._dirty.set()
        self._flusher.join()
        try:
            self.sync()
        finally:
            self._medium.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except StorageError:
            if error is None:  # else it is what the storage's failure has led to
                raise

    def _trusted(self, action: Callable[[], None]) -> None:
        if self._fault:
            raise StorageError(self._fault)
        try:
            action()
        except StorageError as error:
            self._fault = str(error)
            raise

    def _flush(self) -> None:
        while not self._closed.is_set():
            self._dirty.wait()
            if self._closed.wait(_LAG_S):
                return
            try:
                self.sync()
            except StorageError:  # kept, and raised by the next append
                return


class _File:
    """One file, which is made, and rid of a torn line, by the first append."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.records, self._state, self._good = _read(path)
        self._descriptor: int | None = None

    def append(self, content: bytes) -> None:
        line, self._state = chain.encode(content, self._state)
        try:
            if self._descriptor is None:
                self._descriptor = self._open()
            while line:
                line = line[os.write(self._descriptor, line) :]
        except OSError as error:
            raise disk_error(f"{self._path} could not be written", error) from None

    def _open(self) -> int:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        os.ftruncate(descriptor, self._good)
        force(self._path.parent)
        return descriptor

    def flush(self) -> None:
        if self._descriptor is None:
            return
        try:
            os.fsync(self._descriptor)
            gone = os.fstat(self._descriptor).st_nlink == 0
        except OSError as error:
            raise disk_error(f"{self._path} could not be written", error) from None
        if gone:
            raise StorageError(f"storage: {self._path} was deleted while the run went on; start another with --new")

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
