"""What holds for every searcher and scheduler that is found, and for every legal pair of them."""

import json
import math

import pytest

import searchspaces
from experiments.engine import strategies
from experiments.engine.director import Director, Stage
from experiments.engine.events import Lost, Reported, Segment, Started
from experiments.engine.outcome import Outcome
from experiments.engine.simulator import Curve, simulate
from experiments.engine.strategies.pair import Pair

EPOCHS = 9
SPACE = searchspaces.load(["encoder", "optimization"])
PAIRS = [(s, k) for s in strategies.find("SEARCHER") for k in strategies.find("SCHEDULER")]

pytestmark = pytest.mark.parametrize(("searcher", "scheduler"), PAIRS, ids="+".join)


def value(config, epochs):
    """A closed-form learning curve: best near a learning rate of 1e-3, wide and with little dropout."""
    distance = abs(math.log10(config["learning_rate"]) + 3) + 0.5 * config["dropout"]
    return (1 - 0.6**epochs) * math.exp(-distance) * (config["d_model"] / 256) ** 0.2


def curve(config):
    return Curve(lambda epochs: {"score": value(config, epochs)}, seconds=1 + config["n_layers"])


def search(searcher, scheduler, *, seed=0, trials=24):
    def plan(_):
        find, stop = strategies.load(searcher, "SEARCHER"), strategies.load(scheduler, "SCHEDULER")
        return Pair(
            searcher=find(find.Config(), SPACE, seed),
            scheduler=stop(stop.Config(), EPOCHS),
            first=[SPACE.default()],
            trials=trials,
            epochs=EPOCHS,
            outcome=lambda metrics: Outcome((metrics["score"],)),
        )

    return Director([Stage("search", "", plan, watched=("score",))])


def run(director, workers=4):
    return [event for _, event in simulate(director, curve, workers)]


def outcome(director):
    return [(trial.config, trial.status, trial.epochs) for trial in director.trials.values()]


def test_every_point_is_legal_plain_and_tried_once(searcher, scheduler):
    director = search(searcher, scheduler)
    run(director)
    configs = [trial.config for trial in director.trials.values()]
    assert len(configs) == 24
    assert configs[0] == SPACE.default()
    assert all(SPACE.legal(config) and json.loads(json.dumps(config)) == config for config in configs)
    assert len({json.dumps(config, sort_keys=True) for config in configs}) == 24


def test_seeded_search_repeats(searcher, scheduler):
    first, second, other = (search(searcher, scheduler, seed=seed) for seed in (1, 1, 2))
    assert run(first) == run(second)
    run(other)
    assert outcome(first) == outcome(second) != outcome(other)


def test_replayed_at_any_event_it_goes_on_identically(searcher, scheduler):
    whole = search(searcher, scheduler, trials=8)
    events = run(whole, workers=1)
    for cut in range(0, len(events), 5):
        director = search(searcher, scheduler, trials=8)
        for event in events[:cut]:
            director.tell(event)
        rest = goes_on(director, events[cut:])
        assert rest == outcome(whole)


def goes_on(director, expected):
    """Asks where a segment began before, tells what was reported then."""
    for event in expected:
        if isinstance(event, Started):
            assert director.ask() == event.segment
        director.tell(event)
    assert director.ask() == "done"
    return outcome(director)


def test_lost_segments_change_no_decision(searcher, scheduler):
    plain, troubled = search(searcher, scheduler, trials=8), search(searcher, scheduler, trials=8)
    run(plain, workers=1)
    while isinstance(segment := troubled.ask(), Segment):
        troubled.tell(Started(segment))
        if segment.attempt == 0 and segment.trial % 2:
            troubled.tell(Lost(segment.number, "node", "node gone"))
            continue
        for epochs in range(1, EPOCHS + 1):
            if troubled.tell(Reported(segment.number, epochs, {"score": value(segment.config, epochs)})) == "stop":
                break
    assert sorted(outcome(troubled), key=str) == sorted(outcome(plain), key=str)


def test_failed_trials_end_nothing_but_themselves(searcher, scheduler):
    director = search(searcher, scheduler)
    broken = {3, 4, 11}
    for _, event in simulate(director, lambda config: failing(config, director, broken), 4):
        assert event is not None
    statuses = [trial.status for trial in director.trials.values()]
    assert {number for number, status in enumerate(statuses) if status == "diverged"} == broken
    assert len(statuses) == 24


def failing(config, director, broken):
    number = next(trial.number for trial in director.trials.values() if trial.config == config)
    return Curve(lambda epochs: {"score": math.nan if number in broken else value(config, epochs)})
