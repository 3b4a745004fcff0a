"""The lines of a ledger: eight hexadecimal digits of a checksum, a space, a record as JSON.

Each line's CRC-32 starts from that of the line before, so a missing, swapped or repeated line is found as well as a
flipped byte.
"""

import json
import zlib
from typing import Any

Record = dict[str, Any]
WAY_OUT = "restore it from a copy, or start another run with --new"


class LedgerError(ValueError):
    """A ledger that cannot be trusted; `records` are those before the damage."""

    def __init__(self, message: str, records: list[Record] | None = None) -> None:
        super().__init__(message)
        self.records = records or []


def text(record: Record) -> bytes:
    """A record as JSON. NaN and infinities are kept as JSON's extensions."""
    return json.dumps(record, separators=(",", ":")).encode()


def encode(content: bytes, before: int) -> tuple[bytes, int]:
    """A line, and the chain's state after it; `before` is that of the line before, 0 for the first."""
    state = zlib.crc32(content, before)
    return b"%08x %s\n" % (state, content), state


def decode(where: str, data: bytes, before: int = 0) -> tuple[list[Record], int, bytes]:
    """Records, the chain's state after them, and what follows the last newline (a torn line, if anything).

    Raises LedgerError naming `where` and the first damaged line.
    """
    records: list[Record] = []
    *lines, torn = data.split(b"\n")
    for number, line in enumerate(lines, start=1):
        state = zlib.crc32(line[9:], before)
        record = _record(line[9:]) if line[:9] == b"%08x " % state else None
        if record is None:
            raise LedgerError(f"{where}: line {number} is damaged (its checksum does not match); {WAY_OUT}", records)
        records.append(record)
        before = state
    return records, before, torn


def _record(content: bytes) -> Record | None:
    try:
        record = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
