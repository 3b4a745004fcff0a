"""What happens in an experiment, as the ledger keeps it.

A segment is one uninterrupted piece of a trial on Ray; every event belongs to one segment, except `Expired`.
Events are plain data: folding the recorded ones through a director gives its state back.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Config = dict[str, Any]
Metrics = dict[str, Any]
Verdict = Literal["continue", "stop"]
FailureKind = Literal["error", "infeasible", "diverged"]


@dataclass(frozen=True)
class Checkpoint:
    """Where a trial can go on: the folder, relative to the experiment's, and the epochs behind it."""

    path: str
    epochs: float


@dataclass(frozen=True)
class Segment:
    """One piece of work for Ray; `number` is unique in the experiment and names its folder."""

    number: int
    stage: str
    trial: int
    attempt: int
    config: Config
    epochs: float
    start: Checkpoint | None = None


@dataclass(frozen=True)
class Started:
    """A segment was handed out."""

    segment: Segment


@dataclass(frozen=True)
class Reported:
    """A segment reported: metrics at `epochs`, and the checkpoint written just before, if any.

    `seconds` is what the step took in the trial, `busy` the part of it spent in training and evaluation.
    """

    segment: int
    epochs: float
    metrics: Metrics
    checkpoint: str | None = None
    seconds: float = 0.0
    busy: float = 0.0


@dataclass(frozen=True)
class Failed:
    """A segment ended with a reason that lies in its own configuration or code: the trial is over."""

    segment: int
    kind: FailureKind
    reason: str
    trace: str = ""


@dataclass(frozen=True)
class Lost:
    """A segment's process or node went away; a retry goes on from the last checkpoint.

    `counted` is False where the trial is not to blame: the driver itself ended, or an idle actor had died.
    """

    segment: int
    reason: str
    counted: bool = True


@dataclass(frozen=True)
class Expired:
    """The time budget is used up: searches end, what they found is finished."""

    reason: str


Event = Started | Reported | Failed | Lost | Expired
_KINDS: dict[str, type[Event]] = {
    "started": Started,
    "reported": Reported,
    "failed": Failed,
    "lost": Lost,
    "expired": Expired,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def to_record(event: Event) -> dict[str, Any]:
    """The JSON-able ledger record of an event."""
    return {"event": _NAMES[type(event)], **asdict(event)}


def from_record(record: dict[str, Any]) -> Event | None:
    """The event of a ledger record; None for records of other kinds (headers, notes)."""
    kind = _KINDS.get(record["event"])
    if kind is None:
        return None
    values = {key: record[key] for key in kind.__dataclass_fields__}
    if kind is Started:
        values["segment"] = _segment(values["segment"])
    return kind(**values)


def _segment(values: dict[str, Any]) -> Segment:
    start = values["start"]
    return Segment(**{**values, "start": Checkpoint(**start) if start else None})
