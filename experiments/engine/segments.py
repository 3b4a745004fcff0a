"""A ledger in an object store: immutable numbered segments, `ledger/<generation>-<number>-<writer>.jsonl`.

Every time it is opened a new generation begins, whose first segment holds all records so far. So the newest generation
is the ledger: whatever a writer that had lost its lease still wrote after that is in an older one. A segment's first
line says what its name says, and its checksum goes on from the segment before.
"""

import queue
import re
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from experiments.engine import chain
from experiments.engine.chain import WAY_OUT, LedgerError, Record
from trainables.store import Store

FOLDER = "ledger"
# A store that fails is tried again for so many seconds, while records wait.
_PATIENCE_S = 600.0
_READERS = 16
_NAME = re.compile(rf"{FOLDER}/(\d{{5}})-(\d{{7}})-([0-9a-f]{{8}})\.jsonl")


class _Segment(NamedTuple):
    generation: int
    number: int
    writer: str

    @property
    def name(self) -> str:
        return f"{FOLDER}/{self.generation:05d}-{self.number:07d}-{self.writer}.jsonl"

    def header(self) -> Record:
        return {"segment": self._asdict()}


class Segments:
    """Collects records, and puts them as one segment at each flush."""

    def __init__(self, store: Store) -> None:
        self.records, before = _read(store)
        self._store = Store(store.uri, patience=_PATIENCE_S)
        self._next = _Segment(before + 1, 0, secrets.token_hex(4))
        self._state = 0
        self._waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def append(self, content: bytes) -> None:
        """Waits for the next flush."""
        self._waiting.put(content)

    def flush(self) -> None:
        """One put of all that waits; returns when the store has it."""
        contents = [self._waiting.get() for _ in range(self._waiting.qsize())]
        if not contents:
            return
        if self._next.number == 0:
            contents = [*map(chain.text, self.records), *contents]
        lines = []
        for content in (chain.text(self._next.header()), *contents):
            line, self._state = chain.encode(content, self._state)
            lines.append(line)
        self._store.write(self._next.name, b"".join(lines))
        self._next = self._next._replace(number=self._next.number + 1)

    def close(self) -> None:
        """Nothing is held open."""


def read(store: Store) -> list[Record]:
    """All records; empty where there is no ledger. Raises LedgerError for a gap, a fork or a damaged segment."""
    return _read(store)[0]


def _read(store: Store) -> tuple[list[Record], int]:
    segments = _newest(store)
    records: list[Record] = []
    state = 0
    with ThreadPoolExecutor(_READERS) as pool:
        contents = pool.map(store.read, [segment.name for segment in segments])
        for segment, data in zip(segments, contents, strict=True):
            where = f"{store.shown}/{segment.name}"
            try:
                (header, *found), state, torn = chain.decode(where, data, state)
            except LedgerError as error:
                error.records = [*records, *error.records[1:]]
                raise
            except ValueError:
                header, found, torn = {}, [], b"empty"
            if torn or header != segment.header():
                raise LedgerError(f"{where} is damaged (it is cut short, or another's); {WAY_OUT}", records)
            records += found
    return records, segments[0].generation if segments else 0


def _newest(store: Store) -> list[_Segment]:
    """The segments of the newest generation, in order; it has no gap and one writer."""
    matches = [match for name in store.names(FOLDER) if (match := _NAME.fullmatch(name))]
    there = sorted(_Segment(int(m[1]), int(m[2]), m[3]) for m in matches)
    mine = [segment for segment in there if segment.generation == there[-1].generation]
    writers = sorted({segment.writer for segment in mine})
    if len(writers) > 1:
        two = f"generation {mine[0].generation} has writers {', '.join(writers)}"
        raise LedgerError(f"{store.shown}/{FOLDER}: {two}; {WAY_OUT}")
    for number, segment in enumerate(mine):
        if segment.number != number:
            missing = segment._replace(number=number)
            raise LedgerError(f"{store.shown}/{missing.name} is missing; {WAY_OUT}")
    return mine
