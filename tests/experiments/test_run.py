"""Whole experiments through the command line: real data, real Ray, real processes killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from experiments import __main__ as command_line
from experiments.engine import history, ledger, runs

ROOT = Path(__file__).parents[2]
EXPERIMENT = {
    "name": "tiny",
    "task": {"name": "image_classification", "data": "digits"},
    "stages": [
        {
            "name": "search",
            "space": ["encoder", "optimization"],
            "narrow": {"n_layers": [1, 2], "d_model": [64, 96]},
            "fix": {"n_heads": 2, "d_head": 16, "d_ff": 64, "positions": "learned", "activation": "relu"},
            "options": {"patch": 2},
            "search": {"scheduler": {"name": "asha", "eta": 2}},
            "trials": 6,
            "epochs": 4,
        }
    ],
    "finalists": {"count": 2},
}

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """One cache for all runs, and no colours."""
    return {**os.environ, "FITFORMER_CACHE": str(tmp_path_factory.mktemp("cache")), "PYTHONUNBUFFERED": "1"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, environment):
    """An experiment run to its end: its storage, and what was printed."""
    folder = tmp_path_factory.mktemp("runs")
    driver = begin(folder, environment)
    out, err = driver.communicate(timeout=200)
    assert driver.returncode == 0, err
    return folder / "results", out


def begin(folder, environment, *options):
    (folder / "tiny.yaml").write_text(json.dumps(EXPERIMENT))
    command = [sys.executable, "-m", "experiments", "run", str(folder / "tiny.yaml")]
    command += ["--storage", str(folder / "results"), *options]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)


def cli(environment, *arguments):
    command = [sys.executable, "-m", "experiments", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_trial_ends_and_one_model_is_chosen(finished, environment):
    storage, out = finished
    report = json.loads(cli(environment, "report", "--storage", str(storage), "--json"))
    trials = report["stages"][0]["trials"]
    assert len(trials) == 6
    assert {trial["status"] for trial in trials} <= {"completed", "stopped"}
    assert all(trial["epochs"] == 4 for trial in trials if trial["status"] == "completed")
    assert report["stages"][0]["frontier"]
    assert report["stages"][0]["hypervolume"] > 0
    assert report["baselines"].keys() >= {"default", "random", "largest", "classical"}
    chosen = report["chosen"]
    assert chosen["trial"] in out
    low, value, high = (chosen["test"]["accuracy"][name] for name in ("low", "value", "high"))
    assert low < value < high
    assert value > 0.5
    assert report["picture"] in out
    assert Path(ROOT, report["picture"]).read_bytes().startswith(b"\x89PNG")
    assert report["time"]["busy_seconds"] <= report["time"]["trial_seconds"]


def test_artifact_predicts_as_it_was_scored(finished, environment):
    from sklearn.datasets import load_digits

    storage, _ = finished
    report = json.loads(cli(environment, "report", "--storage", str(storage), "--json"))
    images, labels = load_digits(return_X_y=True)
    np.save(storage / "digits.npy", images.reshape(-1, 8, 8).astype("float32"))
    answers = json.loads(
        cli(environment, "predict", report["chosen"]["artifact"], "--file", str(storage / "digits.npy"), "--json")
    )
    right = np.mean([answer["labels"][0]["label"] == label for answer, label in zip(answers, labels, strict=True)])
    accuracy = report["chosen"]["test"]["accuracy"]
    assert accuracy["low"] - 0.05 < right < accuracy["high"] + 0.05


def test_only_checkpoints_that_are_needed_stay(finished):
    storage, _ = finished
    run = next(runs.every(storage))
    director = history.fold(run.records)
    kept = {str(path.parent.relative_to(run.store.local)) for path in run.store.local.glob("trials/*/*/*/config.json")}
    best = {trial.config["checkpoint"] for trial in director.of_stage("finalists")}
    known = {trial.checkpoint.path for trial in director.of_stage("search")}
    assert best <= kept <= known
    assert len(kept) < len(known)


def test_each_trial_has_one_log(finished):
    run = next(runs.every(finished[0]))
    for trial in history.fold(run.records).trials.values():
        assert "segment" in (run.store.local / "trials" / trial.id / "log.txt").read_text()


def test_finished_run_is_not_gone_on_with(finished, environment):
    storage, _ = finished
    run = next(runs.every(storage))
    assert runs.unfinished(storage, run.experiment) is None


def test_interrupted_run_is_resumable_and_no_other_experiment(tmp_path, environment, monkeypatch, capsys):
    driver = begin(tmp_path, environment)
    wait_for_run(tmp_path / "results", driver)
    wait_for(lambda: len(ledger.read(next(tmp_path.glob("results/*/ledger.jsonl")).parent)) > 4, driver)
    driver.send_signal(signal.SIGTERM)
    sent = time.monotonic()
    _, err = driver.communicate(timeout=60)
    assert driver.returncode == 143
    assert time.monotonic() - sent < 30
    assert err == "fitformer: interrupted by SIGTERM; the same command goes on from here\n"
    run = next(runs.every(tmp_path / "results"))
    assert not run.finished
    assert runs.unfinished(tmp_path / "results", run.experiment).name == run.name
    monkeypatch.setenv("FITFORMER_CACHE", environment["FITFORMER_CACHE"])
    before = {path: path.read_bytes() for path in run.store.local.rglob("*") if path.is_file()}
    command = ["run", str(tmp_path / "tiny.yaml"), "--storage", str(tmp_path / "results")]
    assert command_line.main([*command, "--set", "seed=1", "--set", "stages.search.trials=9"]) == 2
    *changes, way_out = capsys.readouterr().err.splitlines()
    assert "fitformer: seed: 0 → 1" in changes
    assert not any("trials" in change for change in changes)
    assert way_out == (
        f"fitformer: run {run.name} was begun otherwise; go on all the same with --accept-changes, or start with --new"
    )
    assert {path: path.read_bytes() for path in run.store.local.rglob("*") if path.is_file()} == before


def wait_for_run(storage, driver):
    wait_for(lambda: any(storage.glob("*/ledger.jsonl")), driver)


def wait_for(condition, driver, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert driver.poll() is None, driver.stderr.read()
        assert time.monotonic() < until
        time.sleep(0.05)
