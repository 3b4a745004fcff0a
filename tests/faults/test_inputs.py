"""Bad inputs through the command line: one line that holds the value and the rule, exit code 2, nothing written."""

import io
import json
import re
from copy import deepcopy

import numpy as np
import pytest

from experiments.__main__ import main
from experiments.engine import launch

GOOD = {
    "name": "tiny",
    "task": {"name": "image_classification", "data": "digits"},
    "stages": [{"name": "search", "space": ["encoder", "optimization"], "options": {"patch": 2}}],
}
GOOD["stages"][0] |= {"trials": 2, "epochs": 2}
ROWS = "text,label\n" + "".join(f"text number {i},{i % 3}\n" for i in range(60))

# What a file holds as a whole.
FILES = {
    "syntax": ("a: [1,", "tiny.yaml:1:7: expected the node content, but found '<stream end>'"),
    "duplicate": ("name: a\nname: b\n", "tiny.yaml:2:1: duplicate key 'name', line 2; it is in line 1 too"),
    "tag": ("!!python/object/apply:os.system [id]", "the tag !!python/object/apply:os.system is refused"),
    "tag of a value": ("name: !!python/name:os.system x", "1:7: the tag !!python/name:os.system is refused"),
    "empty": ("", "tiny.yaml is empty; it must hold an experiment"),
    "list": ("- 1\n", "must hold names and values (name: …) at its top level, got a list"),
    "bomb": ("a: &a [1,1]\nb: [*a,*a]\n", "tiny.yaml:2:5: the alias *a is refused; write the value out"),
    "megabyte": ("x: " + "a" * 1_100_000, "tiny.yaml must be at most 1 MB, got 1.1 MB"),
    "deep": ("[" * 3000, "tiny.yaml:1:33: must nest at most 32 levels deep"),
    "nan": ("seed: .nan", "tiny.yaml:1:7: the number .nan must be finite"),
    "long number": ("seed: " + "9" * 400, "the number 99999999999999999999… has too many digits"),
    "zero byte": ("name: a\0b", "tiny.yaml:1: the character #x0000 is not allowed"),
    "no text": (b"\xff\xfe", "tiny.yaml:1: must be UTF-8, got byte 0xff"),
}

