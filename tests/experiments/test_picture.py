"""The picture of a frontier: what is drawn and where, and the same each time."""

import io
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.cbook import STEP_LOOKUP_MAP
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from experiments.engine import run as running
from experiments.engine.report import picture
from experiments.engine.report.picture import Axis, draw, of_run
from trainables.store import Store

ROOT = Path(__file__).parents[2]
SPEED = Axis("speed", "max", log=True, unit="×")
LATENCY = Axis("latency (ms)", "min", log=True)
ACCURACY = Axis("test accuracy", "max")
FRONTIER = [(5, 0.86), (20, 0.85), (80, 0.82)]
OPTIONS = {"title": "Glosses", "x": SPEED, "y": ACCURACY}
OBJECTIVES = {"val_accuracy": "max", "latency_ms": "min"}


def drawn(points, **options):
    out = io.BytesIO()
    draw(points, out, **{**OPTIONS, **options})
    return out.getvalue()


@pytest.fixture
def figures(monkeypatch):
    """The figures that are drawn instead of their files."""
    kept = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: kept.append(figure))
    return kept


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_it_is_a_white_png_of_a_known_size_that_says_what_it_draws():
    found = Image.open(io.BytesIO(drawn({"students": FRONTIER})))
    assert (found.format, found.size) == ("PNG", (1600, 1000))
    assert (found.text["Title"], found.text["Description"]) == ("Glosses", "test accuracy against speed")
    assert "Software" not in found.text
    white = (np.asarray(found.convert("RGB")) == 255).all(axis=2)
    assert white[0].all()
    assert 0.8 < white.mean() < 0.99


def test_the_same_arguments_give_the_same_bytes(tmp_path, monkeypatch):
    import matplotlib as mpl

    points = {"students": FRONTIER, "others": FRONTIER[:2]}
    first = drawn(points, named={"teacher": (1, 0.87)})
    monkeypatch.setitem(mpl.rcParams, "lines.linewidth", 9.0)  # what a user's matplotlibrc may say
    draw(points, tmp_path / "a.png", **OPTIONS, named={"teacher": (1, 0.87)})
    assert (tmp_path / "a.png").read_bytes() == first
    assert drawn(points, named={"teacher": (2, 0.87)}) != first


@pytest.mark.parametrize("axis", [SPEED, LATENCY])
def test_the_step_line_is_the_best_that_is_to_be_had(figures, axis):
    x, noise = np.random.default_rng(0).uniform(1, 2, (2, 30))
    points = np.stack([x, noise - x if axis is SPEED else noise + x], axis=1).tolist()
    drawn({"students": points}, x=axis)
    (line,) = figures[0].axes[0].lines
    steps = STEP_LOOKUP_MAP[line.get_drawstyle()](*line.get_xydata().T)
    middles = (steps[:, 1:] + steps[:, :-1]) / 2
    for a, b in middles[:, np.diff(steps[0]) > 0].T:
        assert b == max(y for x, y in points if (x >= a if axis is SPEED else x <= a))
    grey, frontier = figures[0].axes[0].collections[0].get_offsets().tolist(), line.get_xydata().tolist()
    assert len(frontier) > 3
    assert all(pair in points for pair in [*grey, *frontier])
    outside = 30 - len(grey) - len(frontier)
    assert outside <= (30 - len(frontier)) / 2
    told = f"students: {len(frontier)} on the frontier, {30 - len(frontier)} dominated (grey)"
    assert legend(figures[0])[0].startswith(told)


def test_each_set_has_a_frontier_and_a_legend_of_its_own(figures):
    drawn({"students": [*FRONTIER, (10, 0.845), (10, 0.2)], "independent": [(4, 0.84), (30, 0.83)]})
    axes = figures[0].axes[0]
    assert [line.get_xydata().tolist() for line in axes.lines] == [
        [list(pair) for pair in FRONTIER],
        [[4, 0.84], [30, 0.83]],
    ]
    assert axes.collections[0].get_offsets().tolist() == [[10, 0.845]]
    assert axes.lines[0].get_color() != axes.lines[1].get_color()
    assert legend(figures[0]) == [
        "students: 3 on the frontier, 2 dominated (grey), 1 of them outside the picture",
        "independent: 2 on the frontier",
    ]


def test_baselines_are_named_and_inside_and_their_names_apart(figures):
    named = {"PyTorch": (1, 0.866), "ONNX Runtime": (2.4, 0.866), "int8": (5.2, 0.865)}
    drawn({"students": FRONTIER}, named=named, levels={"linear": 0.7})
    figure = figures[0]
    axes = figure.axes[0]
    texts = {text.get_text(): text for text in axes.texts}
    assert texts.keys() == {*named, "linear"}
    assert axes.get_ylim()[0] < 0.7
    assert axes.get_xlim()[0] < 1
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in texts.values()]
    inside = axes.get_window_extent()
    assert all(inside.y0 < box.y0 and box.y1 < inside.y1 and inside.x0 < box.x0 for box in boxes)
    assert [a for i, a in enumerate(boxes) for b in boxes[:i] if a.y0 < b.y1 and b.y0 < a.y1 and a.x0 < b.x1] == []


