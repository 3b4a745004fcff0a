"""What stands for the references of `handed`: trials that are there by now, and their checkpoints.

A reference stays in a config as it is, so that the ledger holds what was asked for; a segment is told, beside its
config, which checkpoint each of them stands for.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.engine.director import Director, Trial
from experiments.engine.frontier import feasible, score
from experiments.engine.handed import FORM, LIKE, within
from experiments.engine.report.summary import again, choice, frontier, ranked

Json = Mapping[str, Any]


def to(trial: Trial) -> str:
    """The reference to one trial."""
    return f"stages.{trial.stage}.{trial.number}"


def paths(values: Any, director: Director, spec: Json) -> dict[str, str]:
    """What the references in `values` stand for, by reference: a checkpoint's path in the run's folder.

    Those to a stage without a result are left out. The best of a stage need not meet the constraints, as a teacher
    does not, but where it gives its architecture (`like`).
    """
    found = {name: _trial(name, path, director, spec) for path, name in within(values)}
    return {name: trial.checkpoint.path for name, trial in found.items() if trial and trial.checkpoint}


def picks(stage: Json, director: Director, spec: Json) -> list[Trial]:
    """What a stage with `each` takes: of the frontier that meets the constraints the best by `choose` first, without
    those whose latency is less than `apart` times another's.
    """
    each = stage["each"]
    taken: list[Trial] = []
    for trial in ranked(director.of_stage(each["stage"]), spec):
        if trial.checkpoint and all(_ratio(trial, other) >= each["apart"] for other in taken):
            taken.append(trial)
    return taken[: each["count"]]


def needed(director: Director, spec: Json) -> set[str]:
    """Ids of the trials whose checkpoint a stage that has not ended takes."""
    found: set[str] = set()
    for stage in spec.get("stages", ()):
        handed_on = stage["each"] or list(within(stage["options"]))
        takers = [name for name in (stage["name"], again(stage["name"])) if name in director.stages]
        if not handed_on or all(director.done(name) for name in takers):
            continue
        best = [_trial(name, path, director, spec) for path, name in within(stage["options"])]
        best += picks(stage, director, spec) if stage["each"] else []
        found |= {trial.id for trial in best if trial}
    return found


def _trial(name: str, path: str, director: Director, spec: Json) -> Trial | None:
    match = FORM.fullmatch(name)
    assert match is not None
    if match[2]:
        return director.trials.get((match[1], int(match[2])))
    trials = director.of_stage(match[1])
    if path == LIKE:
        trials = [trial for trial in trials if feasible(trial.metrics, spec["constraints"])]
    return _best(trials, spec)


def _best(trials: Sequence[Trial], spec: Json) -> Trial | None:
    """By `choose`, of the frontier: it is on disk."""
    name, direction = choice(spec)
    there = [trial for trial in trials if trial.checkpoint and trial.ended and not trial.failed]

    def value(trial: Trial) -> float:
        number = score(trial.metrics, name, direction)
        return number if math.isfinite(number) else -math.inf

    return max(frontier(there, spec["objectives"]), key=value, default=None)


def _ratio(one: Trial, other: Trial) -> float:
    """Of their latencies, at least 1; infinite where one has none."""
    values = [score(trial.metrics, "latency_ms", "max") for trial in (one, other)]
    low, high = min(values), max(values)
    return high / low if low > 0 and math.isfinite(high) else math.inf
