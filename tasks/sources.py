"""The user's files as one table of texts, labels and splits, or everything that is wrong with them at once."""

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from tasks import columns, files, labels
from tasks.columns import Columns
from tasks.splits import ALIASES, some
from tasks.task import DataError

T = TypeVar("T")

_NAMED = re.compile(rf"({'|'.join(sorted(ALIASES, key=len, reverse=True))})([-_.].*)?", re.IGNORECASE)
_STRINGS = "must hold strings; name another column with `text`."


@dataclass(frozen=True)
class Place:
    """A file, and the split that its name or the user said it is ("" = not said); `apart`: the user's test file."""

    path: Path
    split: str
    apart: bool = False


@dataclass(frozen=True)
class Source:
    """All rows of all files: `texts` large_string, `labels` canonical (see `tasks.labels`), and for each row its
    `split`: "train", "validation", "test", or "" where nothing says. `left_out` counts the test rows of the data that
    gave way to a test file of the user's."""

    texts: pa.ChunkedArray
    labels: pa.ChunkedArray
    split: pa.ChunkedArray
    columns: Columns
    left_out: int


def locate(data: Path, test: Path | None) -> list[Place]:
    """The files of a data set, in an order that depends on their names only. Raises DataError."""
    own, given = gather([partial(_places, data), partial(_given_test, test)])
    return own + given


def read(places: Sequence[Place], text: str | None, label: str | None) -> Source:
    """Every row of every file; a column that is None is told from the first file. Raises DataError."""
    heads = gather([partial(_head, place.path) for place in places])
    chosen = columns.choose(heads[0], text, label)
    by_file = [columns.check(place.path, head, chosen) for place, head in zip(places, heads, strict=True)]
    if faults := [fault for found in by_file for fault in found]:
        raise DataError(faults)
    tables = gather([partial(_table, place, _here(chosen, head)) for place, head in zip(places, heads, strict=True)])
    return _joined(tables, chosen, [any(p.apart for p in places) and not place.apart for place in places])


def _joined(tables: list[pa.Table], chosen: Columns, gives_way: list[bool]) -> Source:
    kept = [
        table.filter(pc.not_equal(table["split"], "test")) if yields else table
        for table, yields in zip(tables, gives_way, strict=True)
    ]
    return Source(
        texts=_stacked([table["text"] for table in kept]),
        labels=labels.together([table["label"] for table in kept]),
        split=_stacked([table["split"] for table in kept]),
        columns=chosen,
        left_out=sum(table.num_rows for table in tables) - sum(table.num_rows for table in kept),
    )


def gather(parts: Iterable[Callable[[], T]]) -> list[T]:
    """What each part returns; if some raise DataError, one DataError with the faults of all."""
    results, faults = [], []
    for part in parts:
        try:
            results.append(part())
        except DataError as error:
            faults += error.faults
    if faults:
        raise DataError(faults)
    return results


def _places(data: Path) -> list[Place]:
    if not data.is_dir():
        return [Place(_file(data, "data"), "")]
    found = sorted(path for path in data.iterdir() if files.known(path) and not path.name.startswith("."))
    formats = sorted({path.suffix.lower() for path in found})
    if not found:
        raise DataError([f"data: the folder {data} has no data file; known are {_known()}."])
    if len(formats) > 1:
        raise DataError(
            [
                f"data: the folder {data} mixes {' and '.join(formats)}, must hold one format; give one file, or move "
                f"some away."
            ]
        )
    return _by_name(data, found)


def _by_name(data: Path, found: list[Path]) -> list[Place]:
    """Splits from names like train-0001.parquet, if any file has such a name."""
    places = [Place(_file(path, "data"), _split_of(path)) for path in found]
    unnamed = [place.path.name for place in places if not place.split]
    if unnamed and len(unnamed) < len(places):
        raise DataError(
            [
                f"data: in the folder {data} some files are named after a split, but not {some(unnamed)}; all or none "
                f"must be (train.*, validation.*, test.*); rename or move them."
            ]
        )
    return places


def _split_of(path: Path) -> str:
    match = _NAMED.fullmatch(path.name)
    return ALIASES[match[1].lower()] if match else ""


def _given_test(test: Path | None) -> list[Place]:
    return [Place(_file(test, "test"), "test", apart=True)] if test else []


def _file(path: Path, key: str) -> Path:
    if not path.exists():
        raise DataError([_absent(path, key)])
    if not path.is_file():
        raise DataError([f"{key}: {path} is a folder, must be a file."])
    if not files.known(path):
        kind = f"the unknown format {path.suffix!r}" if path.suffix else "no suffix that tells its format"
        raise DataError([f"{key}: {path} has {kind}; known are {_known()}; convert or rename it."])
    if path.stat().st_size == 0:
        raise DataError([f"{key}: {path} is empty (0 bytes), must have rows; give another file."])
    return path


