"""What of a run is measured on this machine: candidates, picks beside the teacher's architecture, the layer table."""

import multiprocessing
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import measuring, verify
from benchmarks.frontier_run import Finished
from benchmarks.machine import described
from benchmarks.measuring import Contender, Labelled, Speed
from experiments.engine.director import Trial
from models import cost
from models.architecture import Architecture, Signature, parse_signature
from models.encoder import build
from models.export import random_feeds, to_onnx
from models.latency import Target, Timing, measure_model, median
from models.latency_table import LayerTable
from models.quantize import quantized
from trainables import checkpoint, routine
from trainables.data import default_cache
from trainables.loop import logits
from trainables.parsing import parse
from trainables.routine import Workspace

Json = dict[str, Any]
SUBNETS = 20
_SCORED = 5  # subnets that tell how many are scored in a minute
_BATCH = 32
LARGEST = 10_000_000  # bytes of a receipt: what is larger is measured, but not committed


def asked(run: Finished, split: str) -> Labelled:
    """The texts of a split and their labels."""
    data = run.data()
    found = data.splits[split]
    labels = [data.labels[target] for target in found.targets]
    return Labelled(list(found.raw(np.arange(len(found)))), labels)


def speeds(run: Finished, candidates: Mapping[str, Json], rounds: int) -> dict[str, Speed]:
    """Of candidates, on the lengths of validation."""
    contenders = _contenders(run, {name: each["folder"] for name, each in candidates.items()})
    return measuring.measure(contenders, asked(run, "validation").texts, rounds=rounds)


def measured(run: Finished, picks: Mapping[str, Json], rounds: int) -> Json:
    """Test accuracy, speed, size of picks, teacher and baselines; and the accuracy of each pick's float32 weights."""
    test = asked(run, "test")
    contenders = _contenders(run, {name: each["folder"] for name, each in picks.items()})
    taken = {
        "": measuring.measure(contenders, test.texts, rounds=rounds),
        f"_batch_{_BATCH}": measuring.measure(contenders, test.texts, batch=_BATCH, rounds=rounds),
        "_label": measuring.measure_labels(contenders, test.texts, rounds=rounds),
    }
    rows = {name: _row(name, each, taken) for name, each in contenders.items()}
    for name, each in picks.items():
        rows[name] |= _scores(run, each, test)
        rows[name]["size_ratio"] = rows[measuring.PYTORCH]["size_bytes"] / rows[name]["size_bytes"]
    config = checkpoint.read_config(run.checkpoint(run.teacher))
    teacher = {name: config[name] for name in ("architecture", "signature")}
    return {
        "teacher": {**teacher, "test_accuracy": _float32(run, run.teacher)},
        "n_test": len(test.texts),
        "baselines": {name: rows[name] for name in (measuring.PYTORCH, measuring.ONNX, measuring.INT8)},
        "artifacts": {name: rows[name] for name in picks},
        **described(_PACKAGES),
    }


def ship(picks: Mapping[str, Json], found: Json, folder: Path) -> None:
    """Receipts of the picks, as far as they are small, and the claims, in place of those there were."""
    small = {name: row for name, row in found["artifacts"].items() if row["size_bytes"] <= LARGEST}
    for old in folder.glob("*/config.json"):
        if old.parent.name not in small:
            shutil.rmtree(old.parent)
    for name in small:
        verify.receipt(Path(picks[name]["folder"]), folder / name)
    values = {"teacher": found["teacher"], "artifacts": small, "machine": found["machine"]}
    verify.write_claims(folder, parse(verify.Claims, values, "claims"))


def classical(run: Finished, place: str) -> Json:
    """The linear baseline on another folder of texts."""
    task = {"name": "text_classification", "data": place, "tokenizer": run.task["tokenizer"]}
    task |= {name: run.task[name] for name in ("sample", "evaluation_sample") if name in run.task}
    found: Json = _unit("classical", {"task": task}).advance()
    return found


def table(run: Finished, subnets: int, rounds: int) -> Json:
    """Of random subnets, what the table of their layers predicts beside what they take; how many are scored a minute.

    Layers are measured for these subnets alone, as a search does for those it draws. Latency is what a search compares:
    in the target's precision and batch, on lengths of validation. What a subnet takes is the median over `rounds`
    processes: in one, the memory that a model gets may lie badly in all its sessions.
    """
    trials = _drawn(run.trials("subnet"), subnets)
    shapes = [Architecture(**checkpoint_of(run, trial)) for trial in trials]
    data = run.data()
    layers = LayerTable(
        default_cache() / "latency", parse(Target, run.spec["target"]), data.splits["validation"].lengths
    )
    layers.measure(shapes, data.signature)
    rows = [
        {"subnet": trial.config, "predicted_ms": layers.predict(shape, data.signature)}
        | {"measured_ms": timing.p50_ms, "quiet": timing.quiet, "params": cost.params(shape, data.signature)}
        for trial, shape, timing in zip(trials, shapes, _whole(shapes, data.signature, layers, rounds), strict=True)
    ]
    return {**agreement(rows), "subnets_a_minute": _scored(run, trials[:_SCORED]), "rows": rows, **described(_PACKAGES)}


