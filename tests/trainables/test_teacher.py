import json
import shutil
import threading

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.trainables.teaching import ship, teach, text_task
from trainables import answers as kept
from trainables import teacher
from trainables.answers import answers
from trainables.data import prepare
from trainables.loop import on_device
from trainables.losses import observed
from trainables.routine import Workspace

KEY = {"data": "toy", "split": "train"}


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    return tmp_path_factory.mktemp("teacher")


@pytest.fixture(scope="module")
def workspace(room):
    return Workspace(room / "cache", room)


@pytest.fixture(scope="module")
def taught(room, workspace):
    """A trained routine, whose checkpoint and artifact lie in `room`."""
    torch.set_num_threads(1)
    routine = teach(workspace, text_task(room / "data"), room / "checkpoint")
    ship(routine, room / "artifact")
    return routine


@pytest.fixture(params=["checkpoint", "artifact"])
def place(request, room, taught):
    return str(room / request.param)


def test_is_the_model_that_was_trained(place, taught, workspace):
    found = teacher.read(place, workspace.cache)
    teacher.check(found, taught.config.task, taught.data, workspace.cache)
    inputs, _ = on_device(taught.data.splits["test"].batch(np.arange(6)), "cpu")
    expected = taught.model.eval()(**inputs)
    torch.testing.assert_close(found.answer(inputs)[0], expected, rtol=0, atol=1e-6)
    assert found.architecture == taught.model.architecture
    assert not any(parameter.requires_grad for parameter in found.model.parameters())


def test_answers_are_the_teachers(place, taught, workspace):
    found = teacher.read(place, workspace.cache)
    split = taught.data.splits["train"]
    names = ["hidden.0", "hidden.3", "qkv.4"]
    said = answers(found, split, KEY, workspace.cache, names=names, precision="fp32")
    rows = np.array([7, 3, len(split) - 1, 0])
    inputs, _ = on_device(split.batch(rows), "cpu")
    with torch.no_grad(), observed(found.model, names) as seen:
        logits = found.model(**inputs)
    tolerance = {"rtol": 1e-3, "atol": 1e-3}  # half precision
    np.testing.assert_allclose(said.logits(rows), logits.numpy(), **tolerance)
    for name in names:
        states = seen[name].masked_fill(~inputs["keep"][..., None], 0.0)
        np.testing.assert_allclose(said.feature(name, rows, states.shape[1]), states.numpy(), **tolerance)


def test_computed_once_for_a_teacher_and_a_split(room, taught, workspace, tmp_path, monkeypatch):
    found, split = teacher.read(str(room / "checkpoint"), workspace.cache), taught.data.splits["train"]
    first = answers(found, split, KEY, tmp_path, names=["hidden.1"])
    calls = []
    compute = kept._compute
    monkeypatch.setattr(kept, "_compute", lambda *args: calls.append(sorted(args[2])) or compute(*args))
    rows = np.arange(5)
    again = answers(teacher.read(str(room / "checkpoint"), workspace.cache), split, KEY, tmp_path, names=["hidden.1"])
    assert (again.logits(rows) == first.logits(rows)).all()
    answers(found, split, KEY, tmp_path, names=["hidden.1", "qkv.2"])
    answers(found, split, {**KEY, "split": "other"}, tmp_path)
    assert calls == [["qkv.2"], ["logits"]]


