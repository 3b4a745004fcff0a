"""What was recorded as one Parquet file, a row for each epoch, and its data card; and the same read again."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

import searchspaces
from benchmarks import frontier_jobs, recorded
from benchmarks.machine import described
from tasks.features import features
from trainables.data import default_cache, prepare
from trainables.layers import Layers, LayersConfig, read
from trainables.routine import Workspace

Json = dict[str, Any]
NAME, CARD = "recorded.parquet", "recorded.md"
METRICS = ("val_accuracy", "val_loss", "train_loss", "latency_ms", "size_mb", "params", "flops", "training_flops")
_METADATA = b"recorded"


def write(size: recorded.Size, folder: Path, to: Path) -> str:
    """Both files into `to`, of the configurations that are done on every task, those that the table there has among
    them; what there is, in words.

    Layers that no cached table has are measured: leave the machine alone meanwhile.
    """
    given, points = recorded.tasks(size, folder), recorded.points(size.configurations)
    before, there = published(size, to)
    reports = {**_found(size, given, folder), **_reports(there)}
    whole = [n for n in range(len(points)) if all(len(reports.get((name, n), ())) == size.epochs for name in given)]
    latencies = {name: _latencies(task, [points[number] for number in whole]) for name, task in given.items()}
    rows = [
        {"task": name, "configuration": number, **points[number], **report, "latency_ms": latency}
        for name in given
        for number, latency in zip(whole, latencies[name], strict=True)
        for report in reports[name, number]
    ]
    about = {
        "size": _plain(size),
        "configurations": len(whole),
        "space": searchspaces.load("joint").to_json(),
        "features": {name: features(prepare(task, default_cache())) for name, task in given.items()},
        "made": list(dict.fromkeys([*before.get("made", ()), _made()])),
    }
    _store(rows, about, to / NAME)
    (to / CARD).write_text(_card(size, about, rows))
    return f"{len(whole)} of {size.configurations} configurations on {len(given)} tasks, {len(rows)} rows: {to / NAME}"


def published(size: recorded.Size, to: Path) -> tuple[Json, list[Json]]:
    """What the table that is there says of itself, and its rows. Raises ValueError where it was recorded otherwise."""
    if not (to / NAME).exists():
        return {}, []
    about, rows = load(to / NAME)
    if about["size"] != _plain(size):
        raise ValueError(f"{to / NAME} was recorded with size {about['size']}, must be {_plain(size)}; move it away")
    return about, rows


def _made() -> str:
    """By which commit, and where."""
    about = described(["torch", "onnxruntime"])
    versions = ", ".join(f"{name} {about['versions'][name]}" for name in ("torch", "onnxruntime"))
    return f"commit {about['commit'][:12]} on {about['machine']['processor']}, {versions}"


def _reports(rows: list[Json]) -> dict[tuple[str, int], list[Json]]:
    """By task and configuration, as `_found` gives them."""
    found: dict[tuple[str, int], list[Json]] = {}
    for row in rows:
        report = {name: row[name] for name in ("epoch", *METRICS, "seconds") if name in row}
        found.setdefault((row["task"], row["configuration"]), []).append(report)
    return found


def _plain(size: recorded.Size) -> Json:
    return dict(json.loads(json.dumps(asdict(size))))


def _found(size: recorded.Size, given: Mapping[str, Json], folder: Path) -> dict[tuple[str, int], list[Json]]:
    """Reports by task and configuration, of the last attempt."""
    found: dict[tuple[str, int], dict[int, Json]] = {}
    for place, _ in recorded.jobs(size, given, folder):
        for line in frontier_jobs.lines(place):
            if "error" in line or line.get("done"):
                continue
            name, number = line["name"].rsplit("-", 1)
            report = {metric: line[metric] for metric in METRICS if metric in line}
            epoch = round(line["epochs"])
            found.setdefault((name, int(number)), {})[epoch] = {"epoch": epoch, **report, "seconds": line["seconds"]}
    return {key: [reports[epoch] for epoch in sorted(reports)] for key, reports in found.items()}


def _latencies(task: Json, points: list[Json]) -> list[float]:
    """Of each in ms, by a table of layers."""
    workspace = Workspace(default_cache(), Path())
    values = [
        {"routine": "train", "values": {**recorded.architecture(point, task).model_dump(), "task": task}}
        for point in points
    ]
    table = {"layer_table": Layers(LayersConfig(task=task, configs=values), workspace).advance()["table"]}
    data, known = prepare(task, workspace.cache), read(table["layer_table"])
    return [known.predict(recorded.architecture(point, task), data.signature) for point in points]


def _store(rows: list[Json], about: Json, path: Path) -> None:
    names = list(
        dict.fromkeys(["task", "configuration", *searchspaces.load("joint").names, "epoch", *METRICS, "seconds"])
    )
    columns = {name: [row.get(name) for row in rows] for name in names}
    table = pa.table(columns).replace_schema_metadata({_METADATA: json.dumps(about).encode()})
    parquet.write_table(table, path, compression="zstd")


def load(path: Path) -> tuple[dict[str, Any], list[Json]]:
    """What the file says of itself, and its rows without what is empty. Raises ValueError where it is another file."""
    table = parquet.read_table(path)
    about = (table.schema.metadata or {}).get(_METADATA)
    if about is None:
        raise ValueError(f"{path} is no recorded benchmark; write one with python -m benchmarks.recorded table")
    rows = [{name: value for name, value in row.items() if value is not None} for row in table.to_pylist()]
    return dict(json.loads(about)), rows


def _card(size: recorded.Size, about: Json, rows: list[Json]) -> str:
    """The data card."""
    ends = [row for row in rows if row["epoch"] == size.epochs]
    hours = sum(row["seconds"] for row in ends) / 3600
    flops = sum(row["training_flops"] for row in ends)
    lines = [
        f"- {name}: validation accuracy after {size.epochs} epochs {min(of):.3f} to {max(of):.3f}, default {of[0]:.3f}"
        for name in dict.fromkeys(row["task"] for row in ends)
        if (of := [row["val_accuracy"] for row in ends if row["task"] == name])
    ]
    whole = about["configurations"] == size.configurations
    others = "" if whole else " (the others failed or were not done on every task)"
    return "\n".join(
        [
            "# Recorded benchmark of joint searches",
            "",
            f"{about['configurations']} of {size.configurations} configurations{others}, each",
            f"trained once on each task for {size.epochs} epochs with a seed of its own: {len(rows)} rows, {hours:.1f}",
            f"hours of a core, {flops:.2e} training FLOPs. Made by `python -m benchmarks.recorded`, each part with",
            "teachers trained anew; latency was measured by the last:",
            "",
            *(f"- {made}" for made in about["made"]),
            "",
            *lines,
            "",
            "A row is an epoch of a training. `task`, `configuration` (a number; 0 is the default), the parameters of",
            "`searchspaces/joint.py` (empty where inactive), `epoch`, `val_accuracy`, `val_loss`, `train_loss`,",
            "`latency_ms` (ONNX Runtime on one thread, batch 1, by a table of measured layers), `size_mb` (float32),",
            "`params`, `flops` (of one example), `training_flops` and `seconds` (both since the training began).",
            "",
            "Limits: one seed a configuration, so that the best one is so by luck as well; the rate's schedule spans",
            "all epochs, so that early reports say less than those of shorter trainings would; teachers learned from",
            "the same few examples; validation alone, nothing was scored on test; seconds of trainings side by side;",
            "digits and turned (which of four turns) are of the same images, so that they are not independent tasks.",
            "",
            "Sources: WordNet 3.0 (Princeton University 2006, WordNet 3.0 licence) and scikit-learn's digits (Alpaydin",
            "and Kaynak 1998, UCI, CC BY 4.0). Play it with `benchmarks.surfaces.recorded`.",
            "",
        ]
    )
