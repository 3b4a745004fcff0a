"""One point of a stage's search, and all that is known of it."""

from dataclasses import dataclass, field
from typing import Literal

from experiments.engine.events import Checkpoint, Config, FailureKind, LossKind, Metrics, Reported

Status = Literal[
    "running", "paused", "completed", "stopped", "error", "infeasible", "diverged", "lost", "cancelled", "expired"
]
Key = tuple[str, int]

_COUNTED = ("process", "node", "hung", "storage")


@dataclass(frozen=True)
class Failure:
    """How one attempt at a trial ended early: its number from 0 on, why, the traceback's last lines, the host."""

    attempt: int
    kind: FailureKind | LossKind
    reason: str
    trace: str = ""
    node: str = ""


@dataclass
class Trial:
    """One point of a stage's search, and all that is known of it."""

    stage: str
    number: int
    config: Config
    status: Status = "running"
    reason: str = ""
    attempts: int = 1
    failures: list[Failure] = field(default_factory=list)
    reports: list[Reported] = field(default_factory=list)
    checkpoint: Checkpoint | None = None

    @property
    def id(self) -> str:
        """Its name in folders and reports."""
        return f"{self.stage}-{self.number:03d}"

    @property
    def epochs(self) -> float:
        """Epochs reported so far."""
        return self.reports[-1].epochs if self.reports else 0.0

    @property
    def metrics(self) -> Metrics:
        """Its last reported metrics."""
        return self.reports[-1].metrics if self.reports else {}

    @property
    def failed(self) -> bool:
        """Whether it ended without a result to rank."""
        return self.status in ("error", "infeasible", "diverged", "lost", "cancelled")

    @property
    def ended(self) -> bool:
        """Whether it neither runs nor may go on."""
        return self.status not in ("running", "paused")

    @property
    def losses(self) -> int:
        """How many of its failures count against it."""
        return sum(failure.kind in _COUNTED for failure in self.failures)

    @property
    def crowded(self) -> bool:
        """Whether it took more memory than there was beside others, so that it has to run alone."""
        return self.status == "running" and any(failure.kind == "memory" for failure in self.failures)
