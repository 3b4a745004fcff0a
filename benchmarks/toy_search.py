"""The toy search of benchmarks.faults, twice: for our command line, and for plain Ray Tune."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune

from benchmarks import counting
from experiments.engine import launch
from trainables.data import default_cache
from trainables.parsing import parse
from trainables.routine import Workspace

TRIALS, EPOCHS, ETA = 12, 9, 3
SECONDS = 0.4
# Without a report for so long a trial of ours counts as hung; a play without a new epoch for so long is given up.
SILENCE, PATIENCE = 10, 90


@dataclass(frozen=True)
class Play:
    """One kind of fault, and the counts of epochs at which it comes."""

    fault: str
    moments: tuple[int, ...] = ()
    diverges: tuple[int, ...] = ()


def heights() -> list[float]:
    """The points: 0.5, then spread evenly."""
    return [round((0.5 + trial * 0.6180339887) % 1, 4) for trial in range(TRIALS)]


def settings(play: Play, folder: Path) -> dict[str, Any]:
    """What the routine is told besides its point."""
    tiny = {"n_layers": 1, "d_model": 16, "n_heads": 1, "d_head": 16, "d_ff": 16, "patch": 4}
    diverges = {f"{heights()[trial]:g}": 2 for trial in play.diverges}
    return {**tiny, "log": str(folder / "log"), "seconds": SECONDS, "diverges": diverges}


TASK = {"name": "image_classification", "data": "digits", "sample": 100}


def ours(play: Play, folder: Path) -> list[str]:
    """The command line: the same command begins and goes on."""
    stage = {
        "name": "search",
        "routine": f"{counting.__file__}:ROUTINE",
        "space": f"{counting.__file__}:SPACE",
        "initial": [{"height": height} for height in heights()[1:]],
        "options": settings(play, folder),
        "search": {"scheduler": {"name": "asha", "eta": ETA}},
        "trials": TRIALS,
        "epochs": EPOCHS,
    }
    spec = {"name": "toy", "task": TASK, "stages": [stage], "objectives": {"val_accuracy": "max"}}
    rest = {"finalists": {"count": 1}, "silence": SILENCE, "resources": {"cpu": 1, "gpu": 0}}
    (folder / "toy.yaml").write_text(json.dumps({**spec, **rest}))
    return ["-m", "experiments", "run", str(folder / "toy.yaml"), "--storage", str(folder / "results")]


def rival(play: Play, folder: Path) -> list[str]:
    """This module, as the driver of a plain Ray Tune."""
    (folder / "settings.json").write_text(json.dumps(settings(play, folder)))
    return ["-m", "benchmarks.faults", "--driver", str(folder)]


class Plain(tune.Trainable):
    """The routine for plain Ray Tune."""

    def setup(self, config: dict[str, Any]) -> None:
        """A routine of its own for each trial."""
        values = {**config, "task": TASK, "epochs": EPOCHS}
        workspace = Workspace(default_cache(), Path(self.logdir))
        self._routine = counting.Counting(parse(counting.CountingConfig, values), workspace)

    def step(self) -> dict[str, Any]:
        """One epoch."""
        return self._routine.advance()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """The routine's own."""
        self._routine.save(Path(checkpoint_dir))

    def load_checkpoint(self, checkpoint: str | dict[str, Any] | None) -> None:
        """Goes on from there."""
        self._routine.load(Path(str(checkpoint)))


def drive(folder: Path) -> None:
    """Plain Ray Tune: restored where it can be, as its documentation has it."""
    launch.connect(None)
    place = str(folder / "results" / "toy")
    if tune.Tuner.can_restore(place):
        tune.Tuner.restore(place, Plain, resume_unfinished=True, resume_errored=True).fit()
        return
    space = {**json.loads((folder / "settings.json").read_text()), "height": tune.grid_search(heights())}
    run = tune.RunConfig(
        name="toy",
        storage_path=str(folder / "results"),
        stop={"training_iteration": EPOCHS},
        failure_config=tune.FailureConfig(max_failures=3),
        checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1, num_to_keep=2),
    )
    resources = tune.with_resources(Plain, {"cpu": 1})
    tune.Tuner(resources, param_space=space, tune_config=tune.TuneConfig(scheduler=_asha()), run_config=run).fit()


def _asha() -> tune.schedulers.ASHAScheduler:
    return tune.schedulers.ASHAScheduler(
        time_attr="training_iteration",
        metric="val_accuracy",
        mode="max",
        max_t=EPOCHS,
        grace_period=1,
        reduction_factor=ETA,
    )


CONTESTANTS = {"ours": ours, "ray tune": rival}
