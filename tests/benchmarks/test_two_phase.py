"""What two searches are worth at equal compute, read off their ledgers."""

import pytest

from benchmarks import two_phase
from benchmarks.two_phase import JOINT, TWO
from experiments.engine.events import Reported, Segment, Started, to_record


def reported(accuracy, flops):
    metrics = {"val_accuracy": accuracy} | ({"training_flops": flops} if flops else {})
    return to_record(Reported(0, 1, metrics))


def test_a_search_is_worth_its_best_report_so_far():
    records = [
        {"event": "opened"},
        to_record(Started(Segment(0, "search", 0, 0, {}, 1))),
        reported(0.5, 10),
        reported(0.4, 5),
        reported(0.7, 20),
        reported(0.9, 0),  # a finalist: it trains nothing
    ]
    of = two_phase.course(records)
    assert of == [(10, 0.5), (15, 0.5), (35, 0.7)]
    assert [two_phase.worth(of, flops) for flops in (9, 10, 34, 35, 100)] == [0.0, 0.5, 0.5, 0.7, 0.7]


def test_compared_when_the_cheaper_one_has_ended():
    found = two_phase.compare({TWO: [(10, 0.5), (30, 0.8)], JOINT: [(15, 0.6), (20, 0.7)]})
    assert found["equal_flops"] == 20
    assert found[TWO] == {"val_accuracy": 0.5, "training_flops": 30}
    assert found[JOINT] == {"val_accuracy": 0.7, "training_flops": 20}


def test_gaps_over_seeds(monkeypatch, tmp_path):
    accuracies = {TWO: (0.7, 0.8), JOINT: (0.75, 0.87)}

    class Run:
        def __init__(self, name, seed):
            self.name, self.records = name, [reported(accuracies[name][seed], 10)]

    monkeypatch.setattr(two_phase, "ran", lambda name, storage, *_: Run(name, int(storage.name.rsplit("-")[-1])))
    monkeypatch.setattr(two_phase, "tested", lambda run: 0.5 if run.name == TWO else 0.6)
    found = two_phase.figures(range(2), tmp_path, smoke=False)
    assert found[f"{TWO}_val_accuracy"] == pytest.approx(0.75)
    gap = found["joint_minus_two_phase_val_accuracy"]
    assert gap["mean"] == pytest.approx(0.06)
    assert (gap["low"] < 0.05, gap["high"] > 0.07) == (True, True)
    assert found["joint_minus_two_phase_test_accuracy"]["mean"] == pytest.approx(0.1)
