"""Bad inputs of distillation and compression through the command line: a line that holds value, rule and way out, exit
code 2, nothing written. No command gets as far as Ray.
"""

import json
import re
import shutil

import pytest
import torch

from experiments.__main__ import main
from experiments.engine import launch
from models import quantize
from tests.trainables.teaching import ship, teach, text_task
from trainables.routine import Workspace

SMALL = {"n_layers": 1, "d_model": 8, "n_heads": 1, "d_head": 8, "d_ff": 8}


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """Checkpoints of three tasks, and the artifact of the first one's."""
    torch.set_num_threads(1)
    room = tmp_path_factory.mktemp("inputs")
    workspace = Workspace(room / "cache", room)
    task = text_task(room / "data", n=120)
    ship(teach(workspace, task, room / "teacher", epochs=0.5), room / "artifact")
    teach(workspace, text_task(room / "farm", ("cat", "cow", "pig"), n=120), room / "cows", epochs=0.5)
    teach(workspace, text_task(room / "few", words=["red", "the"], n=120), room / "words", epochs=0.5)
    return room


@pytest.fixture
def refused(room, tmp_path, monkeypatch, capsys):
    """Runs a command in a folder with copies of all that there is; the lines of its refusal."""
    for name in ("teacher", "artifact", "cows", "words"):
        shutil.copytree(room / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FITFORMER_CACHE", str(room / "cache"))

    def reached(*arguments, **options):
        raise AssertionError("the input was accepted")

    monkeypatch.setattr(launch, "connect", reached)

    def run(*arguments):
        before = tree(tmp_path)
        assert main(arguments) == 2
        out, err = capsys.readouterr()
        assert tree(tmp_path) == before
        assert "Traceback" not in out
        return [line.removeprefix("fitformer: ") for line in err.splitlines()]

    return run


@pytest.fixture
def ran(refused, room, tmp_path):
    """The same for the run of one stage."""

    def run(routine, options, **more):
        stage = {"name": "search", "routine": routine, "options": options, "epochs": 1}
        values = {"name": "tiny", "task": text_task(room / "data", n=120), "stages": [stage], **more}
        (tmp_path / "tiny.yaml").write_text(json.dumps(values))
        found = refused("run", "tiny.yaml", "--storage", "results")
        return [line.removeprefix("stages.search: ") for line in found]

    return run


def tree(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


START = {"start": "teacher"}
EVERYTHING = {
    "units": ({**START, "ratios": {"units": 1.0}}, "the config: units.ratio must be below 1, got 1.0"),
    "by name": ({**START, "hidden_ratio": 1}, "the config: hidden.ratio must be below 1, got 1.0"),
    "more": ({**START, "ratios": {"layers": 1.5}}, "the config: layers.ratio must be below 1, got 1.5"),
    "none kept": (
        {**START, "settings": {"layers": {"keep": 0}}},
        "the config: layers.keep must be at least 1, got 0",
    ),
    "embedding": (
        {**START, "ratios": {"embedding": 0.99}},
        "embedding: ratio is 0.99, which leaves rank 0; lower it",
    ),
    "low rank": (
        {**START, "ratios": {"low_rank": 0.99}},
        "low_rank: ratio is 0.99, which rank 1 in attention of layer 0 does not reach; lower it",
    ),
    "vocabulary": (
        {**START, "ratios": {"vocabulary": 0.99}},
        "vocabulary: 8 tokens are kept, must be at least 37, the special ones and single characters; keep more",
    ),
}


@pytest.mark.parametrize(("options", "line"), EVERYTHING.values(), ids=EVERYTHING)
def test_pruning_everything(ran, options, line):
    assert ran("compress", options) == [line]


def test_sizes_of_nothing(ran):
    assert ran("distill", {"teacher": "teacher", "student": "slices", "n_layers": 0}) == [
        "n_layers must be at least 1, got 0"
    ]
    assert ran("subnet", {"supernet": "teacher", "n_heads": 0}) == ["n_heads must be at least 1, got 0"]
    assert ran("supernet", {"teacher": "teacher", "choices": {"d_ff": [0, 8]}}) == [
        "choices.d_ff[0] must be at least 1, got 0"
    ]


ROLES = {
    "teacher of distill": ("distill", "teacher", SMALL),
    "student": ("distill", "student", {"teacher": "teacher"}),
    "start": ("compress", "start", {}),
    "teacher of compress": ("compress", "teacher", START),
    "teacher of supernet": ("supernet", "teacher", {}),
    "supernet": ("subnet", "supernet", {}),
}
each_role = pytest.mark.parametrize(("routine", "role", "options"), ROLES.values(), ids=ROLES)


@each_role
def test_other_labels_or_another_vocabulary(ran, routine, role, options):
    labels, *_ = ran(routine, {**options, role: "cows"})
    assert labels == (
        f"{role} tells 'cat', 'cow', 'pig' (3), must tell the data's labels 'bird', 'cat', 'dog' (3); choose another "
        "one (cows)"
    )
    knows, vocabulary = ran(routine, {**options, role: "words"})
    assert re.fullmatch(rf"{role} knows \d+ tokens, must know the data's 71; choose another one \(words\)", knows)
    assert vocabulary.endswith("must have the same: set task.tokenizer to its own; choose another one (words)")
    assert ran(routine, {**options, role: "./nowhere"}) == [
        f"{role}: './nowhere', must be a folder that exists or a name on the Hugging Face hub; check the path"
    ]


@pytest.mark.parametrize("student", ["teacher", "artifact"])
def test_the_teacher_is_the_student(ran, student):
    """Also where it was exported since: its weights are the same."""
    assert ran("distill", {"teacher": "teacher", "student": student}) == [
        f"student: {student} is the teacher itself; choose another one, or slices"
    ]


def test_slices_that_are_the_teacher(ran):
    assert ran("distill", {"teacher": "teacher", "student": "slices", "n_layers": 4, "d_ff": 32}) == [
        "the student is the teacher: its slices keep all there is; give less of n_layers, d_model, n_heads, d_ff, "
        "embedding_rank"
    ]


def flip(folder, name="model.safetensors"):
    data = bytearray((folder / name).read_bytes())
    data[-1] ^= 1
    (folder / name).write_bytes(data)


def cut(folder):
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:500])


