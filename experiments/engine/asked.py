"""Metrics that an experiment asks for and no trial reports: refused before anything is trained."""

from collections.abc import Iterator, Mapping
from typing import Any

from experiments.engine.spec import Spec
from experiments.engine.stage import Stage
from tasks.task import Data
from trainables import routine
from trainables.parsing import suggestion


def faults(spec: Spec, stage: Stage, values: Mapping[str, Any], data: Data) -> list[str]:
    """A line for each metric in `objectives`, `constraints` and `choose` that the trials of a stage never report.

    `values` make a config of the stage's routine. Nothing where a routine does not say what it reports.
    """
    there = routine.reported(stage.routine, values, data)
    if there is None:
        return []
    reports = f"{stage.routine} reports {', '.join(sorted(there))}"
    return [
        f"{where}: stages.{stage.name} never reports {name!r}{_near(name, there)}; {reports}"
        for where, name in _asked(spec)
        if name not in there
    ]


def _near(name: str, there: list[str]) -> str:
    found = suggestion(name, there).removeprefix("; ")
    return f" ({found})" if found.startswith("did you mean") else ""


def _asked(spec: Spec) -> Iterator[tuple[str, str]]:
    for field in ("objectives", "constraints"):
        yield from ((field, name) for name in getattr(spec, field))
    if "choose" in spec.model_fields_set:
        yield from (("choose", name) for name in spec.choose.values() if name not in spec.objectives)
