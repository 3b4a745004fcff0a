"""SIGINT and SIGTERM, from the program's first moment to its last: what is known is made durable, every process of
ours ends within ten seconds, and the exit code says interrupted (130 or 143). A second signal ends at once.

A thread does it, woken by the signal itself: the main thread may be deep in C, and holds whatever it holds.
"""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
Action = Callable[[], Any]

_actions: list[tuple[Action, float]] = []
_begun = threading.Event()
_watching = threading.Event()
_hint: list[str] = []
# Imported before any child is started; never by the thread, since the main one may be held in the middle of an import.
_psutil: list[Any] = []


def install() -> None:
    """Takes both signals over; to be called in the main thread, before anything else."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # a signal in between waits, too
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(read,), name="interrupt", daemon=True).start()
    _watching.set()
    renew()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def renew() -> None:
    """Takes both signals over again, from whatever has put handlers of its own in place, as `ray.init` does."""
    if _watching.is_set():
        for number in SIGNALS:
            signal.signal(number, _hold)


def before_end(action: Action, seconds: float) -> None:
    """Runs `action`, for at most so many seconds, when a signal ends the program; what came last runs first.

    To be called before children are started: without it none are looked for.
    """
    import psutil

    _psutil[:] = [psutil]
    _actions.append((action, seconds))


def resumable(hint: str) -> None:
    """What the line says besides the signal's name from now on, such as how to go on."""
    _hint.append(hint)


def settle(seconds: float = 0.0) -> None:
    """Waits for the end that a signal has begun; returns where none has, or will within so many seconds."""
    if _begun.wait(seconds):
        threading.Event().wait()


def _hold(number: int, frame: FrameType | None) -> None:
    """The main thread does nothing more: no traceback, no other exit code."""
    threading.Event().wait()


def _watch(read: int) -> None:
    while True:
        for number in os.read(read, 16):
            if number in SIGNALS and _begun.is_set():
                _kill(_children())
                os._exit(128 + number)
            if number in SIGNALS:
                _begun.set()
                threading.Thread(target=_end, args=(number,), daemon=True).start()


def _end(number: int) -> None:
    children = _children()  # once their parents have ended they are hard to find
    line = "; ".join([f"fitformer: interrupted by {signal.Signals(number).name}", *_hint[-1:]])
    os.write(2, f"{line}\n".encode())  # print may wait for a lock
    for action, seconds in reversed(_actions):
        thread = threading.Thread(target=action, daemon=True)
        thread.start()
        thread.join(seconds)
    _kill([*children, *_children()])
    os._exit(128 + number)


def _children() -> list[Any]:
    return [child for psutil in _psutil for child in psutil.Process().children(recursive=True)]


def _kill(processes: list[Any]) -> None:
    """Ends them without asking."""
    for process in processes:
        try:
            process.kill()
        except _psutil[0].Error:  # it has ended meanwhile
            continue