def put(folder, **values):
    known = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**known, **values}))


def smaller(folder):
    put(folder, architecture={**json.loads((folder / "config.json").read_text())["architecture"], "d_ff": 16})


DAMAGES = {
    "weights": (flip, "artifact", "has a model.safetensors that is not as recorded: damaged or changed; copy it again"),
    "tokenizer": (
        lambda folder: flip(folder, "tokenizer.json"),
        "artifact",
        "has a tokenizer.json that is not as recorded: damaged or changed; copy it again",
    ),
    "no tokenizer": (
        lambda folder: (folder / "tokenizer.json").unlink(),
        "artifact",
        "lacks tokenizer.json; copy the whole folder again",
    ),
    "no labels": (
        lambda folder: put(folder, labels=3),
        "artifact",
        "has a config.json that is damaged: labels is 3; copy the folder again",
    ),
    "cut": (cut, "teacher", "has a model.safetensors that is damaged (Error while deserializing header: "),
    "no weights": (
        lambda folder: (folder / "model.safetensors").unlink(),
        "teacher",
        "lacks model.safetensors; copy the whole folder again",
    ),
    "no json": (
        lambda folder: (folder / "config.json").write_text("{"),
        "artifact",
        "has a config.json that is damaged: Expecting property name enclosed in double quotes: line 1 column 2 (char "
        "1); copy the folder again",
    ),
    "newer": (
        lambda folder: put(folder, format_version=99),
        "artifact",
        "has format_version 99, this code reads up to 1; update Fitformer",
    ),
    "newer checkpoint": (
        lambda folder: put(folder, format_version=99),
        "teacher",
        "has format_version 99, this code reads up to 1; update Fitformer",
    ),
    "version": (
        lambda folder: put(folder, format_version="x"),
        "teacher",
        "has a config.json that is damaged: format_version is 'x'; copy the folder again",
    ),
    "architecture": (
        lambda folder: put(folder, architecture={"n_layers": "two"}),
        "teacher",
        "has a config.json that is damaged: architecture.n_layers must be an integer, got 'two'; copy the folder again",
    ),
    "signature": (
        lambda folder: put(folder, signature={}),
        "teacher",
        "has a config.json that is damaged: signature.input is None; copy the folder again",
    ),
    "another architecture": (
        smaller,
        "teacher",
        "has a model.safetensors of another architecture than config.json: blocks.0.feed_forward.inner.bias has shape "
        "(32,), must have (16,); copy the whole folder again",
    ),
}


