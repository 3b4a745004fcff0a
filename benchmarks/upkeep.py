"""What it costs that nothing is lost: ledger, lease and watch, each by itself, as a share of the quickstart's time.

The quickstart runs as ever; then its records are written again, each second's together and forced to disk at its end,
as often as the ledger does at most; the lease is taken and given back once; the watch looks twice a second, with two
segments in flight. And a ledger of 10,000 trials is read and replayed: as `report` folds it, and as a resume does with
the strategies deciding again.
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import record
from benchmarks.trial_turnover import Heights
from experiments.engine import history, runs
from experiments.engine.director import Director, Stage
from experiments.engine.events import from_record, to_record
from experiments.engine.lease import Lease
from experiments.engine.ledger import Ledger, Record, read
from experiments.engine.outcome import Outcome
from experiments.engine.simulator import Curve, simulate
from experiments.engine.strategies.asha import Asha
from experiments.engine.strategies.pair import Pair
from experiments.engine.strategies.random import Random
from experiments.engine.watch import Watch
from trainables.store import Store

TRIALS, EPOCHS, SLOTS = 10_000, 4, 2
LOOKS_A_SECOND = 2
# At most so large a share of the quickstart, and so many seconds for a replay.
BOUND_SHARE, BOUND_REPLAY_S = 0.03, 5.0


def quickstart(folder: Path, *, smoke: bool) -> list[Record]:
    """The records of a quickstart, run to its end."""
    command = [sys.executable, "-m", "experiments", "run", "quickstart", "--storage", str(folder / "results")]
    subprocess.run([*command, *(["--smoke"] if smoke else [])], check=True, stdout=sys.stderr)
    return list(runs.find(runs.storage(str(folder / "results")), None).records)


def ledger_s(records: Sequence[Record], folder: Path) -> float:
    """Seconds in the ledger: what the run waits for, and what its flusher does beside it."""
    spent = 0.0
    with Ledger(Store(folder / "again")) as ledger:
        for _, group in itertools.groupby(records, lambda entry: int(entry["at"])):
            together = list(group)
            begun = time.perf_counter()
            for entry in together:
                ledger.append(entry)
            ledger.sync()
            spent += time.perf_counter() - begun
    return spent


def lease_s(folder: Path) -> float:
    """Seconds to take the lease on a disk and to give it back; in between it costs nothing there."""
    (folder / "leased").mkdir()
    begun = time.perf_counter()
    with Lease.take(Store(folder / "leased")):
        pass
    return time.perf_counter() - begun


def watch_s(folder: Path, seconds: float, looks: int = 500) -> float:
    """Seconds of looking, at segments and for requests, in a run that takes so many."""
    watch = Watch(silence=1800.0, search_seconds=1e6, seconds=1e6, requests=Store(folder / "requests"))
    for segment in range(SLOTS):
        watch.runs(segment, lambda: None)
    begun = time.perf_counter()
    for _ in range(looks):
        watch.look()
        watch.answer()
    return (time.perf_counter() - begun) / looks * LOOKS_A_SECOND * seconds


def search() -> Director:
    """Random search with ASHA over one number."""

    def plan(_: Director) -> Pair:
        return Pair(
            searcher=Random(Random.Config(), Heights(), 0),
            scheduler=Asha(Asha.Config(eta=2, grace_period=1), EPOCHS),
            first=[Heights().default()],
            trials=TRIALS,
            epochs=EPOCHS,
            outcome=lambda metrics: Outcome((float(metrics["score"]),)),
        )

    return Director([Stage("search", "noop", plan, timed=True, watched=("score",), trials=TRIALS)])


def course(config: dict[str, Any]) -> Curve:
    """What a height comes to."""
    return Curve(lambda epochs: {"score": config["height"] * (1 - 0.5**epochs), "params": 1})


def write(store: Store) -> None:
    """A ledger of 10,000 trials, as a simulation decides them."""
    stage = {"name": "search", "trials": TRIALS}
    spec = {"name": "replay", "stages": [stage], "objectives": {"score": "max"}, "max_failed": 0.5}
    director, shadow = search(), search()
    with Ledger(store) as ledger:
        ledger.append({"event": "opened", "spec": spec, "data": {}, "at": 0.0})
        for at, event in simulate(director, course, SLOTS):
            ledger.append({**to_record(event), "verdict": shadow.tell(event), "at": at})


def replay(folder: Path) -> dict[str, float]:
    """Seconds to read that ledger, to fold it, and to replay it with the strategies deciding."""
    store = Store(folder / "replay")
    write(store)
    begun = time.perf_counter()
    records = read(store)
    was_read = time.perf_counter()
    history.fold(records)
    was_folded = time.perf_counter()
    director = search()
    for entry in records:
        event = from_record(entry)
        if event is not None and director.tell(event) != entry["verdict"]:
            raise RuntimeError("the replay decides otherwise")
    was_replayed = time.perf_counter()
    return {
        "records": len(records),
        "read_s": round(was_read - begun, 3),
        "fold_s": round(was_folded - was_read, 3),
        "replay_s": round(was_replayed - was_folded, 3),
        "report_s": round(was_folded - begun, 3),
        "resume_s": round(was_replayed - was_folded + was_read - begun, 3),
    }


def measure(folder: Path, *, smoke: bool) -> dict[str, Any]:
    """All figures."""
    records = quickstart(folder, smoke=smoke)
    seconds = records[-1]["at"] - records[0]["at"]
    spent = {"ledger_s": ledger_s(records, folder), "lease_s": lease_s(folder), "watch_s": watch_s(folder, seconds)}
    return {
        "quickstart_s": round(seconds, 1),
        "quickstart_records": len(records),
        **{name: round(value, 4) for name, value in spent.items()},
        "share": round(sum(spent.values()) / seconds, 5),
        "bound_share": BOUND_SHARE,
        "trials": TRIALS,
        **replay(folder),
        "bound_replay_s": BOUND_REPLAY_S,
    }


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.upkeep", description=__doc__)
    parser.add_argument("--short", action="store_true", help="with the quickstart's smoke run, nothing recorded")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="upkeep-") as folder:
        found = measure(Path(folder), smoke=options.short)
    if options.short:
        print(json.dumps(found))
    else:
        record("upkeep", found, ("ray", "torch", "numpy"))


if __name__ == "__main__":
    main()
