import itertools
import math
import random

import pytest

from experiments.engine import frontier


@pytest.mark.parametrize(
    ("metrics", "ok"),
    [({"latency_ms": 4.0}, True), ({"latency_ms": 5.1}, False), ({}, False), ({"latency_ms": math.nan}, False)],
)
def test_constraints_need_a_number_within_bounds(metrics, ok):
    assert frontier.feasible(metrics, {"latency_ms": {"max": 5.0}}) is ok
    assert frontier.feasible(metrics, {"latency_ms": {"max": 5.0, "min": None}}) is ok


def test_non_dominated_against_the_definition():
    rng = random.Random(0)
    points = [(rng.randint(0, 6), rng.randint(0, 6)) for _ in range(60)]
    best = {points[i] for i in frontier.non_dominated(points)}
    worse = {p for p in points if any(q[0] >= p[0] and q[1] >= p[1] and q != p for q in points)}
    assert best == set(points) - worse


def test_failed_points_are_never_on_the_frontier():
    assert frontier.non_dominated([(math.nan, 1.0), (0.1, 0.2), (math.inf, 3.0)]) == [1]


@pytest.mark.parametrize("n_objectives", [1, 2, 3, 4])
def test_hypervolume_counts_the_dominated_cells(n_objectives):
    rng = random.Random(n_objectives)
    points = [tuple(rng.randint(0, 4) for _ in range(n_objectives)) for _ in range(8)]
    cells = itertools.product(range(4), repeat=n_objectives)
    counted = sum(any(all(c < x for c, x in zip(cell, p, strict=True)) for p in points) for cell in cells)
    assert frontier.hypervolume(points, (0,) * n_objectives) == counted


def test_minimised_metrics_count_in_decades():
    objectives = {"val_accuracy": "max", "latency_ms": "min"}
    trials = [{"val_accuracy": 0.5, "latency_ms": 10.0}, {"val_accuracy": 0.5}, {"latency_ms": 1.0}]
    points, reference = frontier.volume_points(trials, objectives)
    assert points == [(0.5, pytest.approx(1.0))]
    assert frontier.hypervolume(points, reference) == pytest.approx(0.5)


def test_what_is_optimised_constrained_or_chosen_by_is_watched():
    spec = {"objectives": {"a": "max", "b": "min"}, "constraints": {"b": {"max": 1}, "c": {"min": 0}}}
    assert frontier.watched({**spec, "choose": {"max": "d"}}) == ("a", "b", "c", "d")
    assert frontier.watched({"objectives": {"a": "max"}}) == ("a",)