# One value of an experiment that is good otherwise.
STAGE = "stages/0/"
VALUES = [
    *[("name", name, f"open with a letter or digit, got {name!r}") for name in ("", "../x", "/abs", "a/b", "-x", "ö")],
    ("name", "a" * 300, "name must be 1 to 64 of A-Z"),
    ("schedular", "asha", "the experiment has no 'schedular'; known: name, "),
    ("objectives", {}, "objectives must have at least 1 entries, got {}"),
    ("objectives", {"val_accuracy": "minimum"}, "objectives.val_accuracy must be 'max' or 'min', got 'minimum'"),
    ("constraints", {"latency_ms": {}}, "constraints.latency_ms must give max or min, got neither"),
    ("resources", {"cpu": 0}, "resources.cpu must be above 0, got 0"),
    ("resources", {"gpu": -1}, "resources.gpu must be 'auto' or at least 0, got -1"),
    ("resources", {"gpu": 1.5}, "resources.gpu must be whole above 1, got 1.5"),
    ("time", 0, "time must be seconds above 0, or text such as 90s, 10m or 2h, got 0"),
    ("time", "2 hours", "time must be seconds above 0, or text such as 90s, 10m or 2h, got '2 hours'"),
    ("silence", -1, "silence must be seconds above 0, or text such as 90s, 10m or 2h, got -1"),
    ("disk", "20 parsecs", "disk must be bytes above 0, or text such as 500MB, 20GB or 1.5TB, got '20 parsecs'"),
    ("max_failed", 2, "max_failed must be at most 1, got 2"),
    ("seed", "x", "seed must be an integer, got 'x'"),
    ("seed", 1.5, "seed must be an integer, got 1.5"),
    ("finalists", {"count": 0}, "finalists.count must be at least 1, got 0"),
    ("target", {"device": "tpu"}, "target.device is 'tpu'; supported is onnxruntime on cpu"),
    ("smoke", {"\n\x1b[2J": 1}, r"smoke: cannot set \n\x1b[2J: the experiment has no '\n\x1b[2J'"),
    ("smoke", {"stages.nope.trials": 1}, "smoke: cannot set stages.nope.trials: stages has no 'nope'"),
    ("task", {"name": "nosuch"}, "task: 'nosuch' is unknown; there are image_classification, text_classification"),
    ("task", {"name": "nosuch.py:TASK"}, "task: the file nosuch.py does not exist"),
    ("task/data", "nosuch.npz", "data: nosuch.npz is no file"),
    ("task/sample", 1, "task.sample must be at least 2, got 1"),
    ("task/test_fraction", 0.9, "task.test_fraction must be below 0.5, got 0.9"),
    (STAGE + "name", "../x", "name must be 1 to 64 of A-Z a-z 0-9 _ - and open with a letter or digit, got '../x'"),
    *[(STAGE + "trials", n, f"stages.search.trials must be at least 1, got {n}") for n in (0, -1)],
    *[(STAGE + "trials", n, f"stages.search.trials must be an integer, got {n!r}") for n in ("ten", 1e9)],
    (STAGE + "trials", True, "stages.search.trials must be an integer, got true"),
    (STAGE + "epochs", 0, "stages.search.epochs must be at least 1, got 0"),
    (STAGE + "fix", {"n_heads": 3}, "stages.search.fix.n_heads must be one of 1, 2, 4, 8, got 3"),
    (STAGE + "fix", {"n_layers": 0}, "stages.search.fix.n_layers must be an integer from 1 to 4, got 0"),
    (STAGE + "narrow", {"n_layers": [99]}, "stages.search.narrow.n_layers must be [lowest, highest], got [99]"),
    (STAGE + "narrow", {"n_layers": []}, "stages.search.narrow.n_layers must be a list of values, got []"),
    (STAGE + "initial", [{"n_layers": 77}], "stages.search.initial[0].n_layers must be an integer from 1 to 4, got 77"),
    (STAGE + "options", {"patch": 0}, "stages.search: patch must be at least 1, got 0"),
    (STAGE + "options", {"patch": 2, "n_layers": 2}, "options.n_layers is a parameter of the space; use fix.n_layers"),
    (STAGE + "routine", "nosuch", "stages.search: there is no routine 'nosuch'; there are: classical, "),
    (STAGE + "routine", "nosuch.py:ROUTINE", "routine file 'nosuch.py' does not exist; give file.py:CLASS"),
    (STAGE + "space", "nosuch", "stages.search.space 'nosuch' does not exist; "),
    (STAGE + "space", ["encoder", "encoder"], "stages.search.space 'encoder' is named twice"),
    (STAGE + "search", {"searcher": "bohp"}, "stages.search.search.searcher 'bohp' does not exist"),
    (
        STAGE + "search",
        {"scheduler": {"name": "asha", "grace_period": 5}},
        "stages.search.search.scheduler.grace_period must be at most epochs, got 5 above 2",
    ),
    (STAGE + "search", {"scheduler": {"name": "asha", "eta": 1}}, "search.scheduler.eta must be above 1, got 1"),
]

# A space of the user's own.
SPACES = {
    '{"learning_rate": tune.uniform(1, 0)}': "learning_rate must have a lower bound below the upper one, got 1 and 0",
    '{"learning_rate": tune.loguniform(0, 1)}': "LogUniform requires a lower bound greater than 0.Got: 0",
    '{"n_layers": tune.choice([])}': "n_layers must offer at least one value, got choice([])",
    '{"learning_rate": tune.uniform(float("nan"), 1)}': "the file raises ValueError",
    '{"learning_rate": tune.quniform(0, 1, 0)}': "the file raises ZeroDivisionError: division by zero",
    '{"n_layers": tune.grid_search([1, 2])}': "n_layers uses grid_search; use tune.choice",
    '{"n_layers": tune.sample_from(lambda _: 1)}': "n_layers uses sample_from, which is code without a range",
    "{}": "space.py:SPACE declares no parameter",
    "[1]": "space.py:SPACE must be a ConfigurationSpace or a dict of ray.tune domains, got list",
    "(": "the file raises SyntaxError: '(' was never closed (space.py, line 2)",
    "exit(7)": "the file raises SystemExit: 7",
}