def _absent(path: Path, key: str) -> str:
    beside = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, beside, n=1)
    hint = f"did you mean {path.parent / near[0]}?" if near else "give the path of a file or a folder, or `glosses`."
    return f"{key}: {path} does not exist (working folder {Path.cwd()}); {hint}"


def _known() -> str:
    return ", ".join(files.FORMATS)


def _reading(read: Callable[..., pa.Table], path: Path, *args: object) -> pa.Table:
    """What `read` gives, checked in full: a damaged file would later crash the process."""
    try:
        table = read(path, *args)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError([files.explain(path, error)]) from error
    try:
        table.validate(full=True)
    except pa.ArrowInvalid as error:
        raise DataError([_bad_row(path, table, str(error)) or files.explain(path, error)]) from error
    return table


def _bad_row(path: Path, table: pa.Table, reason: str) -> str:
    """Where bytes are no UTF-8, which binary formats do not check on reading."""
    match = re.search(r"Column (\d+): In chunk (\d+): .*UTF8.* index (\d+)", reason)
    if not match:
        return ""
    column, chunk, index = map(int, match.groups())
    row = sum(len(part) for part in table.column(column).chunks[:chunk]) + index + 1
    name = table.column_names[column]
    return f"data: row {row:,} of {path}, column {name!r}, is not valid UTF-8; write the file anew in UTF-8."


def _head(path: Path) -> pa.Table:
    if fault := files.misencoded(path):
        raise DataError([fault])
    head = _reading(files.head, path)
    if not head.num_rows:
        raise DataError([f"data: {path} has no rows, must have some; fill it or leave it away."])
    return head


def _here(chosen: Columns, head: pa.Table) -> Columns:
    """The columns in a file with this head: its rows may be of no said split."""
    return chosen if chosen.split in head.column_names else replace(chosen, split=None)


def _table(place: Place, chosen: Columns) -> pa.Table:
    """The columns text, label and split of one file, checked row by row."""
    names = [chosen.text, chosen.label, *([chosen.split] if chosen.split else [])]
    table = _reading(files.read, place.path, names, chosen.text)
    parts = gather(
        [
            partial(_texts, table.column(chosen.text), place.path, chosen.text),
            partial(_labels, table.column(chosen.label), place.path, chosen.label),
            partial(_splits, table, place, chosen.split),
        ]
    )
    return pa.table(parts, names=["text", "label", "split"])


def _texts(column: pa.ChunkedArray, path: Path, name: str) -> pa.ChunkedArray:
    _refuse_null(column, path, "text", name)
    if pa.types.is_nested(column.type) or pa.types.is_primitive(column.type):
        raise DataError([f"text: column {name!r} of {path} holds {column.type}, {_STRINGS}"])
    return column.cast(pa.large_string())


def _labels(column: pa.ChunkedArray, path: Path, name: str) -> pa.ChunkedArray:
    found = labels.canonical(column, name)
    _refuse_null(found, path, "label", name)
    return found


def _refuse_null(column: pa.ChunkedArray, path: Path, role: str, name: str) -> None:
    if not column.null_count:
        return
    first = pc.index(column.is_null(), True).as_py() + 1
    raise DataError(
        [
            f"{role}: {column.null_count:,} of {len(column):,} rows of {path} have nothing in column {name!r} (the "
            f"first is row {first:,}), every row needs a {role}; fill or drop them."
        ]
    )


def _splits(table: pa.Table, place: Place, name: str | None) -> pa.ChunkedArray:
    """A row's split: the file's where it has one, else that of its column, else ""."""
    if place.split or name is None:
        return pa.chunked_array([pa.repeat(place.split, table.num_rows)])
    values = table.column(name).cast(pa.string())
    known = {value: ALIASES.get((value or "").strip().lower()) for value in values.unique().to_pylist()}
    if foreign := sorted(repr(value) for value, split in known.items() if split is None):
        raise DataError(
            [
                f"data: column {name!r} of {place.path} holds {some(foreign)}, must hold train, validation or test in "
                f"every row; rename the column if it means something else."
            ]
        )
    return pa.chunked_array([pa.array([known[value] for value in values.to_pylist()])])


def _stacked(parts: list[pa.ChunkedArray]) -> pa.ChunkedArray:
    return pa.chunked_array([chunk for part in parts for chunk in part.chunks], parts[0].type)
