import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

import tasks
from tasks import transfer
from tasks.task import DataError

TASK = tasks.load("text_classification")
LINES = [
    "a feline that sleeps a lot",
    "  a feline that sleeps a lot ",
    "",
    "writers of long letters find few readers",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    words = [f"{first}{second}" for first in ("ba", "ko", "mi", "tu") for second in ("l", "n", "r", "st", "x", "m")]
    texts = [" ".join(rng.choice(words, 12)) for _ in range(300)]
    parquet.write_table(pa.table({"text": texts, "label": [i % 2 for i in range(300)]}), folder / "data.parquet")
    return TASK.prepare(TASK.Config(data=str(folder / "data.parquet")), folder / "cache")


def prepare(place, data, folder):
    held_out = [data.splits["validation"], data.splits["test"]]
    return transfer.prepare(str(place), data.files["tokenizer.json"], held_out, folder, data=data.folder.name)


def test_texts_without_labels(data, tmp_path):
    (tmp_path / "more.txt").write_text("\n".join(LINES))
    split, _ = prepare(tmp_path / "more.txt", data, tmp_path / "cache")
    assert split.raw(np.arange(len(split))) == [LINES[0], LINES[3]]
    assert split.targets.tolist() == [-1, -1]
    batch = split.batch(np.array([0, 1]))
    assert batch.inputs["tokens"].shape == (2, split.lengths.max())


def test_tables_and_folders(data, tmp_path):
    parquet.write_table(pa.table({"n": [1, 2], "definition": ["a first text", "a second one"]}), tmp_path / "a.parquet")
    (tmp_path / "b.txt").write_text("a third\n")
    (tmp_path / "notes.md").write_text("no text")
    split, _ = prepare(tmp_path, data, tmp_path / "cache")
    assert split.raw(np.arange(len(split))) == ["a first text", "a second one", "a third"]


def test_what_resembles_a_held_out_text_is_left_out(data, tmp_path):
    held = data.splits["test"].raw(np.array([3]))[0]
    words = held.split()
    alike = [held.upper(), f"See also: {held} (Obs.)", " ".join(words[: len(words) - 2]), " ".join(words[2:])]
    (tmp_path / "more.txt").write_text("\n".join([*alike, LINES[3]]))
    split, _ = prepare(tmp_path / "more.txt", data, tmp_path / "cache")
    assert split.raw(np.arange(len(split))) == [LINES[3]]


def test_stored_once_for_its_content(data, tmp_path, monkeypatch):
    (tmp_path / "more.txt").write_text("\n".join(LINES))
    _, first = prepare(tmp_path / "more.txt", data, tmp_path / "cache")
    with monkeypatch.context() as patched:
        patched.setattr(transfer, "_write", None)
        assert prepare(tmp_path / "more.txt", data, tmp_path / "cache")[1] == first
    (tmp_path / "more.txt").write_text("another text here")
    assert prepare(tmp_path / "more.txt", data, tmp_path / "cache")[1] != first


def test_joined(data, tmp_path):
    (tmp_path / "more.txt").write_text("\n".join(LINES))
    more, _ = prepare(tmp_path / "more.txt", data, tmp_path / "cache")
    both = transfer.joined(data.splits["train"], more)
    n = len(data.splits["train"])
    rows = np.array([0, n - 1, n, n + 1])
    tokens = both.batch(rows).inputs["tokens"]
    for row, found in zip(rows, tokens, strict=True):
        split, own = (more, row - n) if row >= n else (data.splits["train"], row)
        alone = split.batch(np.array([own])).inputs["tokens"][0]
        assert found[: len(alone)].tolist() == alone.tolist()
    assert both.raw(rows) == data.splits["train"].raw(rows[:2]) + more.raw(np.array([0, 1]))
    assert both.targets[-2:].tolist() == [-1, -1]
    assert len(both) == n + 2


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("absent.txt", None, r"transfer: .*absent\.txt does not exist \(working folder .*\); give a file or a folder"),
        ("x.doc", b"text", r"transfer: .*x\.doc has no file of texts; known are \.txt, \.arrow"),
        ("x.txt", b"\n \n", r"transfer: .*x\.txt holds no text that could be learned from; give another file"),
        ("x.txt", b"\xff\xfe", r"transfer: 'utf-8' codec can't decode byte 0xff .*x\.txt\); repair it"),
        ("x.parquet", b"none", r"transfer: Parquet .*x\.parquet\); repair it, or write it anew"),
        ("x.csv", b"n,m\n1,2\n", r"text: no column could be told to hold a column of strings; there are n, m"),
    ],
)
def test_faults(name, content, fault, data, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=fault):
        prepare(tmp_path / name, data, tmp_path / "cache")
    assert list((tmp_path / "cache").glob("transfer-*")) == []
