import datetime
import decimal

import pyarrow as pa
import pytest

from tasks import labels
from tasks.task import DataError

CASES = {
    "strings": (["b", "a", "b"], pa.string(), ["a", "b"], [1, 0, 1]),
    "integers": ([10, 9, -1], pa.int32(), [-1, 9, 10], [2, 1, 0]),
    "unsigned": ([10, 9, 0], pa.uint8(), [0, 9, 10], [2, 1, 0]),
    "whole floats": ([2.0, 1.0, 2.0], pa.float64(), [1, 2], [1, 0, 1]),
    "booleans": ([True, False, True], pa.bool_(), [False, True], [1, 0, 1]),
    "categories": (["b", "a", "b"], pa.dictionary(pa.int8(), pa.string()), ["a", "b"], [1, 0, 1]),
    "dates": (
        [datetime.date(2021, 1, 2), datetime.date(2020, 1, 1)],
        pa.date32(),
        ["2020-01-01", "2021-01-02"],
        [1, 0],
    ),
    "decimals": ([decimal.Decimal("1.50"), decimal.Decimal("0.25")], pa.decimal128(5, 2), ["0.25", "1.50"], [1, 0]),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_type_round_trips(case):
    values, kind, distinct, targets = case
    found, encoded = labels.encode(labels.canonical(pa.chunked_array([pa.array(values, kind)]), "label"))
    assert (found, encoded.tolist()) == (distinct, targets)
    assert [type(label) for label in found] == [type(label) for label in distinct]


def test_order_does_not_depend_on_the_rows():
    one, other = (labels.encode(pa.chunked_array([pa.array(list(rows))]))[0] for rows in ("cab", "bca"))
    assert one == other == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.5, 1.0], "label: column 'score' holds fractions such as 0.5, classes must be strings"),
        ([[1], [2]], r"label: column 'score' holds list<item: int64>, must hold one string, integer or boolean"),
        ([{"a": 1}], "label: column 'score' holds struct"),
        ([b"x"], "label: column 'score' holds binary"),
    ],
)
def test_what_is_no_class(values, message):
    with pytest.raises(DataError, match=message):
        labels.canonical(pa.chunked_array([pa.array(values)]), "score")


def test_files_of_two_types_meet_as_strings():
    numbers, words = pa.chunked_array([pa.array([1, 2])]), pa.chunked_array([pa.array(["1", "x"], pa.large_string())])
    assert labels.encode(labels.together([numbers, words]))[0] == ["1", "2", "x"]
