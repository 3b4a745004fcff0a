"""The schedule of configurations that a line of trials went through, each begun from the last: what PBT finds."""

import json
from typing import Any

from experiments.engine.director import Director, Trial
from experiments.engine.report.summary import ranked
from experiments.engine.spec import Spec
from trainables.store import Store

Step = dict[str, Any]


def name(stage: str) -> str:
    """The file in the run's folder."""
    return f"schedule-{stage}.json"


def schedule(director: Director, trial: Trial) -> list[Step]:
    """Steps in order: {"trial", "epochs" reached, "config"}; of a trial that began from none, one."""
    steps: list[Step] = []
    until = trial.epochs
    while True:
        steps.insert(0, {"trial": trial.id, "epochs": until, "config": trial.config})
        start = director.segments[trial.reports[0].segment].start
        owner = trial if start is None else director.trial_of(int(start.path.split("/")[-2]))
        if start is None or owner is trial:
            return steps
        trial, until = owner, start.epochs


def write(spec: Spec, director: Director, store: Store) -> None:
    """Of each stage of a population the schedule of its best trial, for the searcher `replay`."""
    for stage in spec.stages:
        best = ranked(director.of_stage(stage.name), spec.resolved())
        if stage.search.searcher.name == "pbt" and best:
            found = {"stage": stage.name, "trial": best[0].id, "schedule": schedule(director, best[0])}
            store.write(name(stage.name), json.dumps(found, indent=1).encode())
