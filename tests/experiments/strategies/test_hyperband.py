"""Hyperband against the table of its paper (Li et al. 2018, table 1) and successive halving worked by hand."""

import pytest

from experiments.engine.director import Director, Stage
from experiments.engine.events import Cancelled, Expired, Failed, Reported, Started
from experiments.engine.outcome import Outcome
from experiments.engine.simulator import Curve, simulate
from experiments.engine.strategies.hyperband import Hyperband, brackets
from experiments.engine.strategies.pair import Pair
from experiments.engine.strategies.random import Random
from tests.experiments.toy import Heights


def test_brackets_are_those_of_the_papers_table():
    assert brackets(81, 3, 1) == [
        [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
        [(34, 3), (11, 9), (3, 27), (1, 81)],
        [(15, 9), (5, 27), (1, 81)],
        [(8, 27), (2, 81)],
        [(5, 81)],
    ]


def test_epochs_are_whole_and_the_grace_period_is_the_unit():
    assert brackets(10, 3, 1) == [[(9, 1), (3, 3), (1, 10)], [(5, 3), (1, 10)], [(3, 10)]]
    assert brackets(18, 3, 2) == [[(9, 2), (3, 6), (1, 18)], [(5, 6), (1, 18)], [(3, 18)]]
    assert [len(rungs) for rungs in brackets(243, 3, 1)] == [6, 5, 4, 3, 2, 1]


def search(trials, epochs=9, **budget):
    def plan(_):
        return Pair(
            searcher=Random(Random.Config(), Heights(), 0),
            scheduler=Hyperband(Hyperband.Config(), epochs),
            first=[Heights().default()],
            trials=trials,
            epochs=epochs,
            outcome=lambda metrics: Outcome((metrics["score"],)),
        )

    return Director([Stage("search", "", plan, watched=("score",), timed=True, **budget)])


def curve(config):
    return Curve(lambda epoch: {"score": config["height"] * (1 - 0.7**epoch)}, seconds=1 + config["height"])


def best(director, numbers, count):
    return set(sorted(numbers, key=lambda number: -director.trials["search", number].config["height"])[:count])


@pytest.mark.parametrize("workers", [1, 4, 30])
def test_whole_brackets_halve_as_the_paper_does(workers):
    director = search(17)
    events = [event for _, event in simulate(director, curve, workers)]
    epochs = {number: trial.epochs for (_, number), trial in director.trials.items()}
    members, third = range(9), best(director, range(9), 3)
    assert {number for number in members if epochs[number] == 1} == set(members) - third
    assert {number for number in members if epochs[number] == 9} == best(director, range(9), 1)
    assert {number for number in range(9, 14) if epochs[number] == 9} == best(director, range(9, 14), 1)
    assert all(epochs[number] == 3 for number in range(9, 14) if epochs[number] != 9)
    assert all(epochs[number] == 9 for number in range(14, 17))
    assert {trial.status for trial in director.trials.values()} == {"completed", "stopped"}
    assert sum(isinstance(event, Reported) for event in events) == 9 + 3 * 2 + 6 + 5 * 3 + 6 + 3 * 9


def test_a_promoted_trial_goes_on_from_its_checkpoint():
    director = search(9)
    events = [event for _, event in simulate(director, curve, 3)]
    again = [event.segment for event in events if isinstance(event, Started) and event.segment.start]
    assert [segment.epochs for segment in again] == [3, 3, 3, 9]
    assert [segment.start.epochs for segment in again] == [1, 1, 1, 3]
    assert len(director.trials) == 9


@pytest.mark.parametrize("trials", [1, 2, 5, 12])
def test_a_bracket_that_is_not_filled_is_decided_when_no_trial_comes_any_more(trials):
    director = search(trials)
    list(simulate(director, curve, 4))
    first = range(min(9, trials))
    assert [n for n in first if director.trials["search", n].epochs == 9] == list(best(director, first, 1))
    assert all(trial.ended for trial in director.trials.values())


def test_a_failed_trial_holds_up_no_rung_and_is_not_promoted():
    director = search(9)
    while (segment := director.ask()) not in ("wait", "done"):
        director.tell(Started(segment))
        if segment.trial in (3, 5, 6, 7, 8) and segment.start is None:
            director.tell(Failed(segment.number, "error", "broken"))
            continue
        for epoch in range(int(segment.start.epochs if segment.start else 0) + 1, 10):
            metrics = curve(segment.config).metrics(epoch)
            if (
                director.tell(Reported(segment.number, epoch, metrics, checkpoint=f"{segment.number}/{epoch}"))
                != "continue"
            ):
                break
    whole = [0, 1, 2, 4]
    promoted = {number for number in whole if director.trials["search", number].epochs >= 3}
    assert promoted == best(director, whole, 3)
    assert director.ask() == "done"


def paused_after(director, count):
    """The director once so many trials have paused, with nothing in flight."""
    for _ in range(count):
        segment = director.ask()
        director.tell(Started(segment))
        verdict = director.tell(
            Reported(segment.number, 1, curve(segment.config).metrics(1), checkpoint=f"{segment.number}/1")
        )
        assert verdict == "pause"
    return director


def test_paused_trials_end_with_the_time_and_on_demand():
    director = paused_after(search(9), 4)
    assert {trial.status for trial in director.trials.values()} == {"paused"}
    director.tell(Cancelled("search", 2, "cancelled by the user"))
    assert director.trials["search", 2].status == "cancelled"
    director.tell(Expired("time is up"))
    assert director.trials["search", 1].status == "expired"
    assert director.trials["search", 1].reason == "time is up"
    assert director.ask() == "done"


def test_a_cancelled_promotion_does_not_hold_up_the_next_rung():
    director = paused_after(search(9), 9)
    third = best(director, range(9), 3)
    assert {number for (_, number), trial in director.trials.items() if trial.status == "paused"} == third
    director.tell(Cancelled("search", max(third), "cancelled by the user"))
    for _ in range(2):
        segment = director.ask()
        director.tell(Started(segment))
        assert segment.start.path == director.trials["search", segment.trial].checkpoint.path
        director.tell(Reported(segment.number, 3, curve(segment.config).metrics(3), checkpoint=f"{segment.number}/3"))
    assert director.ask().epochs == 9


@pytest.mark.parametrize("numbers", [{"eta": 1}, {"eta": 1.9}, {"grace_period": 0}, {"eta": float("inf")}])
def test_impossible_numbers_are_refused(numbers):
    with pytest.raises(ValueError, match=r"greater than|finite"):
        Hyperband.Config(**numbers)


def test_grace_period_above_the_budget_is_refused():
    with pytest.raises(ValueError, match="scheduler.grace_period must be at most epochs, got 5 above 4"):
        Hyperband(Hyperband.Config(grace_period=5), 4)


def test_with_more_trials_later_a_bracket_that_was_closed_stays_so():
    events = [event for _, event in simulate(search(12), curve, 4)]
    more = search(26)
    for event in events:
        more.tell(event)
    before = {key: trial.epochs for key, trial in more.trials.items()}
    assert more.ask().epochs == 9  # of the third bracket
    list(simulate(more, curve, 4))
    assert len(more.trials) == 26
    assert {key: more.trials[key].epochs for key in before} == before
    assert all(trial.epochs == 9 for (_, number), trial in more.trials.items() if 12 <= number < 15)
    assert all(trial.ended for trial in more.trials.values())
