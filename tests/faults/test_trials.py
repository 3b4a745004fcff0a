"""Trials, processes and nodes that fail (F1 to F7, F14, F16 to F19, F27, F29, F31, F32): counted epoch by epoch."""

import os
import secrets
import shutil
import time

import pytest
from ray._raylet import GcsClient
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2

from tests.faults import counting
from trainables.store import Store

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
    assert "val_accuracy was not reported (reported: epochs) at epoch 3" in trials[6].reason
    # A segment that is tried again takes no more than its place.
    slots = next(record["slots"] for record in toy.run().records if record["event"] == "session")
    assert max(len(running) for running in in_flight(toy)) <= slots


def in_flight(toy):
    """The segments that were running, after each record: their numbers and attempts."""
    running = {}
    for record in toy.run().records:
        if record["event"] == "started":
            running[record["segment"]["number"]] = record["segment"]["attempt"]
        elif record["event"] in ("lost", "failed") or record.get("verdict") == "stop":
            del running[record["segment"]]
        yield dict(running)


@pytest.mark.faults
def test_every_trial_raising_gives_the_experiment_up(experiment):
    toy = experiment(trials=6, epochs=2, faults={trial: {"does": "raise"} for trial in range(6)}, max_failed=0.5)
    out = toy.finish(code=3)
    assert [trial.status for trial in toy.trials()].count("error") == len(toy.trials()) == 4
    assert "4 of 6 trials" in toy.director().given_up
    assert "RuntimeError: the routine has a fault" in out
    assert not toy.epochs()


@pytest.mark.faults
@pytest.mark.parametrize("does", ["nan", "inf", "none", "missing"])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_no_valid_number_ends_a_trial_at_that_epoch(experiment, does, at):
    toy = experiment(trials=2, epochs=3, faults={trial: {"does": does, "at": at} for trial in range(2)})
    toy.finish(code=4)
    assert [(trial.status, trial.epochs) for trial in toy.trials()] == [("diverged", at)] * 2
    assert toy.counts() == {(trial, epoch): 1 for trial in range(2) for epoch in range(1, at + 1)}


@pytest.mark.faults
def test_trial_that_always_loses_its_process_is_given_up_after_three_attempts(experiment):
    toy = experiment(trials=3, epochs=3, faults={1: {"does": "kill", "at": 2}})
    toy.finish()
    assert [trial.status for trial in toy.trials()] == ["completed", "lost", "completed"]
    assert kinds(toy.trials()[1]) == ["process"] * 3
    assert toy.counts() == {(trial, epoch): 1 for trial in range(3) for epoch in range(1, 2 if trial == 1 else 4)}


@pytest.mark.faults
def test_node_out_of_memory_lets_each_trial_try_once_more_alone(experiment):
    toy = experiment(trials=2, epochs=3, seconds=1)
    toy.environment |= {"RAY_memory_usage_threshold": "0.01", "RAY_memory_monitor_refresh_ms": "100"}
    toy.finish(code=4)
    assert [(trial.status, kinds(trial)) for trial in toy.trials()] == [("infeasible", ["memory", "memory"])] * 2
    again = [running for running in in_flight(toy) if any(running.values())]
    assert again
    assert all(len(running) == 1 for running in again)


@pytest.mark.faults
@pytest.mark.parametrize("does", ["hang", "stop"])
def test_trial_that_hangs_is_ended_and_goes_on_from_its_checkpoint(experiment, does):
    toy = experiment(trials=3, epochs=3, faults={1: {"does": does, "at": 2, "times": 1}}, silence=4)
    toy.finish(timeout=90)
    assert [(trial.status, kinds(trial)) for trial in toy.trials()][1] == ("completed", ["hung"])
    assert toy.counts() == {(trial, epoch): 1 for trial in range(3) for epoch in range(1, 4)}
    assert not toy.processes()


@pytest.mark.faults
def test_trial_that_always_hangs_is_lost_and_the_others_end(experiment):
    toy = experiment(trials=3, epochs=2, faults={1: {"does": "stop", "at": 1}}, silence=3)
    toy.finish()
    assert [(trial.status, kinds(trial)) for trial in toy.trials()] == [
        ("completed", []),
        ("lost", ["hung"] * 3),
        ("completed", []),
    ]


@pytest.mark.faults
def test_time_budget_ends_a_hung_search_with_the_best_of_it(experiment):
    toy = experiment(trials=None, epochs=2, seconds=0.2, faults={0: {"does": "stop", "at": 2}}, drawn=True, time="20s")
    out = toy.finish()
    records = toy.run().records
    assert records[-1]["at"] - records[0]["at"] < 20 + 30
    trials = toy.trials()
    assert (trials[0].status, kinds(trials[0])) == ("expired", ["time"])
    best = max((trial for trial in trials if trial.reports), key=lambda trial: trial.metrics["val_accuracy"])
    assert records[-1]["chosen"]
    assert best.id in out


@pytest.mark.faults
def test_time_budget_counts_across_sessions(experiment):
    toy = experiment(trials=None, epochs=50, seconds=0.3, drawn=True, time="20s")
    driver = toy.start()
    assert toy.kill_at(driver, epochs=15)
    killed = toy.run().records
    toy.finish()
    records = toy.run().records
    expired = next(record["at"] for record in records if record["event"] == "expired")
    second = next(record["at"] for record in records[len(killed) :])
    used = killed[-1]["at"] - records[0]["at"] + expired - second
    assert 0.85 * 20 <= used < 20


