import json
from pathlib import Path
from random import Random

import pyarrow as pa
import pytest
from pyarrow import feather, ipc, parquet

from tasks import sources
from tasks.task import DataError

ROWS = {"id": [1, 2, 3], "text": ["one thing", "another, thing", 'a "third"\nthing'], "label": ["a", "b", "a"]}


def write(path: Path, rows: dict[str, list]) -> Path:
    table = pa.table(rows)
    match path.suffix:
        case ".parquet":
            parquet.write_table(table, path)
        case ".feather":
            feather.write_feather(table, path)
        case ".arrow":
            with ipc.new_stream(str(path), table.schema) as stream:
                stream.write_table(table)
        case ".jsonl" | ".json":
            path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
        case ".csv":
            path.write_text(_lines(rows, ","))
        case ".tsv":
            path.write_text(_lines(rows, "\t"))
    return path


def _lines(rows: dict[str, list], delimiter: str) -> str:
    quoted = [['"{}"'.format(str(value).replace('"', '""')) for value in column] for column in rows.values()]
    return "\n".join(delimiter.join(line) for line in [list(rows), *zip(*quoted, strict=True)]) + "\n"


def read(data: Path, test: Path | None = None, text: str | None = None, label: str | None = None) -> sources.Source:
    return sources.read(sources.locate(data, test), text, label)


