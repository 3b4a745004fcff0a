"""Whose turn it is: the user's own points, what past searches advise, the searcher."""

import pytest

from experiments.engine.outcome import Outcome
from experiments.engine.strategies import given
from experiments.engine.strategies.none import Unscheduled
from experiments.engine.strategies.pair import Pair
from experiments.engine.strategies.promotion import Promotion
from experiments.engine.strategies.random import Random
from tests.experiments import toy

ADVISED = [{"height": 0.91}, {"height": 0.92}]


def pair(advised=ADVISED, scheduler=None, trials=12):
    return Pair(
        searcher=Random(Random.Config(), toy.Heights(), 0),
        scheduler=scheduler or Unscheduled(Unscheduled.Config(), 9),
        first=[toy.Heights().default(), {"height": 0.1}],
        trials=trials,
        epochs=9,
        outcome=lambda metrics: Outcome((metrics["score"],)),
        advised=advised,
    )


def started(strategy, count):
    """Proposals, each taken at once."""
    found = []
    for _ in range(count):
        found.append(strategy.ask())
        strategy.started(found[-1].trial, found[-1].config)
    return found


@pytest.mark.parametrize(
    ("trial", "expected"), [(0, "own"), (1, "advised 0"), (2, None), (3, None), (4, "advised 1"), (5, None), (7, None)]
)
def test_of_three_new_trials_one_is_advised(trial, expected):
    assert given(trial, ["own"], ["advised 0", "advised 1"]) == expected


def test_own_points_first_then_advice_in_turns_with_the_searcher():
    drawn = toy.Heights()
    expected = [drawn.default(), {"height": 0.1}, ADVISED[0], drawn.draw(0, 3), drawn.draw(0, 4), ADVISED[1]]
    found = started(pair(), 7)
    assert [proposal.config for proposal in found] == [*expected, drawn.draw(0, 6)]
    assert {proposal.epochs for proposal in found} == {9}


def test_advice_that_was_tried_leaves_its_turn_to_the_searcher():
    drawn = toy.Heights()
    found = started(pair(advised=[drawn.draw(0, 2), drawn.draw(0, 3), {"height": 0.1}]), 9)
    assert [proposal.config for proposal in found[2:]] == [drawn.draw(0, trial) for trial in range(2, 9)]


def test_where_it_first_pauses_hangs_on_the_point_not_on_who_proposed_it():
    """The searcher comes upon at trial 3 what would have been advised at trial 5."""
    drawn = toy.Heights()
    found = started(pair(advised=[ADVISED[0], drawn.draw(0, 3)], scheduler=Promotion(Promotion.Config(), 9)), 6)
    assert [proposal.epochs for proposal in found] == [1, 1, 3, 3, 1, 1]
    assert found[5].config == drawn.draw(0, 5)
