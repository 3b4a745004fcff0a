"""How much of the slots' time went into training and evaluation while there was work to hand out."""

from collections.abc import Sequence
from typing import Any

Record = dict[str, Any]


def occupancy(records: Sequence[Record], searches: Sequence[str]) -> float | None:
    """Busy share of the slots from the first segment of a search to its last, when a slot that is free could have one.

    A report's busy seconds end when it arrived, so what Ray and the driver take shows as idle. None where nothing
    can be said: no search, no slots recorded, or a run in several sessions.
    """
    sessions = [record for record in records if record["event"] == "session"]
    started = [r["at"] for r in records if r["event"] == "started" and r["segment"]["stage"] in searches]
    if len(sessions) != 1 or len(started) < 2:
        return None
    begin, end = started[0], started[-1]
    reported = [record for record in records if record["event"] == "reported"]
    busy = sum(max(0.0, min(r["at"], end) - max(r["at"] - r["busy"], begin)) for r in reported)
    whole = float(sessions[0]["slots"]) * (end - begin)
    return busy / whole if whole > 0 else None