SUFFIXES = [".parquet", ".feather", ".arrow", ".jsonl", ".json", ".csv", ".tsv"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_the_same(tmp_path, suffix):
    source = read(write(tmp_path / f"x{suffix}", ROWS))
    assert source.texts.to_pylist() == ROWS["text"]
    assert source.labels.to_pylist() == ROWS["label"]
    assert source.split.to_pylist() == [""] * 3
    assert source.columns.inferred == ["text", "label"]


@pytest.mark.parametrize(
    ("values", "distinct"),
    [
        (["3", "1"], {3, 1}),
        (["1.0", "2.0"], {1, 2}),
        (["true", "false"], {True, False}),
        (["NA", "null"], {"NA", "null"}),
    ],
)
def test_types_of_labels_in_a_csv(tmp_path, values, distinct):
    path = tmp_path / "x.csv"
    path.write_text("text,label\n" + "".join(f"words {i},{value}\n" for i, value in enumerate(values)))
    found = set(read(path).labels.to_pylist())
    assert found == distinct
    assert {type(value) for value in found} == {type(value) for value in distinct}


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_texts_that_look_like_something_else_stay_texts(tmp_path, suffix):
    rows = {"text": ["007", "2020-01-01", "null"], "label": ["a", "b", "a"]}
    assert read(write(tmp_path / f"x{suffix}", rows), text="text").texts.to_pylist() == rows["text"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_a_csv_may_have_other_delimiters(tmp_path, delimiter):
    path = tmp_path / "x.csv"
    path.write_text(f"text{delimiter}label\nwords{delimiter}a\nmore{delimiter}b\n")
    assert read(path).labels.to_pylist() == ["a", "b"]


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(b"\xef\xbb\xbftext,label\nwords,a\n")
    assert read(path).columns.text == "text"


# ---- columns


@pytest.mark.parametrize(
    ("rows", "text", "label"),
    [
        ({"title": ["short"] * 4, "review": ["long words"] * 4, "stars": [1, 2, 1, 2]}, "review", "stars"),
        ({"gloss": ["a b", "c d"], "label": ["x", "y"]}, "gloss", "label"),
        ({"n": [1, 2, 3, 4], "a": ["x y z", "y z x", "z x", "w x"], "b": ["p", "q", "p", "q"]}, "a", "b"),
        ({"y": ["p", "q"], "what is said": ["x", "y"]}, "what is said", "y"),
        ({"Sentence": ["x a", "y b"], "kind": [0, 1]}, "Sentence", "kind"),
    ],
)
def test_columns_are_told_from_names_and_values(tmp_path, rows, text, label):
    columns = read(write(tmp_path / "x.parquet", rows)).columns
    assert (columns.text, columns.label) == (text, label)


def test_columns_of_the_users_choice(tmp_path):
    rows = ROWS | {"other": ["p", "q", "q"]}
    source = read(write(tmp_path / "x.parquet", rows), text="other", label="id")
    assert source.labels.to_pylist() == [1, 2, 3]
    assert source.columns.inferred == []


# ---- splits


def test_a_folder_with_files_named_after_splits(tmp_path):
    for name, word in (("train-00000-of-00002", "t0"), ("train-00001-of-00002", "t1"), ("dev", "v"), ("test", "e")):
        write(tmp_path / f"{name}.parquet", {"text": [word], "label": [1]})
    (tmp_path / "README.md").write_text("no data")
    source = read(tmp_path)
    assert dict(zip(source.texts.to_pylist(), source.split.to_pylist(), strict=True)) == {
        "t0": "train",
        "t1": "train",
        "v": "validation",
        "e": "test",
    }


def test_a_folder_of_parts(tmp_path):
    for number in (2, 1):
        write(tmp_path / f"part-{number}.jsonl", {"text": [f"words {number}"], "label": [number]})
    source = read(tmp_path)
    assert source.texts.to_pylist() == ["words 1", "words 2"]
    assert source.split.to_pylist() == ["", ""]


def test_a_column_of_splits(tmp_path):
    rows = {"text": ["a", "b", "c"], "label": [1, 2, 1], "split": ["Train", "dev", "test"]}
    assert read(write(tmp_path / "x.parquet", rows)).split.to_pylist() == ["train", "validation", "test"]


def test_a_test_file_takes_the_place_of_the_datas_own(tmp_path):
    rows = {"text": ["a", "b", "c"], "label": [1, 2, 1], "split": ["train", "test", "test"]}
    data, test = write(tmp_path / "x.parquet", rows), write(tmp_path / "t.csv", {"text": ["d"], "label": [2]})
    source = read(data, test)
    assert source.texts.to_pylist() == ["a", "d"]
    assert source.split.to_pylist() == ["train", "test"]
    assert source.left_out == 2


# ---- faults: each one line with subject, value, rule and way out


def faults(data: Path, test: Path | None = None, **columns: str | None) -> list[str]:
    with pytest.raises(DataError) as caught:
        read(data, test, **columns)
    assert all("\n" not in fault and len(fault) < 600 for fault in caught.value.faults)
    return caught.value.faults


def raw(name: str, content: bytes):
    return lambda folder: [(folder / name).write_bytes(content), folder / name][1]


def table(name: str, **rows: list):
    return lambda folder: write(folder / name, rows)


BAD_STRING = pa.Array.from_buffers(
    pa.string(), 2, [None, pa.array([0, 2, 4], pa.int32()).buffers()[1], pa.py_buffer(b"ok\xff\xfe")]
)
FAULTS = {
    "missing": (
        lambda folder: folder / "x.csv",
        r"data: \S+/x.csv does not exist \(working folder .*\); give the path",
    ),
    "no suffix": (raw("x", b"text"), "data: .*/x has no suffix that tells its format; known are .arrow, .csv"),
    "format": (raw("x.xlsx", b"text"), "data: .*/x.xlsx has the unknown format '.xlsx'; known are .arrow, .csv"),
    "empty": (raw("x.csv", b""), r"data: .*/x.csv is empty \(0 bytes\), must have rows"),
    "header only": (raw("x.csv", b"text,label\n"), "data: .*/x.csv has no rows, must have some"),
    "blank": (raw("x.jsonl", b"\n\n"), "data: .*/x.jsonl has no rows"),
    "no rows": (
        lambda folder: write(folder / "x.parquet", {"text": pa.array([], pa.string()), "label": pa.array([], "int8")}),
        "data: .*/x.parquet has no rows, must have some",
    ),
    "empty folder": (lambda folder: folder, "data: the folder .* has no data file; known are"),
    "latin-1": (
        raw("x.csv", "text,label\nfein,a\nschön,b\n".encode("latin1")),
        r"data: .*/x.csv line 3 is not valid UTF-8 \(byte 0xf6 at position 4\); convert .*iconv -f latin1",
    ),
    "utf-16": (raw("x.csv", "text,label\nfein,a\n".encode("utf-16")), "line 1 is not valid UTF-8 .*iconv -f utf-16"),
    "latin-1 in JSON": (
        raw("x.jsonl", '{"text": "fein", "label": 1}\n{"text": "schön", "label": 2}\n'.encode("latin1")),
        "data: .*/x.jsonl line 2 is not valid UTF-8",
    ),
    "bad bytes in Parquet": (
        lambda folder: write(folder / "x.parquet", {"text": BAD_STRING, "label": [1, 2]}),
        "data: row 2 of .*/x.parquet, column 'text', is not valid UTF-8",
    ),
    "not JSON": (
        raw("x.jsonl", b'{"text": "a", "label": 1}\n{"text": "b", "label": 2\n'),
        "data: .*/x.jsonl line 2 is not JSON: .*; write one object a line",
    ),
    "JSON array": (raw("x.json", b'[{"text": "a"}]'), "x.json line 1 holds a list, must be a JSON object"),
    "two types": (raw("x.jsonl", b'{"text": "a", "label": 1}\n{"text": "b", "label": "c"}\n'), "label.* changed from"),
    "ragged": (
        raw("x.csv", b"text,label\na,1,2\n"),
        "data: .*/x.csv cannot be read as CSV: .*Expected 2 columns, got 3",
    ),
    "not Parquet": (raw("x.parquet", b"text,label\na,1\n"), "data: .*/x.parquet cannot be read as Parquet"),
    "not Arrow": (raw("x.arrow", b"text,label\na,1\n"), "data: .*/x.arrow cannot be read as Arrow"),
    "null texts": (
        table("x.parquet", text=["a", None, "b", None], label=[1, 2, 1, 2]),
        r"text: 2 of 4 rows of .*/x.parquet have nothing in column 'text' \(the first is row 2\), every row needs",
    ),
    "null labels": (
        raw("x.csv", b"text,label\na,x\nb,\n"),
        r"label: 1 of 2 rows of .*/x.csv have nothing in column 'label' \(the first is row 2\)",
    ),
    "NaN labels": (
        table("x.parquet", text=["a", "b"], label=[1.0, float("nan")]),
        "label: 1 of 2 rows .* have nothing",
    ),
    "twice": (
        raw("x.csv", b"text,label,text\na,1,b\n"),
        "text: .*/x.csv has 2 columns named 'text', names must differ",
    ),
    "foreign split": (
        table("x.parquet", text=["a", "b"], label=[1, 2], split=["train", "left"]),
        "data: column 'split' of .*/x.parquet holds 'left', must hold train, validation or test",
    ),
    "no text": (
        table("x.parquet", n=[1, 2], label=[1, 2]),
        "text: no column could be told to hold .*; there are n, label",
    ),
    "which label": (
        table("x.parquet", text=["u", "v", "w", "x"], p=[1, 1, 2, 2], q=[1, 2, 1, 2]),
        "label: no column could be told to hold .*; there are text, p, q; name one with `label`",
    ),
}


@pytest.mark.parametrize(("make", "message"), FAULTS.values(), ids=FAULTS)
def test_fault(tmp_path, make, message):
    found = faults(make(tmp_path))
    assert len(found) == 1
    assert pytest.raises(DataError, match=message).matches(DataError(found))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": "txt"}, "text: .* has no column 'txt'; there are id, text, label; did you mean 'text'?"),
        ({"label": "LABEL"}, "label: .* has no column 'LABEL'; there are id, text, label; did you mean 'label'?"),
        ({"label": "zzz"}, "label: .* has no column 'zzz'; there are .*; name one of them with `label`"),
        ({"text": "id"}, "text: column 'id' of .* holds int64, must hold strings"),
        ({"label": "text", "text": "text"}, "label: column 'text' is the text's column too; they must differ"),
    ],
)
def test_wrong_column(tmp_path, columns, message):
    found = faults(write(tmp_path / "x.parquet", ROWS), **columns)
    assert len(found) == 1
    assert pytest.raises(DataError, match=message).matches(DataError(found))