@pytest.mark.parametrize("points", [[(3, 0.5)], [(3, 0.5), (3, 0.5)], [(1e-3, 0.0), (1e6, -1.0)]])
@pytest.mark.filterwarnings("error")
def test_one_point_and_many_decades_are_drawn(figures, points):
    drawn({"students": points})
    figures[0].draw_without_rendering()
    assert 2 <= len(figures[0].axes[0].get_xticks()) < 20


@pytest.mark.parametrize(
    ("points", "options", "line"),
    [
        ({"a": []}, {}, r"points must be one or two sets, not all empty, got \{'a': \[\]\}"),
        ({"a": [(0, 0.5)]}, {}, "speed must be finite and above zero to be drawn, got 0"),
        ({"a": [(1, float("nan"))]}, {}, "test accuracy must be finite to be drawn, got nan"),
        ({"a": [(1, 1)]}, {"levels": {"b": float("inf")}}, "test accuracy must be finite to be drawn, got inf"),
        ({name: [(1, 1)] for name in "abc"}, {}, "points must be one or two sets, not all empty, got .*'c'"),
    ],
)
def test_what_cannot_be_drawn_is_refused(points, options, line):
    with pytest.raises(ValueError, match=line):
        drawn(points, **options)


def report(*, finalists=True):
    def trial(name, latency, accuracy, **more):
        return {"id": name, "failed": False, "metrics": {"latency_ms": latency, "val_accuracy": accuracy}, **more}

    failed = {"id": "final-002", "failed": True, "metrics": {"latency_ms": 1.0, "val_accuracy": 1.0}}
    return {
        "experiment": "glosses",
        "stages": [
            {"name": "teacher", "trials": [trial("teacher-000", 8.0, 0.87)]},
            {"name": "search", "trials": [trial("search-000", 1.0, 0.3), trial("search-001", 2.0, 0.4)]},
            {"name": "final", "trials": [trial("final-000", 1.0, 0.8), trial("final-001", None, 0.7), failed]},
        ],
        "finalists": [trial("finalists-000", 0.5, 0.79, trial="final-000")] if finalists else [],
        "baselines": {"classical": {"name": "TF-IDF", "validation": {"accuracy": 0.75}}},
    }


def test_a_run_shows_its_finalists_the_trials_they_stand_for_and_its_teacher(figures):
    of_run(report(), OBJECTIVES)
    axes = figures[0].axes[0]
    assert axes.get_title(loc="left") == "glosses"
    assert axes.get_xlabel() == "latency (ms), lower is better"
    assert axes.get_ylabel() == "validation accuracy, higher is better"
    assert legend(figures[0]) == [
        "finalists, exported and measured alone: 1 on the frontier",
        "trials of final: 1 on the frontier",
    ]
    assert axes.lines[0].get_xydata().tolist() == [[0.5, 0.79]]
    assert {text.get_text(): text.xy[1] for text in axes.texts} == {"TF-IDF": 0.75, "teacher": 0.87}


def test_a_run_without_finalists_shows_all_its_trials(figures):
    of_run(report(finalists=False), {"latency_ms": "min", "val_accuracy": "max"})
    assert legend(figures[0]) == [
        "trials of teacher, search, final: 2 on the frontier, 2 dominated (grey), 1 of them outside the picture"
    ]


def test_one_objective_or_no_result_makes_no_picture():
    assert of_run(report(), {"val_accuracy": "max"}) is None
    assert of_run(report(), {"val_accuracy": "max", "size_mb": "min"}) is None


@pytest.mark.parametrize("here", [True, False])
def test_a_run_leaves_it_in_its_folder_and_does_not_fail_without_matplotlib(tmp_path, monkeypatch, here):
    spec = {"objectives": OBJECTIVES}
    plan = SimpleNamespace(spec=SimpleNamespace(resolved=lambda: spec), data=SimpleNamespace(record={}), advised={})
    monkeypatch.setattr(running, "summary", lambda header, *_: report() if header["spec"] is spec else {})
    if not here:
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        monkeypatch.setitem(sys.modules, "matplotlib.style", None)
    said = []
    running._draw(plan, None, Store(tmp_path), said.append)
    assert [path.name for path in tmp_path.iterdir()] == ([picture.NAME] if here else [])
    assert len(said) == (not here)
    assert all(
        re.fullmatch("no frontier.png was drawn: .*matplotlib.*; install it with `make setup`", line) for line in said
    )


def test_matplotlib_is_imported_only_to_draw():
    code = "import sys, experiments.engine.report.picture\nassert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
