"""The frontier as a static picture: what is dominated in grey, what is not joined by a step line.

matplotlib is imported when something is drawn: most commands draw nothing, and it takes its time.
"""

import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from experiments.engine.frontier import Direction, Objectives, non_dominated, score

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "frontier.png"
Point = tuple[float, float]
Json = Mapping[str, Any]
_Look = tuple[str, str, str]

# 1600 × 1000 pixels, with letters to be read at half of that.
_INCHES, _DPI = (8.0, 5.0), 200
_GREY, _INK = "#a8a8a8", "#222222"
# Two of the colours of Okabe and Ito (2008), which the colour-blind tell apart; marker and line differ besides.
_LOOKS: tuple[_Look, ...] = (("#0072b2", "o", "-"), ("#d55e00", "^", "--"))
# Room around what has to be seen, as a share of its extent.
_MARGIN = 0.08
# More room above for each name that stands there.
_HEADROOM = 0.09
# A logarithmic axis has numbers at 1, 2, 5 of each decade where it is this wide, at 1 alone from where that crowds.
_WIDE, _CROWDED = 5.0, 1e3
_PAPER = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}


@dataclass(frozen=True)
class Axis:
    """What an axis shows and which way is better; `unit` follows each number on it, such as ×."""

    label: str
    direction: Direction
    log: bool = False
    unit: str = ""


def draw(
    points: Mapping[str, Sequence[Point]],
    file: Path | BinaryIO,
    *,
    title: str,
    x: Axis,
    y: Axis,
    named: Mapping[str, Point] | None = None,
    levels: Mapping[str, float] | None = None,
) -> None:
    """Writes a PNG of 1600 × 1000 pixels: the same bytes for the same arguments.

    points: one or two sets of (x, y) by name, each with a frontier of its own. Up to half of what is dominated
        may lie outside the picture; the legend counts it.
    named: points with a name of their own, such as the teacher; they are on no frontier.
    levels: values of y by name, drawn across, such as a classical model's accuracy.
    Raises ValueError where there are no points or three sets, and for a number that is not finite or, on a
    logarithmic axis, not above zero.
    """
    named, levels = named or {}, levels or {}
    _check(points, named, levels, x, y)
    import matplotlib.style
    from matplotlib.figure import Figure

    with matplotlib.style.context(["default", {"font.size": 11}]):
        figure = Figure(figsize=_INCHES, dpi=_DPI, facecolor="white", layout="constrained")
        axes = figure.add_subplot()
        sets = {name: _parted(members, x, y) for name, members in points.items()}
        across, upwards = _seen([*sets.values()], [*named.values()])
        upwards += levels.values()
        _frame(axes, (x, _limits(across, x)), (y, _limits(upwards, y, above=_HEADROOM * len(named))))
        for (name, parts), look in zip(sets.items(), _LOOKS, strict=False):
            _draw_set(axes, name, *parts, look=look, lower=x.direction == "min")
        _draw_levels(axes, levels, right=x.direction == "min")
        _draw_named(axes, named)
        axes.set_title(title, loc="left", fontsize=13)
        figure.legend(loc="outside lower left", frameon=False, fontsize=10)
        # Software would be matplotlib's version.
        about = {"Title": title, "Description": f"{y.label} against {x.label}", "Software": None}
        figure.savefig(file, format="png", metadata=about)


def of_run(report: Json, objectives: Objectives) -> bytes | None:
    """A run's summary as a PNG: the finalists, the trials that they stand for, and stages of one trial by name.

    Two objectives are shown: the first that is maximised upwards, the first that is minimised across, on a
    logarithmic scale. None where there is one objective alone, or nothing that has both.
    """
    if len(objectives) < 2:
        return None
    (y_name, y_way), (x_name, x_way) = sorted(objectives.items(), key=lambda item: item[1])[:2]
    x, y = (Axis(_label(name), way, log=way == "min") for name, way in ((x_name, x_way), (y_name, y_way)))
    stages = {stage["name"]: _points(stage["trials"], x_name, y_name, x, y) for stage in report["stages"]}
    found = {"finalists, exported and measured alone": _points(report["finalists"], x_name, y_name, x, y)}
    origins = _origins(report)
    found[f"trials of {', '.join(origins)}"] = [point for name in origins for point in stages[name]]
    shown = {name: points for name, points in found.items() if points}
    if not shown:
        return None
    lone = [stage["name"] for stage in report["stages"] if len(stage["trials"]) == 1]  # such as the teacher's
    named = {name: stages[name][0] for name in lone if stages[name]}
    out = io.BytesIO()
    levels = _levels(report["baselines"].get("classical"), y_name)
    draw(shown, out, title=report["experiment"], x=x, y=y, named=named, levels=levels)
    return out.getvalue()


