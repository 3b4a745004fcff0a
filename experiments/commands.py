"""What each command of the command line does. Heavy libraries are imported where they are needed."""

import json
import math
import secrets
import tempfile
import time
from argparse import Namespace
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table

from experiments.engine import runs
from experiments.engine import spec as specs
from trainables.parsing import ParseError
from trainables.store import Store

Outcome = int | dict[str, Any] | list[Any]


def list_(options: Namespace, console: Console) -> Outcome:
    """The experiments in this repository."""
    found = [specs.load(name) for name in specs.find()]
    if options.json:
        return [{"name": spec.name, "description": spec.description} for spec in found]
    for spec in found:
        console.print(f"{spec.name:<20} {spec.description}", highlight=False, markup=False)
    return 0


def show(options: Namespace, console: Console) -> Outcome:
    """An experiment resolved."""
    spec = specs.load(options.experiment, options.settings, smoke=options.smoke)
    stages = [_stage(stage) for stage in spec.stages]
    if options.json:
        return {"spec": spec.resolved(), "stages": stages}
    console.print(Syntax(spec.to_yaml(), "yaml", background_color="default"))
    for stage in stages:
        _print_stage(stage, console)
    console.print(f"time budget: {f'{spec.time:g} s' if spec.time else 'none'}", highlight=False)
    return 0


def _stage(stage: specs.Stage) -> dict[str, Any]:
    space = stage.search_space()
    size = space.size()
    return {
        "name": stage.name,
        "searcher": stage.search.searcher.name,
        "scheduler": stage.search.scheduler.name,
        "trials": stage.trials,
        "epochs": stage.epochs,
        "size": size if math.isfinite(size) else "infinite",
        "space": space.describe(),
    }


def _print_stage(stage: dict[str, Any], console: Console) -> None:
    trials = "trials until the time is up" if stage["trials"] is None else f"{stage['trials']} trials"
    strategy = f"{stage['searcher']} + {stage['scheduler']}"
    console.print(
        f"stage {stage['name']}: {strategy}, {trials} of at most {stage['epochs']} epochs, {stage['size']} points",
        highlight=False,
    )
    table = Table(box=None, pad_edge=False)
    for title in ("parameter", "kind", "range", "default", "only when"):
        table.add_column(title)
    for row in stage["space"]:
        table.add_row(row["name"], row["kind"], str(row["range"]), str(row["default"]), row["condition"] or "")
    console.print(table)


def run(options: Namespace, console: Console) -> Outcome:
    """Runs an experiment of the repository or of a file."""
    spec = specs.load(options.experiment, options.settings, smoke=options.smoke)
    return _run(spec, options, console)


def submit(options: Namespace, console: Console) -> Outcome:
    """Runs an experiment as a job on a cluster. What is wrong with the experiment is said before anything is sent."""
    from experiments.engine import submit as submitting

    spec = specs.load(options.experiment, options.settings, smoke=options.smoke)
    return submitting.submit(options.address, spec.name, _job_arguments(options), partial(_say, console))


def _job_arguments(options: Namespace) -> list[str]:
    """The options of `run` that were given to `submit`."""
    flags = {"--smoke": options.smoke, "--new": options.new, "--accept-changes": options.accept_changes}
    valued = {"--storage": options.storage, "--wait": options.wait}
    return [
        options.experiment,
        *(word for setting in options.settings for word in ("--set", setting)),
        *(flag for flag, given in flags.items() if given),
        *(word for name, value in valued.items() if value is not None for word in (name, value)),
    ]


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def fit(options: Namespace, console: Console) -> Outcome:
    """Makes the experiment that a data file and limits amount to, prints it, runs it."""
    from experiments.engine import fit as fitting
    from experiments.engine.plan import faults_of
    from trainables.data import default_cache, prepare

    wish = fitting.Wish(**{name: getattr(options, name) for name in fitting.Wish.__dataclass_fields__})
    faults = faults_of(lambda: fitting.spec(wish, 1))
    rows: list[int] = []
    with tempfile.TemporaryDirectory() as scratch:
        cache = Path(scratch) if faults else default_cache()
        faults += faults_of(lambda: rows.append(len(prepare(fitting.task(wish), cache).splits["train"])))
    if faults:
        raise ParseError(faults)
    spec = fitting.spec(wish, rows[0])
    console.print(Syntax(spec.to_yaml(), "yaml", background_color="default"))
    return _run(spec, options, console)


