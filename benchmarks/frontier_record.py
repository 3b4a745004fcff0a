"""What the parts of `benchmarks/frontier.py` found, as figures, as a text, and as a picture."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import frontier_run
from benchmarks.frontier_measured import LARGEST
from benchmarks.frontier_run import Finished
from benchmarks.frontier_text import COMMAND, HEADLINES, text
from benchmarks.frontier_trainings import drawn, spread, tau
from benchmarks.machine import described
from experiments.engine.frontier import non_dominated
from experiments.engine.report.picture import Axis, draw

Json = dict[str, Any]
_PACKAGES = ("torch", "onnxruntime", "numpy", "ray")


def write(folder: Path, run: Finished, parts: Mapping[str, Json]) -> Json:
    """frontier.json, .md and .png in `folder`; the figures. parts: what was found, by part; run, pick, measure must be.

    Raises ValueError where they are not.
    """
    if lacking := {"run", "pick", "measure"} - set(parts):
        raise ValueError(f"parts lack {', '.join(sorted(lacking))}, must be there to be written down; run them first")
    found = figures(run, parts)
    folder.mkdir(parents=True, exist_ok=True)
    record = {"benchmark": "frontier", **found, "measured_on": _machine(parts["measure"])}
    record |= {"trained_on": _trained_on(parts), "command": COMMAND, **described(_PACKAGES)}
    (folder / "frontier.json").write_text(json.dumps(record, indent=1) + "\n")
    (folder / "frontier.md").write_text(text(found, record))
    picture(found, folder / "frontier.png")
    return found


def figures(run: Finished, parts: Mapping[str, Json]) -> Json:
    """Everything that is claimed; None for what was not run."""
    measured, pick = parts["measure"], parts["pick"]
    jobs = parts.get("train", {}).get("jobs", {})
    teacher, rows = measured["teacher"]["test_accuracy"], measured["artifacts"]
    spent = frontier_run.compute(run)
    return {
        "teacher_accuracy": teacher,
        **_headlines(rows, pick["heads"], teacher),
        "artifacts": artifacts(rows, teacher),
        "committed_bytes": sum(row["size_bytes"] for row in rows.values() if row["size_bytes"] <= LARGEST),
        "undominated_on_test": len(_undominated(rows)),
        "compute_over_teacher": spent["over_teacher"],
        "compute_with_teacher": spent["with_teacher"],
        "training_flops": spent["flops"],
        "margin": pick["margin"],
        "n_test": measured["n_test"],
        "not_quiet": [name for name, row in {**measured["baselines"], **rows}.items() if not row["quiet"]],
        "baselines": {**measured["baselines"], "classical": run.classical["test"]["accuracy"]["value"]},
        "seeds": _seeds(rows, jobs),
        "alone": _tested(jobs, "alone-"),
        "independent": _independent(rows, jobs),
        "ablations": {
            name: job["test_accuracy"] for name, job in jobs.items() if name.startswith(("without-", "from-"))
        },
        "tau": tau(jobs),
        "drawn": drawn(run, {row["trial"]: row["test_float32"] for row in rows.values()}, jobs),
        "table": {name: value for name, value in parts["table"].items() if name in _TABLE}
        if "table" in parts
        else None,
        "hypernymy": _hypernymy(parts.get("hypernymy")),
        "failed": {name: why for part in parts.values() for name, why in part.get("failed", {}).items()},
    }


_TABLE = ("subnets", "worst_error", "median_error", "spearman", "subnets_a_minute")


def artifacts(rows: Mapping[str, Json], teacher: float) -> list[Json]:
    """Of each its share of the teacher's test accuracy, whether another one is better on test in both ways, and
    whether it is small enough to be committed.
    """
    best = _undominated(rows)
    return [
        {
            "name": name,
            **row,
            "share_of_teacher": row["test_accuracy"] / teacher,
            "dominated_on_test": name not in best,
            "committed": row["size_bytes"] <= LARGEST,
        }
        for name, row in rows.items()
    ]


def _undominated(rows: Mapping[str, Json]) -> set[str]:
    names = list(rows)
    points = [(rows[name]["test_accuracy"], -rows[name]["p50_ms"]) for name in names]
    return {names[index] for index in non_dominated(points)}


def _headlines(rows: Mapping[str, Json], heads: Mapping[str, str | None], teacher: float) -> Json:
    """Of the pick that validation chose, whatever its share on test is then: that stands beside it."""
    found: Json = {}
    for share, digits in HEADLINES.items():
        row = rows.get(heads.get(share) or "", {})
        found[f"speedup_at_{digits}"] = row.get("speedup_over_pytorch")
        found[f"speedup_over_onnx_at_{digits}"] = row.get("speedup_over_onnx")
        found[f"size_ratio_at_{digits}"] = row.get("size_ratio")
        found[f"artifact_at_{digits}"] = heads.get(share)
        found[f"test_share_at_{digits}"] = row["test_accuracy"] / teacher if row else None
    return found


def _seeds(rows: Mapping[str, Json], jobs: Mapping[str, Json]) -> Json:
    """By trial, float32 accuracy on test of the run's own and of the further seeds."""
    own = {row["trial"]: row["test_float32"] for row in rows.values()}
    more = {name: _tested(jobs, f"seed-{name}-") for name in own}
    return {name: spread([own[name], *more[name].values()]) for name in own if more[name]}


def _independent(rows: Mapping[str, Json], jobs: Mapping[str, Json]) -> Json:
    """By artifact whose shape it has: float32 accuracy on test of both, and FLOPs of the independent one."""
    found = {}
    for name, row in rows.items():
        job = jobs.get(f"independent-{row['trial']}")
        if job:
            alone = {
                "independent": job["test_accuracy"],
                "epochs": job["epochs"],
                "training_flops": job["training_flops"],
            }
            found[name] = {"ours": row["test_float32"], **alone}
    return found


def _tested(jobs: Mapping[str, Json], start: str) -> Json:
    return {name.removeprefix(start): job["test_accuracy"] for name, job in jobs.items() if name.startswith(start)}


def _hypernymy(part: Json | None) -> Json | None:
    if part is None:
        return None
    classical = part["classical"]["test"]["accuracy"]["value"]
    return {"classical": classical, **_tested(part["jobs"], "hypernymy-")}


def _machine(part: Json) -> Json:
    return {name: part[name] for name in ("machine", "versions", "commit") if name in part}


def _trained_on(parts: Mapping[str, Json]) -> Json:
    devices = {name: ", ".join(parts[name]["devices"]) for name in ("train", "hypernymy") if name in parts}
    return {"run": parts["run"]["machine"], **devices}


def picture(found: Json, file: Path) -> None:
    """Speed over the teacher in PyTorch, and test accuracy."""
    points = {
        "one run, as shipped": [(row["speedup_over_pytorch"], row["test_accuracy"]) for row in found["artifacts"]]
    }
    speed = {row["name"]: row["speedup_over_pytorch"] for row in found["artifacts"]}
    if found["independent"]:
        other = [(speed[name], row["independent"]) for name, row in found["independent"].items()]
        points["independent students, equal compute (float32)"] = other
    base = found["baselines"]
    named = {
        "teacher in PyTorch": (1.0, found["teacher_accuracy"]),
        "teacher in ONNX Runtime": (base["onnx"]["speedup_over_pytorch"], found["teacher_accuracy"]),
    }
    x, y = Axis("times as fast as the teacher in PyTorch", "max", log=True, unit="×"), Axis("test accuracy", "max")
    title = "WordNet glosses: small fast models of one run"
    draw(points, file, title=title, x=x, y=y, named=named, levels={"TF-IDF + linear": base["classical"]})
