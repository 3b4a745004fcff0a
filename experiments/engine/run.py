"""Runs an experiment: finds or opens its run folder, folds the ledger, starts Ray, and ends with the report."""

import os
import platform
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from rich.console import Console

from experiments.engine import fingerprint, interrupt, launch, runs
from experiments.engine.bridge import Bridge
from experiments.engine.director import Director
from experiments.engine.events import Lost, from_record
from experiments.engine.ledger import Ledger, LedgerError
from experiments.engine.plan import Plan
from experiments.engine.report.live import LiveView
from experiments.engine.report.summary import choice, chosen
from experiments.engine.retention import Retention
from experiments.engine.watch import Watch
from trainables.store import Store

DONE, NO_VALID_TRIAL = 0, 4
_LIBRARIES = ("torch", "ray", "ConfigSpace", "onnxruntime", "tokenizers", "numpy")
# Kept of a time budget for what comes after the searches: export, measurement, test.
_RESERVE = 0.15


def run(
    plan: Plan, storage: Store, console: Console, *, address: str | None = None, new: bool = False
) -> tuple[int, Store]:
    """Runs the plan to its end, or on from where an unfinished run of equal fingerprint stopped.

    An exit code, and the run's folder.
    """
    known = None if new else runs.unfinished(storage, plan.spec.name)
    if known and known.header["fingerprint"] != fingerprint.short(plan.fingerprint()):
        known = None
    launch.connect(address)
    resources = launch.resources(plan.spec.resources.cpu, plan.spec.resources.gpu)
    folder = known.store if known else runs.create(storage, plan.spec.name)
    with Ledger(folder) as book:
        director = Director(plan.steps())
        used = resume(director, book) if known else _open(plan, folder, book)
        console.print(f"{'resumes' if known else 'run'} {folder.shown}", markup=False, highlight=False, soft_wrap=True)
        _search(plan, director, book, console, resources=resources, deadline=_deadline(plan.spec.time, used))
        final = chosen(director, plan.spec.resolved())
        book.append({"event": "finished", "at": time.time(), "chosen": final.id if final else None})
    return (DONE if final else NO_VALID_TRIAL), folder


def _search(
    plan: Plan,
    director: Director,
    book: Ledger,
    console: Console,
    *,
    resources: launch.Resources,
    deadline: float | None,
) -> None:
    slots, folder = launch.slots(resources), book.store
    watch = Watch(search_seconds=None if deadline is None else deadline - time.time())
    view = LiveView(director, plan.expected(), choice(plan.spec.resolved()), console)
    bridge = Bridge(
        director,
        book,
        plan.job(director, folder.uri, {"cpu": resources.cpu, "gpu": resources.gpu}),
        slots=lambda: launch.slots(resources),
        watch=watch,
        observers=(Retention(director, book, folder, plan.spec.objectives), view),
    )
    book.append({"event": "session", "slots": slots, "at": time.time()})
    interrupt.resumable("the same command goes on from here")
    interrupt.before_end(book.sync, 3.0)
    for number in sorted(director.in_flight):
        bridge.record(Lost(number, "driver", "the driver ended"))
    with view, watch:
        launch.execute(bridge, slots)


def _deadline(budget: float | None, used: float) -> float | None:
    return None if budget is None else time.time() + budget * (1 - _RESERVE) - used


def _open(plan: Plan, folder: Store, book: Ledger) -> float:
    folder.write("experiment.yaml", plan.spec.to_yaml().encode())
    book.append(
        {
            "event": "opened",
            "spec": plan.spec.resolved(),
            "fingerprint": fingerprint.short(plan.fingerprint()),
            "data": plan.data.record,
            "labels": list(plan.data.labels),
            "versions": {name: version(name) for name in _LIBRARIES},
            "machine": {"host": platform.node(), "python": platform.python_version(), "cores": os.cpu_count()},
            "command": sys.argv,
            "at": time.time(),
        }
    )
    book.sync()
    return 0.0


def resume(director: Director, book: Ledger) -> float:
    """Folds the ledger into the director; the seconds that earlier sessions used.

    Raises LedgerError where a decision comes out differently than it was recorded: other code wrote it.
    """
    for number, record in enumerate(book.records, start=1):
        event = from_record(record)
        if event is not None and director.tell(event) != record["verdict"]:
            raise LedgerError(
                f"{book.store.shown}: record {number} has the verdict {record['verdict']!r}, this code decides "
                "otherwise; start afresh with --new"
            )
    used = _used(book.records)
    book.append({"event": "resumed", "at": time.time()})
    return used


def _used(records: Sequence[dict[str, Any]]) -> float:
    """Seconds from the begin of each session to its last record."""
    total, begun, last = 0.0, 0.0, 0.0
    for record in records:
        if record["event"] in ("opened", "resumed"):
            total, begun = total + last - begun, record["at"]
        last = record["at"]
    return total + last - begun
