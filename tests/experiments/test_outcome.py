"""Ranks of outcomes against the definition, written out naively."""

import math
import random

import pytest

from experiments.engine.outcome import Fronts, Outcome, best, outcome, ranks

OBJECTIVES = {"val_accuracy": "max", "latency_ms": "min"}


def dominates(a, b):
    return all(x >= y for x, y in zip(a, b, strict=True)) and a != b


def by_definition(outcomes):
    """Places: by violation, front after front, in a front the farthest (in units of the range) from all taken."""
    order = []
    for violation in sorted({found.violation for found in outcomes}):
        level = [index for index, found in enumerate(outcomes) if found.violation == violation]
        columns = list(zip(*(outcomes[index].values for index in level), strict=True))
        unit = {
            index: [
                (value - min(column)) / ((max(column) - min(column)) or math.inf)
                for value, column in zip(outcomes[index].values, columns, strict=True)
            ]
            for index in level
        }
        while level:
            front = [i for i in level if not any(dominates(outcomes[j].values, outcomes[i].values) for j in level)]
            taken = [max(front, key=lambda index: (unit[index][0], -index))]
            while len(taken) < len(front):
                rest = [index for index in front if index not in taken]
                taken.append(max(rest, key=lambda i: (min(math.dist(unit[i], unit[j]) for j in taken), -i)))
            order += taken
            level = [index for index in level if index not in front]
    return [order.index(index) for index in range(len(outcomes))]


def drawn(rng, count, objectives=2, *, constrained=False):
    return [
        Outcome(
            tuple(round(rng.random(), 2) for _ in range(objectives)),
            rng.choice([0.0, 0.0, 0.1, 0.5]) if constrained else 0.0,
        )
        for _ in range(count)
    ]


def test_outcome_has_values_in_order_and_relative_violations():
    found = outcome(
        {"val_accuracy": 0.8, "latency_ms": 6.0, "size_mb": 1.0},
        OBJECTIVES,
        {"latency_ms": {"max": 5.0, "min": None}, "size_mb": {"min": 4.0, "max": None}},
    )
    assert found.values == (0.8, -6.0)
    assert found.violation == pytest.approx(0.2 + 0.75)
    assert outcome({"val_accuracy": 0.8}, {"val_accuracy": "max"}, {"latency_ms": {"max": 5.0}}).violation == math.inf
    assert outcome({"a": 1.0}, {"a": "max"}, {"a": {"max": 1.0, "min": 1.0}}).violation == 0


def test_the_best_of_two_is_as_good_as_the_better_in_each_number():
    assert best(Outcome((0.1, -2.0), 0.5), Outcome((0.2, -3.0))) == Outcome((0.2, -2.0))
    assert (
        best(Outcome((math.nan,)), Outcome((0.1,), 1.0))
        == Outcome((0.1,))
        == best(Outcome((0.1,)), Outcome((math.nan,)))
    )


def test_ranks_worked_by_hand():
    points = [(0.1, 0.9), (0.9, 0.1), (0.55, 0.5), (0.5, 0.5), (0.05, 0.05), (0.8, 0.2)]
    outcomes = [*map(Outcome, points), Outcome((1.0, 1.0), 0.2), None, Outcome((0.0, 0.0), 0.1)]
    # The first front: the best by the first objective, the one farthest from it, then the middle, then what is near.
    assert ranks(outcomes) == [1, 0, 2, 4, 5, 3, 7, 8, 6]


def test_one_objective_ranks_by_value_and_ties_keep_their_order():
    assert ranks([Outcome((value,)) for value in (0.5, 0.7, 0.5, 0.9)]) == [2, 1, 3, 0]
    assert ranks([Outcome((0.1,)), Outcome((0.9,), 1.0), None, Outcome((math.nan,))]) == [0, 2, 3, 1]
    assert ranks([]) == []


@pytest.mark.parametrize("objectives", [2, 3])
@pytest.mark.parametrize("constrained", [False, True])
def test_ranks_are_as_defined(objectives, constrained):
    rng = random.Random(objectives)
    for count in (1, 2, 7, 30, 60):
        outcomes = drawn(rng, count, objectives, constrained=constrained)
        assert ranks(outcomes) == by_definition(outcomes)


@pytest.mark.parametrize("constrained", [False, True])
def test_fronts_kept_up_give_the_same_places(constrained):
    rng = random.Random(1)
    for count in (5, 40):
        outcomes = drawn(rng, count, constrained=constrained)
        for share in (1 / 3, 0.5):
            fronts = Fronts()
            for number, found in enumerate(outcomes, start=1):
                place = ranks(outcomes[:number])[-1]
                assert fronts.add(found, share) == (place < share * number)