@pytest.mark.faults
def test_cancelled_trial_ends_and_is_not_tried_again(experiment):
    toy = experiment(trials=3, epochs=3, faults={1: {"does": "hang", "at": 2}})
    driver = toy.start()
    toy.wait(driver, lambda: any("fault" in line for line in counting.read(toy.log)))
    Store(toy.run().store.uri).write("requests/a.json", b'{"cancel": "search-001"}')
    toy.end(driver)
    assert [trial.status for trial in toy.trials()] == ["completed", "cancelled", "completed"]
    assert toy.trials()[1].attempts == 1
    assert not any(key[0] == 1 and key[1] > 1 for key in toy.counts())


@pytest.mark.faults
@pytest.mark.parametrize("damage", ["cut", "flip", "delete"])
def test_damaged_checkpoint_lets_its_trial_begin_anew(experiment, damage):
    toy = experiment(trials=2, epochs=5, seconds=0.3, faults={1: {"does": "kill", "at": 5, "times": 1}})
    driver = toy.start()
    assert toy.kill_at(driver, epochs=5)
    known = [trial for trial in toy.trials() if trial.status == "running" and trial.checkpoint]
    assert known
    for trial in known:
        break_checkpoint(toy.run().store.local / trial.checkpoint.path, damage)
    toy.finish()
    assert [trial.status for trial in toy.trials()] == ["completed"] * 2
    for trial in known:
        assert "storage" in kinds(toy.trials()[trial.number])
        assert [report.epochs for report in toy.trials()[trial.number].reports] == [1, 2, 3, 4, 5]


def break_checkpoint(folder, damage):
    weights = folder / "model.safetensors"
    match damage:
        case "cut":
            weights.write_bytes(weights.read_bytes()[:-1])
        case "flip":
            weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
        case "delete":
            shutil.rmtree(folder)


@pytest.mark.faults
def test_two_hundred_trials_leave_a_small_ledger_and_nothing_out(experiment):
    toy = experiment(trials=200, epochs=1, drawn=True)
    toy.finish(timeout=280)
    assert len(toy.trials()) == 200
    assert {trial.status for trial in toy.trials()} == {"completed"}
    assert toy.counts() == {(trial, 1): 1 for trial in range(200)}
    assert (toy.run().store.local / "ledger.jsonl").stat().st_size < 200 * 2000


# Nodes


@pytest.fixture
def cluster():
    """A head without CPUs and two nodes of one each, which are found dead soon."""
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # Ray reads it once a process
    health = {f"health_check_{name}": value for name, value in HEALTH.items()}
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": health, **SMALL}
    made = Cluster(initialize_head=True, head_node_args=head)
    made.workers = [made.add_node(num_cpus=1, **SMALL) for _ in range(2)]
    yield made
    made.shutdown()


HEALTH = {"initial_delay_ms": 0, "period_ms": 1000, "timeout_ms": 1000, "failure_threshold": 3}
SMALL = {"object_store_memory": 80 * 2**20}


def on_cluster(toy):
    toy.environment["RAY_AUTH_TOKEN"] = os.environ["RAY_AUTH_TOKEN"]
    return toy


@pytest.mark.faults
def test_node_that_is_lost_costs_each_trial_at_most_the_epoch_it_was_in(experiment, cluster):
    toy = on_cluster(experiment(trials=4, epochs=5, seconds=0.7))
    driver = toy.start("--address", cluster.address)
    toy.wait(driver, lambda: len(toy.epochs()) >= 4)
    cluster.remove_node(cluster.workers[0], allow_graceful=False)
    cluster.add_node(num_cpus=1, **SMALL)
    toy.end(driver)
    trials = toy.trials()
    assert [(trial.status, trial.epochs) for trial in trials] == [("completed", 5)] * 4
    assert sum(kinds(trial).count("node") for trial in trials) == 1
    counts = toy.counts()
    assert counts.keys() == {(trial, epoch) for trial in range(4) for epoch in range(1, 6)}
    assert counts.total() - len(counts) <= 1


@pytest.mark.faults
def test_node_that_was_announced_to_go_counts_against_no_trial(experiment, cluster):
    toy = on_cluster(experiment(trials=4, epochs=8, seconds=0.7))
    driver = toy.start("--address", cluster.address)
    toy.wait(driver, lambda: len(toy.epochs()) >= 4)
    reason = autoscaler_pb2.DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION
    soon = int((time.time() + 30) * 1000)
    assert GcsClient(address=cluster.address).drain_node(cluster.workers[0].node_id, reason, "taken back", soon)[0]
    time.sleep(3)
    cluster.remove_node(cluster.workers[0], allow_graceful=False)
    toy.end(driver)
    trials = toy.trials()
    assert [(trial.status, trial.epochs) for trial in trials] == [("completed", 8)] * 4
    found = [kind for trial in trials for kind in kinds(trial)]
    assert found == ["preempted"]
    assert sum(trial.losses for trial in trials) == 0
    counts = toy.counts()
    assert counts.total() - len(counts) <= 1
