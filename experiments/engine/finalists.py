"""After the last search: the best of the frontier, trained again with other seeds, exported and measured.

One seed's figure is a draw: among many trials the best of them is so by luck as well. With `finalists.seeds` above 1
each finalist is trained anew with more seeds, as its search trained it, and `choose` goes by the lower end of the
interval over all of them (`interval`).
"""

from typing import Any

from experiments.engine.director import Director, Trial
from experiments.engine.report.summary import FINALISTS, again, picks
from experiments.engine.spec import Spec
from experiments.engine.strategies.listed import Listed

Config = dict[str, Any]


def picked(spec: Spec, director: Director) -> list[Trial]:
    """The finalists, the best by `choose` first, as far as their weights are there."""
    of = spec.finalists.of or (_last(spec, director),)
    chosen = picks([trial for name in of for trial in director.of_stage(name)], spec.resolved())
    return [trial for trial in chosen if trial.checkpoint is not None]


def repeats(spec: Spec, stage: str, director: Director) -> Listed:
    """The finalists of a stage, each as often as there are seeds beside its own; a trial's seed follows from its stage
    and number, so that equal configurations differ in it.
    """
    before = director.of_stage(again(stage))  # of an experiment that was extended
    known = [trial.config for trial in before]
    chosen = [trial for trial in picked(spec, director) if trial.stage == stage and trial.config not in known]
    asked = [trial for trial in chosen for _ in range(spec.finalists.seeds - 1)]
    return Listed([trial.config for trial in asked], len(before), [trial.epochs for trial in asked])


def exports(spec: Spec, director: Director) -> Listed:
    """What is exported: every finalist in every precision, the repeats of its training beside it."""
    asked = [
        _export(spec, trial, precision, director)
        for trial in picked(spec, director)
        for precision in spec.finalists.precision
    ]
    before = director.of_stage(FINALISTS)  # of an experiment that was extended
    exported = [trial.config for trial in before if not trial.failed]
    return Listed([config for config in asked if config not in exported], len(before))


def _export(spec: Spec, trial: Trial, precision: str, director: Director) -> Config:
    assert trial.checkpoint is not None
    again_trained = [other for other in director.of_stage(again(trial.stage)) if other.config == trial.config]
    found = {
        "task": {"name": spec.task.name, **spec.task.options},
        "trial": trial.id,
        "checkpoint": trial.checkpoint.path,
        "target": spec.target,
        "experiment": spec.name,
        "model": spec.stage(trial.stage).options.get("model"),
        "flops": trial.metrics.get("flops", 0),
        "precision": precision,
    }
    places = [other.checkpoint.path for other in again_trained if other.checkpoint and _whole(other, trial)]
    return {**found, "repeats": places} if places else found


def _whole(other: Trial, trial: Trial) -> bool:
    """Whether a repeat came as far as the trial did."""
    return not other.failed and other.epochs >= trial.epochs


def _last(spec: Spec, director: Director) -> str:
    """The last stage; where the time was up before it had a result, the last that has one."""
    names = [stage.name for stage in spec.stages]
    if not director.expired:
        return names[-1]
    found = (name for name in reversed(names) if any(t.reports and not t.failed for t in director.of_stage(name)))
    return next(found, names[-1])
