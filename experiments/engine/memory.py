"""The library of past experiments: their ledgers, wherever they lie, and what a new search can take from them."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from experiments.engine import history, runs
from experiments.engine.chain import LedgerError
from experiments.engine.outcome import Outcome, outcome
from experiments.engine.plan import Plan
from experiments.engine.portfolio import Config, Search, nearest, portfolio
from experiments.engine.runs import Run
from experiments.engine.spec import SMOKE, Spec
from experiments.engine.stage import Stage
from experiments.engine.strategies import ADVISED_EVERY
from experiments.engine.trial import Trial
from tasks.features import features
from trainables.parsing import ParseError, suggestion
from trainables.store import StorageError, Store

# The most points that are taken from the past.
MOST = 48


class Advice(NamedTuple):
    """Points to try, the first at the front, and the past searches that they are of: RUN/STAGE."""

    points: list[Config]
    searches: list[str]


def remembered(plan: Plan, storage: Store) -> dict[str, Advice]:
    """By stage what its search tries in turns with its searcher, as `warm_start` says: the best of similar past
    searches in `storage` (auto: of smoke runs for a smoke run alone) or in the folders given.

    Raises ParseError, a line a path: one that is no ledger, or none of whose searches was of a stage's space.
    """
    spec = plan.spec
    if spec.warm_start == "none":
        return {}
    if spec.warm_start == "auto":
        smoke = spec.name.endswith(SMOKE)
        past = [run for run in runs.every(storage) if not run.fault and run.experiment.endswith(SMOKE) == smoke]
        return _portfolios(plan, list(_told(past)))
    found: list[_Told] = []
    faults: list[str] = []
    for path in spec.warm_start:
        try:
            there = list(_told(_runs(path), strict=True))
        except (ValueError, StorageError) as error:
            faults.append(f"warm_start {path!r}: {error}")
            continue
        faults += _of_another_space(plan, path, there)
        found += there
    if faults:
        raise ParseError(faults)
    return _portfolios(plan, found)


_Told = tuple[Run, dict[str, list[Trial]]]


def _runs(path: str) -> list[Run]:
    """The run in a folder, or those in a folder of runs. ValueError where there is none."""
    place = Store(path)
    there = place.local is None or place.local.is_dir()
    run = runs.load(place) if there else None
    found = [run] if run else list(runs.every(place)) if there else []
    if not found:
        what, near = "holds no ledger" if there else "is no folder", suggestion(path.lower(), ["auto", "none"])
        meant = near if near.startswith("; did you mean") else ""
        raise ValueError(f"{what}; give the folder of a run, a folder of runs, auto or none{meant}")
    return found


def _told(past: Sequence[Run], *, strict: bool = False) -> Iterator[_Told]:
    """Each run with its trials by stage. What cannot be read is passed over, or (strict) raises LedgerError."""
    for run in past:
        try:
            if run.fault:
                raise LedgerError(run.fault)
            director = history.fold(run.records)
            stages = {stage["name"]: director.of_stage(stage["name"]) for stage in run.spec["stages"]}
        except (LedgerError, LookupError, TypeError) as error:
            if strict:
                raise ValueError(str(error)) from error
            continue
        yield run, stages


def _of_another_space(plan: Plan, path: str, there: Sequence[_Told]) -> list[str]:
    searched = [stage for stage in plan.spec.stages if _searches(stage)]
    if not searched:
        return [f"warm_start {path!r}: no stage searches a space; leave warm_start out"]
    if any(_search(plan, stage, told, name) for stage in searched for told in there for name in told[1]):
        return []
    wanted = ", ".join(f"{stage.name} ({' + '.join(stage.space)}, routine {stage.routine})" for stage in searched)
    return [f"warm_start {path!r}: holds no trial in the space of stages {wanted}; give another, or none"]


def _searches(stage: Stage) -> bool:
    return bool(stage.space) and stage.each is None


def _portfolios(plan: Plan, past: Sequence[_Told]) -> dict[str, Advice]:
    return {stage.name: _advice(plan, stage, past) for stage in plan.spec.stages if _searches(stage)}


def _advice(plan: Plan, stage: Stage, past: Sequence[_Told]) -> Advice:
    now = features(plan.data)
    searches = [found for told in past for name in told[1] if (found := _search(plan, stage, told, name))]
    points = portfolio(plan.spaces[stage.name], now, searches, _count(stage))
    return Advice(points, [search.name for _, search in nearest(now, searches)])


def _count(stage: Stage) -> int:
    """No more than it has turns for."""
    return MOST if stage.trials is None else min(MOST, (stage.trials + 1) // ADVISED_EVERY)


def _search(plan: Plan, stage: Stage, told: _Told, name: str) -> Search | None:
    """A past stage as a search of a stage's space: nothing where its routine is another, or no trial counts here."""
    run, stages = told
    past = next(each for each in run.spec["stages"] if each["name"] == name)
    if past.get("routine", "train") != stage.routine:
        return None
    space = plan.spaces[stage.name]
    trials = [trial for trial in stages[name] if (trial.reports or trial.failed) and space.legal(trial.config)]
    outcomes = [_outcome(plan.spec, trial) for trial in trials]
    if not any(outcomes):
        return None
    return Search(f"{run.name}/{name}", _features(run.header), [trial.config for trial in trials], outcomes)


def _outcome(spec: Spec, trial: Trial) -> Outcome | None:
    """By today's objectives and constraints; None where it failed, or has not all of them."""
    found = outcome(trial.metrics, spec.objectives, spec.resolved()["constraints"])
    complete = not trial.failed and not any(map(math.isnan, found.values))
    return found if complete else None


def _features(header: dict[str, Any]) -> dict[str, float]:
    """As recorded; of a run from before they were, the two that its ledger has."""
    data = header.get("data", {})
    if "features" in data:
        return dict(data["features"])
    sizes = {"examples": data.get("n", {}).get("train"), "classes": len(header.get("labels", ())) or None}
    return {name: float(value) for name, value in sizes.items() if value}
