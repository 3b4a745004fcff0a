"""SIGINT and SIGTERM to a process that is busy, holds locks, has children, or does not end."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
PRELUDE = """
import os, signal, subprocess, sys, threading, time
from experiments.engine import interrupt
interrupt.install()
"""
READY = "print('ready', flush=True)\n"


@pytest.fixture
def program():
    """Starts a program, and gives it back once it says that it is ready."""
    started = []

    def start(text):
        process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + text], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("busy", [READY + "time.sleep(60)", READY + "threading.Lock().acquire() and time.sleep(60)"])
def test_one_line_and_the_code_of_the_signal(program, busy, number, code):
    process = program(busy)
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert process.returncode == code
    assert (out, err) == ("", f"fitformer: interrupted by {number.name}\n")


def test_what_was_registered_last_runs_first_and_not_for_ever(program):
    # Not by print: the signal may find the main thread in the one that says ready, with the lock of standard output.
    process = program(
        "interrupt.before_end(lambda: os.write(1, b'cluster\\n'), 5)\n"
        "interrupt.before_end(lambda: time.sleep(60), 0.2)\n"
        "interrupt.before_end(lambda: os.write(1, b'ledger\\n'), 5)\n"
        "interrupt.resumable('go on')\n" + READY + "time.sleep(60)"
    )
    process.terminate()
    out, err = process.communicate(timeout=10)
    assert out == "ledger\ncluster\n"
    assert err == "fitformer: interrupted by SIGTERM; go on\n"


def test_second_signal_ends_at_once(program):
    process = program("interrupt.before_end(lambda: time.sleep(60), 60)\n" + READY + "time.sleep(60)")
    process.terminate()
    assert "SIGTERM" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=5) == 130


def test_children_end_too_also_stopped_ones(program):
    process = program(
        "interrupt.before_end(lambda: None, 1)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "child.send_signal(signal.SIGSTOP)\n" + READY + "time.sleep(60)"
    )
    (child,) = psutil.Process(process.pid).children()
    process.terminate()
    assert process.wait(timeout=10) == 143
    until = time.monotonic() + 5
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_other_handlers_are_replaced_again(program):
    process = program(
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))\ninterrupt.renew()\n" + READY + "time.sleep(60)"
    )
    process.terminate()
    assert process.wait(timeout=10) == 143


def test_an_end_that_came_before_waits_for_the_signals(program):
    process = program(
        "interrupt.before_end(lambda: time.sleep(0.3), 5)\n"
        + "signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))\n"
        + "try:\n    print('ready', flush=True)\n    time.sleep(60)\nfinally:\n    interrupt.settle(1)"
    )
    process.terminate()
    assert process.wait(timeout=10) == 143


def test_a_command_says_one_line_however_early_it_is_ended(tmp_path):
    command = [sys.executable, "-m", "experiments", "run", "digits", "--storage", str(tmp_path / "results")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 20
    while not caught(process.pid, signal.SIGTERM):
        assert time.monotonic() < until
        time.sleep(0.005)
    process.terminate()
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (143, "", "fitformer: interrupted by SIGTERM\n")
    assert list(tmp_path.iterdir()) == []


def caught(pid, number):
    """Whether a process has a handler for a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return int(mask, 16) >> (number - 1) & 1
