"""Mutated experiment files, ledgers and artifacts: never a traceback, never a hang, never code executed.

What is mutated is valid; the mutations put in what parsers choke on, and what would run code where it is believed.
Each test is short in the ordinary suite, and long (other random numbers, too) among the fault tests.
"""

import contextlib
import hashlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experiments.__main__ import main
from experiments.engine import launch
from experiments.engine.plan import prepare
from experiments.engine.spec import checked
from tests.faults import recorded
from tests.faults.recorded import SPEC

# What each of them would do, if it were run, is to make this file in the working folder.
EVIL = "ran"
WORDS = [
    "!!python/object/apply:os.system ['touch ran']",
    "!!python/object/new:subprocess.Popen [['touch', 'ran']]",
    "__import__('os').system('touch ran')",
    "${touch ran}",
    "$(touch ran)",
    "`touch ran`; touch ran; | touch ran",
    "../../ran",
    "/dev/zero",
    "ran.py:ROUTINE",
    *("&a [*a, *a]", "*a", "<<: *a", "---\n", "{" * 40, "[" * 40, "\0", "\ud83d", "\x1b[2J", "%s%n", "\n", "\t"),
    *(
        "null",
        "true",
        "-1",
        "0",
        "1e999",
        ".nan",
        "-.inf",
        "9" * 400,
        "0x10",
        "1_0",
        "2026-11-20",
        "~",
        "''",
        "{}",
        "[]",
    ),
]
# None of these may be read as it stands: a size, a name of an attribute, a shape.
VALUES = [None, True, -1, 0, 2**70, 1e308, "", "x" * 2000, "../../ran", "ran.py:ROUTINE", [], {}, [[]], {"name": 1}]


