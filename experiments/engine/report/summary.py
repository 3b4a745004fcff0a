"""What an experiment came to, as plain JSON: stages, trials, frontiers, baselines, the chosen artifact."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from experiments.engine.director import Director, Trial
from experiments.engine.frontier import (
    Bounds,
    Direction,
    Objectives,
    feasible,
    hypervolume,
    non_dominated,
    score,
    vector,
    volume_points,
)
from experiments.engine.handed import bounds
from experiments.engine.interval import interval

CLASSICAL, FINALISTS, LAYERS, SEEDS = "classical", "finalists", "layers", "seeds"
Json = dict[str, Any]


def summary(header: Mapping[str, Any], director: Director, place: str) -> Json:
    """The whole report; `header` is the ledger's first record, `place` the path or URI of the run's folder."""
    spec = header["spec"]
    # The trials of a stage with `each` are picks: no default and no random draw is among them.
    searched = [stage for stage in spec["stages"] if not stage.get("each")]
    return {
        "experiment": spec["name"],
        "run": place.rpartition("/")[2],
        "data": header["data"],
        "constraints": spec["constraints"],
        "warm_start": header.get("advised_by", {}),
        "stages": [_stage(stage, director, spec) for stage in spec["stages"]],
        "baselines": {**_baselines(director, searched[-1:], header), "classical": _classical(director)},
        "finalists": [_finalist(trial, spec["constraints"]) for trial in director.of_stage(FINALISTS)],
        "failures": _failures(director),
        "chosen": _chosen(director, spec, place),
        "time": _time(director),
        "warnings": header["data"].get("warnings", []),
    }


def again(stage: str) -> str:
    """The stage that trains another one's finalists with more seeds. No stage of the user's has a dot in its name."""
    return f"{SEEDS}.{stage}"


def frontier(trials: Sequence[Trial], objectives: Objectives) -> list[Trial]:
    """The non-dominated trials among those with a result, in order of their numbers."""
    return [trials[index] for index in non_dominated([_vector(trial, objectives) for trial in trials])]


def picks(trials: Sequence[Trial], spec: Mapping[str, Any]) -> list[Trial]:
    """The frontier's finalists: feasible ones, the best by `choose` first."""
    return ranked(trials, spec)[: spec["finalists"]["count"]]


def ranked(trials: Sequence[Trial], spec: Mapping[str, Any]) -> list[Trial]:
    """The frontier of the feasible ones, the best by `choose` first."""
    constraints: Bounds = spec["constraints"]
    fit = [t for t in trials if t.ended and not t.failed and feasible(t.metrics, constraints)]
    return sorted(frontier(fit, spec["objectives"]), key=lambda trial: _choice(trial, spec), reverse=True)


def chosen(director: Director, spec: Mapping[str, Any]) -> Trial | None:
    """The finalist that `choose` picks among those whose measured figures meet the constraints."""
    constraints: Bounds = spec["constraints"]
    name, direction = choice(spec)
    searched = {trial.id: trial.metrics for trial in director.trials.values()}
    best, highest = None, -math.inf
    for trial in director.of_stage(FINALISTS):
        # What an artifact has no figure of its own for, such as the epochs, is that of its trial.
        figures = {**searched.get(trial.config["trial"], {}), **trial.metrics}
        value = _worth(figures, name, direction)
        if not trial.failed and feasible(figures, constraints) and value > highest:
            best, highest = trial, value
    return best


def _worth(figures: Mapping[str, Any], name: str, direction: Direction) -> float:
    """A metric as a score; over seeds, the lower end of its interval, since the best of many is so by luck as well."""
    seeds = [{f"val_{key}": value for key, value in seed["validation"].items()} for seed in figures.get("seeds", ())]
    values = [score(seed, name, direction) for seed in seeds]
    return interval(values).low if values and all(map(math.isfinite, values)) else score(figures, name, direction)


def _over_seeds(metrics: Mapping[str, Any]) -> Json | None:
    """Of a finalist that was trained with several seeds: of each split and metric the mean and its interval."""
    seeds = metrics.get("seeds")
    if not seeds:
        return None
    return {
        "n": len(seeds),
        **{
            split: {key: interval([seed[split][key] for seed in seeds])._asdict() for key in seeds[0][split]}
            for split in ("validation", "test")
        },
    }


def _vector(trial: Trial, objectives: Objectives) -> tuple[float, ...]:
    return vector({} if trial.failed else trial.metrics, objectives)


def _choice(trial: Trial, spec: Mapping[str, Any]) -> float:
    name, direction = choice(spec)
    return score(trial.metrics, name, direction)


def choice(spec: Mapping[str, Any]) -> tuple[str, Direction]:
    """The one metric that picks, and its direction: `choose` is {direction: metric}."""
    ((direction, name),) = spec["choose"].items()
    return name, direction