def _run(spec: specs.Spec, options: Namespace, console: Console) -> int:
    from experiments.engine import launch
    from experiments.engine import plan as plans
    from experiments.engine import run as running
    from experiments.engine.report.text import print_report
    from trainables.data import default_cache

    storage: list[Store] = []
    faults = plans.faults_of(lambda: storage.append(runs.storage(options.storage)))
    wait: list[float | None] = []
    faults += plans.faults_of(lambda: wait.append(_seconds(options.wait)))
    plan = plans.prepare(spec, default_cache(), faults)
    _say_data(plan.data.record, console)
    chosen = running.Options(options.address, options.new, options.accept_changes, wait[0])
    code, store = running.run(plan, storage[0], console, chosen)
    launch.disconnect()
    print_report(_summary(runs.find(storage[0], store.name)), console)
    return code


def _seconds(text: str | None) -> float | None:
    """What --wait says: seconds, or 90s, 10m. Raises ValueError."""
    try:
        return specs.seconds(float(text) if text and text.replace(".", "", 1).isdecimal() else text)
    except ValueError as error:
        raise ValueError(f"--wait {error}") from None


def _say_data(record: dict[str, Any], console: Console) -> None:
    """What was read, and what was inferred where the user said nothing."""
    columns = ", ".join(
        f"{role} = {column!r}" + (" (inferred)" if role in record.get("inferred", ()) else "")
        for role, column in record.get("columns", {}).items()
    )
    made = ", ".join(f"{count:,} {name} ({record['splits'][name]})" for name, count in record["n"].items())
    for line in (f"data: {record['source']}; {columns}" if columns else f"data: {record['source']}", f"splits: {made}"):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def report(options: Namespace, console: Console) -> Outcome:
    """What a run found."""
    from experiments.engine.report.text import print_report

    told = _summary(runs.find(runs.storage(options.storage), options.run))
    if options.json:
        return told
    print_report(told, console)
    return 0


def _summary(found: runs.Run) -> dict[str, Any]:
    from experiments.engine import fingerprint, history
    from experiments.engine.report.occupancy import occupancy
    from experiments.engine.report.summary import summary

    director = history.fold(found.records)
    told = summary(found.header, director, found.store.shown)
    share = occupancy(found.records, [stage["name"] for stage in told["stages"]])
    return {
        **told,
        "fingerprint": fingerprint.short(fingerprint.newest(found.records)),
        "finished": found.finished,
        "given_up": director.given_up,
        "changes": [change for record in found.records for change in record.get("changes", ())],
        "lag": max((record.get("lag", 0.0) for record in found.records), default=0.0),
        "time": {**told["time"], "busy_share": share},
    }


def list_runs(options: Namespace, console: Console) -> Outcome:
    """The runs there are, newest first: damaged, running, finished (with which code), or unfinished."""
    rows = [_listed(run) for run in runs.every(runs.storage(options.storage))]
    if options.json:
        return rows
    for row in rows:
        console.print(f"{row['run']:<48} {_state(row)}", highlight=False, markup=False, soft_wrap=True)
    return 0


def _listed(run: runs.Run) -> dict[str, Any]:
    from experiments.engine.lease import Lease

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
    from experiments.engine.lease import Lease

    found = runs.find(runs.storage(options.storage), options.run)
    holder = Lease.holder(found.store)
    if holder is None:
        raise ValueError(f"run {found.name} has no driver, so there is nothing to cancel; see `runs list`")
    if options.trial is not None:
        _check_running(found, options.trial)
    request = json.dumps({"cancel": options.trial}).encode()
    found.store.write(f"requests/{time.time_ns():020d}-{secrets.token_hex(4)}.json", request)
    asked = f"asked pid {holder.get('pid')} on {holder.get('host')} to end {options.trial or found.name}"
    _say(console, asked + ("" if options.trial else "; the same command goes on from there"))
    return 0


def _check_running(found: runs.Run, name: str) -> None:
    from experiments.engine import history

    trials = {trial.id: trial for trial in history.fold(found.records).trials.values()}
    running = ", ".join(trial.id for trial in trials.values() if trial.status == "running") or "none"
    if name not in trials:
        raise ValueError(f"run {found.name} has no trial {name!r}; running: {running}")
    if trials[name].status != "running":
        raise ValueError(f"trial {name!r} has ended already ({trials[name].status}); running: {running}")


def delete_run(options: Namespace, console: Console) -> Outcome:
    """Removes one run that no driver works on."""
    from experiments.engine.lease import Lease

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


def _artifact(options: Namespace) -> AbstractContextManager[Path]:
    """The artifact's folder; that of a run in an object store is fetched for as long as it is needed."""
    folder = Path(options.artifact)
    if folder.is_dir() and not runs.load(folder):
        return nullcontext(folder)
    try:
        found = runs.find(runs.storage(options.storage), options.artifact)
    except ValueError as error:
        raise ValueError(f"artifact {options.artifact!r} is neither a folder nor a run: {error}") from None
    told = _summary(found)
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
