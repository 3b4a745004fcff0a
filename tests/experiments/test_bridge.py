import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.engine import ledger
from tests.experiments import toy

ROOT = Path(__file__).parents[2]


def start(folder, *, trials=12, epochs=4, seconds=0.2):
    command = [sys.executable, "-m", "tests.experiments.toy", str(folder), str(trials), str(epochs), str(seconds)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def length(folder):
    path = folder / "ledger.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def kill_after(driver, folder, records):
    """SIGKILL once the ledger has so many records more."""
    goal = length(folder) + records
    while length(folder) < goal:
        assert driver.poll() is None, "the search ended before it could be killed"
        time.sleep(0.002)
    driver.kill()
    driver.wait()


def finished(folder):
    """The final state of the experiment, folded from its ledger."""
    return toy.replayed(toy.director(12, 4), ledger.read(folder))


def epochs_done(folder):
    return [tuple(json.loads(line)) for line in (folder / "epochs.log").read_text().splitlines()]


@pytest.mark.ray
@pytest.mark.timeout(240)
def test_driver_killed_three_times_ends_with_exactly_its_trials(tmp_path):
    moments = random.Random(1)
    for _ in range(3):
        kill_after(start(tmp_path), tmp_path, moments.randint(1, 8))
    driver = start(tmp_path)
    assert driver.communicate(timeout=120)[0].splitlines()[-1] == "done 12"

    director = finished(tmp_path)
    assert len(director.trials) == 12
    assert {trial.status for trial in director.trials.values()} == {"completed", "stopped"}
    assert director.ask() == "done"
    # Work done twice: at most one epoch for each of two slots at each kill (an orphan finishes its epoch).
    work = epochs_done(tmp_path)
    told = sum(len(trial.reports) for trial in director.trials.values())
    assert len(set(work)) >= told
    assert len(work) - len(set(work)) <= 3 * 2 * 2


@pytest.mark.ray
@pytest.mark.timeout(120)
def test_uninterrupted_search_repeats_nothing_and_keeps_only_what_it_needs(tmp_path):
    driver = start(tmp_path, seconds=0.01)
    assert driver.communicate(timeout=100)[0].splitlines()[-1] == "done 12"
    director = finished(tmp_path)
    work = epochs_done(tmp_path)
    assert len(work) == len(set(work)) == sum(len(trial.reports) for trial in director.trials.values())
    assert os.listdir(tmp_path / "trials" / "search-000")
