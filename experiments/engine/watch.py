"""Looks after the segments in flight from threads of its own: what hangs, what is due, what the user asks for. No ray.

Ray's loop waits for reports, so a trial that gives none (a deadlock, SIGSTOP, a call that never returns) would be
waited for without end. The watch ends its process; what became of it is recorded by the bridge, in Ray's loop.
"""

import json
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from experiments.engine.events import Expired, Lost
from trainables.store import Store

# How often the watch looks, in seconds; requests in an object store, which costs a call each, less often.
_PERIOD = 0.5
_REMOTE_PERIOD = 5.0


@dataclass(frozen=True)
class Cancel:
    """The user wants a trial ended; `trial` is its id."""

    trial: str


News = Lost | Expired | Cancel


@dataclass
class _Running:
    heard: float
    end: Callable[[], None]


class Watch:
    """`with watch:` looks twice a second.

    silence: seconds a segment may run without a report; None: any time. Waiting for resources is not running.
    search_seconds, seconds: from now until the searches have to end, and until everything has; None: no budget.
    requests: the run's folder `requests`, in which `<any name>.json` holds {"cancel": "search-003"}, or
    {"cancel": null} for the whole run: this process then gets SIGTERM.
    superseded: set by the lease when another driver has taken the run over.
    """

    def __init__(
        self,
        *,
        silence: float | None = None,
        search_seconds: float | None = None,
        seconds: float | None = None,
        requests: Store | None = None,
        superseded: threading.Event | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._silence = silence
        self._clock = clock
        self._due = [
            (clock() + left, Expired("the time budget was used up", final))
            for left, final in ((search_seconds, False), (seconds, True))
            if left is not None
        ]
        # Asked again at the next look, not within this one.
        self._requests = None if requests is None else Store(requests.uri, patience=0.0)
        self._superseded = superseded
        self._running: dict[int, _Running] = {}
        self._news: queue.SimpleQueue[News] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        remote = requests is not None and requests.local is None
        work = ((self.look, _PERIOD), (self.answer, _REMOTE_PERIOD if remote else _PERIOD))
        # Two, since a storage that does not answer must not keep the watch from looking.
        self._threads = [threading.Thread(target=self._loop, args=each, name="watch", daemon=True) for each in work]

    # For the bridge, in Ray's loop

    def runs(self, segment: int, end: Callable[[], None]) -> None:
        """A segment's process is there; `end` kills it, from whatever thread, without waiting."""
        with self._lock:
            self._running.setdefault(segment, _Running(self._clock(), end))

    def heard(self, segment: int) -> None:
        """A segment reported."""
        with self._lock:
            if segment in self._running:
                self._running[segment].heard = self._clock()

    def left(self, segment: int) -> None:
        """A segment came to its end, as far as the bridge knows."""
        with self._lock:
            self._running.pop(segment, None)

    def end(self, segment: int) -> None:
        """Ends a segment's process now, if there is one."""
        with self._lock:
            running = self._running.pop(segment, None)
            if running is not None:
                running.end()

    def news(self) -> Iterator[News]:
        """What happened since the last call, to be recorded."""
        while not self._news.empty():
            yield self._news.get()

    @property
    def superseded(self) -> bool:
        """Whether another driver has taken the run over, so that this one must stop."""
        return self._superseded is not None and self._superseded.is_set()

    # In its own threads

    def look(self) -> None:
        """One look at the segments and the clock."""
        now = self._clock()
        self._end_silent(now)
        for due, expired in [entry for entry in self._due if entry[0] <= now]:
            self._due.remove((due, expired))
            self._news.put(expired)

    def answer(self) -> None:
        """One look at what the user asks for."""
        if self._requests is None:
            return
        try:
            for name in self._requests.names():
                text = self._requests.read(name)
                self._requests.delete(name)  # first: a run that is gone on with later must not meet it again
                self._obey(text)
        except OSError:
            return  # it will be there at the next look

    def _end_silent(self, now: float) -> None:
        if self._silence is None:
            return
        with self._lock:
            # The bridge cannot hear of a report in between: a process is never ended that was given another segment.
            for segment, running in list(self._running.items()):
                if now - running.heard > self._silence:
                    del self._running[segment]
                    self._news.put(Lost(segment, "hung", f"no report for {self._silence:g} s"))
                    running.end()

    def _obey(self, text: bytes) -> None:
        try:
            asked = json.loads(text)["cancel"]
        except (ValueError, KeyError, TypeError):
            return  # nobody of ours wrote it
        if asked is None:
            os.kill(os.getpid(), signal.SIGTERM)
        elif isinstance(asked, str):
            self._news.put(Cancel(asked))

    def _loop(self, work: Callable[[], None], period: float) -> None:
        while not self._closed.wait(period):
            work()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        for thread in self._threads:
            thread.join(timeout=_PERIOD)