# Options of a good experiment.
OPTIONS = [
    (["--set", "nope=1"], "cannot set nope: the experiment has no 'nope'"),
    (["--set", "stages.search.trials"], "--set must be path=value, got 'stages.search.trials'"),
    (["--set", "seed=!!python/object/apply:os.system [id]"], "--set seed:1:1: the tag !!python/object/apply:os.system"),
    (["--set", "stages.search=1"], "cannot set stages.search: search is a stage; set one of its fields"),
    (["--storage", "{}/tiny.yaml"], "tiny.yaml' must be a folder, but "),
    (["--storage", "{}/tiny.yaml/below"], "tiny.yaml/below' must be a folder, but "),
    (["--storage", "/proc/below"], "storage '/proc/below' must be writable, but /proc is not"),
    (["--storage", "ftp://host/folder"], "storage 'ftp://host/folder' must be "),
    (["--storage", "a" * 300], f"{'a' * 300}' must be a path that can be, but is not (File name too long)"),
    (["--storage", "a\0b"], r"a\x00b' must be a path that can be, but is not (embedded null byte)"),
    (["--storage", "s3:/one-slash"], "storage 's3:/one-slash' must be "),
]

# Data for `fit`.
DATA = {
    "nothing.csv": ("", "nothing.csv is empty (0 bytes), must have rows"),
    "header.csv": ("text,label\n", "header.csv has no rows, must have some"),
    "one.csv": ("text,label\n" + "a,0\n" * 50, "label: every training row has the label 0"),
    "few.csv": ("text,label\na,0\nb,1\n", "label: 2 of 2 classes have fewer than 3 different examples: 0 (1), 1 (1)"),
    "gaps.csv": ("text,label\n" + "t,\n" * 30, "label: 30 of 30 rows of "),
    "ragged.csv": ("text,label\na,b,c,d\n", "Expected 2 columns, got 4"),
    "latin.csv": (b"text,label\n\xff\xfe,1\n", "line 2 is not valid UTF-8 (byte 0xff at position 1)"),
    "bad.jsonl": ("{\n", "bad.jsonl line 1 is not JSON"),
    "bad.parquet": (b"PAR1garbage", "bad.parquet cannot be read as Parquet"),
    "any.pkl": (b"\x80\x04.", "any.pkl has the unknown format '.pkl'; known are .arrow, "),
    "cut.npz": (b"PK\x03\x04", "cut.npz cannot be read: "),
}
WISHES = [
    (["--label", "nosuch"], "good.csv has no column 'nosuch'; there are text, label"),
    (["--test", "nosuch.csv"], "test: nosuch.csv does not exist"),
    (["--time", "soon"], "time must be seconds above 0, or text such as 90s, 10m or 2h, got 'soon'"),
    (["--max-latency-ms", "-1"], "max_latency_ms must be above 0, got -1; leave it out for no limit"),
    (["--max-size-mb", "nan"], "max_size_mb must be above 0, got nan; leave it out for no limit"),
    (["--seed", "-1"], "seed must be at least 0, got -1"),
    (["--pretrained", "./nosuch"], "nosuch does not exist; give that of a pretrained model"),
]
ARRAYS = {
    "objects": ({"images": np.array([{}] * 3)}, "Object arrays cannot be loaded when allow_pickle=False"),
    "one": ({"images": np.zeros((30, 8, 8)), "labels": np.zeros(30, int)}, "every training row has the label 0"),
    "pixels": (
        {"images": np.full((60, 8, 8), np.nan), "labels": np.arange(60) % 3},
        "images of pixels.npz hold NaN or infinity, must be finite",
    ),
    "lengths": (
        {"images": np.zeros((30, 8, 8)), "labels": np.zeros(29, int)},
        "labels of lengths.npz have the shape (29,), must be (30,)",
    ),
}

