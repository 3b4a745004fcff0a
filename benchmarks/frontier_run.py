"""A finished run of an experiment of frontiers, as its ledger tells it: trials, artifacts, what is picked, compute."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.engine import history, references, runs
from experiments.engine.director import Director, Trial
from experiments.engine.frontier import non_dominated
from experiments.engine.report.summary import CLASSICAL, FINALISTS
from tasks.task import Data
from trainables.data import default_cache, prepare
from trainables.handed import with_paths
from trainables.store import Store

Json = dict[str, Any]
SHARES = (0.99, 0.97)  # of the teacher's accuracy, at which speeds are told
APART = 1.3
# A smaller precision is preferred that is so much slower, and so much less right on validation, at most.
_SLOWER, _LOST = 1.1, 0.002


@dataclass(frozen=True)
class Finished:
    """A run in a folder of this machine."""

    folder: Path
    spec: Mapping[str, Any]
    director: Director

    @property
    def task(self) -> Json:
        """The task block."""
        return dict(self.spec["task"])

    def data(self) -> Data:
        """What its trials saw."""
        return prepare(self.task, default_cache())

    def stage(self, routine: str) -> Json | None:
        """The spec of the first stage of that routine."""
        return next((stage for stage in self.spec["stages"] if stage["routine"] == routine), None)

    def trials(self, routine: str) -> list[Trial]:
        """The trials with a result, of all stages of that routine."""
        names = [stage["name"] for stage in self.spec["stages"] if stage["routine"] == routine]
        found = [trial for name in names for trial in self.director.of_stage(name)]
        return [trial for trial in found if trial.reports and not trial.failed]

    def trial(self, name: str) -> Trial:
        """By its id."""
        return next(trial for trial in self.director.trials.values() if trial.id == name)

    @property
    def teacher(self) -> Trial:
        """The trial that the students learn from."""
        place = references.paths("stages.teacher", self.director, self.spec)["stages.teacher"]
        return next(t for t in self.trials("train") if t.checkpoint and t.checkpoint.path == place)

    @property
    def classical(self) -> Json:
        """Report of the linear baseline."""
        return dict(self.director.of_stage(CLASSICAL)[0].metrics)

    def checkpoint(self, trial: Trial) -> Path:
        """Where its weights lie."""
        if trial.checkpoint is None:
            raise ValueError(f"trial {trial.id} of {self.folder} has no checkpoint; the run must keep it")
        return self.folder / trial.checkpoint.path

    def settings(self, trial: Trial) -> Json:
        """The whole config of a trial, as `trainables` takes it, but for its seed."""
        stage = next(stage for stage in self.spec["stages"] if stage["name"] == trial.stage)
        values = {**stage["options"], "task": self.task, "epochs": stage["epochs"], **trial.config}
        places = references.paths(values, self.director, self.spec)
        found: Json = with_paths(values, {name: str(self.folder / path) for name, path in places.items()})
        return found


def read(folder: Path) -> Finished:
    """The run in a folder. Raises ValueError where there is none, or one that has not come to its end."""
    found = runs.load(Store(str(folder)))
    if found is None or found.fault or not found.finished:
        raise ValueError(
            f"run {folder} {'is not there' if found is None else found.fault or 'has not come to its end'}; "
            "finish it, or give the folder of another with --run"
        )
    return Finished(folder, found.spec, history.fold(found.records))


def candidates(run: Finished) -> dict[str, Json]:
    """By name, what can be picked; of each its trial, precision and accuracy on validation. Test is not looked at."""
    found = {}
    for trial in run.director.of_stage(FINALISTS):
        if trial.failed or not trial.reports:
            continue
        name = str(trial.metrics["artifact"])
        found[name.removeprefix("artifacts/")] = {
            "trial": trial.config["trial"],
            "precision": trial.config["precision"],
            "folder": str(run.folder / name),
            "val_accuracy": trial.metrics["val_accuracy"],
            "size_mb": trial.metrics["size_mb"],
        }
    return found


def lean(found: Mapping[str, Json]) -> dict[str, Json]:
    """Of every trial one precision: the smallest of those that are nearly as quick and as right as its best."""
    kept = {}
    for trial in dict.fromkeys(each["trial"] for each in found.values()):
        of = {name: each for name, each in found.items() if each["trial"] == trial}
        quickest = min(each["latency_ms"] for each in of.values())
        most_right = max(of, key=lambda name: of[name]["val_accuracy"])
        near = [
            name
            for name, each in of.items()
            if each["latency_ms"] <= _SLOWER * quickest
            and each["val_accuracy"] >= of[most_right]["val_accuracy"] - _LOST
        ]
        name = min(near, key=lambda name: of[name]["size_mb"], default=most_right)
        kept[name] = of[name]
    return kept


def picked(found: Mapping[str, Json], teacher: float, margin: float) -> tuple[list[str], dict[str, str | None]]:
    """Names of the picks, the slowest first, and the headline of each share: the fastest that has so much of the
    teacher's accuracy.

    found: `val_accuracy` and `latency_ms` by name. margin: what a headline must have beyond its share on validation,
    so that chance does not undo it on test. Headlines are picked; then, from the most accurate on, what no other
    dominates and is at least 1.3 times as fast or as slow as every other pick.
    """
    names = list(found)
    points = [(found[name]["val_accuracy"], -found[name]["latency_ms"]) for name in names]
    best = [names[index] for index in non_dominated(points)]
    best.sort(key=lambda name: -found[name]["latency_ms"])
    heads = {f"{share:.2f}": _fastest(found, best, (share + margin) * teacher) for share in SHARES}
    taken: list[str] = []
    for name in [*dict.fromkeys(name for name in heads.values() if name), *best]:
        if all(_ratio(found, name, other) >= APART for other in taken) and name not in taken:
            taken.append(name)
    return sorted(taken, key=best.index), heads


def _fastest(found: Mapping[str, Json], best: Sequence[str], least: float) -> str | None:
    return next((name for name in reversed(best) if found[name]["val_accuracy"] >= least), None)


def _ratio(found: Mapping[str, Json], one: str, other: str) -> float:
    low, high = sorted(found[name]["latency_ms"] for name in (one, other))
    return float(high / low)


def compute(run: Finished) -> Json:
    """Training FLOPs by part, and how many times the teacher's fine-tuning all after it came to.

    Training as counted batch by batch, backward twice forward. Labelling: one pass of the teacher over every text, at
    the mean length of validation. Search: one pass over the examples that subnets are scored on. Evaluation between
    epochs and the scoring of what is important (512 examples) are left out.
    """
    parts = {"teacher": training_flops(run.teacher), "labelling": _labelling(run), "search": search_flops(run)}
    for routine in ("distill", "supernet", "compress"):
        parts[routine] = sum(training_flops(trial) for trial in run.trials(routine))
    after = sum(parts.values()) - parts["teacher"]
    return {"flops": parts, "over_teacher": after / parts["teacher"], "with_teacher": after / parts["teacher"] + 1}


def search_flops(run: Finished) -> float:
    """Of scoring the subnets."""
    if not (found := run.trials("subnet")):
        return 0.0
    n = len(run.data().splits["validation"])
    return float(sum(t.metrics["flops"] * min(run.settings(t).get("examples", 1000), n) for t in found))


def training_flops(trial: Trial) -> float:
    """Of all its stretches."""
    return float(sum(report.metrics["training_flops"] for report in trial.reports))


def examples_of(trial: Trial) -> int:
    """In an epoch, unlabelled ones among them."""
    samples: int = trial.metrics["samples"]
    return round(samples / trial.epochs)


def _labelling(run: Finished) -> float:
    """What stages of the same texts share is answered once."""
    texts: dict[tuple[Any, Any], int] = {}
    for trial in [*run.trials("distill"), *run.trials("supernet")]:
        settings = run.settings(trial)
        key = (settings.get("transfer"), settings.get("versions"))
        texts[key] = examples_of(trial) * (settings.get("versions") or 1)
    return float(sum(texts.values()) * run.teacher.metrics["flops"])
