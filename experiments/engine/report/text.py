"""The summary as text for a terminal."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from experiments.engine.strategies.pair import REDRAWS

Json = Mapping[str, Any]

_TRACE_LINES = 4
# Of so many trials with the same to be said the names are.
_NAMED = 3
_LAG_S = 5.0
_COUNTED_ONLY = ("driver", "time")
_CLASSES = {
    "error": "the code raised; not tried again",
    "infeasible": "it cannot work as it is (memory, shapes, a file that is not there); not tried again",
    "diverged": "a metric it is judged by was missing or no finite number; not tried again",
    "process": "the process ended by itself; tried again",
    "memory": "ended as the node ran out of memory; tried again once, alone",
    "node": "the node was lost; tried again",
    "preempted": "the node was taken back; tried again without counting",
    "hung": "no report for too long; ended, and tried again up to three times",
    "storage": "a checkpoint could not be read or written; tried again",
    "driver": "the driver ended; the trial went on in the next session",
    "time": "the time budget was used up",
}


def print_report(report: Json, console: Console) -> None:
    """The frontier beside the baselines, what failed, what was chosen and how sure that is."""
    console.print(f"\n{report['experiment']}  ({report['run']})", highlight=False)
    for line in _data_lines(report["data"]):
        console.print(line, highlight=False, markup=False)
    for line in _search_lines(report):
        console.print(line, highlight=False, markup=False)
    for stage in report["stages"]:
        _print_stage(stage, report, console)
    _print_finalists(report["finalists"], console)
    if report["chosen"]:
        _print_chosen(report["chosen"], report["baselines"].get("classical"), console)
    else:
        console.print(f"\n{why_nothing(report)}", highlight=False)
    if report["picture"]:
        console.print(f"frontier: {report['picture']}", highlight=False, markup=False, soft_wrap=True)
    _print_failures(report["failures"], console)
    for line in _session_lines(report):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if report["time"].get("busy_share"):
        share = f"{report['time']['busy_share']:.1%}"
        console.print(f"slots busy with training and evaluation while work waited: {share}", highlight=False)
    for warning in report["warnings"]:
        console.print(f"warning: {warning}", highlight=False, markup=False)


def why_nothing(report: Json) -> str:
    """Why no trial was chosen, and what to do."""
    if not report["finished"]:
        return "Unfinished: nothing was chosen yet. Repeat the command to go on."
    if report["given_up"]:
        return "Nothing was chosen: the run was given up."
    sound = any(not trial["failed"] and trial["epochs"] for stage in report["stages"] for trial in stage["trials"])
    if not sound:
        return "Nothing was chosen: no trial was valid."
    return f"Nothing was chosen: no finalist {'meets the constraints' if report['constraints'] else 'was valid'}."


def _data_lines(data: Json) -> Iterable[str]:
    splits = ", ".join(f"{count:,} {name}" for name, count in data.get("n", {}).items())
    yield f"data: {data.get('source', '?')}; {splits}; {data.get('n_classes', '?')} classes"
    if data.get("sample"):
        yield f"sample: {data['sample']['rows']:,} of the {data['sample']['of']:,} training examples, seeded"


def _search_lines(report: Json) -> Iterable[str]:
    """What the search had to keep to, and what it began with."""
    if report["constraints"]:
        yield f"constraints: {', '.join(_bound(name, of) for name, of in report['constraints'].items())}"
    for stage, names in report["warm_start"].items():
        yield f"warm start: {stage} tried, in turns with its searcher, what was good in {', '.join(names)}"


def _bound(name: str, of: Mapping[str, float | None]) -> str:
    said = {"at least": of.get("min"), "at most": of.get("max")}
    return f"{name} {' and '.join(f'{how} {limit:,.6g}' for how, limit in said.items() if limit is not None)}"


def _print_stage(stage: Json, report: Json, console: Console) -> None:
    baselines, counts = report["baselines"], Counter(trial["status"] for trial in stage["trials"])
    states = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    said = f"{len(stage['trials'])} trials ({states})" if states else f"no trial{'' if report['finished'] else ' yet'}"
    console.print(
        f"\n{stage['name']}: {said}; hypervolume {stage['hypervolume']:.4f}; latency from the layer table",
        highlight=False,
    )
    if stage["spared"]:
        spared = f"{stage['spared']} configurations were not trained: what is known of them breaks a constraint"
        console.print(spared, highlight=False)
    if stage["exhausted"] and report["finished"]:
        left = "nothing was left to try"
        if report["constraints"]:
            left = f"{REDRAWS} proposals in a row had been tried or were known to break a constraint"
        console.print(f"only {len(stage['trials'])} of {stage['planned']} trials: {left}", highlight=False)
    if stage["trials"] and not stage["frontier"] and any(trial["breaks"] for trial in stage["trials"]):
        console.print("no trial met the constraints", highlight=False)
    table = _table("", "trial", "epochs", "val_accuracy", "latency ms", "params", "layers×d_model×d_ff")
    rows = {trial["id"]: trial for trial in stage["trials"]}
    for name in stage["frontier"]:
        _row(table, "frontier", rows[name], stage["options"])
    table.add_section()
    for label, key in (("default", "default"), ("random search", "random"), ("most parameters", "largest")):
        if baselines.get(key) and baselines[key]["trial"] in rows:
            trial = rows[baselines[key]["trial"]]
            said = f"{label}, breaks {' and '.join(trial['breaks'])}" if trial["breaks"] else label
            _row(table, said, trial, stage["options"])
    if baselines.get("classical"):
        name, metrics = baselines["classical"]["name"], _validation(baselines["classical"])
        _row(table, name, {"id": "", "epochs": None, "metrics": metrics, "config": {}}, {})
    console.print(table)
    for line in _reasons(stage["trials"]):
        console.print(f"  {line}", highlight=False, markup=False)


def _reasons(trials: Sequence[Json]) -> Iterable[str]:
    """Why trials that did not fail ended early; where the same holds of many, how many."""
    found: dict[str, list[str]] = {}
    for trial in trials:
        if trial["reason"] and not trial["failed"]:
            found.setdefault(f"{trial['status']}: {trial['reason']}", []).append(trial["id"])
    for reason, names in found.items():
        yield f"{', '.join(names) if len(names) <= _NAMED else f'{len(names)} trials'} {reason}"


def _print_finalists(finalists: Sequence[Json], console: Console) -> None:
    """Every exported model by the figures of its artifact, measured alone after the search."""
    several = any(finalist["seeds"] for finalist in finalists)
    titles = ("finalist", "artifact", "validation", "test", "latency ms", "size MB")
    table = _table(*titles, *(["test, mean of seeds"] if several else []))
    for finalist in finalists:
        metrics = finalist["metrics"]
        if "artifact" in metrics:
            test = next(iter(metrics["test"].values()))["value"]
            figures = (metrics["val_accuracy"], test, metrics["latency_ms"])
            cells = [
                *map(_cell, figures),
                f"{metrics['size_mb']:.3g}",
                *([_seeds(finalist["seeds"])] if several else []),
            ]
            table.add_row(finalist["trial"], metrics["artifact"], *cells)
    if table.row_count:
        console.print("\nfinalists, exported and measured alone:", highlight=False)
        console.print(table)


def _seeds(found: Json | None) -> str:
    """Of the task's first metric."""
    if not found:
        return "–"
    of = next(iter(found["test"].values()))
    return f"{of['mean']:.4f} ({of['low']:.4f} to {of['high']:.4f}; {found['n']})"


