"""One driver at a time for a run.

On a disk, local or shared, the kernel keeps the lease: a lock on `lease.json`, which ends with its process, however
that ends. In an object store a driver writes a heartbeat, `lease/<generation>-<writer>.json`; who takes over from one
that stands still claims the next generation, looks again after a pause, and the lowest writer of a generation wins. A
driver that finds itself superseded has to stop: what it still writes to the ledger counts no more (`segments.py`).
"""

import contextlib
import datetime
import fcntl
import json
import os
import platform
import re
import secrets
import threading
import time
from types import TracebackType
from typing import Any, NamedTuple, Self

from trainables.store import StorageError, Store, disk_error

FILE, FOLDER = "lease.json", "lease"
Holder = dict[str, Any]
# A heartbeat each so often; one that stands still for so long is over; how long a claim waits for others; in seconds.
_BEAT_S, _STALE_S, _PAUSE_S = 3.0, 15.0, 1.0
_TRIES, _TRY_S = 5, 0.05
_NAME = re.compile(rf"{FOLDER}/(\d{{5}})-([0-9a-f]{{8}})\.json")


class Held(ValueError):  # noqa: N818  it says what is so
    """Another driver runs this run."""

    def __init__(self, store: Store, holder: Holder) -> None:
        who = f"pid {holder.get('pid', '?')} on host {holder.get('host', '?')} since {holder.get('since', '?')}"
        super().__init__(
            f"run {store.name} is already run by {who}; wait for it, cancel it with `runs cancel {store.name}`, "
            "or start another with --new"
        )


class Lease:
    """Held until it is closed or the process ends; `lost` is set when another driver has taken over."""

    def __init__(self, hold: "_Lock | _Heartbeat") -> None:
        self._hold = hold
        self.lost = hold.lost

    @classmethod
    def take(cls, store: Store) -> Self:
        """Raises Held where another driver has it. In an object store that takes some seconds to find out."""
        return cls(_Lock(store) if store.local is not None else _Heartbeat(store))

    @staticmethod
    def holder(store: Store) -> Holder | None:
        """Who has it (pid, host, since), without taking it; None where nobody has."""
        return _locked_by(store) if store.local is not None else _beating(store)

    def close(self) -> None:
        """Lets go of it."""
        self._hold.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _myself() -> Holder:
    since = datetime.datetime.now(tz=datetime.UTC).isoformat(sep=" ", timespec="seconds")
    return {"pid": os.getpid(), "host": platform.node(), "since": since}


class _Lock:
    """The kernel's lock on a file. The descriptor is not inherited, so no child keeps it."""

    def __init__(self, store: Store) -> None:
        self.lost = threading.Event()
        path = f"{store.uri}/{FILE}"
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            if not _locked(self._descriptor, fcntl.LOCK_EX):
                holder = _text(self._descriptor)
                os.close(self._descriptor)
                raise Held(store, holder)
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, json.dumps(_myself()).encode(), 0)
        except OSError as error:
            raise disk_error(f"{path} could not be locked", error) from None

    def release(self) -> None:
        os.close(self._descriptor)


def _locked(descriptor: int, kind: int) -> bool:
    """Whether the lock was free; somebody who only looks has it for a moment."""
    for _ in range(_TRIES):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return True
        time.sleep(_TRY_S)
    return False


def _text(descriptor: int) -> Holder:
    return _parsed(os.pread(descriptor, 1000, 0))


def _parsed(data: bytes) -> Holder:
    with contextlib.suppress(ValueError):
        found = json.loads(data)
        if isinstance(found, dict):
            return found
    return {}


def _locked_by(store: Store) -> Holder | None:
    try:
        descriptor = os.open(f"{store.uri}/{FILE}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _text(descriptor)
    except OSError:  # a file system without locks
        return None
    finally:
        os.close(descriptor)
    return None


class _Claim(NamedTuple):
    """A later generation prevails, then a lower writer."""

    generation: int
    writer: str

    @property
    def name(self) -> str:
        return f"{FOLDER}/{self.generation:05d}-{self.writer}.json"


def _claims(store: Store) -> list[_Claim]:
    """All there are, the one that prevails first."""
    matches = [match for name in store.names(FOLDER) if (match := _NAME.fullmatch(name))]
    return sorted((_Claim(int(m[1]), m[2]) for m in matches), key=lambda claim: (-claim.generation, claim.writer))


def _read(store: Store, claim: _Claim) -> Holder:
    """Empty where it is not there, or says nothing. A beat that falls between a store's asking for the length and its
    reading cuts the text short, so what says nothing is read again."""
    for _ in range(_TRIES):
        try:
            holder = _parsed(store.read(claim.name))
        except FileNotFoundError:
            return {}
        if holder:
            return holder
        time.sleep(_TRY_S)
    return {}


def _beating(store: Store) -> Holder | None:
    """By the clocks of both hosts, which is good enough to look."""
    there = _claims(store)
    holder = _read(store, there[0]) if there else {}
    return holder if time.time() - holder.get("at", 0.0) < _STALE_S else None


class _Heartbeat:
    """An object that changes every few seconds."""

    def __init__(self, store: Store) -> None:
        self.lost = threading.Event()
        self._store = store
        self._who = _myself()
        self._beats = 0
        before = _claims(store)
        if before:
            self._outlast(before[0])
        self._claim = _Claim(before[0].generation + 1 if before else 1, secrets.token_hex(4))
        self._beat(store)
        self._settle()
        for claim in before:
            store.delete(claim.name)
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="lease", daemon=True)
        self._thread.start()

    def _outlast(self, claim: _Claim) -> None:
        """Returns when a heartbeat has stood still for long enough. No clock of another host is trusted."""
        holder, end = _read(self._store, claim), time.monotonic() + _STALE_S
        while holder and time.monotonic() < end:
            time.sleep(_BEAT_S / 6)
            now = _read(self._store, claim)
            if now.get("beats", 0) > holder.get("beats", 0):
                raise Held(self._store, now)
            holder = now and holder

    def _settle(self) -> None:
        """Gives way to a claim made at the same moment that prevails."""
        time.sleep(_PAUSE_S)
        first = next(iter(_claims(self._store)), None)
        if first != self._claim:
            self._store.delete(self._claim.name)
            raise Held(self._store, _read(self._store, first) if first else {})

    def _beat(self, store: Store) -> None:
        self._beats += 1
        told = {**self._who, "beats": self._beats, "at": time.time()}
        store.write(self._claim.name, json.dumps(told).encode())

    def _go_on(self) -> None:
        quick = Store(self._store.uri, patience=0)
        while not self._released.wait(_BEAT_S) and not self.lost.is_set():
            with contextlib.suppress(StorageError):  # nobody else can take over while the store is away
                there = _claims(quick)
                if self._claim not in there or there[0] != self._claim:
                    self.lost.set()
                else:
                    self._beat(quick)

    def release(self) -> None:
        self._released.set()
        self._thread.join()
        if not self.lost.is_set():
            self._store.delete(self._claim.name)
