"""A finished experiment goes on with more trials: of its last stage, whose finalists are then picked anew."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from experiments.engine import runs, strategies
from experiments.engine.events import Extended
from experiments.engine.plan import Plan
from experiments.engine.runs import Run
from experiments.engine.spec import Spec, checked
from experiments.engine.stage import Stage
from trainables.parsing import ParseError
from trainables.store import Store


def finished(storage: Store, experiment: str) -> Run:
    """The newest run of an experiment. Raises ParseError where there is none, or where that one has not ended."""
    unfinished = runs.unfinished(storage, experiment)
    newest = next((run for run in runs.every(storage) if run.experiment == experiment and not run.fault), None)
    if newest is None:
        raise ParseError([f"--extend: there is no run of {experiment} under {storage.shown}; run it without --extend"])
    if unfinished is not None and unfinished.name == newest.name:
        raise ParseError([f"--extend: {newest.name} has not come to its end; go on with it without --extend first"])
    return newest


def as_it_ran(run: Run, settings: Sequence[str]) -> Spec:
    """The spec of a run as it was before it was first extended, with settings of today. Raises ParseError."""
    values, added = copy.deepcopy(run.spec), _added(run.records)
    if added:  # only a stage with a number of trials can have been extended
        values["stages"][-1]["trials"] -= added
    return checked(values, settings)


def _added(records: Sequence[Mapping[str, Any]]) -> int:
    return sum(record["trials"] for record in records if record.get("event") == "extended")


def extended(plan: Plan, records: Sequence[Mapping[str, Any]], more: int) -> Plan:
    """The plan with the trials that a run was extended by, and `more`. Raises ParseError where these cannot be."""
    count = more + _added(records)
    if not count:
        return plan
    stage = plan.spec.stages[-1]
    if why_not := _fixed(stage):
        raise ParseError([f"--extend {more}: adds trials to the last stage, and {stage.name} {why_not}; leave it out"])
    return replace(plan, spec=plan.spec.apply({f"stages.{stage.name}.trials": (stage.trials or 0) + count}))


def _fixed(stage: Stage) -> str:
    """Why a stage can have no more trials; nothing where it can."""
    if not stage.space or stage.each:
        return "searches nothing"
    if stage.search.searcher.name in strategies.find("STRATEGY"):
        return f"is of {stage.search.searcher.name}, whose trials come to their end together"
    return "searches until the time is up" if stage.trials is None else ""


def event(plan: Plan, more: int) -> Extended:
    """What the ledger keeps of it."""
    return Extended(plan.spec.stages[-1].name, more)
