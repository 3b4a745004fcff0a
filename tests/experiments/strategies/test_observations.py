"""What a searcher knows of trials."""

from experiments.engine.outcome import Outcome
from experiments.engine.strategies.observations import Observations


def test_ranks_are_of_the_highest_epochs_and_failures_come_last():
    told = Observations()
    assert told.ranks() == {}
    told.observed(0, 1, Outcome((0.5,)))
    told.observed(1, 1, Outcome((0.7,)))
    assert told.ranks() == {0: 1, 1: 0}
    told.observed(0, 3, Outcome((0.9,)))
    told.observed(0, 2, Outcome((0.1,)))  # a lost segment, repeated
    assert told.ranks() == {0: 0, 1: 1}
    told.observed(2, 0.0, None)
    told.observed(0, 0.0, None)
    told.observed(0, 9, Outcome((1.0,)))  # nothing is known of a failed trial
    assert told.outcomes == {0: None, 1: Outcome((0.7,)), 2: None}
    assert told.ranks() == {0: 1, 1: 0, 2: 2}


def test_constraints_come_first():
    told = Observations()
    for trial, outcome in enumerate([Outcome((9.0,), 0.2), Outcome((1.0,)), Outcome((8.0,), 0.1)]):
        told.observed(trial, 1, outcome)
    assert told.ranks() == {0: 2, 1: 0, 2: 1}


def test_of_many_the_best_and_the_latest_stay():
    told = Observations(most=10)
    for trial in range(11):
        told.observed(trial, 1, Outcome((float(-trial),)))
    assert list(told.outcomes) == list(range(11))  # a surplus is let gather
    told.observed(11, 1, None)
    assert list(told.outcomes) == [0, 1, 2, 3, 4, 7, 8, 9, 10, 11]
    told.observed(5, 9, Outcome((1.0,)))
    assert list(told.outcomes)[-1] == 5  # known again, as the latest
    assert told.ranks()[5] == 0
