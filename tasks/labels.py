"""Labels of any type as classes 0 … C-1, in an order that depends on nothing but the labels."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.task import DataError

Label = str | int | bool


def canonical(labels: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """As bool, int64 or large_string; whole numbers stored as floats (pandas' way with gaps) become int64.

    Raises DataError if the values are no classes: fractions, lists, structs. `name` is the column's, for the message.
    """
    kind = labels.type
    if pa.types.is_dictionary(kind):
        return canonical(labels.cast(kind.value_type), name)
    if pa.types.is_boolean(kind):
        return labels
    if pa.types.is_integer(kind):
        return labels.cast(pa.int64())
    if pa.types.is_floating(kind):
        return _whole(labels, name)
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        raise DataError([f"label: column {name!r} holds {kind}, must hold one string, integer or boolean a row."])
    return labels.cast(pa.large_string())


def _whole(labels: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    values = pc.if_else(pc.is_nan(labels), None, labels)
    fractions = values.filter(pc.not_equal(values, pc.round(values)))
    if len(fractions):
        raise DataError(
            [
                f"label: column {name!r} holds fractions such as {fractions[0].as_py()}, classes must be strings, "
                f"integers or booleans; name another column, or bin the numbers."
            ]
        )
    return values.cast(pa.int64())


def together(columns: list[pa.ChunkedArray]) -> pa.ChunkedArray:
    """Canonical labels of several files in one column: of one type, or all as strings."""
    if len({column.type for column in columns}) > 1:
        columns = [column.cast(pa.large_string()) for column in columns]
    return pa.chunked_array([chunk for column in columns for chunk in column.chunks], columns[0].type)


def encode(labels: pa.ChunkedArray) -> tuple[list[Label], NDArray[np.int64]]:
    """(the distinct labels in ascending order, the class of each row as int64)."""
    distinct = labels.unique()
    order = distinct.take(pc.sort_indices(distinct.cast(pa.int64()) if _boolean(labels) else distinct))
    return order.to_pylist(), pc.index_in(labels, order).to_numpy().astype(np.int64)


def _boolean(labels: pa.ChunkedArray) -> bool:
    return bool(pa.types.is_boolean(labels.type))
