import json
import re
import shutil

import numpy as np
import pytest

from benchmarks import measuring, verify
from benchmarks.measuring import Labelled, Speed
from benchmarks.verify import Claims, read_claims, receipt, write_claims
from models import artifact
from models.predictor import Predictor
from tests.benchmarks import small

SPEED = {"a": (40.0, 16.0), "b": (10.0, 4.0)}
N, RIGHT = len(small.TEXTS), 70


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two artifacts with their claims, of which all is so."""
    folder = tmp_path_factory.mktemp("receipts") / "glosses"
    for seed, name in enumerate(SPEED):
        receipt(small.ship(folder.parent / name, seed, "int8"), folder / name)
    artifacts = {}
    for name, (over_pytorch, over_onnx) in SPEED.items():
        artifacts[name] = {
            "test_accuracy": measuring.right_answers(folder / name, asked(folder)) / N,
            "speedup_over_pytorch": over_pytorch,
            "speedup_over_onnx": over_onnx,
            "size_bytes": measuring.size_bytes(folder / name),
            "latency_ms": 0.1,
        }
    teacher = {"architecture": small.TEACHER.model_dump(), "signature": small.SIGNATURE, "test_accuracy": 0.99}
    machine = {"processor": "A Fine Processor"}
    write_claims(folder, Claims(teacher=teacher, artifacts=artifacts, machine=machine, seeds=3))
    return folder


def asked(folder):
    """The labels that artifact a gives, but for ten."""
    said = [answer[0][0] for answer in Predictor(folder / "a").predict(small.TEXTS)]
    return Labelled(small.TEXTS, [*["none"] * (N - RIGHT), *said[N - RIGHT :]])


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    """A copy of them; the texts and the clock are replaced, the speeds being as claimed."""
    here = shutil.copytree(made, tmp_path / "glosses")
    monkeypatch.setattr(measuring, "glosses_test", lambda: asked(made))
    monkeypatch.setattr(measuring, "measure", fixed())
    return here


def fixed(quiet=True, **changed):
    """Stands for `measuring.measure`."""
    speeds = SPEED | changed
    return lambda contenders, texts, rounds: {
        name: Speed(0.1, 0.2, *speeds.get(name, (1.0, 1.0)), quiet) for name in contenders
    }


def change(folder, *path, to):
    claims = json.loads((folder / "claims.json").read_text())
    place = claims
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    (folder / "claims.json").write_text(json.dumps(claims))


def run(folder, capsys, *options):
    code = verify.main(["--artifacts", str(folder), *options])
    out, err = capsys.readouterr()
    return code, out, err.splitlines()


def test_all_as_claimed(folder, capsys):
    code, out, err = run(folder, capsys)
    assert (code, err) == (0, [])
    claims = read_claims(folder).artifacts
    for name, claim in claims.items():
        size, (pytorch, onnx) = f"{claim.size_bytes / 1e6:.2f}", SPEED[name]
        cells = [f"{claim.test_accuracy:.4f}"] * 2 + [f"{pytorch:.1f}"] * 2 + [f"{onnx:.1f}"] * 2 + [size] * 2
        row = next(line for line in out.splitlines() if line.startswith(f"{name} "))
        assert re.split(r"[ │]+", row) == [name, *cells]
    assert claims["a"].test_accuracy == RIGHT / N
    assert claims["b"].test_accuracy < 0.8
    assert "teacher: test accuracy 0.9900" in out
    assert "claimed on A Fine Processor; measured on " in out
    assert out.endswith("all as claimed\n")


@pytest.mark.parametrize(("answers", "code"), [(3, 0), (-3, 0), (4, 1), (-4, 1)])
def test_three_answers_may_differ_and_a_fourth_may_not(folder, capsys, answers, code):
    claimed = (RIGHT + answers) / N
    change(folder, "artifacts", "a", "test_accuracy", to=claimed)
    got, out, err = run(folder, capsys)
    assert got == code
    assert ("all as claimed" in out) == (code == 0)
    said = (
        f"verify: a: test accuracy is 0.8750 (70 of 80 right), must be {claimed:.4f}, give or take 3 answers; "
        "check the artifact out again, or try a processor whose int8 products do not saturate (VNNI)"
    )
    assert err == [said] * code


def test_size_is_as_claimed_to_the_byte(folder, capsys):
    size = measuring.size_bytes(folder / "b")
    change(folder, "artifacts", "b", "size_bytes", to=size - 1)
    code, _, err = run(folder, capsys)
    assert code == 1
    assert err == [f"verify: b: size is {size:,} bytes, must be {size - 1:,} as claimed; check the artifact out again"]


def test_speed_is_at_least_four_fifths_of_the_claim(folder, capsys, monkeypatch):
    monkeypatch.setattr(measuring, "measure", fixed(a=(32.0, 12.8), b=(99.0, 99.0)))
    assert run(folder, capsys)[0] == 0
    monkeypatch.setattr(measuring, "measure", fixed(a=(31.9, 12.7)))
    code, _, err = run(folder, capsys)
    assert code == 1
    ends = "of the {} claimed); try again on a quiet machine"
    assert err == [
        "verify: a: speed is 31.9 times that of the teacher in PyTorch, must be at least 32.0 (0.8 "
        + ends.format("40.0"),
        "verify: a: speed is 12.7 times that of the teacher in ONNX Runtime, must be at least 12.8 (0.8 "
        + ends.format("16.0"),
    ]


def test_a_busy_machine_is_told(folder, capsys, monkeypatch):
    monkeypatch.setattr(measuring, "measure", fixed(quiet=False, a=(1.0, 16.0)))
    code, out, err = run(folder, capsys)
    assert code == 1
    assert "something else ran on this machine meanwhile; not quiet: a, b\n" in out
    assert "in PyTorch, while something else ran here, must be at least 32.0" in err[0]


def test_measured_for_real(made, capsys, monkeypatch, tmp_path):
    here = shutil.copytree(made, tmp_path / "glosses")
    monkeypatch.setattr(measuring, "glosses_test", lambda: asked(made))
    for name in SPEED:
        for rival in ("pytorch", "onnx"):
            change(here, "artifacts", name, f"speedup_over_{rival}", to=0.001)
    code, _, err = run(here, capsys, "--rounds", "1")
    assert (code, err) == (0, [])
    change(here, "artifacts", "b", "speedup_over_onnx", to=1e9)
    code, _, err = run(here, capsys, "--rounds", "1")
    assert code == 1
    assert len(err) == 1
    assert "must be at least 800000000.0 (0.8 of the 1000000000.0 claimed)" in err[0]


def unreadable(folder):
    (folder / "claims.json").write_text("{")


def no_object(folder):
    (folder / "claims.json").write_text("[1, 2]")


def no_claims(folder):
    (folder / "claims.json").unlink()


def none_claimed(folder):
    change(folder, "artifacts", to={})


def damaged(folder):
    data = bytearray((folder / "b/model.onnx").read_bytes())
    data[99] ^= 1
    (folder / "b/model.onnx").write_bytes(data)


def newer(folder):
    config = json.loads((folder / "b/config.json").read_text())
    (folder / "b/config.json").write_text(json.dumps(config | {"format_version": 2}))


def claimed(*path, to):
    return lambda folder: change(folder, *path, to=to)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (shutil.rmtree, "{} has no claims.json, must hold what is claimed of its artifacts; check it out again"),
        (no_claims, "{} has no claims.json, must hold what is claimed of its artifacts; check it out again"),
        (unreadable, "{}/claims.json is damaged (Expecting property name enclosed in double quotes: "),
        (no_object, "{}/claims.json holds [1, 2], must hold an object; check it out again"),
        (none_claimed, "{}/claims.json: artifacts "),
        (lambda folder: shutil.rmtree(folder / "b"), "{}/b is no folder that exists; check the path"),
        (lambda folder: (folder / "b/tokenizer.json").unlink(), "{}/b lacks tokenizer.json; copy the whole"),
        (damaged, "{}/b/model.onnx does not match its recorded hash: damaged or changed; copy it again"),
        (newer, "{}/b/config.json has format_version 2, this code reads up to 1; update Fitformer"),
        (claimed("artifacts", "a", "test_accuracy", to=1.5), "{}/claims.json: artifacts.a.test_accuracy must be "),
        (
            claimed("artifacts", "a", "size_bytes", to="1"),
            "{}/claims.json: artifacts.a.size_bytes must be an integer, got '1'; ",
        ),
        (claimed("artifacts", "a", to={}), "{}/claims.json: artifacts.a.test_accuracy is missing"),
        (
            claimed("teacher", "architecture", "d_model", to=0),
            "{}/claims.json: teacher.architecture.d_model must be at least 1, got 0; ",
        ),
        (
            claimed("teacher", "signature", "vocab_size", to=9),
            "{}/claims.json: teacher.signature.vocab_size is 9, must be at least 20 as of the smallest artifact; ",
        ),
    ],
)
def test_what_cannot_be_measured_is_told_in_a_line(folder, capsys, monkeypatch, fault, said):
    monkeypatch.setattr(measuring, "measure", None)
    fault(folder)
    code, _, err = run(folder, capsys)
    assert code == 2
    assert err[0].startswith("verify: " + said.format(folder))
    assert len(err) == (4 if "missing" in said else 1)


@pytest.mark.parametrize("name", ["../b", "/tmp/b", "a/b", "", ".b", "b\n", "b\x1b[31m"])
def test_an_artifact_lies_in_the_folder_of_the_claims(folder, capsys, name):
    claim = json.loads((folder / "claims.json").read_text())["artifacts"]["a"]
    change(folder, "artifacts", name, to=claim)
    code, _, err = run(folder, capsys)
    assert (code, len(err)) == (2, 1)
    assert name.strip() in err[0] or repr(name)[1:-1] in err[0]
    assert err[0].isprintable()


def test_every_damaged_artifact_is_named(folder, capsys):
    for name in SPEED:
        (folder / name / "model.onnx").unlink()
    code, _, err = run(folder, capsys)
    assert code == 2
    assert err == [f"verify: {folder}/{name} lacks model.onnx; copy the whole artifact again" for name in SPEED]


def test_rounds_below_one_are_refused(folder, capsys):
    with pytest.raises(SystemExit) as ended:
        run(folder, capsys, "--rounds", "0")
    assert ended.value.code == 2
    assert "--rounds is 0, must be at least 1" in capsys.readouterr().err


def test_claims_keep_what_else_is_said_of_an_artifact(made):
    claims = json.loads((made / "claims.json").read_text())
    assert claims["artifacts"]["a"]["latency_ms"] == 0.1
    assert claims["seeds"] == 3
    assert read_claims(made).teacher.architecture == small.TEACHER


def test_a_receipt_is_the_artifact_without_what_nobody_predicts_with(tmp_path):
    source = small.ship(tmp_path / "a")
    receipt(source, tmp_path / "b")
    there = sorted(path.name for path in (tmp_path / "b").iterdir())
    assert there == ["card.md", "config.json", "metrics.json", "model.onnx", "tokenizer.json"]
    assert all((tmp_path / "b" / name).read_bytes() == (source / name).read_bytes() for name in there[1:])
    full, card = ((folder / "card.md").read_text() for folder in (source, tmp_path / "b"))
    assert card == full.replace("In torch: `load(folder)` of Fitformer's `models/artifact.py`.\n", "") != full
    assert measuring.size_bytes(tmp_path / "b") == measuring.size_bytes(source)
    logits = [Predictor(folder).logits(small.TEXTS) for folder in (source, tmp_path / "b")]
    np.testing.assert_array_equal(*logits)
    with pytest.raises(ValueError, match="b lacks model.safetensors"):
        artifact.load(tmp_path / "b")


def test_no_receipt_of_what_is_damaged(tmp_path):
    source = small.ship(tmp_path / "a")
    (source / "model.onnx").write_bytes(b"")
    with pytest.raises(ValueError, match="does not match its recorded hash"):
        receipt(source, tmp_path / "b")
    assert not (tmp_path / "b").exists()