def agreement(rows: Iterable[Json]) -> Json:
    """Worst and median relative error of `predicted_ms` to `measured_ms`, and Spearman's rank correlation."""
    from scipy.stats import spearmanr

    pairs = [(row["predicted_ms"], row["measured_ms"]) for row in rows]
    errors = [abs(predicted / taken - 1) for predicted, taken in pairs]
    predicted, taken = zip(*pairs, strict=True)
    rank = float(spearmanr(predicted, taken).statistic)
    return {
        "subnets": len(pairs),
        "worst_error": max(errors),
        "median_error": statistics.median(errors),
        "spearman": rank,
    }


def checkpoint_of(run: Finished, trial: Trial) -> Json:
    """The architecture of a subnet, whose own checkpoint may be gone."""
    kind = routine.load("subnet")
    shape: Architecture = kind.architecture(parse(kind.Config, run.settings(trial)))  # type: ignore[attr-defined]
    return shape.model_dump()


_PACKAGES = ("torch", "onnxruntime", "transformers", "numpy")


def _contenders(run: Finished, folders: Mapping[str, str]) -> dict[str, Contender]:
    config = checkpoint.read_config(run.checkpoint(run.teacher))
    tokenizer = run.data().files[measuring.TOKENIZER].parent
    found = measuring.baselines(Architecture(**config["architecture"]), config["signature"], tokenizer)
    return {**found, **{name: measuring.shipped(Path(folder)) for name, folder in folders.items()}}


def _row(name: str, contender: Contender, taken: Mapping[str, Mapping[str, Speed]]) -> Json:
    row: Json = {"what": contender.what, "size_bytes": contender.size_bytes}
    for end, found in taken.items():
        speed = found[name]
        row |= {f"p50_ms{end}": speed.p50_ms, f"p95_ms{end}": speed.p95_ms, f"quiet{end}": speed.quiet}
        row |= {f"speedup_over_pytorch{end}": speed.over_pytorch, f"speedup_over_onnx{end}": speed.over_onnx}
    return row


def _scores(run: Finished, pick: Json, test: Labelled) -> Json:
    trial = run.trial(pick["trial"])
    return {
        "trial": trial.id,
        "precision": pick["precision"],
        "val_accuracy": pick["val_accuracy"],
        "test_accuracy": measuring.right_answers(Path(pick["folder"]), test) / len(test.texts),
        "test_float32": _float32(run, trial),
        "shape": checkpoint.read_config(run.checkpoint(trial))["architecture"],
    }


def _float32(run: Finished, trial: Trial) -> float:
    """Test accuracy of a trial's weights as they were trained."""
    model, _, _ = checkpoint.load_model(run.checkpoint(trial))
    data = run.data()
    split = data.splits["test"]
    return float(data.metrics(logits(model, split, precision="fp32"), split.targets)["accuracy"])


def _drawn(trials: list[Trial], n: int) -> list[Trial]:
    if not trials:
        raise ValueError("the run scored no subnets, must have a stage of routine subnet; leave the part table out")
    places = np.random.default_rng(1).permutation(len(trials))[:n]
    return [trials[place] for place in sorted(places)]


def _whole(shapes: Sequence[Architecture], signature: Json, layers: LayerTable, processes: int) -> list[Timing]:
    """Of each shape as one model, the median over processes, one after the other."""
    parsed, context = parse_signature(signature), multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, f"{number}.onnx") for number in range(len(shapes))]
        for shape, file in zip(shapes, files, strict=True):
            torch.manual_seed(0)
            whole = to_onnx(build(shape, signature).eval(), random_feeds(parsed, [5, 3], 0))
            file.write_bytes(quantized(whole, layers.target.precision))
        timed = partial(_timed, files, parsed, layers)
        with ProcessPoolExecutor(1, context, max_tasks_per_child=1) as pool:
            timings = list(pool.map(timed, range(processes)))
    return [median(each) for each in zip(*timings, strict=True)]


def _timed(files: Sequence[Path], signature: Signature, layers: LayerTable, seed: int) -> list[Timing]:
    """Of every file, in an order of this seed's, so that none always gets the memory that the same one has left."""
    order = np.random.default_rng(seed).permutation(len(files))
    found = {place: measure_model(files[place], signature, layers.batches, layers.target, 1) for place in order}
    return [found[place] for place in range(len(files))]


def _scored(run: Finished, trials: list[Trial]) -> float:
    """Subnets a minute on one core: extracted, scored on validation as the search does, counted."""
    _unit("subnet", run.settings(trials[0]))  # reads the supernet, which a search does once
    began = time.perf_counter()
    for trial in trials:
        _unit("subnet", run.settings(trial)).advance()
    return 60 * len(trials) / (time.perf_counter() - began)


def _unit(name: str, settings: Json) -> Any:
    kind = routine.load(name)
    return kind(parse(kind.Config, settings), Workspace(default_cache(), Path()))
