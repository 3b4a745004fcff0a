"""What the commands that look at runs do: report, runs list, cancel and delete, predict, export."""

import json
import secrets
import tempfile
import time
from argparse import Namespace
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.engine import runs
from experiments.engine.lease import Lease

Outcome = int | dict[str, Any] | list[Any]


def report(options: Namespace, console: Console) -> Outcome:
    """What a run found."""
    from experiments.engine.report.text import print_report

    told = summary_of(runs.find(runs.storage(options.storage), options.run))
    if options.json:
        return told
    print_report(told, console)
    return 0


def summary_of(found: runs.Run) -> dict[str, Any]:
    """A run's report as plain JSON."""
    from experiments.engine import fingerprint, history
    from experiments.engine.report import picture
    from experiments.engine.report.occupancy import occupancy
    from experiments.engine.report.summary import summary

    with history.understood("the ledger"):
        director = history.fold(found.records)
        told = summary(found.header, director, found.store.shown)
        share = occupancy(found.records, [stage["name"] for stage in told["stages"]])
        return {
            **told,
            "fingerprint": fingerprint.short(fingerprint.newest(found.records)),
            "finished": found.finished,
            "picture": f"{found.store.shown}/{picture.NAME}" if found.store.exists(picture.NAME) else None,
            "given_up": director.given_up or found.records[-1].get("given_up", ""),
            "changes": [change for record in found.records for change in record.get("changes", ())],
            "lag": max((record.get("lag", 0.0) for record in found.records), default=0.0),
            "time": {**told["time"], "busy_share": share},
        }


def list_runs(options: Namespace, console: Console) -> Outcome:
    """The runs there are, newest first: damaged, running, finished (with which code), or unfinished."""
    rows = [_listed(run) for run in runs.every(runs.storage(options.storage))]
    if options.json:
        return rows
    if not rows:
        console.print(
            f"no run under {runs.storage(options.storage).shown}", highlight=False, markup=False, soft_wrap=True
        )
    for row in rows:
        console.print(f"{row['run']:<48} {_state(row)}", highlight=False, markup=False, soft_wrap=True)
    return 0


def _listed(run: runs.Run) -> dict[str, Any]:
    return {
        "run": run.name,
        "experiment": run.experiment,
        "finished": run.finished,
        "code": run.records[-1].get("code") if run.finished else None,
        "running": Lease.holder(run.store),
        "folder": run.store.shown,
        "fault": run.fault,
    }


def _state(row: dict[str, Any]) -> str:
    if row["fault"]:
        return f"damaged: {row['fault']}"
    if row["running"]:
        return f"running: pid {row['running'].get('pid')} on {row['running'].get('host')}"
    return f"finished ({row['code']})" if row["finished"] else "unfinished"


def cancel_run(options: Namespace, console: Console) -> Outcome:
    """Asks the driver of a run to end it, or one of its trials."""
    found = runs.find(runs.storage(options.storage), options.run)
    holder = Lease.holder(found.store)
    if holder is None:
        raise ValueError(f"run {found.name} has no driver, so there is nothing to cancel; see `runs list`")
    if options.trial is not None:
        _check_running(found, options.trial)
    request = json.dumps({"cancel": options.trial}).encode()
    found.store.write(f"requests/{time.time_ns():020d}-{secrets.token_hex(4)}.json", request)
    asked = f"asked pid {holder.get('pid')} on {holder.get('host')} to end {options.trial or found.name}"
    said = asked + ("" if options.trial else "; the same command goes on from there")
    console.print(said, highlight=False, markup=False, soft_wrap=True)
    return 0


def _check_running(found: runs.Run, name: str) -> None:
    from experiments.engine import history

    trials = {trial.id: trial for trial in history.fold(found.records).trials.values()}
    running = ", ".join(trial.id for trial in trials.values() if not trial.ended) or "none"
    if name not in trials:
        raise ValueError(f"run {found.name} has no trial {name!r}; running: {running}")
    if trials[name].ended:
        raise ValueError(f"trial {name!r} has ended already ({trials[name].status}); running: {running}")


def delete_run(options: Namespace, console: Console) -> Outcome:
    """Removes one run that no driver works on."""
    found = runs.find(runs.storage(options.storage), options.run, damaged=True)
    holder = Lease.holder(found.store)
    if holder is not None:
        raise ValueError(f"run {found.name} is run by pid {holder.get('pid')}; cancel it first with `runs cancel`")
    runs.delete(found)
    console.print(f"deleted {found.store.shown}", highlight=False, markup=False, soft_wrap=True)
    return 0


