"""Tables from files: Parquet, Arrow, CSV and JSON lines, through pyarrow, with faults in the user's words."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path

import pyarrow as pa
from pyarrow import csv, ipc, parquet
from pyarrow import json as jsonlines

HEAD = 1000  # rows that are looked at in order to tell the columns apart
LINE = 64 << 20  # bytes; pyarrow reads text in blocks, and no line may be longer than a block


@dataclass(frozen=True)
class Format:
    """How one kind of file is read. `head` gives the first rows with every column, `read` all rows of some."""

    name: str
    head: Callable[[Path], pa.Table]
    read: Callable[[Path, list[str], str], pa.Table]
    lines: bool = False


def known(path: Path) -> bool:
    """Whether the suffix is that of a format here."""
    return path.suffix.lower() in FORMATS


def head(path: Path) -> pa.Table:
    """The first rows of a file, all columns. Raises what pyarrow raises; see `explain`."""
    return FORMATS[path.suffix.lower()].head(path)


def read(path: Path, columns: list[str], text: str) -> pa.Table:
    """The given columns of a file; `text`, one of them, stays text even where it looks like numbers."""
    return FORMATS[path.suffix.lower()].read(path, columns, text)


def misencoded(path: Path) -> str:
    """The fault of a file of lines that is not UTF-8, "" for any other. (pyarrow would call its columns binary.)"""
    if not FORMATS[path.suffix.lower()].lines:
        return ""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                wide = number == 1 and line[:2] in {b"\xff\xfe", b"\xfe\xff"}
                return (
                    f"data: {path} line {number:,} is not valid UTF-8 (byte 0x{line[error.start]:02x} at position "
                    f"{error.start + 1:,}); convert the file, e.g. with `iconv -f {'utf-16' if wide else 'latin1'} "
                    f"-t utf-8`."
                )
    return ""


def explain(path: Path, error: Exception) -> str:
    """The fault behind an error of `head` or `read`."""
    form = FORMATS[path.suffix.lower()]
    reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    if "straddling" in reason:
        reason = f"a line is longer than {LINE >> 20} MB"
    where = _bad_json(path) if form is _JSON else ""
    return where or f"data: {path} cannot be read as {form.name}: {reason}; repair it, or write it anew."


def _bad_json(path: Path) -> str:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line) if line.strip() else {}
            except ValueError as error:
                return f"data: {path} line {number:,} is not JSON: {error}; write one object a line."
            if not isinstance(row, dict):
                return (
                    f"data: {path} line {number:,} holds a {type(row).__name__}, must be a JSON object with one row; "
                    f"write one object a line."
                )
    return ""


def _parquet_head(path: Path) -> pa.Table:
    with parquet.ParquetFile(path) as file:
        batches = list(islice(file.iter_batches(HEAD), 1))
        return pa.Table.from_batches(batches, file.schema_arrow)


def _parquet(path: Path, columns: list[str], _text: str) -> pa.Table:
    return parquet.ParquetFile(path).read(columns=columns)


def _arrow_whole(path: Path) -> pa.Table:
    """An IPC file (Feather 2) or an IPC stream (what the `datasets` library writes)."""
    source = pa.memory_map(str(path))
    try:
        return ipc.open_file(source).read_all()
    except pa.ArrowInvalid:
        source.seek(0)
        return ipc.open_stream(source).read_all()


def _arrow_head(path: Path) -> pa.Table:
    return _arrow_whole(path).slice(0, HEAD)


def _arrow(path: Path, columns: list[str], _text: str) -> pa.Table:
    return _arrow_whole(path).select(columns)


def _csv_options(path: Path) -> tuple[csv.ReadOptions, csv.ParseOptions]:
    with path.open("rb") as file:
        first = file.readline(1 << 16).decode(errors="replace")
    delimiter = max(",;\t|", key=first.count)
    parse = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    return csv.ReadOptions(block_size=LINE), parse


def _csv_head(path: Path) -> pa.Table:
    options, parse = _csv_options(path)
    with csv.open_csv(path, options, parse, _convert({})) as reader:
        return pa.Table.from_batches(islice(reader, 1), reader.schema).slice(0, HEAD)


def _csv(path: Path, columns: list[str], text: str) -> pa.Table:
    options, parse = _csv_options(path)
    convert = _convert({text: pa.string()})
    convert.include_columns = columns
    return csv.read_csv(path, options, parse, convert)


def _convert(types: dict[str, pa.DataType]) -> csv.ConvertOptions:
    """Only an empty field is null: "NA" and "null" are words (and "NA" is Namibia)."""
    return csv.ConvertOptions(
        column_types=types, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
    )


def _json_head(path: Path) -> pa.Table:
    with path.open("rb") as file:
        lines = file.readlines(1 << 20)[:HEAD]
    return jsonlines.read_json(BytesIO(b"".join(lines)), jsonlines.ReadOptions(block_size=LINE))


def _json(path: Path, columns: list[str], text: str) -> pa.Table:
    """The text's type is given, since pyarrow takes a column of dates for timestamps."""
    parse = jsonlines.ParseOptions(explicit_schema=pa.schema([(text, pa.string())]))
    return jsonlines.read_json(path, jsonlines.ReadOptions(block_size=LINE), parse).select(columns)


_CSV = Format("CSV", _csv_head, _csv, lines=True)
_JSON = Format("JSON lines", _json_head, _json, lines=True)
_ARROW = Format("Arrow", _arrow_head, _arrow)
FORMATS = {
    ".arrow": _ARROW,
    ".csv": _CSV,
    ".feather": _ARROW,
    ".json": _JSON,
    ".jsonl": _JSON,
    ".parquet": Format("Parquet", _parquet_head, _parquet),
    ".tsv": _CSV,
}