def _print_failures(failures: Sequence[Json], console: Console) -> None:
    """By class: each attempt with its node; of the first in a class the traceback's last lines too."""
    for kind, count in sorted(Counter(failure["class"] for failure in failures).items()):
        console.print(f"\n{kind} ({count}): {_CLASSES[kind]}", highlight=False)
        of_kind = [failure for failure in failures if failure["class"] == kind and kind not in _COUNTED_ONLY]
        for index, failure in enumerate(of_kind):
            for line in _failure_lines(failure, trace=index == 0):
                console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)


def _failure_lines(failure: Json, *, trace: bool) -> Iterable[str]:
    node = f" on {failure['node']}" if failure["node"] else ""
    yield f"{failure['id']}, attempt {failure['attempt'] + 1}{node}: {failure['reason']}"
    if trace:
        yield from (f"  {line}" for line in failure["trace"].rstrip().splitlines()[-_TRACE_LINES:])


def _session_lines(report: Json) -> Iterable[str]:
    """What happened to the run as a whole."""
    if report["changes"]:
        yield "went on with accepted changes:"
        yield from (f"  {change}" for change in report["changes"])
    if report["given_up"]:
        yield f"given up: {report['given_up']}"
    if report["lag"] > _LAG_S:
        yield f"the storage lagged up to {report['lag']:.0f} s behind"


def _validation(classical: Json) -> Json:
    return {f"val_{name}": value for name, value in classical["validation"].items()}


def _print_chosen(chosen: Json, classical: Json | None, console: Console) -> None:
    console.print(f"\nchosen: {chosen['trial']}", highlight=False)
    table = _table("", "test", "95 % interval", "latency ms", "size MB", "params")
    _test_row(table, "chosen", chosen["test"], chosen)
    if classical:
        _test_row(table, classical["name"], classical["test"], {})
    console.print(table)
    console.print(f"artifact: {chosen['artifact']}", highlight=False, markup=False, soft_wrap=True)
    for sample in chosen["predictions"]:
        verdict = "" if sample["label"] == sample["predicted"] else f" (labelled {sample['label']})"
        console.print(
            f"  {sample['input']!r} → {sample['predicted']} {sample['probability']:.2f}{verdict}",
            highlight=False,
            markup=False,
        )


def _test_row(table: Table, name: str, test: Json, figures: Json) -> None:
    for metric, interval in test.items():
        cells = (f"{figures[key]:,.4g}" if key in figures else "–" for key in ("latency_ms", "size_mb"))
        params = f"{figures['params']:,}" if "params" in figures else "–"
        table.add_row(
            name,
            f"{metric} {interval['value']:.4f}",
            f"{interval['low']:.4f} to {interval['high']:.4f}",
            *cells,
            params,
        )
        name, figures = "", {}


def _row(table: Table, label: str, trial: Json, options: Json) -> None:
    metrics = trial["metrics"]
    table.add_row(
        label,
        trial["id"],
        "–" if trial["epochs"] is None else f"{trial['epochs']:g}",
        _cell(metrics.get("val_accuracy")),
        _cell(metrics.get("latency_ms")),
        f"{metrics['params']:,}" if "params" in metrics else "–",
        _shape({**options, **trial["config"]}),
    )


def _shape(config: Json) -> str:
    """Layers × width × feed-forward, and heads, as far as options and configuration say; – is what they leave open."""
    sizes = [str(config.get(name, "–")) for name in ("n_layers", "d_model", "d_ff")]
    heads = f", {config['n_heads']} heads" if "n_heads" in config else ""
    return ("×".join(sizes) if {*sizes} != {"–"} else "") + heads


def _cell(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, int | float) else "–"


def _table(*titles: str) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False)
    for index, title in enumerate(titles):
        last = index == len(titles) - 1 and "×" in title
        table.add_column(title, justify="left" if index < 2 or last else "right", no_wrap=True)
    return table
