"""What the parts of `benchmarks/frontier.py` found, as figures, as tables in words, and as a picture."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import frontier_run
from benchmarks.frontier_run import Finished
from benchmarks.frontier_trainings import spread, tau
from benchmarks.machine import described
from experiments.engine.frontier import non_dominated
from experiments.engine.report.picture import Axis, draw

Json = dict[str, Any]
COMMAND = "python -m benchmarks.frontier"
_PACKAGES = ("torch", "onnxruntime", "numpy", "ray")
_HEADLINES = {"0.99": "99", "0.97": "97"}


def write(folder: Path, run: Finished, parts: Mapping[str, Json]) -> Json:
    """frontier.json, .md and .png in `folder`; the figures. parts: what was found, by part; run, pick, measure must be.

    Raises ValueError where they are not.
    """
    if lacking := {"run", "pick", "measure"} - set(parts):
        raise ValueError(f"parts lack {', '.join(sorted(lacking))}, must be there to be written down; run them first")
    found = figures(run, parts)
    folder.mkdir(parents=True, exist_ok=True)
    record = {"benchmark": "frontier", "figures": found, "measured_on": _machine(parts["measure"])}
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
        "ablations": _tested(jobs, "without-"),
        "tau": tau(jobs),
        "table": {name: value for name, value in parts["table"].items() if name in _TABLE}
        if "table" in parts
        else None,
        "hypernymy": _hypernymy(parts.get("hypernymy")),
        "failed": {name: why for part in parts.values() for name, why in part.get("failed", {}).items()},
    }


_TABLE = ("subnets", "worst_error", "median_error", "spearman", "subnets_a_minute")


def artifacts(rows: Mapping[str, Json], teacher: float) -> list[Json]:
    """Of each its share of the teacher's test accuracy, and whether another one is better on test in both ways."""
    best = _undominated(rows)
    return [
        {"name": name, **row, "share_of_teacher": row["test_accuracy"] / teacher, "dominated_on_test": name not in best}
        for name, row in rows.items()
    ]


def _undominated(rows: Mapping[str, Json]) -> set[str]:
    names = list(rows)
    points = [(rows[name]["test_accuracy"], -rows[name]["p50_ms"]) for name in names]
    return {names[index] for index in non_dominated(points)}


def _headlines(rows: Mapping[str, Json], heads: Mapping[str, str | None], teacher: float) -> Json:
    """Of the pick that validation chose, whatever its share on test is then: that stands beside it."""
    found: Json = {}
    for share, digits in _HEADLINES.items():
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
    devices = {name: parts[name]["device"] for name in ("train", "hypernymy") if name in parts}
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


