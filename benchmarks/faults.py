"""What a fault costs: the same toy search under the same kills, ours beside plain Ray Tune with `Tuner.restore`.

Both train the same routine (benchmarks/counting.py) at the same twelve points, with ASHA, a checkpoint every epoch and
three retries; Ray Tune's driver is started again with `Tuner.restore`, ours with the command it was started with. Each
play has one kind of fault, injected when so many epochs are written down:

    none      nothing
    driver    SIGKILL to the driver; it is started again at once
    trial     SIGKILL to the process that trained the last epoch
    stopped   SIGSTOP to it, as a hang in C code is
    nan       two trials report NaN from their second epoch on

Counted are epochs: trained again although they had been trained, and trained although ASHA (a NaN) forbids them by
what had been reported before. Recovery is the time from the fault to the next new epoch of a process that began after
it, of the same trial where it was one that was hit. A play that trains nothing for so long that it is given up was
not survived.
"""

import argparse
import contextlib
import itertools
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.machine import RESULTS, record
from benchmarks.toy_search import CONTESTANTS, EPOCHS, ETA, PATIENCE, SECONDS, TRIALS, Play, drive, heights
from experiments.engine import outcome
from experiments.engine.strategies.asha import Asha

MARK = "FITFORMER_BENCHMARK"
Line = dict[str, Any]

PLAYS = (
    Play("none"),
    Play("driver", (1, 5, 9, 14, 19, 23)),
    Play("trial", (3, 9, 15, 21)),
    Play("stopped", (7,)),
    Play("nan", diverges=(2, 5)),
)


@dataclass
class Outcome:
    """What came of a play."""

    injected: int = 0
    recoveries: list[float] = field(default_factory=list)
    ended: bool = False
    seconds: float = 0.0


# A play


def perform(play: Play, contestant: str, folder: Path) -> tuple[Outcome, list[Line]]:
    """Starts the driver, injects the faults as they are due, and starts it again where it was killed."""
    command = [sys.executable, *CONTESTANTS[contestant](play, folder)]
    outcome, moments, begun = Outcome(), list(play.moments), time.time()
    driver = _start(command, folder)
    while driver.poll() is None:
        lines = _lines(folder)
        if moments and len(_distinct(lines)) >= moments[0] and (play.fault == "driver" or _goes_on(lines)):
            moments.pop(0)
            outcome.injected += 1
            _inject(play.fault, driver, lines)
            if play.fault == "driver":
                driver = _start(command, folder)
            recovery = _recovery(play.fault, driver, folder, lines)
            outcome.recoveries += [] if recovery is None else [recovery]
        if time.time() - max(begun, lines[-1]["at"] if lines else 0.0) > PATIENCE:
            break
        time.sleep(0.02)
    outcome.ended = driver.poll() == 0
    _clear(folder)
    lines = _lines(folder)
    outcome.injected += len(play.diverges)
    outcome.seconds = lines[-1]["at"] - begun
    return outcome, lines


def _start(command: list[str], folder: Path) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, MARK: str(folder), "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "token"}
    environment |= {"RAY_USAGE_STATS_ENABLED": "0", "FITFORMER_CACHE": str(folder.parent / "cache")}
    with (folder / "printed").open("a") as printed:
        return subprocess.Popen(command, env=environment, stdout=printed, stderr=printed)


def _goes_on(lines: list[Line]) -> bool:
    """Whether the trial that was trained last has more epochs to come."""
    return heights().index(lines[-1]["height"]) not in replayed(lines)[0]


def _inject(fault: str, driver: "subprocess.Popen[bytes]", lines: list[Line]) -> None:
    if fault == "driver":
        driver.kill()
        driver.wait()
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(lines[-1]["pid"], signal.SIGKILL if fault == "trial" else signal.SIGSTOP)


def _recovery(fault: str, driver: "subprocess.Popen[bytes]", folder: Path, before: list[Line]) -> float | None:
    """Seconds to the next new epoch (of the trial that was hit); None where it does not come."""
    begun, known = time.time(), _distinct(before)
    while time.time() - begun < PATIENCE:
        for line in _lines(folder):
            hit = fault == "driver" or line["height"] == before[-1]["height"]
            if hit and line["born"] > begun and (line["height"], line["epoch"]) not in known:
                return float(line["at"] - begun)
        if driver.poll() is not None:
            return None
        time.sleep(0.02)
    return None