def predict(options: Namespace, console: Console) -> Outcome:
    """Labels for one text or for every line of a file."""
    from models.predictor import Predictor

    inputs = _inputs(options)
    with _artifact(options) as folder:
        predictor = Predictor(folder)
    answers = predictor.predict(inputs, top=options.top)
    if options.json:
        return [
            {
                "input": text if isinstance(text, str) else None,
                "labels": [{"label": a, "probability": p} for a, p in top],
            }
            for text, top in zip(inputs, answers, strict=True)
        ]
    for text, top in zip(inputs, answers, strict=True):
        shown = "  ".join(f"{label} {probability:.3f}" for label, probability in top)
        console.print(
            f"{shown}\t{text if isinstance(text, str) else ''}", highlight=False, markup=False, soft_wrap=True
        )
    return 0


def export(options: Namespace, console: Console) -> Outcome:
    """Writes an artifact anew in one form, compared with torch's model."""
    from models import artifact

    if options.int8 and options.format != "onnx":
        raise ValueError(f"--int8 is of --format onnx, got --format {options.format}; leave one of them out")
    precision: artifact.Precision = "int8" if options.int8 else "fp32"
    name = f"{Path(options.artifact).resolve().name}-{options.format}{'-int8' if options.int8 else ''}"
    folder = Path(name if options.to is None else options.to)
    if folder.exists():
        raise ValueError(f"{folder} exists; choose another folder with --to, or remove it")
    if Path(options.artifact).resolve() in folder.resolve().parents:
        raise ValueError(f"{folder} is within {options.artifact} itself; choose another folder with --to")
    _check_place(folder)
    without = artifact.WEIGHTS if options.format == "onnx" else artifact.ONNX
    with _artifact(options) as source:
        metrics = artifact.convert(source, folder, precision, without=without)
    said = f"largest difference of ONNX and torch logits: {metrics['onnx_parity']:.1e}"
    if "onnx_agreement" in metrics:
        said += f"; same answer as in float32: {metrics['onnx_agreement']:.1%} of 256 random inputs"
    for line in (f"{folder}: {options.format} in {precision}, {metrics['size_mb']:.2f} MB to predict", said):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return 0


def _check_place(folder: Path) -> None:
    """Raises ValueError where no folder can be made; nothing is left there."""
    nearest = next(parent for parent in folder.absolute().parents if parent.exists())
    try:
        tempfile.TemporaryDirectory(dir=nearest).cleanup()
    except OSError as error:
        reason = f"{nearest}: {error.strerror}"
        raise ValueError(f"{folder} cannot be made ({reason}); choose another folder with --to") from None


def _artifact(options: Namespace) -> AbstractContextManager[Path]:
    """The artifact's folder; that of a run in an object store is fetched for as long as it is needed."""
    folder = Path(options.artifact)
    if folder.is_dir() and not runs.load(folder):
        return nullcontext(folder)
    try:
        found = runs.find(runs.storage(options.storage), options.artifact)
    except ValueError as error:
        raise ValueError(f"artifact {options.artifact!r} is neither a folder nor a run: {error}") from None
    told = summary_of(found)
    if told["chosen"] is None:
        raise ValueError(f"run {found.name} has no chosen artifact; see `report {found.name}`")
    return found.store.get(told["chosen"]["artifact"].removeprefix(f"{found.store.shown}/"))


def _inputs(options: Namespace) -> list[Any]:
    if (options.text is None) == (options.file is None):
        raise ValueError("predict needs either a text or --file, one of the two")
    if options.text is not None:
        return [options.text]
    path = Path(options.file)
    if not path.is_file():
        raise ValueError(f"--file {options.file!r} does not exist")
    if path.suffix == ".npy":
        return _arrays(path)
    try:
        return path.read_text("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"--file {options.file!r} must be UTF-8 text, one input a line, or .npy: {error}") from None


def _arrays(path: Path) -> list[Any]:
    import numpy as np

    try:
        return list(np.load(path, allow_pickle=False))
    except Exception as error:  # numpy's reader lets through whatever its parser of headers raises
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"--file {str(path)!r} cannot be read as .npy: {reason}; write it with numpy.save") from error