def fuzzed(check, examples):
    """A test that checks so many examples, always the same ones."""
    quick = settings(
        max_examples=examples, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    return quick(given(st.data())(check))


def long(check, examples=1500):
    """A fault test that checks many examples, each time other ones."""
    slow = settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    return pytest.mark.faults(pytest.mark.timeout(900)(slow(given(st.data())(check))))


@pytest.fixture
def cli(tmp_path, monkeypatch, cache):
    """Runs a command in the test's folder: its exit code is 0 or 2, what it says is one line each, nothing ran."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FITFORMER_CACHE", str(cache))
    monkeypatch.setattr(launch, "connect", reached)

    def run(*arguments):
        err = io.StringIO()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err):
            code = main(arguments)
        assert code in (0, 2)
        assert bool(err.getvalue()) == (code == 2)
        assert all(line.startswith("fitformer: ") for line in err.getvalue().splitlines())
        assert not Path(EVIL).exists()
        return code

    return run


def reached(*arguments, **options):
    raise ValueError("the input was accepted, as far as Ray")


def mutated(data, content):
    """Bytes with one to three changes: some cut out, replaced, repeated or put in, or a bit turned."""
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(content)))
        stop = min(len(content), start + data.draw(st.sampled_from([0, 1, 1, 4, 30, 1000])))
        there = content[start:stop]
        content = content[:start] + data.draw(replacement(there)) + content[stop:]
    return content


def replacement(there):
    """What comes in place of some bytes."""
    turned = st.integers(0, 7).map(lambda bit: bytes([there[0] ^ 1 << bit]) + there[1:]) if there else st.just(b"")
    words = st.sampled_from([word.encode("utf-8", "surrogatepass") for word in WORDS])
    return st.one_of(
        st.just(b""), turned, words, st.binary(max_size=4), st.just(there * 2), st.just(b"\0" * len(there))
    )


def altered(data, value):
    """A JSON value with one to three of its parts replaced, removed, renamed or doubled."""
    value = json.loads(json.dumps(value))
    for _ in range(data.draw(st.integers(1, 3))):
        node, places = value, []
        while isinstance(node, dict | list) and node:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            places.append((node, data.draw(st.sampled_from(keys))))
            node = node[places[-1][1]]
        alter(data, *data.draw(st.sampled_from(places)))
    return value


def alter(data, node, key):
    """One change at one place."""
    match data.draw(st.sampled_from(["replace", "remove", "rename"])):
        case "replace":
            node[key] = data.draw(st.sampled_from([*VALUES, *WORDS]))
        case "remove":
            del node[key]
        case "rename" if isinstance(node, dict):
            node[data.draw(st.sampled_from([*WORDS, "name", "trial"]))] = node.pop(key)


# Experiment files

TEXT = json.dumps(SPEC, indent=1).encode()


def check_file_of_bytes(cli, data):
    Path("tiny.yaml").write_bytes(mutated(data, TEXT))
    cli("show", "tiny.yaml")


def check_file_of_values(cli, data):
    Path("tiny.yaml").write_text(json.dumps(altered(data, SPEC)))
    cli("run", "tiny.yaml")


test_file_of_bytes = fuzzed(check_file_of_bytes, 60)
test_file_of_values = fuzzed(check_file_of_values, 25)
test_file_of_bytes_long = long(check_file_of_bytes)
test_file_of_values_long = long(check_file_of_values)


# Ledgers


def test_the_ledger_is_good_without_mutation(cli, book):
    assert cli("report", book.name) == cli("runs", "list") == cli("report", "--json") == 0


def check_ledger(cli, book, data):
    book.ledger.write_bytes(mutated(data, book.content))
    cli("report", book.name)
    assert cli("runs", "list") == 0


def check_ledger_of_records(cli, book, records, data):
    """Undamaged, as its checksums say, but other code wrote it."""
    shutil.rmtree("results", ignore_errors=True)
    other = recorded.write(Path("results").absolute(), altered(data, records))
    cli("report", other.name)
    assert cli("runs", "list") == 0


test_ledger = fuzzed(check_ledger, 30)
test_ledger_of_records = fuzzed(check_ledger_of_records, 20)
test_ledger_of_records_long = long(check_ledger_of_records)
test_ledger_long = long(check_ledger)


# Artifacts


@pytest.fixture(scope="module")
def artifact(tmp_path_factory, cache):
    """A tiny network for the digits, as a run ships it."""
    from models import artifact
    from models.architecture import Architecture, parse_signature
    from models.encoder import build

    data = prepare(checked(SPEC), cache).data
    shape = Architecture(n_layers=1, d_model=8, n_heads=1, d_head=8, d_ff=8, patch=4)
    folder = tmp_path_factory.mktemp("artifact") / "a"
    origin = artifact.Origin(name="tiny", task="image_classification", data="digits", fingerprint="f")
    model = build(shape, parse_signature(data.signature))
    artifact.save(
        folder, model, architecture=shape, signature=data.signature, labels=data.labels, files={}, metrics={},
        origin=origin,
    )  # fmt: skip
    np.save(folder.parent / "digits.npy", data.splits["test"].raw(np.arange(2)))
    return folder


def check_artifact_of_bytes(cli, artifact, data):
    """One of its files changed: refused, unless it is none that predicting needs."""
    name = data.draw(st.sampled_from(sorted(path.name for path in artifact.iterdir())))
    copy_of(artifact)
    Path("a", name).write_bytes(mutated(data, (artifact / name).read_bytes()))
    cli("predict", "a", "--file", str(artifact.parent / "digits.npy"))


def check_artifact_of_values(cli, artifact, data):
    """What config.json says changed."""
    copy_of(artifact)
    config = json.loads((artifact / "config.json").read_bytes())
    Path("a", "config.json").write_text(json.dumps(altered(data, config)))
    cli("predict", "a", "--file", str(artifact.parent / "digits.npy"))


def check_artifact_with_its_hash(cli, artifact, data):
    """Another model, whose hash config.json gives."""
    copy_of(artifact)
    content = mutated(data, (artifact / "model.onnx").read_bytes())
    Path("a", "model.onnx").write_bytes(content)
    config = json.loads((artifact / "config.json").read_bytes())
    config["sha256"]["model.onnx"] = hashlib.sha256(content).hexdigest()
    Path("a", "config.json").write_text(json.dumps(config))
    cli("predict", "a", "--file", str(artifact.parent / "digits.npy"))


def check_inputs_of_bytes(cli, artifact, data):
    """An array file to predict from."""
    Path("inputs.npy").write_bytes(mutated(data, (artifact.parent / "digits.npy").read_bytes()))
    cli("predict", str(artifact), "--file", "inputs.npy")


def copy_of(artifact):
    shutil.rmtree("a", ignore_errors=True)
    shutil.copytree(artifact, "a")


test_artifact_of_bytes = fuzzed(check_artifact_of_bytes, 20)
test_artifact_of_values = fuzzed(check_artifact_of_values, 40)
test_artifact_with_its_hash = fuzzed(check_artifact_with_its_hash, 20)
test_inputs_of_bytes = fuzzed(check_inputs_of_bytes, 20)
test_artifact_of_bytes_long = long(check_artifact_of_bytes)
test_artifact_of_values_long = long(check_artifact_of_values)
test_artifact_with_its_hash_long = long(check_artifact_with_its_hash)
test_inputs_of_bytes_long = long(check_inputs_of_bytes)
