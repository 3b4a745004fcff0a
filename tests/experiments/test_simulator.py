from experiments.engine.director import Director, Stage
from experiments.engine.events import Reported
from experiments.engine.outcome import Outcome
from experiments.engine.simulator import Curve, simulate
from experiments.engine.strategies.asha import Asha
from experiments.engine.strategies.none import Unscheduled
from experiments.engine.strategies.pair import Pair
from experiments.engine.strategies.random import Random
from tests.experiments.toy import Heights

EPOCHS = 9


def curve(config):
    return Curve(lambda epoch: {"score": config["height"] * (1 - 0.7**epoch)}, seconds=1 + config["height"])


def search(scheduler, trials=30, seed=0, workers=4):
    def plan(_):
        return Pair(
            searcher=Random(Random.Config(), Heights(), seed),
            scheduler=scheduler(scheduler.Config(), EPOCHS),
            first=[Heights().default()],
            trials=trials,
            epochs=EPOCHS,
            outcome=lambda metrics: Outcome((metrics["score"],)),
        )

    director = Director([Stage("search", "", plan, watched=("score",))])
    return director, list(simulate(director, curve, workers))


def epochs_to(events, target):
    """Epochs spent until a report reaches the target."""
    reports = [event for _, event in events if isinstance(event, Reported)]
    return next((n for n, event in enumerate(reports, start=1) if event.metrics["score"] >= target), len(reports) + 1)


def test_trials_run_side_by_side_on_virtual_time():
    director, events = search(Unscheduled, trials=8, workers=4)
    assert all(trial.epochs == EPOCHS for trial in director.trials.values())
    total = sum(curve(trial.config).seconds * EPOCHS for trial in director.trials.values())
    end = events[-1][0]
    assert total / 4 <= end < total / 2
    assert [moment for moment, _ in events] == sorted(moment for moment, _ in events)


def test_simulation_repeats_exactly():
    assert search(Asha, seed=3)[1] == search(Asha, seed=3)[1]


def test_asha_reaches_a_good_point_in_fewer_epochs_than_random_search_alone():
    ours, plain = 0, 0
    for seed in range(10):
        ours += epochs_to(search(Asha, seed=seed)[1], 0.9)
        plain += epochs_to(search(Unscheduled, seed=seed)[1], 0.9)
    assert ours < 0.75 * plain
