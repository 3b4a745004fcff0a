"""An experiment's state read from its ledger alone: neither data nor spaces nor strategies are needed."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from experiments.engine.chain import WAY_OUT, LedgerError
from experiments.engine.director import Director, Stage
from experiments.engine.events import Config, Metrics, Verdict, from_record
from experiments.engine.frontier import watched
from experiments.engine.strategies import Proposal, Signal


class Past:
    """Proposes nothing and judges nothing: what was decided is recorded."""

    def ask(self) -> Proposal | Signal:
        """Nothing more: this is the past."""
        return "done"

    def refused(self, config: Config) -> None:
        """As recorded."""

    def started(self, trial: int, config: Config) -> None:
        """As recorded."""

    def reported(self, trial: int, epochs: float, metrics: Metrics) -> Verdict:
        """As recorded."""
        return "continue"

    def paused(self, trial: int) -> None:
        """As recorded."""

    def dropped(self) -> Sequence[int]:
        """Not known from the past."""
        return ()

    def ended(self, trial: int, failed: bool) -> None:
        """As recorded."""


def fold(records: list[dict[str, Any]]) -> Director:
    """The director as it was after the last of the records; the first is the header. LedgerError as `follow`."""
    with understood("the ledger"):
        director = Director(list(_stages(records)))
    for number, record in enumerate(records, start=1):
        follow(director, number, record)
    if records[-1]["event"] == "finished":
        director.drop_paused()
    return director


@contextlib.contextmanager
def understood(what: str) -> Iterator[None]:
    """Raises LedgerError where what the ledger says, though undamaged, makes no sense to this code."""
    try:
        yield
    except LedgerError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError, StopIteration) as error:
        raise LedgerError(f"{what} cannot be followed ({error!r}): other code wrote it; {WAY_OUT}") from error


def follow(director: Director, number: int, record: dict[str, Any]) -> Verdict | None:
    """Tells the director what the ledger's record of this number says; the verdict it would give, None without event.

    Raises LedgerError for a record that this code does not write, or that cannot come after those before it.
    """
    with understood(f"record {number} of the ledger"):
        event = from_record(record)
        return None if event is None else director.tell(event, record["verdict"])


def _stages(records: list[dict[str, Any]]) -> Iterator[Stage]:
    spec = [record["spec"] for record in records if "spec" in record][-1]  # the newest counts, as when live
    searches = {stage["name"]: stage for stage in spec["stages"]}
    names = {record["segment"]["stage"]: None for record in records if record["event"] == "started"}
    for name in {**names, **dict.fromkeys(searches)}:
        yield _search(searches[name], spec) if name in searches else Stage(name, "", lambda _: Past())


def _most(stage: dict[str, Any]) -> int | None:
    """How many trials, as `stage.Stage.most` has it."""
    if stage.get("each"):
        return int(stage["each"]["count"])
    return 1 if stage.get("space") == [] else stage["trials"]


def _search(stage: dict[str, Any], spec: dict[str, Any]) -> Stage:
    return Stage(
        stage["name"],
        "",
        lambda _: Past(),
        timed=True,
        watched=watched(spec),
        trials=_most(stage),
        max_failed=spec.get("max_failed", 1.0),
    )