def text(found: Json, record: Json) -> str:
    """The tables, in words."""
    parts = [_top(found, record), _artifacts(found), _rivals(found)]
    parts += [make(found) for make in (_seed_rows, _pairs, _alone_rows, _hypernymy_rows, _rest)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _top(found: Json, record: Json) -> str:
    lines = [
        "# A frontier of small fast models from one run",
        f"`{COMMAND}` makes this; `frontier.json` has every figure. Timed on "
        f"{record['measured_on'].get('machine', {}).get('processor', '?')}: one pinned thread, batch 1, p50, tokens to "
        f"logits, lengths of the test split, in turns. Run trained on {record['trained_on']['run']}.",
        f"Teacher: {found['teacher_accuracy']:.4f} on {found['n_test']:,} test glosses. Headlines were chosen on "
        f"validation, where they keep {found['margin']:.1%} more of its accuracy than asked for.",
    ]
    lines += [f"Not quiet while timed: {', '.join(found['not_quiet'])}."] if found["not_quiet"] else []
    for digits in _HEADLINES.values():
        name, speed = found[f"artifact_at_{digits}"], found[f"speedup_at_{digits}"]
        if speed is None:
            lines.append(f"At {digits} %: no artifact reached this on validation.")
            continue
        share, onnx, size = (found[f"{kind}_at_{digits}"] for kind in ("test_share", "speedup_over_onnx", "size_ratio"))
        lines.append(
            f"At {digits} % on validation: **{name}**, {share:.1%} of the teacher on test, {speed:.1f} times as fast "
            f"as PyTorch, {onnx:.1f} times ONNX Runtime, {size:.1f} times smaller."
        )
    lines.append(
        f"Compute from labelling to finalists: {found['compute_over_teacher']:.2f} times the teacher's fine-tuning "
        f"({found['compute_with_teacher']:.2f} with it). {found['undominated_on_test']} of {len(found['artifacts'])} "
        "artifacts are dominated by none on test."
    )
    return "\n\n".join(lines)


def _artifacts(found: Json) -> str:
    head = ["artifact", "test", "of teacher", "float32", "× PyTorch", "× ONNX", "ms", "ms of 32", "ms to label", "MB"]
    rows = [
        [
            row["name"] + (" (dominated)" if row["dominated_on_test"] else ""),
            f"{row['test_accuracy']:.4f}",
            f"{row['share_of_teacher']:.1%}",
            f"{row['test_float32']:.4f}",
            f"{row['speedup_over_pytorch']:.1f}",
            f"{row['speedup_over_onnx']:.1f}",
            *(f"{row[name]:.3f}" for name in ("p50_ms", "p50_ms_batch_32", "p50_ms_label")),
            f"{row['size_bytes'] / 1e6:.2f}",
        ]
        for row in found["artifacts"]
    ]
    return "## Artifacts, as shipped\n\n" + _table(head, rows)


def _rivals(found: Json) -> str:
    base = found["baselines"]
    head = ["the teacher's architecture", "ms", "ms of 32", "ms to label", "MB", "× PyTorch"]
    names = ("p50_ms", "p50_ms_batch_32", "p50_ms_label")
    rows = [
        [
            row["what"],
            *(f"{row[name]:.3f}" for name in names),
            f"{row['size_bytes'] / 1e6:.2f}",
            f"{row['speedup_over_pytorch']:.1f}",
        ]
        for row in base.values()
        if isinstance(row, dict)
    ]
    return f"## Baselines\n\n{_table(head, rows)}\n\nTF-IDF and a linear model: {base['classical']:.4f}."


def _seed_rows(found: Json) -> str:
    rows = [
        [
            name,
            ", ".join(f"{x:.4f}" for x in row["accuracies"]),
            f"{row['mean']:.4f}",
            f"{row['low']:.4f} to {row['high']:.4f}" if "low" in row else "–",
        ]
        for name, row in found["seeds"].items()
    ]
    head = ["trial", "seeds", "mean", "95 % (Student's t)"]
    return _section("Last training of each pick, more seeds (test, float32)", head, rows)


def _pairs(found: Json) -> str:
    rows = [
        [
            name,
            f"{row['ours']:.4f}",
            f"{row['independent']:.4f}",
            f"{row['ours'] - row['independent']:+.4f}",
            f"{row['epochs']:g}",
        ]
        for name, row in found["independent"].items()
    ]
    head = ["shape of", "this run", "independent", "difference", "epochs"]
    return _section("Independent students at equal compute (test, float32)", head, rows)


def _alone_rows(found: Json) -> str:
    both = {f"labels alone, {name}": x for name, x in found["alone"].items()}
    both |= {f"without {name}": x for name, x in found["ablations"].items()}
    return _section("Ablations, one seed (test, float32)", ["training", "test"], _scores(both))


def _hypernymy_rows(found: Json) -> str:
    return _section("Gloss-pair hypernymy (test, float32)", ["model", "test"], _scores(found["hypernymy"] or {}))


def _rest(found: Json) -> str:
    lines = []
    if rank := found["tau"]:
        lines.append(f"Kendall's tau of inherited and trained accuracy, {rank['subnets']} subnets: {rank['tau']:.2f}.")
    if table := found["table"]:
        lines.append(
            f"Layer table, {table['subnets']} random subnets: worst error {table['worst_error']:.1%}, median "
            f"{table['median_error']:.1%}, Spearman {table['spearman']:.3f}; {table['subnets_a_minute']:.0f} subnets "
            "are scored a minute on a core."
        )
    lines += [f"Failed: {name} ({why})." for name, why in found["failed"].items()]
    return "## Search\n\n" + "\n\n".join(lines) if lines else ""


def _scores(found: Mapping[str, float]) -> list[list[str]]:
    return [[name, f"{accuracy:.4f}"] for name, accuracy in found.items()]


def _section(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return f"## {title}\n\n{_table(head, rows)}" if rows else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    line: Callable[[Sequence[str]], str] = lambda cells: f"| {' | '.join(cells)} |"  # noqa: E731
    return "\n".join([line(head), line(["---"] * len(head)), *map(line, rows)])
