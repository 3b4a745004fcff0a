import collections
import hashlib
from pathlib import Path

import pytest
from pyarrow import parquet

from tasks import glosses
from tasks.glosses import build


@pytest.fixture(scope="module")
def table():
    return parquet.read_table(glosses.PATH)


def test_what_the_card_says(table):
    card = (glosses.PATH.parent / "README.md").read_text()
    counts = collections.Counter(table["split"].to_pylist())
    figures = [f"{n:,}" for n in (table.num_rows, *counts.values(), len(set(table["label"].to_pylist())))]
    assert all(figure in card for figure in figures)
    assert hashlib.sha256(glosses.PATH.read_bytes()).hexdigest() in card


def test_no_gloss_in_two_splits(table):
    splits = collections.defaultdict(set)
    for gloss, split in zip(table["gloss"].to_pylist(), table["split"].to_pylist(), strict=True):
        splits[gloss].add(split)
    assert {len(found) for found in splits.values()} == {1}


def test_every_field_is_in_every_split(table):
    found = set(zip(table["label"].to_pylist(), table["split"].to_pylist(), strict=True))
    assert found == {(field, split) for field in build.FIELDS for split in ("train", "validation", "test")}


def test_the_licence_is_there():
    assert "WordNet 3.0 Copyright 2006 by Princeton University" in (glosses.PATH.parent / "LICENSE").read_text()


def test_lines_of_wordnet(tmp_path):
    licence = "  1 This software and database is being provided to you\n"
    for kind in ("noun", "verb", "adj", "adv"):
        (tmp_path / f"data.{kind}").write_text(licence)
    line = '00001740 03 n 01 entity 0 003 ~ 00001930 n 0000 | that which is; "a thing"  \n'
    (tmp_path / "data.noun").write_text(licence + line)
    (tmp_path / "data.verb").write_text("00001740 29 v 04 breathe 0 | draw air into the lungs  \n")
    assert list(build.rows(tmp_path)) == [
        ('that which is; "a thing"', "noun.Tops"),
        ("draw air into the lungs", "verb.body"),
    ]


@pytest.mark.skipif(not Path("/usr/share/wordnet/data.noun").exists(), reason="needs Debian's wordnet-base")
def test_built_from_wordnet(table):
    assert build.table(Path("/usr/share/wordnet")).equals(table)