def _origins(report: Json) -> list[str]:
    """The stages that the finalists come from; without finalists all."""
    exported = {finalist["trial"] for finalist in report["finalists"]}
    of = [stage["name"] for stage in report["stages"] if any(trial["id"] in exported for trial in stage["trials"])]
    return of or [stage["name"] for stage in report["stages"]]


def _points(trials: Iterable[Json], x_name: str, y_name: str, x: Axis, y: Axis) -> list[Point]:
    """Of the trials that have both figures."""
    metrics = [trial["metrics"] for trial in trials if not trial["failed"]]
    pairs = [(score(each, x_name, "max"), score(each, y_name, "max")) for each in metrics]
    return [(a, b) for a, b in pairs if _drawable(a, x) and _drawable(b, y)]


def _drawable(value: float, axis: Axis) -> bool:
    return math.isfinite(value) and (value > 0 or not axis.log)


def _levels(classical: Json | None, metric: str) -> dict[str, float]:
    """The classical model's validation score, where the metric is one."""
    name = metric.removeprefix("val_")
    if classical is None or name == metric or name not in classical["validation"]:
        return {}
    return {classical["name"]: classical["validation"][name]}


def _label(metric: str) -> str:
    """A metric's name in words: val_accuracy → validation accuracy, latency_ms → latency (ms)."""
    words = metric.split("_")
    words = ["validation" if word == "val" else word for word in words]
    units = {"ms": "ms", "mb": "MB", "wh": "Wh"}
    return " ".join([*words[:-1], f"({units[words[-1]]})"] if words[-1] in units else words)


def _check(
    points: Mapping[str, Sequence[Point]], named: Mapping[str, Point], levels: Mapping[str, float], x: Axis, y: Axis
) -> None:
    if not 1 <= len(points) <= len(_LOOKS) or not any(points.values()):
        raise ValueError(f"points must be one or two sets, not all empty, got {dict(points)!r}")
    pairs = [*(pair for members in points.values() for pair in members), *named.values()]
    for axis, values in ((x, [a for a, _ in pairs]), (y, [*(b for _, b in pairs), *levels.values()])):
        wrong = next((value for value in values if not _drawable(value, axis)), None)
        if wrong is not None:
            rule = "finite and above zero" if axis.log else "finite"
            raise ValueError(f"{axis.label} must be {rule} to be drawn, got {wrong!r}")


def _parted(members: Sequence[Point], x: Axis, y: Axis) -> tuple[list[Point], list[Point]]:
    """The non-dominated points from left to right, and the others."""
    signs = [1 if axis.direction == "max" else -1 for axis in (x, y)]
    first = set(non_dominated([(a * signs[0], b * signs[1]) for a, b in members]))
    return sorted(members[index] for index in first), [p for index, p in enumerate(members) if index not in first]


def _seen(sets: Sequence[tuple[list[Point], list[Point]]], named: Sequence[Point]) -> tuple[list[float], list[float]]:
    """Every x, and each y that has to be seen: of what is not dominated all, and half of the rest."""
    first = [*(pair for frontier, _ in sets for pair in frontier), *named]
    rest = [pair for _, dominated in sets for pair in dominated]
    middle = [median(b for _, b in dominated) for _, dominated in sets if dominated]
    return [a for a, _ in [*first, *rest]], [*(b for _, b in first), *middle]


