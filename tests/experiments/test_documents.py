import json
import random
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from experiments.engine import documents
from trainables.parsing import ParseError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("5E3", 5000.0),
        ("-1.5e+2", -150.0),
        (".5", 0.5),
        ("2.", 2.0),
        ("010", 10),
        ("20_000", 20000),
        ("+3", 3),
        ("true", True),
        ("yes", "yes"),
        ("off", "off"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("0x1f", "0x1f"),
        ("1e", "1e"),
        ("'1e-4'", "1e-4"),
        ("", None),
        ("~", None),
        ("[1, {a: null}]", [1, {"a": None}]),
    ],
)
def test_scalars_are_read_as_yaml_1_2_says(text, value):
    found = documents.plain(text, "x")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: [", "e.yaml:2:5: expected the node content, but found '<stream end>'"),
        ("a: 'x", "e.yaml:1:6: found unexpected end of stream"),
        ("a: 1\n\tb: 2", "e.yaml:2:1: found character '\\t' that cannot start any token"),
        ("lr: 1\nb: 2\nlr: 3", "e.yaml:3:1: duplicate key 'lr', line 3; it is in line 1 too"),
        ("a: {x: 1, x: 2}", "e.yaml:1:11: duplicate key 'x', line 1; it is in line 1 too"),
        ("a: !!python/object:os.system {}", "e.yaml:1:4: the tag !!python/object:os.system is refused; write plain"),
        ("a: !!python/object/apply:os.system [ls]", "e.yaml:1:4: the tag !!python/object/apply:os.system is refused"),
        ("a: !mine 1", "e.yaml:1:4: the tag !mine is refused"),
        ("a: !!str 1", "e.yaml:1:4: the tag !!str is refused"),
        ("a: &x [1]\nb: *x", "e.yaml:2:4: the alias *x is refused; write the value out"),
        ("1: 2", "e.yaml:1:1: the key 1 must be text; quote it"),
        ("[a]: 2", "e.yaml:1:1: the key ['a'] must be text; quote it"),
        ("a: .nan", "e.yaml:1:4: the number .nan must be finite"),
        ("a: 1e999", "e.yaml:1:4: the number 1e999 must be finite"),
        ("a: -.inf", "e.yaml:1:4: the number -.inf must be finite"),
        ("a: " + "9" * 5000, "e.yaml:1:4: the number 99999999999999999999… has too many digits"),
        ("a: " + "[" * 1000, "e.yaml:1:35: must nest at most 32 levels deep"),
        ("a: 1\n---\nb: 2", "e.yaml:2:1: but found another document"),
        ("a: \x01", "e.yaml:1: the character #x0001 is not allowed"),
        ('a: "\\ud800"', "e.yaml:1:4: text must not hold lone surrogates"),
        ("", "e.yaml is empty; it must hold an experiment"),
        ("# only a comment", "e.yaml is empty"),
        ("- 1\n- 2", "e.yaml must hold names and values (name: …) at its top level, got a list"),
        ("quickstart", "e.yaml must hold names and values (name: …) at its top level, got one value ('quickstart')"),
    ],
)
def test_bad_text_gives_one_line_with_its_place(text, message):
    with pytest.raises(ParseError) as raised:
        documents.mapping(text, "e.yaml")
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_duplicates_and_bad_numbers_are_all_reported_at_once():
    with pytest.raises(ParseError) as raised:
        documents.mapping("a: 1\na: 2\nb: .inf\n3: 4", "e.yaml")
    assert [fault.split(": ", 1)[0] for fault in raised.value.faults] == ["e.yaml:2:1", "e.yaml:3:4", "e.yaml:4:1"]


def test_an_alias_bomb_is_refused_before_it_grows():
    levels = "\n".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]" for i in range(1, 9))
    with pytest.raises(ParseError, match=r"the alias \*l0 is refused"):
        documents.mapping(f"l0: &l0 [x]\n{levels}", "e.yaml")


def test_files_are_read_and_bad_ones_refused(tmp_path):
    good, big, latin = (tmp_path / name for name in ("good.yaml", "big.yaml", "latin.yaml"))
    good.write_bytes("\ufeffname: größe\n".encode())
    big.write_text("#" * 1_000_001)
    latin.write_bytes(b"name: x\ndescription: gr\xf6\xdfe")
    assert documents.read(good) == {"name": "größe"}
    with pytest.raises(ParseError, match=r"big.yaml must be at most 1 MB, got 1.0 MB$"):
        documents.read(big)
    with pytest.raises(ParseError, match=r"latin.yaml:2: must be UTF-8, got byte 0xf6$"):
        documents.read(latin)
    with pytest.raises(ParseError, match=r"is not a file; give an experiment's YAML file$"):
        documents.read(tmp_path)
    with pytest.raises(ParseError, match=r"absent.yaml is not a file"):
        documents.read(tmp_path / "absent.yaml")


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000])
def test_names_that_cannot_be_are_no_files(name):
    with pytest.raises(ParseError, match="is not a file; give an experiment's YAML file"):
        documents.read(Path(name))


def test_an_unreadable_file_says_why(tmp_path, monkeypatch):
    path = tmp_path / "e.yaml"
    path.write_text("a: 1")

    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ParseError, match=r"e.yaml cannot be read: Permission denied$"):
        documents.read(path)


TEXT = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=12)
NUMBER_LIKE = st.sampled_from(
    ["1e-4", "1e4", "yes", "null", "true", "~", "010", "0o7", ".5", "1_0", "2024-01-01", "=", "<<"]
)
SCALAR = st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.recursive(
    SCALAR | TEXT | NUMBER_LIKE,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | NUMBER_LIKE, inner, max_size=3),
    max_leaves=8,
)


@given(PLAIN)
def test_what_is_written_reads_back_equal(value):
    assert documents.plain(documents.written(value), "x") == value


@given(PLAIN)
def test_json_is_read_as_json_reads_it(value):
    text = json.dumps(value)
    assert documents.plain(text, "x") == json.loads(text)


@given(st.text(max_size=80))
def test_any_text_gives_a_value_or_a_parse_error(text):
    try:
        value = documents.plain(text, "x")
    except ParseError as error:
        assert error.faults
    else:
        assert json.loads(json.dumps(value)) == value


def test_a_shared_value_is_written_out_each_time():
    shared = [1, 2]
    assert yaml.safe_load(documents.written({"a": shared, "b": shared})) == {"a": [1, 2], "b": [1, 2]}
    assert "&" not in documents.written({"a": shared, "b": shared})


def test_deep_nesting_at_random_never_overflows_the_stack():
    generator = random.Random(0)
    text = "".join(generator.choice("[{:- \n") for _ in range(5000))
    with pytest.raises(ParseError):
        documents.plain("[" + text, "x")
