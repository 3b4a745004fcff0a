"""A stage of `compress` that takes up the picks of an earlier one, through the real engine: what is handed on is what
is pruned, and what comes out is an artifact with a vocabulary of its own.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.engine import history, runs
from models.predictor import Predictor
from tests.trainables.teaching import text_task
from trainables import checkpoint

ROOT = Path(__file__).parents[2]
SIZES = {"n_layers": 2, "d_model": 16, "n_heads": 2, "d_head": 8}
CUTS = {"units": 0.5, "embedding": 0.4, "vocabulary": 0.2}
STAGES = [
    {"name": "search", "space": "space.py:SPACE", "options": SIZES, "trials": 2, "epochs": 1},
    {
        "name": "compress",
        "routine": "compress",
        "options": {"ratios": CUTS, "rounds": 2, "teacher": "stages.search"},
        "each": {"stage": "search", "option": "start", "count": 2},
        "epochs": 2,
    },
]
SPEC = {
    "name": "tiny",
    "stages": STAGES,
    "objectives": {"val_accuracy": "max", "params": "min"},
    "resources": {"cpu": 1, "gpu": 0},
    "finalists": {"count": 1, "of": ["compress"], "precision": "int8", "seeds": 2},
}


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(200)
def test_each_pick_is_compressed(tmp_path):
    space = tmp_path / "space.py"
    space.write_text('from ray import tune\nSPACE = {"d_ff": tune.choice([16, 32])}\n')
    made = {**SPEC, "task": text_task(tmp_path / "texts", n=150)}
    made["stages"] = [{**STAGES[0], "space": f"{space}:SPACE"}, STAGES[1]]
    (tmp_path / "tiny.yaml").write_text(json.dumps(made))
    command = [sys.executable, "-m", "experiments", "run", str(tmp_path / "tiny.yaml")]
    environment = {**os.environ, "FITFORMER_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    command += ["--storage", str(tmp_path / "results")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=190, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    run = next(runs.every(tmp_path / "results"))
    director = history.fold(run.records)
    begun, compressed = director.of_stage("search"), director.of_stage("compress")
    for trial in compressed:
        start = begun[int(trial.config["start"].rsplit(".", 1)[1])]
        assert (trial.status, trial.metrics["rounds"], trial.epochs) == ("completed", 2, 2)
        assert trial.metrics["params"] < 0.85 * start.metrics["params"]
    assert len({trial.config["start"] for trial in compressed}) == len(compressed) > 0
    best = director.of_stage("finalists")[0]
    _, architecture, config = checkpoint.load_model(Path(run.store.local, best.config["checkpoint"]))
    assert architecture.d_ff in (8, 16)
    assert architecture.embedding_rank < 16
    assert config["rounds"] == 2
    own, repeat = best.metrics["seeds"]
    assert own["validation"] == best.metrics["validation"]
    assert own["test"]["accuracy"] == best.metrics["test"]["accuracy"]["value"]
    again = director.of_stage("seeds.compress")
    assert [trial.config for trial in again] == [compressed[int(best.config["trial"][-1])].config]
    assert repeat["validation"]["accuracy"] == pytest.approx(again[0].metrics["val_accuracy"], abs=0.1)
    assert again[0].metrics["train_loss"] != compressed[int(best.config["trial"][-1])].metrics["train_loss"]
    shipped = Path(run.store.local, best.metrics["artifact"])
    signature = json.loads((shipped / "config.json").read_text())["signature"]
    assert signature["vocab_size"] == config["signature"]["vocab_size"] < 71
    assert Predictor(shipped).predict(["the red cat"])[0][0][0] in ("bird", "cat", "dog")