def _frame(axes: "Axes", *bounded: tuple[Axis, tuple[float, float]]) -> None:
    """Scale, limits, round numbers and label of x and y."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    for name, ruler, (axis, (low, high)) in zip("xy", (axes.xaxis, axes.yaxis), bounded, strict=True):
        better = "lower" if axis.direction == "min" else "higher"
        scale = "log" if axis.log else "linear"
        axes.set(
            **{f"{name}scale": scale, f"{name}lim": (low, high), f"{name}label": f"{axis.label}, {better} is better"}
        )
        decades = LogLocator(subs=(1.0, 2.0, 5.0) if high < _CROWDED * low else (1.0,))
        ruler.set_major_locator(decades if axis.log and high > _WIDE * low else MaxNLocator(6, steps=[1, 2, 5, 10]))
        ruler.set_minor_locator(NullLocator())
        ruler.set_major_formatter(_numbers(axis.unit))
    axes.grid(color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _numbers(unit: str) -> Callable[[float, float], str]:
    return lambda value, _: f"{value:.6g}{unit}"


def _limits(values: Sequence[float], axis: Axis, above: float = 0.0) -> tuple[float, float]:
    """Around the values, with margins; of one value alone, some way to both sides."""
    to, back = (math.log, math.exp) if axis.log else (float, float)
    low, high = to(min(values)), to(max(values))
    extent = high - low or (1.0 if axis.log else abs(high) or 1.0)
    return back(low - _MARGIN * extent), back(high + (_MARGIN + above) * extent)


def _draw_set(
    axes: "Axes", name: str, frontier: Sequence[Point], dominated: Sequence[Point], *, look: _Look, lower: bool
) -> None:
    """A step holds the best y that is to be had at this x or better; `lower`: a lower x is better."""
    colour, marker, line = look
    low, high = axes.get_ylim()
    inside = [(a, b) for a, b in dominated if low <= b <= high]
    label = f"{name}: {len(frontier)} on the frontier" + (f", {len(dominated)} dominated (grey)" if dominated else "")
    if len(inside) < len(dominated):
        label += f", {len(dominated) - len(inside)} of them outside the picture"
    axes.scatter(*_columns(inside), s=16, color=_GREY, marker=marker, alpha=0.6, linewidths=0)
    where: Literal["post", "pre"] = "post" if lower else "pre"
    axes.step(*_columns(frontier), where=where, color=colour, linestyle=line, marker=marker, markersize=6, label=label)


def _columns(pairs: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [a for a, _ in pairs], [b for _, b in pairs]


def _draw_levels(axes: "Axes", levels: Mapping[str, float], *, right: bool) -> None:
    """The names stand where x is worst (what lies there below a frontier is dominated), on their line's inner side."""
    side: Literal["left", "right"] = "right" if right else "left"
    middle = sum(axes.get_ylim()) / 2
    for name, value in levels.items():
        gap = (-4 if right else 4, -3 if value > middle else 3)
        looks: dict[str, Any] = {"va": "top" if value > middle else "bottom", "fontsize": 10, "bbox": _PAPER}
        axes.axhline(value, color=_INK, linewidth=1, linestyle=":")
        axes.annotate(name, (float(right), value), gap, ("axes fraction", "data"), "offset points", ha=side, **looks)


def _draw_named(axes: "Axes", named: Mapping[str, Point]) -> None:
    """A diamond each, and its name above: the further out the higher, so that neighbours' names do not meet."""
    to_axes = axes.transData + axes.transAxes.inverted()
    across = {name: float(to_axes.transform(pair)[0]) for name, pair in named.items()}
    heights = {"left": 10, "right": 10}
    for name in sorted(named, key=lambda name: abs(across[name] - 0.5)):
        side: Literal["left", "right"] = "left" if across[name] < 0.5 else "right"
        leader = {"arrowstyle": "-", "color": _INK, "linewidth": 0.7, "relpos": (float(side == "right"), 0)}
        looks: dict[str, Any] = {"va": "bottom", "bbox": _PAPER, "arrowprops": leader}
        axes.plot(*named[name], marker="D", markersize=6, color=_INK, linestyle="none")
        axes.annotate(name, named[name], (0, heights[side]), textcoords="offset points", ha=side, **looks)
        heights[side] += 15