def test_a_near_name_is_offered(tmp_path):
    write(tmp_path / "reviews.csv", ROWS)
    assert "did you mean" in faults(tmp_path / "review.csv")[0]


def test_a_folder_of_two_formats(tmp_path):
    write(tmp_path / "a.csv", ROWS)
    write(tmp_path / "b.parquet", ROWS)
    assert "mixes .csv and .parquet, must hold one format" in faults(tmp_path)[0]


def test_a_folder_where_some_names_are_splits(tmp_path):
    write(tmp_path / "train.csv", ROWS)
    write(tmp_path / "extra.csv", ROWS)
    assert "not extra.csv; all or none must be" in faults(tmp_path)[0]


def test_faults_of_all_files_and_columns_come_together(tmp_path):
    assert len(faults(tmp_path / "x.csv", tmp_path / "y.csv")) == 2
    data = write(tmp_path / "x.parquet", ROWS)
    assert len(faults(data, text="txt", label="lbl")) == 2
    gaps = write(tmp_path / "z.parquet", {"text": ["a", None], "label": [None, 1]})
    test = write(tmp_path / "t.jsonl", {"text": ["a", None], "label": [2, 1]})
    assert [fault.split(":")[0] for fault in faults(gaps, test)] == ["text", "label", "text"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_damaged_file_is_a_fault_or_is_read(tmp_path, suffix):
    """Bytes changed, lost and put in: never another error, and no crash of the process."""
    rows = {"text": [f'words {i}, "quoted"' for i in range(12)], "label": [i % 2 for i in range(12)]}
    whole, random = write(tmp_path / f"whole{suffix}", rows).read_bytes(), Random(0)
    refused = 0
    for _ in range(60):
        place, lost = random.randrange(len(whole)), random.randrange(4)
        path = tmp_path / f"x{suffix}"
        path.write_bytes(whole[:place] + random.choice([b"", b"\xff", b"\0", b'"', b"\n[1]"]) + whole[place + lost :])
        try:
            assert len(read(path, text="text", label="label").texts) > 0
        except DataError as error:
            refused += all(len(fault) < 600 for fault in error.faults)
    assert refused > 10


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.tsv"])
def test_a_line_of_10_mb_is_read(tmp_path, name):
    long = "word " * 2_000_000
    source = read(write(tmp_path / name, {"text": [long, "short"], "label": ["a", "b"]}))
    assert source.texts.to_pylist() == [long, "short"]


def test_a_line_longer_than_a_block_is_a_fault(tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.files.LINE", 1 << 20)
    path = write(tmp_path / "x.csv", {"text": ["word " * 500_000, "short"], "label": ["a", "b"]})
    assert "a line is longer than 1 MB; repair it, or" in faults(path)[0]
