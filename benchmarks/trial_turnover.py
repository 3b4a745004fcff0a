"""What running a trial costs, its work left out: 100 trials of a routine that does nothing, three results each.

Ours: director, ledger, bridge, retention and live view, as `python -m experiments run` has them; it checkpoints with
every result and keeps the last, so it writes three where the rivals write one. Rivals: plain Ray Tune with its default
settings (once, it is slow), and with `reuse_actors=True` (alternating with ours). Each turn has a process and a Ray of
its own; timed is the search, from opening the ledger or making the Tuner to the last result, the start of its worker
processes included.
"""

import argparse
import contextlib
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray import tune
from rich.console import Console

from benchmarks import noop
from benchmarks.machine import record
from experiments.engine import launch
from experiments.engine.bridge import Bridge
from experiments.engine.director import Director, Stage
from experiments.engine.events import Segment
from experiments.engine.ledger import Ledger
from experiments.engine.outcome import Outcome
from experiments.engine.report.live import LiveView
from experiments.engine.retention import Retention
from experiments.engine.strategies.none import Unscheduled
from experiments.engine.strategies.pair import Pair
from experiments.engine.strategies.random import Random
from trainables.store import Store

TRIALS = 100
REPORTS = 3
# At most these shares of the rivals' wall time.
BOUND_DEFAULT, BOUND_REUSE = 0.1, 1.0


class Heights:
    """A space of one number."""

    def default(self) -> dict[str, Any]:
        """Its middle."""
        return {"height": 0.5}

    def draw(self, seed: int, index: int) -> dict[str, Any]:
        """A uniform number."""
        return {"height": random.Random(f"{seed}/{index}").random()}


def ours(folder: Path, trials: int = TRIALS) -> None:
    """The search through our engine."""
    with Ledger(folder) as ledger:
        director = Director([Stage("search", "noop", lambda _: _strategy(trials), timed=True, watched=("score",))])
        slots = launch.slots(launch.resources(1, 0))
        view = LiveView(director, {"search": trials}, ("score", "max"), Console())
        keep = Retention(director, ledger, Store(folder), {"score": "max"})
        launch.execute(Bridge(director, ledger, _job(folder), slots=lambda: slots, observers=(keep, view)), slots)
    _counted([len(trial.reports) for trial in director.trials.values()], trials)


def _strategy(trials: int) -> Pair:
    space = Heights()
    return Pair(
        searcher=Random(Random.Config(), space, 0),
        scheduler=Unscheduled(Unscheduled.Config(), REPORTS),
        first=[space.default()],
        trials=trials,
        epochs=REPORTS,
        outcome=lambda metrics: Outcome((float(metrics["score"]),)),
    )


def _job(folder: Path) -> Callable[[Segment], dict[str, Any]]:
    def told(segment: Segment) -> dict[str, Any]:
        return {
            "routine": f"{noop.__file__}:ROUTINE",
            "segment": {"number": segment.number, "id": f"search-{segment.trial:03d}", "start": None},
            "values": segment.config,
            "store": str(folder),
            "inputs": {},
            "checkpoints": True,
            "resources": {"cpu": 1, "gpu": 0},
        }

    return told


class Plain(tune.Trainable):
    """The same routine for plain Ray Tune, which writes a checkpoint when a trial ends."""

    def setup(self, config: dict[str, Any]) -> None:
        """Takes the one parameter."""
        self._height = config["height"]

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Serves another trial."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """One epoch of nothing."""
        return {"epochs": self.iteration + 1, "score": self._height}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """The state is one number."""
        (Path(checkpoint_dir) / "epochs.txt").write_text(str(self.iteration))


def default(folder: Path) -> None:
    """Plain Ray Tune as it comes."""
    _plain(folder, reuse=False)


def reuse(folder: Path) -> None:
    """Plain Ray Tune that reuses its actors."""
    _plain(folder, reuse=True)


def _plain(folder: Path, *, reuse: bool) -> None:
    results = tune.Tuner(
        Plain,
        param_space={"height": tune.uniform(0, 1)},
        tune_config=tune.TuneConfig(metric="score", mode="max", num_samples=TRIALS, reuse_actors=reuse),
        run_config=tune.RunConfig(storage_path=str(folder), stop={"training_iteration": REPORTS}),
    ).fit()
    reports = [(result.metrics or {}).get("training_iteration") for result in results]
    _counted([count if result.checkpoint else None for count, result in zip(reports, results, strict=True)], TRIALS)


def _counted(reports: list[int | None], trials: int) -> None:
    if reports != [REPORTS] * trials:
        raise RuntimeError(f"expected {trials} trials of {REPORTS} reports, got {reports}")


CONTESTANTS: Mapping[str, Callable[[Path], None]] = {"ours": ours, "default": default, "reuse": reuse}


def turn(name: str) -> float:
    """Seconds that one contestant takes, in this process."""
    launch.connect(None)
    with tempfile.TemporaryDirectory(prefix="turnover-") as folder, contextlib.redirect_stdout(sys.stderr):
        begun = time.perf_counter()
        CONTESTANTS[name](Path(folder))
        return time.perf_counter() - begun


def _in_own_process(name: str) -> float:
    command = [sys.executable, "-m", "benchmarks.trial_turnover", "--turn", name]
    # Ray reads its settings when it is imported.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name} failed:\n{done.stderr[-4000:]}")
    seconds = float(done.stdout.splitlines()[-1])
    print(f"{name:<8} {seconds:7.2f} s, {1000 * seconds / TRIALS:6.1f} ms a trial", flush=True)
    return seconds


def compare(rounds: int) -> dict[str, Any]:
    """The figures by name: medians over the rounds, in which ours and the quick rival alternate."""
    seconds: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    for number in range(rounds):
        for name in ("ours", "reuse") if number % 2 == 0 else ("reuse", "ours"):
            seconds[name].append(_in_own_process(name))
    seconds["default"].append(_in_own_process("default"))
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "trials": TRIALS,
        "ratio_default": round(middle["ours"] / middle["default"], 4),
        "ratio_reuse": round(middle["ours"] / middle["reuse"], 4),
        "bound_default": BOUND_DEFAULT,
        "bound_reuse": BOUND_REUSE,
        **{f"{name}_s": round(value, 3) for name, value in middle.items()},
        "turns_s": {name: [round(value, 3) for value in values] for name, values in seconds.items()},
    }


def main() -> None:
    """One turn as a child process; else the comparison."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trial_turnover", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--turn", choices=tuple(CONTESTANTS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.turn:
        print(turn(options.turn), flush=True)
        os._exit(0)  # Ray's shutdown is not timed, and need not be waited for
    record("trial_turnover", compare(options.rounds), ("ray", "torch", "numpy"))


if __name__ == "__main__":
    main()
