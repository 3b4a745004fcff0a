"""Runs an experiment: finds or opens its run folder, folds the ledger, starts Ray, and ends with an exit code."""

import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console

from experiments.engine import extension, fingerprint, interrupt, launch, memory, precheck, runs, schedule
from experiments.engine.bridge import Bridge
from experiments.engine.director import Director
from experiments.engine.events import Lost, to_record
from experiments.engine.history import follow
from experiments.engine.lease import Lease
from experiments.engine.ledger import Ledger, LedgerError
from experiments.engine.plan import Plan
from experiments.engine.report import picture
from experiments.engine.report.live import LiveView
from experiments.engine.report.summary import choice, chosen, summary
from experiments.engine.retention import Retention
from experiments.engine.watch import Watch
from tasks.features import features
from trainables.parsing import ParseError
from trainables.store import Store

DONE, UNREACHABLE, TOO_MANY_FAILED, NO_VALID_TRIAL = 0, 2, 3, 4
Json = dict[str, Any]

# Kept of a time budget for what comes after the searches: export, measurement, test.
_RESERVE = 0.15
# Of the ten seconds in which everything has ended after a signal.
_SYNC_S, _RELEASE_S, _VIEW_S = 2.5, 1.0, 0.5


@dataclass(frozen=True)
class Options:
    """What the command line says besides the experiment: a cluster to join, whether to start afresh, whether to go on
    with what has changed, how many seconds to wait for the cluster to grow, and by how many trials to go on with what
    is finished.
    """

    address: str | None = None
    new: bool = False
    accept_changes: bool = False
    wait: float | None = None
    extend: int = 0


def run(plan: Plan, storage: Store, console: Console, options: Options) -> tuple[int, Store]:
    """Runs the plan to its end, or on from where the newest unfinished run of the same name stopped; or extends one.

    An exit code, and the run's store. Raises ParseError, with nothing written, where it cannot go on or start, and
    StorageError.
    """
    known = _known(plan.spec.name, storage, options)
    plan = extension.extended(plan, known.records if known else (), options.extend)
    advice = {} if known else memory.remembered(plan, storage)
    advised = known.records[0].get("advised", {}) if known else {name: each.points for name, each in advice.items()}
    plan = replace(plan, advised=advised)
    now = plan.fingerprint()
    changes = _accepted(known, now, options) if known else []
    say = _sayer(console)
    with ExitStack() as stack:
        lease = stack.enter_context(Lease.take(known.store)) if known else None
        launch.connect(options.address)
        resources = precheck.check(plan, storage, say, wait=options.wait, used=_bytes(known))
        store = known.store if known else runs.create(storage, plan.spec.name)
        lease = lease or stack.enter_context(Lease.take(store))
        interrupt.before_end(lease.close, _RELEASE_S)
        book = stack.enter_context(Ledger(store))
        interrupt.resumable(f"the same command{' without --extend' if options.extend else ''} goes on from here")
        interrupt.before_end(book.sync, _SYNC_S)
        say(f"{'resumes' if known else 'run'} {store.shown}")
        director = Director(replace(plan, folder=store.local).steps())
        if known:
            store.delete("requests")  # what was asked of an earlier driver
            _resume(plan, director, book, changes, now)
            _extend(plan, director, book, options.extend)
        else:
            _open(plan, store, book, now, advice)
            _say_advised(advice, say)
        session = Session(plan, store, book, lease, console)
        lag = session.work(director, resources)
        schedule.write(plan.spec, director, store)
        _draw(plan, director, store, say)
        return _finish(plan, director, book, lag, say), store


def _sayer(console: Console) -> Callable[[str], None]:
    return lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True)


def _known(name: str, storage: Store, options: Options) -> runs.Run | None:
    """The run to go on with. Raises ParseError where there is none to extend."""
    if options.extend and options.new:
        raise ParseError(["--extend goes on with a finished run, --new starts another; give one of them"])
    if options.extend:
        return extension.finished(storage, name)
    return None if options.new else runs.unfinished(storage, name)


def _say_advised(advice: Mapping[str, memory.Advice], say: Callable[[str], None]) -> None:
    for stage, (points, searches) in advice.items():
        good = f"{len(points)} configurations that were good in {', '.join(searches)}"
        what = f"tries, in turns with its searcher, {good}"
        say(f"warm start: {stage} {what if points else 'searches as always: nothing of its space is remembered'}")


def _accepted(known: runs.Run, now: Json, options: Options) -> list[str]:
    """How the plan differs from the run it would go on with. Raises ParseError where that was not accepted."""
    changes = fingerprint.differences(fingerprint.newest(known.records), now)
    if changes and not options.accept_changes:
        way_out = f"run {known.name} was begun otherwise; go on all the same with --accept-changes, or start with --new"
        raise ParseError([*changes, way_out])
    return changes


def _bytes(known: runs.Run | None) -> float:
    """What a run takes on disk already."""
    if known is None or known.store.local is None:
        return 0.0
    return float(sum((known.store.local / name).stat().st_size for name in known.store.names()))