@pytest.mark.parametrize(("damage", "kind", "line"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_or_newer_folder(ran, tmp_path, damage, kind, line):
    damage(tmp_path / kind)
    (found,) = ran("distill", {**SMALL, "teacher": kind})
    assert found.startswith(f"teacher: {kind} {line}")


@each_role
def test_damage_is_told_of_every_role(ran, tmp_path, routine, role, options):
    flip(tmp_path / "artifact")
    assert ran(routine, {**options, role: "artifact"}) == [
        f"{role}: artifact has a model.safetensors that is not as recorded: damaged or changed; copy it again"
    ]


def test_predicting_from_damage(refused, tmp_path):
    for damage, line in (
        (lambda folder: flip(folder, "model.onnx"), "model.onnx does not match its recorded hash: damaged or changed"),
        (lambda folder: put(folder, format_version=99), "config.json has format_version 99, this code reads up to 1"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json is damaged (it is no JSON); copy"),
    ):
        damage(tmp_path / "artifact")
        (found,) = refused("predict", "artifact", "the red cat")
        assert found.startswith(f"artifact/{line}")


def test_unknown_precisions(ran):
    options = {**SMALL, "teacher": "teacher"}
    rule = "must be 'fp32', 'int8', 'int8_embedding4', 'weights8', 'weights4' or 'auto', got"
    assert ran("distill", options, finalists={"precision": "int3"}) == [f"finalists.precision {rule} 'int3'"]
    assert ran("distill", options, finalists={"precision": ["int8", "bf16"]}) == [
        f"finalists.precision[1] {rule} 'bf16'"
    ]


@pytest.fixture
def lacking(monkeypatch):
    """A machine whose ONNX Runtime has no kernel for what is quantized by blocks, nor for int8."""

    def session(*arguments, **options):
        raise RuntimeError("NOT_IMPLEMENTED : Could not find an implementation for MatMulInteger(10)\nmore")

    monkeypatch.setattr(quantize, "session", session)


def test_quantization_that_the_machine_lacks(refused, ran, lacking):
    (found,) = refused("export", "artifact", "--int8", "--to", "small")
    assert re.fullmatch(
        r"quantization is int8, which onnxruntime [\d.]+ does not run here \(NOT_IMPLEMENTED : Could not find an "
        r"implementation for MatMulInteger\(10\)\); choose another",
        found,
    )
    found = ran("distill", {**SMALL, "teacher": "teacher"}, finalists={"precision": ["fp32", "weights4"]})
    assert [line.split(", which")[0] for line in found] == ["finalists.precision: quantization is weights4"]


@pytest.mark.parametrize("routine", ["distill", "supernet"])
def test_texts_that_are_not_there_are_told_before_a_teacher_is_trained(ran, routine):
    teacher = {"name": "teacher", "options": SMALL, "epochs": 1}
    options = {"teacher": "stages.teacher", "transfer": "absent.txt"}
    (line,) = ran("", {}, stages=[teacher, {"name": "search", "routine": routine, "options": options, "epochs": 1}])
    assert re.fullmatch(r"transfer: absent\.txt does not exist \(working folder \S+\); give a file or a folder\.", line)


@pytest.mark.parametrize(
    ("routine", "options", "lines"),
    [
        ("distill", {"student": "slices", "n_layers": 2}, ["n_layers is 2, must be at most the teacher's 1; lower it"]),
        (
            "distill",
            {"student": "slices", "d_ff": 8},
            [
                "the student is the teacher: its slices keep all there is; give less of n_layers, d_model, n_heads, "
                "d_ff, embedding_rank"
            ],
        ),
        (
            "supernet",
            {"choices": {"d_model": [4, 16], "d_ff": [8, 32]}},
            [
                "choices.d_model is 16, must be at most 8, as many as there are; lower it",
                "choices.d_ff is 32, must be at most 8, as many as layer 0 has; lower it",
            ],
        ),
        (
            "compress",
            {"settings": {"layers": {"keep": 2}}},
            ["layers: keep is 2, must be at most 1, all there are; lower it"],
        ),
    ],
)
def test_more_than_a_teacher_will_have_is_told_before_it_is_trained(ran, routine, options, lines):
    teacher = {"name": "teacher", "options": SMALL, "epochs": 1}
    options = {"start" if routine == "compress" else "teacher": "stages.teacher", **options}
    assert (
        ran("", {}, stages=[teacher, {"name": "search", "routine": routine, "options": options, "epochs": 1}]) == lines
    )


def test_sizes_are_known_where_a_space_leaves_them(ran):
    fixed = {"n_layers": 2, "d_model": 64, "n_heads": 2, "d_head": 32, "d_ff": 128}
    teacher = {"name": "teacher", "space": ["encoder", "optimization"], "fix": fixed, "trials": 1, "epochs": 1}
    options = {"teacher": "stages.teacher", "student": "slices", "n_layers": 3}
    stages = [teacher, {"name": "search", "routine": "distill", "options": options, "epochs": 1}]
    assert ran("", {}, stages=stages) == ["n_layers is 3, must be at most the teacher's 2; lower it"]


def test_no_vocabulary_of_images_is_cut(ran):
    teacher = {"name": "teacher", "options": {**SMALL, "patch": 4}, "epochs": 1}
    options = {"start": "stages.teacher", "ratios": {"vocabulary": 0.5}}
    stages = [teacher, {"name": "search", "routine": "compress", "options": options, "epochs": 1}]
    assert ran("", {}, stages=stages, task={"name": "image_classification", "data": "digits"}) == [
        "vocabulary: the network reads images, must read tokens to have one; leave it out"
    ]


def test_a_rank_of_images_is_told_before_a_teacher_is_trained(ran):
    teacher = {"name": "teacher", "options": {**SMALL, "patch": 4}, "epochs": 1}
    options = {"teacher": "stages.teacher", "student": "slices", "d_ff": 4, "embedding_rank": 8}
    stages = [teacher, {"name": "search", "routine": "distill", "options": options, "epochs": 1}]
    assert ran("", {}, stages=stages, task={"name": "image_classification", "data": "digits"}) == [
        "embedding_rank is 8, must be null for images, which have no token embedding; leave it out"
    ]


def test_a_stage_without_its_prefix_is_told(ran):
    stages = [{"name": "first", "options": SMALL, "epochs": 1}]
    later = {"name": "search", "routine": "distill", "options": {**SMALL, "teacher": "first"}, "epochs": 1}
    assert ran("", {}, stages=[*stages, later]) == [
        "stages.search.options.teacher is 'first', which is a stage; write stages.first, or ./first for a folder"
    ]


@pytest.mark.parametrize(("student", "near"), [("slice", "slices"), ("scrach", "scratch")])
def test_a_beginning_that_is_nearly_one_is_told(ran, student, near):
    options = {"teacher": "teacher", "student": student, "n_layers": 1}
    assert ran("distill", options) == [
        f"the config: student is '{student}', which is no folder here; did you mean '{near}'?"
    ]


def test_texts_that_cannot_be_read_are_told_before_a_teacher_is_trained(ran, tmp_path):
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    teacher = {"name": "teacher", "options": SMALL, "epochs": 1}
    options = {"teacher": "stages.teacher", "transfer": "cut.parquet"}
    (line,) = ran("", {}, stages=[teacher, {"name": "search", "routine": "distill", "options": options, "epochs": 1}])
    assert re.fullmatch(r"transfer: .*4 bytes.* \(cut\.parquet\); repair it, or write it anew\.", line)
