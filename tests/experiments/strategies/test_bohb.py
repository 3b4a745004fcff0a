"""BOHB's model: which budget it is of, how trials are split, what it proposes."""

import numpy as np
import pytest

from experiments.engine.outcome import Outcome
from experiments.engine.strategies.bohb import Bohb
from tests.experiments.strategies import conditional

SPACE = conditional.space()
DIMENSIONS = 6
LEAST = DIMENSIONS + 1


def searcher(trials, outcome=conditional.outcome, seed=0, epochs=1, **options):
    found = Bohb(Bohb.Config(**{"random_fraction": 0.0, **options}), SPACE, seed)
    for trial in range(trials):
        point = SPACE.draw(1, trial)
        found.started(trial, point)
        found.observed(trial, point, epochs, outcome(point))
    return found


def sizes(found):
    found.propose(10_000, 0)
    return [len(density._rows) for density in found._densities] if found._densities else None


def test_a_budget_needs_as_many_trials_as_the_paper_says():
    assert sizes(searcher(LEAST + 1)) is None
    assert sizes(searcher(LEAST + 2)) == [LEAST, LEAST]


@pytest.mark.parametrize(("trials", "good", "others"), [(20, 7, 13), (60, 9, 51), (200, 30, 170)])
def test_split_is_equation_3_of_the_paper(trials, good, others):
    assert sizes(searcher(trials)) == [good, others]


def test_of_many_trials_the_model_has_the_best_and_the_latest():
    assert sizes(searcher(220)) == [33, 187]
    found = searcher(221)
    assert sizes(found) == [30, 170]
    values = [conditional.value(SPACE.draw(1, trial)) for trial in range(221)]
    best = sorted(range(121), key=lambda trial: -values[trial])[:100]
    seen = {tuple(row) for density in found._densities for row in density._rows}
    assert seen == {tuple(found._rows[trial]) for trial in (*best, *range(121, 221))}


def test_the_good_ones_are_the_best():
    found = searcher(60)
    found.propose(60, 0)
    points = [SPACE.draw(1, trial) for trial in range(60)]
    best = sorted(range(60), key=lambda trial: -conditional.value(points[trial]))
    good, others = found._densities
    assert (good._rows == np.array([found._rows[trial] for trial in best[:9]])).all()
    assert (others._rows == np.array([found._rows[trial] for trial in best[9:]])).all()


def test_the_highest_budget_with_enough_trials_counts():
    found = searcher(40)
    for trial in range(LEAST + 1):
        found.observed(trial, SPACE.draw(1, trial), 9, Outcome((0.5,)))
    assert sizes(found) == [LEAST, 33]  # of the 40 at one epoch
    found.observed(LEAST + 1, SPACE.draw(1, LEAST + 1), 9, Outcome((0.5,)))
    assert sizes(found) == [LEAST, LEAST]


def test_failed_trials_are_the_last_and_make_no_budget():
    found = searcher(40)
    for trial in range(40, 60):
        point = SPACE.draw(1, trial)
        found.started(trial, point)
        found.observed(trial, point, 0.0, None)
    found.propose(60, 0)
    assert sizes(found) == [9, 51]
    assert (found._densities[1]._rows[-20:] == np.array([found._rows[trial] for trial in range(40, 60)])).all()
    assert sizes(searcher(40, lambda _: None)) is None


def test_the_proposal_is_the_best_candidate():
    found = searcher(60)
    numbers = found._coding.completed(found.propose(60, 0))
    good, others = found._densities
    from experiments.engine.strategies.bohb import _random

    random = _random("0/60/0/0")
    random.random()  # whether it is a random draw
    points = good.draw(random, 64, 3.0)
    gain = good.logarithms(points) - others.logarithms(points)
    best = dict(zip((d.name for d in found._coding.dimensions), points[gain.argmax()], strict=True))
    assert {name: numbers[name] for name in ("kind", "width", "depth")} == {
        n: best[n] for n in ("kind", "width", "depth")
    }
    assert numbers["rate"] == pytest.approx(best["rate"], abs=1e-5)


def test_it_looks_where_good_trials_are():
    late = [searcher(60).propose(trial, 0) for trial in range(60, 90)]
    assert all(SPACE.legal(point) for point in late)
    assert np.mean([conditional.value(point) for point in late]) > 2 * np.mean(
        [conditional.value(SPACE.draw(2, trial)) for trial in range(300)]
    )


def test_a_share_is_drawn_at_random():
    found = searcher(60, random_fraction=1 / 3)
    always = searcher(60, random_fraction=1.0)
    drawn = [found.propose(trial, 0) == always.propose(trial, 0) for trial in range(60, 360)]
    assert 70 < sum(drawn) < 130


def test_a_proposal_changes_nothing_and_repeats():
    one, two = searcher(30), searcher(30)
    for trial, attempt in ((30, 0), (31, 0), (30, 1)):
        one.propose(trial, attempt)
    assert [one.propose(30, attempt) for attempt in range(6)] == [two.propose(30, attempt) for attempt in range(6)]
    assert searcher(30, seed=1).propose(30, 0) != one.propose(30, 0)


@pytest.mark.parametrize(
    "option",
    [{"random_fraction": 1.5}, {"good": 0.0}, {"good": 1.0}, {"n_candidates": 0}, {"min_bandwidth": 0.0}],
)
def test_impossible_numbers_are_refused(option):
    with pytest.raises(ValueError, match=f"{next(iter(option.values())):g}".rstrip("0").rstrip(".") or "0"):
        Bohb.Config(**option)