@dataclass(frozen=True)
class Session:
    """One driver's work on a run."""

    plan: Plan
    store: Store
    book: Ledger
    lease: Lease
    console: Console

    def work(self, director: Director, resources: launch.Resources) -> float:
        """Runs trials until the director is done; the most seconds that the storage was behind."""
        plan, book, slots = self.plan, self.book, launch.slots(resources)
        view = LiveView(director, plan.expected(), choice(plan.spec.resolved()), self.console, lag=lambda: book.lag)
        watch = self._watch()
        bridge = Bridge(
            director,
            book,
            plan.job(director, self.store.uri, {"cpu": resources.cpu, "gpu": resources.gpu}),
            slots=lambda: launch.slots(resources),
            watch=watch,
            observers=(self._retention(director, view), view),
        )
        book.append({"event": "session", "slots": slots, "at": time.time()})
        for number in sorted(director.in_flight):
            bridge.record(Lost(number, "driver", "the driver ended"))
        interrupt.before_end(view.close, _VIEW_S)
        with view, watch:
            launch.execute(bridge, slots)
        return max(view.worst_lag, book.worst_lag)

    def _retention(self, director: Director, view: LiveView) -> Retention:
        spec = self.plan.spec
        return Retention(director, self.book, self.store, spec.objectives, spec=spec.resolved(), say=view.say)

    def _watch(self) -> Watch:
        """Deadlines are of the whole run: what earlier sessions used is gone."""
        spec = self.plan.spec
        left = None if spec.time is None else spec.time - used(self.book.records)
        return Watch(
            silence=spec.silence,
            search_seconds=None if left is None or spec.time is None else left - _RESERVE * spec.time,
            seconds=left,
            requests=self.store / "requests",
            superseded=self.lease.lost,
        )


def _open(plan: Plan, store: Store, book: Ledger, now: Json, advice: Mapping[str, memory.Advice]) -> None:
    store.write("experiment.yaml", plan.spec.to_yaml().encode())
    book.append(
        {
            "event": "opened",
            "spec": plan.spec.resolved(),
            "fingerprint": now,
            "data": {**plan.data.record, "features": features(plan.data)},
            "labels": list(plan.data.labels),
            "advised": dict(plan.advised),
            "advised_by": {name: each.searches for name, each in advice.items() if each.points},
            "machine": {"host": platform.node(), "cores": os.cpu_count()},
            "command": sys.argv,
            "at": time.time(),
        }
    )
    book.sync()


def _resume(plan: Plan, director: Director, book: Ledger, changes: Sequence[str], now: Json) -> None:
    """Folds the ledger into the director, and writes down what is no longer as it was."""
    spec = plan.spec.resolved()
    same = not changes and spec == newest_spec(book.records)
    replay(director, book.records, checked_from=_decided_from(book.records) if same else len(book.records))
    book.append({"event": "resumed", "at": time.time(), **({} if same else {"spec": spec})})
    if changes:
        accepted = {"changes": list(changes), "spec": spec, "fingerprint": now, "data": plan.data.record}
        book.append({"event": "accepted", **accepted, "at": time.time()})
    book.sync()


def _extend(plan: Plan, director: Director, book: Ledger, more: int) -> None:
    if more:
        event = extension.event(plan, more)
        book.append({**to_record(event), "verdict": director.tell(event), "at": time.time()})
        book.sync()


def newest_spec(records: Sequence[Json]) -> Json:
    """The spec a run has now: as opened, resumed, or last accepted."""
    return next((dict(record["spec"]) for record in reversed(records) if "spec" in record), {})


def _decided_from(records: Sequence[Json]) -> int:
    """From which record on this spec and this code decided: after the last that changed one of them."""
    return max((index for index, record in enumerate(records) if "spec" in record), default=0)


def replay(director: Director, records: Sequence[Json], *, checked_from: int = 0) -> None:
    """Folds the records into the director, each verdict as it was recorded.

    Raises LedgerError where, from the record `checked_from` on, this code decides otherwise: other code wrote it.
    """
    for index, record in enumerate(records):
        verdict = follow(director, index + 1, record)
        if verdict is not None and verdict != record["verdict"] and index >= checked_from:
            raise LedgerError(
                f"record {index + 1} of the ledger holds the verdict {record['verdict']!r}, this code decides "
                f"{verdict!r}; start afresh with --new"
            )


def used(records: Sequence[Json]) -> float:
    """Seconds from the begin of each session to its last record, since the run was opened or last extended."""
    total, begun, last = 0.0, 0.0, 0.0
    for record in records:
        if record["event"] in ("opened", "resumed"):
            total, begun = total + last - begun, record["at"]
        elif record["event"] == "extended":
            total, begun = 0.0, record["at"]
        last = record["at"]
    return total + last - begun


def _draw(plan: Plan, director: Director, store: Store, say: Callable[[str], None]) -> None:
    spec = plan.spec.resolved()
    told = summary({"spec": spec, "data": plan.data.record, "advised": plan.advised}, director, store.shown)
    try:
        drawn = picture.of_run(told, spec["objectives"])
    except ImportError as error:  # hours of work do not fail for want of a picture
        say(f"no {picture.NAME} was drawn: {error}; install it with `make setup`")
        return
    if drawn:
        store.write(picture.NAME, drawn)


def _finish(plan: Plan, director: Director, book: Ledger, lag: float, say: Callable[[str], None]) -> int:
    final = chosen(director, plan.spec.resolved())
    given_up = director.unreachable or director.given_up
    code = UNREACHABLE if director.unreachable else TOO_MANY_FAILED if given_up else DONE if final else NO_VALID_TRIAL
    if given_up:
        say(f"given up: {given_up}")
    ended = {"chosen": final.id if final else None, "code": code, "lag": round(lag, 1), "given_up": given_up}
    book.append({"event": "finished", "at": time.time(), **ended})
    return code