# Other commands; there is no run.
COMMANDS = [
    (["run", "quickstar"], "there is no experiment 'quickstar'; did you mean 'quickstart'?"),
    (["run", "nosuch.yaml"], "nosuch.yaml is not a file; give an experiment's YAML file"),
    (["show", "quickstart", "--set", "seed=x"], "seed must be an integer, got 'x'"),
    (["report", "nosuch"], "run 'nosuch' does not exist under "),
    (["report", "../.."], "run '../..' does not exist under "),
    (["report"], "there is no run yet under "),
    (["runs", "delete", "../x"], "run '../x' does not exist under "),
    (["runs", "delete", "."], "run '.' does not exist under "),
    (["runs", "list", "--storage", "/proc/version"], "storage '/proc/version' must be a folder, but "),
    (["predict", "nosuch", "a text"], "artifact 'nosuch' is neither a folder nor a run"),
    (["predict", ".", "a text"], " is no artifact: it has no config.json"),
]


def put(path, value):
    """GOOD with one value replaced."""
    made = deepcopy(GOOD)
    node = made
    *parents, last = path.split("/")
    for part in parents:
        node = node[int(part)] if isinstance(node, list) else node[part]
    node[last] = value
    return json.dumps(made)


def saved(arrays):
    """The bytes of an .npz file."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


RUN = ["run", "tiny.yaml"]
CASES = [
    *[pytest.param({"tiny.yaml": text}, RUN, line, id=f"file {name}") for name, (text, line) in FILES.items()],
    *[pytest.param({"tiny.yaml": put(at, value)}, RUN, line, id=f"{at} {value}"[:60]) for at, value, line in VALUES],
    *[
        pytest.param(
            {"tiny.yaml": put(STAGE + "space", "space.py:SPACE"), "space.py": f"from ray import tune\nSPACE = {code}"},
            RUN,
            line,
            id=f"space {code}",
        )
        for code, line in SPACES.items()
    ],
    *[pytest.param({"tiny.yaml": json.dumps(GOOD)}, [*RUN, *more], line, id=" ".join(more)) for more, line in OPTIONS],
    *[pytest.param({name: data}, ["fit", name], line, id=f"fit {name}") for name, (data, line) in DATA.items()],
    *[pytest.param({"good.csv": ROWS}, ["fit", "good.csv", *more], line, id=" ".join(more)) for more, line in WISHES],
    *[
        pytest.param({f"{name}.npz": saved(arrays)}, ["fit", f"{name}.npz"], line, id=f"fit {name}.npz")
        for name, (arrays, line) in ARRAYS.items()
    ],
    *[pytest.param({}, arguments, line, id=" ".join(arguments)) for arguments, line in COMMANDS],
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with the cache in it; no command gets as far as Ray."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FITFORMER_CACHE", str(tmp_path / "cache"))

    def reached(*arguments, **options):
        raise AssertionError("the input was accepted")

    monkeypatch.setattr(launch, "connect", reached)
    return tmp_path


@pytest.mark.parametrize(("files", "arguments", "line"), CASES)
def test_bad_input_is_one_line_and_code_2_and_nothing_is_written(folder, capsys, files, arguments, line):
    for name, data in files.items():
        (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    before = tree(folder)
    assert main([argument.format(folder) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert re.fullmatch(rf"fitformer: [^\n]*{re.escape(line)}[^\n]*\n", err)
    assert "Traceback" not in out
    assert tree(folder) == before


def tree(folder):
    """Every file and folder below, with what it holds; without what Python compiled."""
    paths = [path for path in sorted(folder.rglob("*")) if "__pycache__" not in path.parts]
    return {path: path.read_bytes() if path.is_file() else None for path in paths}