def _stage(stage: Json, director: Director, spec: Json) -> Json:
    """Its frontier and hypervolume are of the trials that meet the constraints."""
    name, objectives = stage["name"], spec["objectives"]
    trials, constraints = director.of_stage(name), bounds(spec, name)
    fit = [trial for trial in trials if not trial.failed and feasible(trial.metrics, constraints)]
    refused = sum(len(segment.refused) for segment in director.segments.values() if segment.stage == name)
    return {
        "name": name,
        "options": stage.get("options", {}),
        "planned": stage.get("trials"),
        "trials": [_trial(trial, constraints) for trial in trials],
        "frontier": [trial.id for trial in frontier(fit, objectives)],
        "spared": refused,
        "exhausted": 0 < len(trials) < (stage.get("trials") or 0) and not (director.expired or director.given_up),
        "hypervolume": hypervolume(*volume_points([trial.metrics for trial in fit], objectives)),
    }


def _trial(trial: Trial, constraints: Bounds) -> Json:
    return {
        "id": trial.id,
        "status": trial.status,
        "reason": trial.reason,
        "failed": bool(trial.failures) and trial.failed,
        "attempts": trial.attempts,
        "epochs": trial.epochs,
        "config": trial.config,
        "metrics": trial.metrics,
        "breaks": [name for name, bound in constraints.items() if not feasible(trial.metrics, {name: bound})],
    }


def _failures(director: Director) -> list[Json]:
    """How attempts ended early, by class, and what became of the trial; retries and preemptions are among them."""
    found = [
        {"class": failure.kind, "id": trial.id, "status": trial.status, **asdict(failure)}
        for trial in director.trials.values()
        for failure in trial.failures
    ]
    return sorted(found, key=lambda failure: str(failure["class"]))


def _finalist(trial: Trial, constraints: Bounds) -> Json:
    return {**_trial(trial, constraints), "trial": trial.config["trial"], "seeds": _over_seeds(trial.metrics)}


def _chosen(director: Director, spec: Mapping[str, Any], place: str) -> Json | None:
    final = chosen(director, spec)
    if final is None:
        return None
    metrics = final.metrics
    origin = next(trial for trial in director.trials.values() if trial.id == final.config["trial"])
    return {
        "trial": origin.id,
        "artifact": f"{place}/{metrics['artifact']}",
        "config": origin.config,
        "epochs": origin.epochs,
        "seeds": _over_seeds(metrics),
        **{name: metrics[name] for name in ("params", "size_mb", "latency_ms", "validation", "test", "predictions")},
    }


def _baselines(director: Director, last: Sequence[Json], header: Mapping[str, Any]) -> Json:
    """Of the last stage that searches: the default configuration, random search, the largest model (house §3.10)."""
    trials = [trial for stage in last for trial in director.of_stage(stage["name"])]
    if not trials:
        return {}
    name, _ = choice(header["spec"])
    return {
        "metric": name,
        "default": _baseline(trials[0], name),
        "random": _random_search(last[0], trials, header),
        "largest": _baseline(max(trials, key=lambda trial: trial.metrics.get("params", 0)), name),
    }


def _random_search(stage: Json, trials: Sequence[Trial], header: Mapping[str, Any]) -> Json | None:
    """Random search without early stopping, read off the draws of a search by `random`: the best of as many of the
    first ones as the epochs spent would have trained in full. None where something else proposed, or there is no draw.

    A draw that was stopped early counts with its last value, so this can be too low.
    """
    spec, first = header["spec"], 1 + len(stage.get("initial", ()))  # the default and the user's own come before
    warm = header.get("advised", {}).get(stage["name"])
    searcher = stage.get("search", {}).get("searcher", {}).get("name", "random")
    budget = max(trial.epochs for trial in trials)
    count = max(1, int(sum(trial.epochs for trial in trials) / budget)) if budget else 1
    draws = [trial for trial in trials[first : first + count] if not trial.failed]
    if warm or searcher != "random" or not draws:
        return None
    return {
        **_baseline(max(draws, key=lambda trial: _rank(trial, spec)), choice(spec)[0]),
        "draws": count,
        "stopped_early": sum(trial.status == "stopped" for trial in draws),
    }


def _rank(trial: Trial, spec: Mapping[str, Any]) -> float:
    value = _choice(trial, spec)
    return value if math.isfinite(value) else -math.inf


def _baseline(trial: Trial, name: str) -> Json:
    shown = (name, "latency_ms", "params")
    return {"trial": trial.id, "epochs": trial.epochs, **{key: trial.metrics.get(key) for key in shown}}


def _classical(director: Director) -> Json | None:
    trials = [trial for trial in director.of_stage(CLASSICAL) if not trial.failed]
    return {key: trials[0].metrics[key] for key in ("name", "validation", "test")} if trials else None


def _time(director: Director) -> Json:
    reports = [report for trial in director.trials.values() for report in trial.reports]
    return {
        "trial_seconds": round(sum(report.seconds for report in reports), 3),
        "busy_seconds": round(sum(report.busy for report in reports), 3),
    }
