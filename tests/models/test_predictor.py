import ast
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from models import predictor
from models.architecture import Architecture
from models.artifact import Origin, save
from models.encoder import build
from models.predictor import Predictor, softmax

WORDS = ["[PAD]", "[UNK]", "a", "red", "green", "house", "tree", "stands", "here"]
TOKENS = {"input": "tokens", "vocab_size": len(WORDS), "max_length": 9, "pad_id": 0, "n_classes": 3}
PIXELS = {"input": "pixels", "height": 4, "width": 4, "channels": 1, "scale": 0.5, "n_classes": 3}
LABELS = {"tokens": ["noun", 7, True], "pixels": ["zero", "one", "two"]}


def tokenizer() -> Tokenizer:
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return made


def texts(n: int) -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS[2:], size=rng.integers(0, 13))) for _ in range(n)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An artifact for each kind of input, and its model, by kind."""
    room = tmp_path_factory.mktemp("artifacts")
    tokenizer().save(str(room / "tokenizer.json"))
    return {signature["input"]: (room / signature["input"], make(room, signature)) for signature in (TOKENS, PIXELS)}


def make(room, signature):
    torch.manual_seed(0)
    kind = signature["input"]
    architecture = Architecture(d_model=16, n_heads=2, d_head=8, d_ff=24, patch=2 if kind == "pixels" else None)
    model = build(architecture, signature).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    save(
        room / kind,
        model,
        architecture=architecture,
        signature=signature,
        labels=LABELS[kind],
        files={"tokenizer.json": room / "tokenizer.json"} if kind == "tokens" else {},
        metrics={},
        origin=Origin(name="toy", task="toy", data="toy.csv", fingerprint="0123"),
    )
    return model


def one_by_one(model, inputs):
    """Torch's logits without any padding."""
    logits = []
    for text in inputs:
        ids = (tokenizer().encode(text).ids or [0])[:9]
        with torch.inference_mode():
            logits.append(model(tokens=torch.tensor([ids]))[0].numpy())
    return np.stack(logits)


def test_long_lists_give_the_logits_of_torch_in_their_order(made):
    folder, model = made["tokens"]
    inputs = texts(75)
    assert {len(text.split()) for text in inputs} > {0, 1, 12}
    np.testing.assert_allclose(Predictor(folder).logits(inputs), one_by_one(model, inputs), atol=1e-5)


def test_images_are_scaled_and_may_lack_their_only_channel(made):
    folder, model = made["pixels"]
    images = np.random.default_rng(0).integers(0, 17, (40, 4, 4, 1))
    with torch.inference_mode():
        expected = model(pixels=torch.from_numpy(images).float() * 0.5).numpy()
    np.testing.assert_allclose(Predictor(folder).logits(images), expected, atol=1e-5)
    np.testing.assert_allclose(Predictor(folder).logits(list(images[..., 0])), expected, atol=1e-5)


def test_predict_gives_the_likeliest_labels_first(made):
    folder, model = made["tokens"]
    inputs = ["a red house", "tree"]
    expected = torch.softmax(torch.from_numpy(one_by_one(model, inputs)), -1)
    for got, probabilities_C in zip(Predictor(folder).predict(inputs, top=2), expected, strict=True):
        best = probabilities_C.topk(2)
        assert [label for label, _ in got] == [LABELS["tokens"][i] for i in best.indices]
        assert [p for _, p in got] == pytest.approx(best.values.tolist(), abs=1e-5)


def test_predict_gives_every_label_where_fewer_are_than_asked_for(made):
    [got] = Predictor(made["tokens"][0]).predict(["tree"], top=9)
    assert {label for label, _ in got} == set(LABELS["tokens"])
    assert sum(p for _, p in got) == pytest.approx(1)


@pytest.mark.parametrize("kind", ["tokens", "pixels"])
def test_nothing_in_nothing_out(made, kind):
    assert Predictor(made[kind][0]).predict([]) == []
    assert Predictor(made[kind][0]).logits([]).shape == (0, 3)


