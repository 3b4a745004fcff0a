import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.engine import ledger
from tests.experiments import toy

ROOT = Path(__file__).parents[2]


def start(folder, *, trials=12, epochs=4, seconds=0.2):
    command = [sys.executable, "-m", "tests.experiments.toy", str(folder), str(trials), str(epochs), str(seconds)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def finished(folder):
    """The final state of the experiment, folded from its ledger."""
    return toy.replayed(toy.director(12, 4), ledger.read(folder))


def epochs_done(folder):
    return [tuple(json.loads(line)) for line in (folder / "epochs.log").read_text().splitlines()]


@pytest.mark.ray
@pytest.mark.timeout(120)
def test_uninterrupted_search_repeats_nothing_and_keeps_only_what_it_needs(tmp_path):
    driver = start(tmp_path, seconds=0.01)
    assert driver.communicate(timeout=100)[0].splitlines()[-1] == "done 12"
    director = finished(tmp_path)
    work = epochs_done(tmp_path)
    assert len(work) == len(set(work)) == sum(len(trial.reports) for trial in director.trials.values())
    assert os.listdir(tmp_path / "trials" / "search-000")
