"""A results folder with malicious pickles under every name that Ray and others use: nothing of ours reads one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.__main__ import main

PICKLES = [
    # Ray Tune's experiment folder, 2.0 to 2.60
    *("tuner.pkl", "trainable.pkl", "trainer.pkl", "error.pkl", "params.pkl", "callback_states.pkl"),
    *("searcher-state-2026-11-20_00-00-00.pkl", "search_gen_state-2026-11-20_00-00-00.json", "optimizer.pkl"),
    *("basic-variant-state-2026-11-20_00-00-00.json", "scheduler-state-2026-11-20_00-00-00.pkl"),
    # checkpoints of Ray, torch, scikit-learn, Hugging Face
    *("checkpoint.pkl", "dict_checkpoint.pkl", ".tune_metadata", "checkpoint-000001", "preprocessor.pkl"),
    *("model.pt", "model.pth", "model.pkl", "model.joblib", "pytorch_model.bin", "optimizer.pt", "scheduler.pt"),
    *("training_args.bin", "rng_state.pth", "data.npy", "cache.pkl", "state.pkl", "ledger.pkl", "ledger.jsonl.pkl"),
]
# Ray's JSON files hold pickles, too, as hexadecimal digits.
STATES = ["experiment_state-2026-11-20_00-00-00.json", "params.json", ".is_checkpoint.json", "result.json"]
# Names that an import or Python's start would take, were the folder searched.
MODULES = ["sitecustomize.py", "usercustomize.py", "conftest.py", "ray.py", "torch.py", "counting.py", "__init__.py"]


def payload(mark):
    """A pickle of protocol 0 that makes a file when it is read."""
    return f"cos\nsystem\n(S'touch {mark}'\ntR.".encode()


def plant(folders, mark):
    """Every one of the names in each of the folders."""
    evil = payload(mark)
    state = json.dumps({"_type": "CLOUDPICKLE_FALLBACK", "value": evil.hex()})
    for folder in folders:
        for name in PICKLES:
            (folder / name).write_bytes(evil)
        for name in STATES:
            (folder / name).write_text(json.dumps({"checkpoints": [state], "runner_data": state, "stats": state}))
        for name in MODULES:
            (folder / name).write_text(f"import os\nos.system('touch {mark}')\n")


def below(folder):
    """A folder and all its folders."""
    return [folder, *(path for path in folder.rglob("*") if path.is_dir())]


def test_the_payload_would_run(tmp_path):
    (tmp_path / "tuner.pkl").write_bytes(payload(tmp_path / "ran"))
    subprocess.run([sys.executable, "-m", "pickle", str(tmp_path / "tuner.pkl")], check=True, capture_output=True)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("command", ["report {}", "report --json", "runs list", "predict {} text", "runs delete {}"])
def test_reading_a_planted_folder_runs_nothing(book, tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    for name in ("trials/search-000/00000/1", "artifacts/a", "logs", ".ray"):
        (book.folder / name).mkdir(parents=True)
    plant([tmp_path / "results", *below(book.folder)], tmp_path / "ran")
    code = main(command.format(book.name).split())
    assert code == (2 if "predict" in command else 0), capsys.readouterr().err
    assert not (tmp_path / "ran").exists()


@pytest.mark.faults
@pytest.mark.ray
@pytest.mark.timeout(300)
def test_going_on_in_a_planted_folder_runs_nothing(experiment, tmp_path):
    toy = experiment(seconds=0.3)
    assert toy.kill_at(toy.start(), epochs=5)
    toy.clear()
    plant(below(toy.storage), tmp_path / "ran")
    toy.finish()
    assert toy.counts().keys() == {(trial, epoch) for trial in range(4) for epoch in (1, 2, 3)}
    toy.cli("report")
    assert not Path(tmp_path / "ran").exists()
