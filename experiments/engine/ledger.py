"""The durable record of an experiment: one checksummed JSON line an event, appended in the order decided.

A line is eight hexadecimal digits of CRC-32, a space, the JSON text. Each record goes to the operating system at
once, so the kill of a process loses nothing; it is forced to disk at most a second later, or at `sync`, which comes
before anything that cannot be undone. A torn last line is what a crash leaves and is cut off; any other damage is
refused by name.
"""

import json
import os
import queue
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

Record = dict[str, Any]

# How far the disk may lag behind, in seconds.
_LAG_S = 1.0


class LedgerError(ValueError):
    """A ledger that cannot be trusted."""


def read(path: Path) -> list[Record]:
    """All records of a ledger; the torn last line of a crash is left out.

    Raises LedgerError naming the first damaged line.
    """
    return _parse(path, path.read_bytes())[0]


def _parse(path: Path, data: bytes) -> tuple[list[Record], int]:
    records, good = [], 0
    lines = data.splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        record = _decode(line)
        if record is None and number == len(lines) and not line.endswith(b"\n"):
            break
        if record is None:
            raise LedgerError(f"{path}: line {number} is damaged (checksum does not match); restore it from a copy")
        records.append(record)
        good += len(line)
    return records, good


def _decode(line: bytes) -> Record | None:
    text = line[9:].rstrip(b"\n")
    if not line.endswith(b"\n") or line[:9] != _checksum(text) + b" ":
        return None
    record: Record = json.loads(text)
    return record


def _checksum(text: bytes) -> bytes:
    return b"%08x" % zlib.crc32(text)


class Ledger:
    """Appends to a ledger file. Reopening one cuts the torn line a crash may have left."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[Record] = []
        if path.exists():
            data = path.read_bytes()
            self.records, good = _parse(path, data)
            if good < len(data):
                os.truncate(path, good)
        self._file = path.open("ab", buffering=0)
        self._waiting: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._dirty = threading.Event()
        self._closed = threading.Event()
        self._flusher = threading.Thread(target=self._flush, name="ledger", daemon=True)
        self._flusher.start()

    def append(self, record: Record) -> None:
        """Hands one record to the operating system. NaN and infinities are kept as JSON's extensions."""
        text = json.dumps(record, separators=(",", ":")).encode()
        self._file.write(_checksum(text) + b" " + text + b"\n")
        self._dirty.set()

    def sync(self) -> None:
        """Returns when everything appended so far is on disk."""
        self._dirty.clear()
        due = [self._waiting.get() for _ in range(self._waiting.qsize())]
        os.fsync(self._file.fileno())
        for action in due:
            action()

    def when_durable(self, action: Callable[[], None]) -> None:
        """Runs `action`, such as deleting a checkpoint, once everything appended before this call is on disk."""
        self._waiting.put(action)
        self._dirty.set()

    def close(self) -> None:
        """Forces the rest to disk and lets go of the file."""
        self._closed.set()
        self._dirty.set()
        self._flusher.join()
        self.sync()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _flush(self) -> None:
        while not self._closed.is_set():
            self._dirty.wait()
            if self._closed.wait(_LAG_S):
                return
            self.sync()