def test_two_at_once_compute_once(room, taught, workspace, tmp_path, monkeypatch):
    found, split = teacher.read(str(room / "checkpoint"), workspace.cache), taught.data.splits["train"]
    calls = []
    compute = kept._compute
    monkeypatch.setattr(kept, "_compute", lambda *args: calls.append(1) or compute(*args))
    threads = [threading.Thread(target=answers, args=(found, split, KEY, tmp_path)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [1]


def test_what_was_interrupted_leaves_nothing_behind(room, taught, workspace, tmp_path, monkeypatch):
    found, split = teacher.read(str(room / "checkpoint"), workspace.cache), taught.data.splits["train"]

    def fails(*_):
        raise RuntimeError("no power")

    with monkeypatch.context() as patched:
        patched.setattr(kept, "_batch", fails)
        with pytest.raises(RuntimeError, match="no power"):
            answers(found, split, KEY, tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"] == []
    assert answers(found, split, KEY, tmp_path).logits(np.arange(3)).shape == (3, 3)


def test_many_chunks(room, taught, workspace, tmp_path, monkeypatch):
    found, split = teacher.read(str(room / "checkpoint"), workspace.cache), taught.data.splits["train"]
    whole = answers(found, split, KEY, workspace.cache, names=["hidden.4"])
    monkeypatch.setattr(kept, "_CHUNK", 50)
    apart = answers(found, split, KEY, tmp_path, names=["hidden.4"])
    rows = np.random.default_rng(0).permutation(len(split))
    np.testing.assert_allclose(apart.logits(rows), whole.logits(rows), rtol=0.02, atol=0.02)
    np.testing.assert_allclose(
        apart.feature("hidden.4", rows, 9), whole.feature("hidden.4", rows, 9), rtol=0.02, atol=0.02
    )


def test_images(workspace, tmp_path):
    """Of which all have the same number of positions, and no mask."""
    task = {"name": "image_classification", "data": "digits"}
    routine = teach(workspace, task, tmp_path / "digits", epochs=0.1, patch=4, pooling="cls")
    found = teacher.read(str(tmp_path / "digits"), workspace.cache)
    said = answers(found, routine.data.splits["validation"], KEY, tmp_path, names=["hidden.4"])
    assert said.feature("hidden.4", np.arange(3)).shape == (3, 5, 16)


def test_a_classifier_of_hugging_face(room, taught, workspace, tmp_path):
    from transformers import BertConfig, BertForSequenceClassification

    names = dict(enumerate(["dog", "bird", "cat"]))
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    vocabulary = {"vocab_size": taught.data.signature["vocab_size"], "max_position_embeddings": 128}
    model = BertForSequenceClassification(BertConfig(id2label=names, num_labels=3, **sizes, **vocabulary)).eval()
    model.save_pretrained(tmp_path)
    shutil.copy(taught.data.files["tokenizer.json"], tmp_path)
    found = teacher.read(str(tmp_path), workspace.cache)
    teacher.check(found, taught.config.task, taught.data, workspace.cache)
    said = answers(found, taught.data.splits["train"], KEY, tmp_path, names=["hidden.2"], precision="fp32")
    batch = taught.data.splits["train"].batch(np.arange(4))
    inputs, _ = on_device(batch, "cpu")
    with torch.no_grad():
        expected = model(inputs["tokens"], attention_mask=inputs["keep"].long()).logits[:, [1, 2, 0]]
    np.testing.assert_allclose(said.logits(np.arange(4)), expected.numpy(), rtol=1e-3, atol=1e-3)


def faults(place, task, workspace):
    with pytest.raises(ValueError) as error:
        teacher.check(teacher.read(str(place), workspace.cache), task, prepare(task, workspace.cache), workspace.cache)
    return str(error.value).replace(str(place), "F").splitlines()


def test_other_labels_and_another_vocabulary(place, room, workspace, tmp_path):
    task = text_task(tmp_path, labels=("cat", "cow"), words=["brown", "yellow"], max_length=200)
    assert faults(place, task, workspace) == [
        "teacher reads 128 tokens, must read the data's 200; choose another one (F)",
        "teacher tells 'bird', 'cat', 'dog' (3), must tell the data's labels 'cat', 'cow' (2); choose another one (F)",
        "teacher has another vocabulary (71 tokens) than the data (33), such as in '##at', must have the same: set "
        "task.tokenizer to its own; choose another one (F)",
    ]


def test_another_kind_of_input(room, taught, workspace):
    task = {"name": "image_classification", "data": "digits"}
    assert faults(room / "checkpoint", task, workspace)[0] == (
        "teacher has input tokens, must have the data's pixels; choose another one (F)"
    )


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        (None, r"teacher: .* has no config\.json, must be an artifact or a trial's checkpoint; check the path"),
        ("{", r"teacher: .* has a config\.json that is damaged: .*; copy the folder again"),
        ("[]", "neither an artifact nor a checkpoint of a trial nor of Hugging Face; give the folder of one"),
        ('{"model_type": "t5"}', r"teacher: .*model_type is 't5', must be one of bert, distilbert; choose a model of"),
        (
            '{"task": {}, "signature": {}, "architecture": {"model": "my.py:build"}}',
            "is of the network 'my.py:build', must be an encoder of ours; choose another one",
        ),
        (
            '{"task": {}, "signature": {}, "architecture": {}, "format_version": 9}',
            "teacher: .* has format_version 9, this code reads up to 1; update Fitformer",
        ),
        ('{"task": {}, "signature": {}, "architecture": {}}', r"lacks model\.safetensors; copy the whole folder again"),
    ],
)
def test_what_is_no_teacher(config, fault, tmp_path):
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(ValueError, match=fault):
        teacher.read(str(tmp_path), tmp_path)


def test_a_checkpoint_whose_vocabulary_was_trimmed(room, taught, workspace, tmp_path):
    shutil.copytree(room / "checkpoint", tmp_path / "teacher")
    tokenizer = json.loads(taught.data.files["tokenizer.json"].read_text())
    tokenizer["model"]["vocab"].pop("slowly")
    (tmp_path / "teacher" / "tokenizer.json").write_text(json.dumps(tokenizer))
    config = json.loads((tmp_path / "teacher" / "config.json").read_text())
    config["signature"]["vocab_size"] -= 1
    (tmp_path / "teacher" / "config.json").write_text(json.dumps(config))
    weights = load_file(tmp_path / "teacher" / "model.safetensors")
    weights["front_end.embedding.weight"] = weights["front_end.embedding.weight"][:-1].clone()
    save_file(weights, tmp_path / "teacher" / "model.safetensors")
    assert faults(tmp_path / "teacher", taught.config.task, workspace) == [
        "teacher knows 70 tokens, must know the data's 71; choose another one (F)",
        "teacher has another vocabulary (70 tokens) than the data (71), such as in 'slowly', must have the same: set "
        "task.tokenizer to its own; choose another one (F)",
    ]


def test_damaged_weights(room, workspace, tmp_path):
    shutil.copytree(room / "checkpoint", tmp_path / "teacher")
    (tmp_path / "teacher" / "model.safetensors").write_bytes(b"\x00" * 64)
    with pytest.raises(
        ValueError, match=r"^teacher: .* has a model\.safetensors that is damaged \(.*\); copy the whole folder again"
    ):
        teacher.read(str(tmp_path / "teacher"), workspace.cache)


def test_no_such_folder(tmp_path):
    with pytest.raises(
        ValueError, match="^teacher: 'nowhere/at/all', must be a folder that exists or a name on the Hugging"
    ):
        teacher.read("nowhere/at/all", tmp_path)


def test_another_teacher_in_the_same_folder_is_another_one(room, taught, workspace, tmp_path):
    shutil.copytree(room / "checkpoint", tmp_path / "teacher")
    before = teacher.read(str(tmp_path / "teacher"), workspace.cache).fingerprint
    assert before == teacher.read(str(room / "checkpoint"), workspace.cache).fingerprint
    config = json.loads((tmp_path / "teacher" / "config.json").read_text())
    config["architecture"]["pooling"] = "max"
    (tmp_path / "teacher" / "config.json").write_text(json.dumps(config))
    assert teacher.read(str(tmp_path / "teacher"), workspace.cache).fingerprint != before