def _lines(folder: Path) -> list[Line]:
    path = folder / "log"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _distinct(lines: list[Line]) -> set[tuple[float, int]]:
    return {(line["height"], line["epoch"]) for line in lines}


def _clear(folder: Path) -> None:
    """Kills every process of a play, Ray's and orphans too."""
    while left := list(_processes(folder)):
        for process in left:
            process.kill()
        psutil.wait_procs(left, timeout=5)


def _processes(folder: Path) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                yield process


# What it cost


def replayed(lines: list[Line]) -> tuple[set[int], int]:
    """The trials that ASHA or a NaN has stopped by all that was reported before; epochs trained all the same."""
    asha, stopped, count = Asha(Asha.Config(eta=ETA, grace_period=1), EPOCHS), set[int](), 0
    seen: set[tuple[float, int]] = set()
    for line in lines:
        key = (line["height"], line["epoch"])
        if key in seen:
            continue
        seen.add(key)
        trial = heights().index(line["height"])
        count += trial in stopped
        bad = not math.isfinite(line["score"])
        found = outcome.Outcome((line["score"],))
        if trial not in stopped and (bad or asha.judge(trial, line["epoch"], found) == "stop"):
            stopped.add(trial)
    return stopped, count


def figures(outcome: Outcome, lines: list[Line]) -> dict[str, Any]:
    """One row of the table."""
    distinct = _distinct(lines)
    return {
        "faults": outcome.injected,
        "survived": outcome.ended,
        "trials": len({line["height"] for line in lines}),
        "epochs": len(distinct),
        "repeated": len(lines) - len(distinct),
        "forbidden": replayed(lines)[1],
        "recovery_s": round(statistics.median(outcome.recoveries), 2) if outcome.recoveries else None,
        "not_recovered": 0 if outcome.ended else outcome.injected - len(outcome.recoveries),
        "search_s": round(outcome.seconds, 1),
    }


def compare(plays: tuple[Play, ...]) -> dict[str, Any]:
    """Every play with every contestant."""
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="faults-") as room:
        for play, name in itertools.product(plays, CONTESTANTS):
            folder = Path(room) / f"{play.fault}-{name.replace(' ', '-')}"
            folder.mkdir()
            row = figures(*perform(play, name, folder))
            rows.setdefault(play.fault, {})[name] = row
            print(f"{play.fault:<8} {name:<9} {json.dumps(row)}", flush=True)
    return {"trials": TRIALS, "epochs": EPOCHS, "epoch_s": SECONDS, "patience_s": PATIENCE, "plays": rows}


COLUMNS = ("faults", "survived", "trials", "epochs", "repeated", "forbidden", "recovery_s", "search_s")


def table(found: Mapping[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [
        "# Faults: ours beside plain Ray Tune with Tuner.restore",
        "",
        f"The same {found['trials']} trials of at most {found['epochs']} epochs with ASHA under the same kills; "
        "`python -m benchmarks.faults` makes this table, its docstring says what is counted. Survived: the search came "
        f"to its end without help; given up after {found['patience_s']} s without a new epoch.",
        "",
        "| fault | | " + " | ".join(column.replace("_s", " (s)") for column in COLUMNS) + " |",
        "|---" * (len(COLUMNS) + 2) + "|",
    ]
    for fault, rows in found["plays"].items():
        for name, row in rows.items():
            lines.append(f"| {fault} | {name} | " + " | ".join(_cell(row[column]) for column in COLUMNS) + " |")
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    return {"True": "yes", "False": "no", "None": "–"}.get(str(value), str(value))


def main() -> None:
    """The comparison; or the rival's driver as a child process."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--short", action="store_true", help="one kill of each process, nothing recorded")
    parser.add_argument("--driver", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.driver:
        drive(options.driver)
    elif options.short:
        print(table(compare((Play("driver", (5,)), Play("trial", (5,))))))
    else:
        found = compare(PLAYS)
        (RESULTS / "faults.md").write_text(table(found))
        record("faults", found, ("ray", "torch", "numpy"))


if __name__ == "__main__":
    main()
