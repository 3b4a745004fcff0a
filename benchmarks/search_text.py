"""What `benchmarks.search_efficiency` found, as JSON, as text and as curves."""

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.search_measures import MARKS

Json = dict[str, Any]
# The mark from which on curves are drawn: before, all climb alike.
_FIRST = 3
RATIOS = {
    "epochs_to_target_over_random": "epochs to the target, over random search without early stopping",
    "epochs_to_target_over_best_rival": "epochs to the target, over the quickest rival",
    "hypervolume_over_best_rival": "hypervolume, over the fullest rival",
}


def write(results: Json, folder: Path) -> None:
    """search_efficiency.{json,md,png}."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "search_efficiency.json").write_text(json.dumps(_finite(results), indent=1, allow_nan=False) + "\n")
    (folder / "search_efficiency.md").write_text(text(results))
    draw(results, folder / "search_efficiency.png")


def _finite(values: Any) -> Any:
    """JSON has no infinity: "inf"."""
    if isinstance(values, Mapping):
        return {name: _finite(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [_finite(value) for value in values]
    return str(values) if isinstance(values, float) and not np.isfinite(values) else values


def text(results: Json) -> str:
    """Ratios and a table a surface."""
    what = "the recorded benchmark" if results["recorded"] else "closed forms, not the recorded benchmark"
    left = f" Left out: {', '.join(results['left_out'])}." if results["left_out"] else ""
    lines = [
        "# How little training a search needs",
        "",
        f"On {what}; {results['seeds']} seeds, {results['workers']} virtual workers,",
        f"{results['budget_epochs']} epochs a search, the same first point. Ours: {results['ours'][0]} to reach the",
        f"target, {results['ours'][1]} for hypervolume.{left}",
        "",
        *(f"- {said}: {results[name]:.3g}" for name, said in RATIOS.items()),
    ]
    for name, surface in results["surfaces"].items():
        lines += ["", f"## {name}", "", *_ratios(surface), "", *_table(surface["strategies"])]
    return "\n".join(lines) + "\n"


def _ratios(surface: Json) -> list[str]:
    of = {
        "epochs_to_target_over_best_rival": surface["quickest_rival"],
        "hypervolume_over_best_rival": surface["fullest_rival"],
    }
    there = " and ".join(f"{name} in {count}" for name, count in surface["seeds_that_got_there"].items())
    return [
        f"- the target was met by {there} of the seeds",
        *(
            f"- {said}{f' ({of[name]})' if name in of else ''}: {surface[name]['median']:.3g} "
            f"({surface[name]['interval'][0]:.3g} to {surface[name]['interval'][1]:.3g})"
            for name, said in RATIOS.items()
        ),
    ]


def _table(strategies: Json) -> list[str]:
    """Epochs to the target: the median of all seeds, those that never got there among them."""
    head = ("strategy", "epochs to target, median", "seeds that got there", "hypervolume, median")
    rows = [f"| {' | '.join(head)} |", "|---|--:|--:|--:|"]
    for name, found in strategies.items():
        epochs = [float("inf") if each is None else each for each in found["epochs_to_target"]]
        median, there = statistics.median_high(epochs), sum(np.isfinite(epochs))
        said = f"{median:.0f}" if np.isfinite(median) else "not within the budget"
        rows.append(f"| {name} | {said} | {there} of {len(epochs)} | {statistics.median(found['hypervolume']):.4f} |")
    return rows


def draw(results: Json, path: Path) -> None:
    """The best accuracy and the hypervolume over epochs: medians, and of ours that count the quartiles."""
    from matplotlib.figure import Figure  # slow to import

    surfaces = results["surfaces"]
    figure = Figure(figsize=(12, 3.6 * len(surfaces)), layout="constrained")
    axes = figure.subplots(len(surfaces), 2, squeeze=False)
    for row, (name, surface) in zip(axes, surfaces.items(), strict=True):
        for axis, what, label in zip(row, ("best", "volumes"), ("best accuracy", "hypervolume"), strict=True):
            _curves(axis, surface["strategies"], what, results)
            lowest = min(found[what][1][_FIRST] for found in surface["strategies"].values())
            axis.set(title=name, xlabel="epochs trained", ylabel=label, xscale="log")
            axis.set(xlim=(results["budget_epochs"] * _FIRST / MARKS, results["budget_epochs"]), ylim=(lowest, None))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), fontsize=8, loc="outside right upper")
    figure.savefig(path, dpi=110)


def _curves(axis: Any, strategies: Json, what: str, results: Json) -> None:
    from matplotlib import colormaps

    colours = colormaps["tab20"]
    for number, (name, found) in enumerate(strategies.items()):
        low, median, high = found[what]
        epochs = np.linspace(1, results["budget_epochs"], len(median))
        style = "--" if ":" in name else "-"  # a rival's name says whose it is
        axis.plot(epochs, median, style, color=colours(number), label=name, linewidth=1.2)
        if name in results["ours"]:
            axis.fill_between(epochs, low, high, color=colours(number), alpha=0.15)
