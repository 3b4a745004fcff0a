"""What the commands that start something do; those that look at runs are in `records`. Heavy libraries are imported
where they are needed.
"""

import json
import math
import tempfile
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python
from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table

from experiments import records
from experiments.engine import runs, strategies
from experiments.engine import spec as specs
from experiments.engine.stage import Part, Stage
from trainables.parsing import ParseError
from trainables.store import Store

Outcome = int | dict[str, Any] | list[Any]


def list_(options: Namespace, console: Console) -> Outcome:
    """The experiments in this repository."""
    found = [specs.shape(name) for name in specs.find()]
    if options.json:
        return [{"name": spec.name, "description": spec.description} for spec in found]
    for spec in found:
        console.print(f"{spec.name:<20} {spec.description}", highlight=False, markup=False)
    return 0


def show(options: Namespace, console: Console) -> Outcome:
    """An experiment resolved."""
    spec = specs.load(options.experiment, options.settings, smoke=options.smoke)
    stages = [_stage(stage) | (_routine(stage) if options.options else {}) for stage in spec.stages]
    if options.json:
        return {"spec": spec.resolved(), "stages": stages}
    console.print(Syntax(spec.to_yaml(), "yaml", background_color="default"))
    for stage in stages:
        _print_stage(stage, console)
    console.print(f"time budget: {f'{spec.time:g} s' if spec.time else 'none'}", highlight=False)
    return 0


def _stage(stage: Stage) -> dict[str, Any]:
    space = stage.search_space()
    size = space.size()
    return {
        "name": stage.name,
        "searcher": stage.search.searcher.name,
        "scheduler": stage.search.scheduler.name,
        "options": {role: _options(part, role) for role, part in _strategy(stage)},
        "trials": stage.most,
        "each": stage.each.model_dump() if stage.each else None,
        "epochs": stage.epochs,
        "size": size if math.isfinite(size) else "infinite",
        "space": space.describe(),
    }


def _strategy(stage: Stage) -> list[tuple[strategies.Role, Part]]:
    """Its parts, each with its role."""
    searcher, scheduler = stage.search.searcher, stage.search.scheduler
    if searcher.name in strategies.find("STRATEGY"):
        return [("STRATEGY", searcher)]
    return [("SEARCHER", searcher), ("SCHEDULER", scheduler)]


def _options(part: Part, role: strategies.Role) -> list[dict[str, Any]]:
    """Each option's value, its default where it is not given, and what it means."""
    config = strategies.options(part.name, role)
    values = config.model_validate(part.options).model_dump(mode="json")
    return [
        {"of": part.name, "option": name, "value": values[name], "means": field.description or ""}
        for name, field in config.model_fields.items()
    ]


def _routine(stage: Stage) -> dict[str, Any]:
    """The options of its routine, as `_options` tells those of a strategy; those of no default are null."""
    from trainables import routine  # with torch, which takes time

    fields = {name: field for name, field in routine.load(stage.routine).Config.model_fields.items() if name != "task"}
    values = {
        name: None if field.is_required() else field.get_default(call_default_factory=True)
        for name, field in fields.items()
    }
    values |= {"epochs": stage.epochs} | stage.options
    told = [
        {"of": stage.routine, "option": name, "value": to_jsonable_python(values[name])}
        | {"means": field.description or ""}
        for name, field in fields.items()
    ]
    return {"routine": told}


def _print_stage(stage: dict[str, Any], console: Console) -> None:
    most = f"of at most {stage['epochs']} epochs"
    console.print(f"stage {stage['name']}: {_trials(stage)} {most}, {stage['size']} points", highlight=False)
    options = [option for part in stage["options"].values() for option in part] + stage.get("routine", [])
    for option in options:
        value = f"{option['value']:g}" if isinstance(option["value"], float) else json.dumps(option["value"])
        line = f"  {option['of']}.{option['option']} = {value}: {option['means']}"
        console.print(line.rstrip(": "), highlight=False, markup=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for title in ("parameter", "kind", "range", "default", "only when"):
        table.add_column(title)
    for row in stage["space"]:
        table.add_row(row["name"], row["kind"], str(row["range"]), str(row["default"]), row["condition"] or "")
    console.print(table)


def _trials(stage: dict[str, Any]) -> str:
    each = stage["each"]
    if each:
        return f"{stage['scheduler']}, one trial for each of up to {each['count']} picks of {each['stage']}"
    trials = "trials until the time is up" if stage["trials"] is None else f"{stage['trials']} trials"
    return f"{stage['searcher']} + {stage['scheduler']}, {trials}"


def run(options: Namespace, console: Console) -> Outcome:
    """Runs an experiment of the repository or of a file; or extends a run, whose own settings then hold."""
    spec = specs.load(options.experiment, options.settings, smoke=options.smoke)
    if (options.extend or 0) > 0 and not options.new:
        from experiments.engine import extension

        run = extension.finished(runs.storage(options.storage), spec.name)
        spec = extension.as_it_ran(run, options.settings)
    return _run(spec, options, console)


def submit(options: Namespace, console: Console) -> Outcome:
    """Runs an experiment as a job on a cluster. What is wrong with the experiment is said before anything is sent."""
    from experiments.engine import submit as submitting

    spec = specs.load(options.experiment, options.settings, smoke=options.smoke)
    return submitting.submit(options.address, spec.name, _job_arguments(options), partial(_say, console))


def _job_arguments(options: Namespace) -> list[str]:
    """The options of `run` that were given to `submit`."""
    flags = {"--smoke": options.smoke, "--new": options.new, "--accept-changes": options.accept_changes}
    valued = {"--storage": options.storage, "--wait": options.wait, "--extend": options.extend}
    return [
        options.experiment,
        *(word for setting in options.settings for word in ("--set", setting)),
        *(flag for flag, given in flags.items() if given),
        *(word for name, value in valued.items() if value is not None for word in (name, str(value))),
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
    extend = getattr(options, "extend", None)
    if extend is not None and extend < 1:
        faults.append(f"--extend must be at least 1 trial, got {extend}")
    wait: list[float | None] = []
    faults += plans.faults_of(lambda: wait.append(_seconds(options.wait)))
    plan = plans.prepare(spec, default_cache(), faults)
    _say_data(plan.data.record, console)
    chosen = running.Options(options.address, options.new, options.accept_changes, wait[0], extend or 0)
    code, store = running.run(plan, storage[0], console, chosen)
    launch.disconnect()
    print_report(records.summary_of(runs.find(storage[0], store.name)), console)
    return code


def _seconds(text: str | None) -> float | None:
    """What --wait says: seconds, or 90s, 10m. Raises ValueError."""
    try:
        return specs.seconds(text)
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
