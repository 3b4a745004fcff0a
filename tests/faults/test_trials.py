"""Trials, processes and nodes that fail (F1 to F7, F14, F16 to F19, F27, F29, F31, F32): counted epoch by epoch."""

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

EACH = {
    1: {"does": "raise", "at": 2},
    2: {"does": "kill", "at": 2, "times": 1},
    3: {"does": "exit", "at": 3, "times": 1},
    4: {"does": "memory", "at": 1},
    5: {"does": "nan", "at": 2},
    6: {"does": "missing", "at": 3},
}


def kinds(trial):
    return [failure.kind for failure in trial.failures]


def test_one_fault_of_each_class_and_exactly_the_work_that_had_to_be_done(experiment):
    toy = experiment(trials=8, epochs=3, faults=EACH)
    toy.finish()
    trials = toy.trials()
    assert {trial.number: (trial.status, kinds(trial)) for trial in trials} == {
        0: ("completed", []),
        1: ("error", ["error"]),
        2: ("completed", ["process"]),
        3: ("completed", ["process"]),
        4: ("infeasible", ["infeasible"]),
        5: ("diverged", ["diverged"]),
        6: ("diverged", ["diverged"]),
        7: ("completed", []),
    }
    ends = {0: 3, 1: 1, 2: 3, 3: 3, 4: 0, 5: 2, 6: 3, 7: 3}
    assert toy.counts() == {(trial, epoch): 1 for trial, last in ends.items() for epoch in range(1, last + 1)}
    begins = {(line["height"], line["begin"]) for line in toy.epochs()}
    assert (trials[2].config["height"], 1) in begins
    assert (trials[3].config["height"], 2) in begins
    assert "RuntimeError: the routine has a fault" in trials[1].reason
    assert "in advance" in trials[1].failures[0].trace
    assert all(failure.node for trial in trials for failure in trial.failures)
    assert "val_accuracy was not reported (reported: epochs) after 3 epochs" in trials[6].reason
