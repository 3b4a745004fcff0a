"""`export`: an artifact in another form; what cannot be exported is refused in a line, with nothing written."""

import json

import numpy as np
import pytest
import torch

from experiments import __main__ as command_line
from models import artifact
from models.architecture import Architecture
from models.encoder import build
from models.predictor import Predictor

PIXELS = {"input": "pixels", "height": 4, "width": 6, "channels": 2, "scale": 1 / 16, "n_classes": 3}


@pytest.fixture
def cli(capsys, tmp_path, monkeypatch):
    """Runs a command beside the artifact `a`: (exit code, standard output, lines of standard error)."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    architecture = Architecture(d_model=32, n_heads=2, d_head=16, d_ff=64, patch=2)
    artifact.save(
        tmp_path / "a",
        build(architecture, PIXELS).eval(),
        architecture=architecture,
        signature=PIXELS,
        labels=["x", "y", "z"],
        files={},
        metrics={},
        origin=artifact.Origin(name="toy", task="image_classification", data="toy", fingerprint="0"),
    )

    def run(*arguments):
        code = command_line.main(arguments)
        out, err = capsys.readouterr()
        return code, out, err.splitlines()

    return run


def images():
    return list(np.random.default_rng(0).integers(0, 16, (8, 4, 6, 2)))


def test_onnx_predicts_without_weights_for_torch(cli, tmp_path):
    code, out, err = cli("export", "a", "--format", "onnx")
    assert (code, err) == (0, [])
    assert out.startswith("a-onnx: onnx in fp32, ")
    assert "largest difference of ONNX and torch logits: " in out
    there = sorted(path.name for path in (tmp_path / "a-onnx").iterdir())
    assert there == ["card.md", "config.json", "metrics.json", "model.onnx"]
    assert "models/artifact.py" not in (tmp_path / "a-onnx" / "card.md").read_text()
    np.testing.assert_array_equal(Predictor("a-onnx").logits(images()), Predictor("a").logits(images()))


def test_int8_says_how_far_it_is_from_float32(cli, tmp_path):
    code, out, _ = cli("export", "a", "--int8", "--to", "small/b")
    assert code == 0
    assert out.startswith("small/b: onnx in int8, ")
    card, metrics = ((tmp_path / "small/b" / name).read_text() for name in ("card.md", "metrics.json"))
    same = f"{json.loads(metrics)['onnx_agreement']:.1%} of 256 random inputs"
    assert f"same answer as in float32: {same}" in out
    assert f"| same answer as in float32 | {same} |" in card
    assert "| precision | int8 |" in card
    assert (tmp_path / "small/b/model.onnx").stat().st_size < (tmp_path / "a/model.onnx").stat().st_size


def test_safetensors_loads_in_torch(cli, tmp_path):
    code, _, _ = cli("export", "a", "--format", "safetensors")
    assert code == 0
    there = sorted(path.name for path in (tmp_path / "a-safetensors").iterdir())
    assert there == ["card.md", "config.json", "metrics.json", "model.safetensors"]
    ours, theirs = (artifact.load(tmp_path / name)[0].state_dict() for name in ("a", "a-safetensors"))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert "onnxruntime" not in (tmp_path / "a-safetensors" / "card.md").read_text()
    modes = {path.stat().st_mode for path in (tmp_path / "a-safetensors").iterdir()}
    assert len(modes) == 1  # whoever may read the card may read the weights
    assert cli("predict", "a-safetensors", "a text")[2] == [
        "fitformer: a-safetensors was made without model.onnx, which predicts; export this artifact to have it"
    ]


def flipped(folder):
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)


def config(folder, **values):
    known = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**known, **values}))


FAULTS = {
    "flipped": (flipped, "a/model.safetensors does not match its recorded hash: damaged or changed; copy it again"),
    "newer": (
        lambda folder: config(folder, format_version=99),
        "a/config.json has format_version 99, this code reads up to 1; update Fitformer",
    ),
    "cut": (lambda folder: (folder / "config.json").write_text("{"), "a/config.json is damaged (it is no JSON); copy"),
    "origin": (
        lambda folder: config(folder, origin=3),
        "a/config.json is damaged (origin is 3); copy the artifact again",
    ),
    "architecture": (
        lambda folder: config(folder, architecture={"n_layers": "two"}),
        "a/config.json is damaged (architecture.n_layers: Input should be a valid integer",
    ),
    "no weights": (
        lambda folder: (folder / "model.safetensors").unlink(),
        "a lacks model.safetensors, which torch and",
    ),
    "outside": (
        lambda folder: config(
            folder, sha256={**json.loads((folder / "config.json").read_text())["sha256"], "../x": ""}
        ),
        "a/config.json names the file '../x', must name files in its own folder",
    ),
}


@pytest.mark.parametrize(("damage", "line"), FAULTS.values(), ids=FAULTS)
def test_damaged_artifact_is_refused_in_a_line(cli, tmp_path, damage, line):
    damage(tmp_path / "a")
    code, out, err = cli("export", "a", "--int8")
    assert (code, out, len(err)) == (2, "", 1)
    assert err[0].startswith(f"fitformer: {line}")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_cannot_be_meant_is_refused(cli, tmp_path):
    (tmp_path / "b").mkdir()
    assert cli("export", "a", "--to", "b")[2] == ["fitformer: b exists; choose another folder with --to, or remove it"]
    assert cli("export", "a", "--format", "safetensors", "--int8")[2] == [
        "fitformer: --int8 is of --format onnx, got --format safetensors; leave one of them out"
    ]
    (tmp_path / "c").touch()
    assert cli("export", "a", "--to", "c/d/e")[2] == [
        f"fitformer: c/d/e cannot be made ({tmp_path / 'c'}: Not a directory); choose another folder with --to"
    ]
    (tmp_path / "c").unlink()
    assert cli("export", "a", "--to", "")[2] == ["fitformer: . exists; choose another folder with --to, or remove it"]
    assert cli("export", "a", "--to", "a/c")[2] == [
        "fitformer: a/c is within a itself; choose another folder with --to"
    ]
    code, _, err = cli("export", "nowhere")
    assert (code, len(err)) == (2, 1)
    assert err[0].startswith("fitformer: artifact 'nowhere' is neither a folder nor a run: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