def test_softmax_of_large_logits_is_that_of_torch():
    logits = np.array([[1000.0, 999.0, -1000.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(softmax(logits), torch.softmax(torch.from_numpy(logits), -1).numpy(), rtol=1e-12)


IMAGES = "this artifact reads images of 4×4×1"


@pytest.mark.parametrize(
    ("kind", "inputs", "message"),
    [
        ("tokens", "a tree", "inputs is one text; give a list of texts"),
        ("tokens", ["a", 3], "input 1 is of type int; this artifact reads texts"),
        ("tokens", np.zeros((1, 4, 4)), "input 0 is of type ndarray; this artifact reads texts"),
        ("pixels", ["a tree"], f"input 0 is of type str; {IMAGES}; give a list of arrays, or a file of them (.npy)"),
        (
            "pixels",
            [np.zeros((4, 4)), np.zeros((8, 8))],
            f"input 1 has shape 8×8; {IMAGES}; give a list of such, also of one",
        ),
        ("pixels", [np.full((4, 4), np.nan)], "input 0 has values that are not finite, must be numbers; replace them"),
    ],
)
def test_inputs_of_the_wrong_kind_are_named(made, kind, inputs, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Predictor(made[kind][0]).predict(inputs)


def test_top_must_be_positive(made):
    with pytest.raises(ValueError, match="top must be at least 1, got 0"):
        Predictor(made["tokens"][0]).predict(["tree"], top=0)


def damage(folder: Path, how: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    match how:
        case "no config":
            (folder / "config.json").unlink()
        case "half a config":
            (folder / "config.json").write_text('{"format_version": 1, "la')
        case "newer":
            (folder / "config.json").write_text(json.dumps(config | {"format_version": 2}))
        case "no labels":
            del config["labels"]
            (folder / "config.json").write_text(json.dumps(config))
        case "no model":
            (folder / "model.onnx").unlink()
        case "changed model":
            data = bytearray((folder / "model.onnx").read_bytes())
            data[len(data) // 2] ^= 1
            (folder / "model.onnx").write_bytes(data)
        case "no tokenizer, cut model":
            (folder / "tokenizer.json").unlink()
            (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:1000])


@pytest.mark.parametrize(
    ("changes", "damage"),
    [
        ({"labels": "abc"}, "labels is 'abc'"),
        ({"labels": ["a", "b"]}, "2 labels for 3 classes"),
        ({"sha256": None}, "sha256 is None"),
        ({"signature": {**PIXELS, "input": "sound"}}, "signature.input is 'sound'"),
        ({"signature": {**PIXELS, "width": "4"}}, "signature.width is '4'"),
        ({"signature": {**PIXELS, "scale": float("inf")}}, "signature.scale is inf"),
        ({"format_version": float("inf")}, "format_version is inf"),
        ({"format_version": None}, "format_version is None"),
    ],
)
def test_a_config_that_nobody_wrote_is_damaged(made, tmp_path, changes, damage):
    shutil.copytree(made["pixels"][0], tmp_path / "copy")
    config = json.loads((tmp_path / "copy" / "config.json").read_text())
    (tmp_path / "copy" / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(ValueError, match=rf"config.json is damaged \({re.escape(damage)}\); copy the artifact again$"):
        Predictor(tmp_path / "copy")


def test_no_folder_and_no_mapping_are_told(tmp_path):
    with pytest.raises(ValueError, match=r"^nowhere is no folder that exists; check the path of the artifact$"):
        Predictor("nowhere")
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ValueError, match=r"^\S+ is damaged \(format_version is None\); copy the artifact again$"):
        Predictor(tmp_path)


def test_a_model_that_is_none_is_told_in_a_line(made, tmp_path):
    shutil.copytree(made["pixels"][0], tmp_path / "copy")
    (tmp_path / "copy" / "model.onnx").write_bytes(b"no model")
    config = json.loads((tmp_path / "copy" / "config.json").read_text())
    config["sha256"]["model.onnx"] = predictor.file_hash(tmp_path / "copy" / "model.onnx")
    (tmp_path / "copy" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"^\S+/copy cannot be loaded: .*INVALID_PROTOBUF.*; copy the artifact again$"):
        Predictor(tmp_path / "copy")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no config", r"\S+/copy is no artifact: it has no config.json; give the folder that has it"),
        ("half a config", r"\S+/config.json is damaged \(it is no JSON\); copy the artifact again"),
        ("newer", r"\S+/config.json has format_version 2, this code reads up to 1; update Fitformer"),
        ("no labels", r"\S+/config.json is damaged \(no labels\); copy the artifact again"),
        ("no model", r"\S+/copy lacks model.onnx; copy the whole artifact again"),
        ("changed model", r"\S+/model.onnx does not match its recorded hash: damaged or changed; copy it again"),
        (
            "no tokenizer, cut model",
            r"\S+/model.onnx does not match .*; copy it again\n\S+ lacks tokenizer.json; copy the whole artifact again",
        ),
    ],
)
def test_a_damaged_folder_is_told_in_a_line_a_fault(made, tmp_path, how, message):
    shutil.copytree(made["tokens"][0], tmp_path / "copy")
    damage(tmp_path / "copy", how)
    with pytest.raises(ValueError, match=f"^{message}$"):
        Predictor(tmp_path / "copy")


def test_the_file_needs_nothing_but_numpy_onnxruntime_and_tokenizers():
    names = set()
    for node in ast.walk(ast.parse(Path(predictor.__file__).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
    assert {name.partition(".")[0] for name in names} - sys.stdlib_module_names == {
        "numpy",
        "onnxruntime",
        "tokenizers",
    }


CLEAN = """
import sys
from predictor import Predictor
inputs = sys.stdin.read().split("|")
assert not {"torch", "pydantic", "models"} & set(sys.modules)
print(Predictor("artifact").logits(inputs).tolist())
"""


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_in_a_clean_environment_the_logits_are_those_of_torch(made, tmp_path):
    folder, model = made["tokens"]
    python = clean_environment(tmp_path / "venv")
    shutil.copytree(folder, tmp_path / "room" / "artifact")
    shutil.copy(predictor.__file__, tmp_path / "room")

    def run(code, stdin, where):
        done = subprocess.run([python, "-c", code], input=stdin, cwd=where, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    inputs = texts(40)
    got = json.loads(run(CLEAN, "|".join(inputs), tmp_path / "room"))
    np.testing.assert_allclose(got, one_by_one(model, inputs), atol=1e-5)

    card = (folder / "card.md").read_text()
    code = card.split("```python\n")[1].split("```")[0].replace('"a text"', '"a red tree"')
    best = one_by_one(model, ["a red tree"]).argmax()
    assert run(code, "", tmp_path / "room" / "artifact").strip() == str(LABELS["tokens"][best])


def clean_environment(folder: Path) -> Path:
    """A new virtual environment with only what predicts, in the versions that this one has."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    pins = [f"{name}=={importlib.metadata.version(name)}" for name in ("numpy", "onnxruntime", "tokenizers")]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *pins], check=True, capture_output=True)
    return python
