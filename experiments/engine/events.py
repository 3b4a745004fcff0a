"""What happens in an experiment, as the ledger keeps it.

A segment is one uninterrupted piece of a trial on Ray; every event belongs to one segment, except `Cancelled` (of a
trial), `Expired` (of all) and `Extended` (of a stage).
Events are plain data: folding the recorded ones through a director gives its state back.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Config = dict[str, Any]
Metrics = dict[str, Any]
Verdict = Literal["continue", "stop", "pause"]
FailureKind = Literal["error", "infeasible", "diverged"]
LossKind = Literal["process", "memory", "node", "preempted", "hung", "storage", "driver", "time"]


@dataclass(frozen=True)
class Checkpoint:
    """Where a trial can go on: the folder, relative to the experiment's, and the epochs behind it."""

    path: str
    epochs: float


@dataclass(frozen=True)
class Segment:
    """One piece of work for Ray; `number` is unique in the experiment and names its folder.

    `refused` are the configurations passed over on the way to this one: a constraint breaks whatever they train to.
    """

    number: int
    stage: str
    trial: int
    attempt: int
    config: Config
    epochs: float
    start: Checkpoint | None = None
    refused: tuple[Config, ...] = ()


@dataclass(frozen=True)
class Started:
    """A segment was handed out."""

    segment: Segment


@dataclass(frozen=True)
class Reported:
    """A segment reported: metrics at `epochs`, and the checkpoint written just before, if any.

    `seconds` is what the step took in the trial, `busy` the part of it spent in training and evaluation; `node` names
    the host it ran on; `size` is the checkpoint's, in bytes.
    """

    segment: int
    epochs: float
    metrics: Metrics
    checkpoint: str | None = None
    seconds: float = 0.0
    busy: float = 0.0
    node: str = ""
    size: int = 0


@dataclass(frozen=True)
class Failed:
    """A segment ended with a reason that lies in its own configuration or code: the trial is over.

    error: the code raised; infeasible: there was not enough memory; diverged: an objective is no finite number.
    `trace` holds the last lines of the traceback.
    """

    segment: int
    kind: FailureKind
    reason: str
    trace: str = ""
    node: str = ""


@dataclass(frozen=True)
class Lost:
    """A segment came to its end from outside; as a rule a retry goes on from the last checkpoint.

    Counted against the trial: process (ended by itself), node, hung (no report for too long), storage (a checkpoint
    could not be read or written). Not counted: preempted (the node was announced to go), driver (it ended itself).
    memory: Ray ended the process as the node ran out of it; tried once more, alone. time: the budget is used up, no
    retry. `checkpoint` False: what the segment began from is no good, so the retry begins anew.
    """

    segment: int
    kind: LossKind
    reason: str
    node: str = ""
    checkpoint: bool = True


@dataclass(frozen=True)
class Cancelled:
    """The user ended a trial."""

    stage: str
    trial: int
    reason: str


@dataclass(frozen=True)
class Expired:
    """The time budget is used up: searches end, what they found is finished. `final`: that has to end, too."""

    reason: str
    final: bool = False


@dataclass(frozen=True)
class Extended:
    """What had come to its end goes on with more trials of a stage; what comes after that stage is planned anew."""

    stage: str
    trials: int


Event = Started | Reported | Failed | Lost | Cancelled | Expired | Extended
_KINDS: dict[str, type[Event]] = {
    "started": Started,
    "reported": Reported,
    "failed": Failed,
    "lost": Lost,
    "cancelled": Cancelled,
    "expired": Expired,
    "extended": Extended,
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
    values = {key: record[key] for key in kind.__dataclass_fields__ if key in record}
    if kind is Started:
        values["segment"] = _segment(values["segment"])
    return kind(**values)


def _segment(values: dict[str, Any]) -> Segment:
    start = values["start"]
    refused = tuple(values.get("refused", ()))
    return Segment(**{**values, "start": Checkpoint(**start) if start else None, "refused": refused})
