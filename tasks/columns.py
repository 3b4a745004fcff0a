"""Which column holds the texts, which the labels, which the splits: said by the user, or told from the first rows."""

import difflib
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from tasks.task import DataError

SPLIT = "split"
TEXT_NAMES = ("text", "sentence", "content", "review", "body", "comment", "message", "document", "description")
LABEL_NAMES = ("label", "labels", "class", "category", "target", "intent", "topic", "sentiment", "rating", "y")


@dataclass(frozen=True)
class Columns:
    """Names by role; `inferred` lists the roles that the user did not name, `split` is None where there is none."""

    text: str
    label: str
    split: str | None
    inferred: list[str]


def choose(head: pa.Table, text: str | None, label: str | None) -> Columns:
    """The columns as given, the others told from `head`. Raises DataError where that is a guess."""
    found_text = text or find_text(head, label)
    found_label = label or _label(head, found_text)
    split = SPLIT if SPLIT in head.column_names and SPLIT not in {found_text, found_label} else None
    inferred = [role for role, given in (("text", text), ("label", label)) if given is None]
    return Columns(found_text, found_label, split, inferred)


def check(path: Path, head: pa.Table, chosen: Columns) -> list[str]:
    """A fault for each chosen column that the file lacks or has twice."""
    roles = {"text": chosen.text, "label": chosen.label}
    if chosen.text == chosen.label:
        return [f"label: column {chosen.label!r} is the text's column too; they must differ; name another one."]
    return [fault for role, name in roles.items() if (fault := _missing(path, head.column_names, role, name))]


def _missing(path: Path, there: list[str], role: str, name: str) -> str:
    if there.count(name) > 1:
        return f"{role}: {path} has {there.count(name)} columns named {name!r}, names must differ; rename one."
    if name in there:
        return ""
    lower = {other.lower(): other for other in there}
    near = difflib.get_close_matches(name.lower(), lower, n=1)
    hint = f"did you mean {lower[near[0]]!r}?" if near else f"name one of them with `{role}`."
    return f"{role}: {path} has no column {name!r}; there are {', '.join(there)}; {hint}"


def find_text(head: pa.Table, label: str | None) -> str:
    """A column of strings: the only one, a usual name, or the one with the longest values."""
    taken = {label, SPLIT} if label else {SPLIT, *LABEL_NAMES}
    strings: list[str] = [field.name for field in head.schema if _is_string(field.type) and field.name not in taken]
    if not strings:
        raise DataError([_none("text", "a column of strings", head)])
    usual = [name for name in TEXT_NAMES if name in strings]
    return usual[0] if usual else max(strings, key=lambda name: _length(head, name))


def _label(head: pa.Table, text: str) -> str:
    """A usual name, the only other column, or the only one whose values come up again and again."""
    others: list[str] = [name for name in head.column_names if name not in {text, SPLIT}]
    usual = [name for name in LABEL_NAMES if name in others]
    if usual:
        return usual[0]
    few = others if len(others) == 1 else [name for name in others if _repeats(head, name)]
    if len(few) != 1:
        raise DataError([_none("label", "the labels for certain", head)])
    return few[0]


def _none(role: str, what: str, head: pa.Table) -> str:
    there = ", ".join(head.column_names)
    return f"{role}: no column could be told to hold {what}; there are {there}; name one with `{role}`."


def _is_string(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _length(head: pa.Table, name: str) -> float:
    return float(pc.mean(pc.utf8_length(_plain(head, name))).as_py() or 0)


def _repeats(head: pa.Table, name: str) -> bool:
    if pa.types.is_nested(head.schema.field(name).type):
        return False
    return bool(2 <= len(_plain(head, name).unique()) <= head.num_rows / 2)


def _plain(head: pa.Table, name: str) -> pa.ChunkedArray:
    """A column without dictionaries and views, which few functions take. Of two of one name, the first."""
    column = head.column(head.column_names.index(name))
    return column.cast(pa.large_string()) if _is_string(column.type) else column
