import gzip
import re

import pytest

from benchmarks import gcide

# Written for this test, in the manner of the dictionary: not its words.
ENTRIES = r"""
Bramling \Bram"ling\ (br[a^]m"l[i^]ng), a. [L. bramlus, p.
   p. of bramli to prickle; cf. F. br['e]mle. See {Bramble}.]
   1. Having many small thorns along the stem; thorny; prickly.
      "Bramling hedges." --A. Poet.
      [1913 Webster]

            The rose, bramling, stood in the lane. --A. Poet.
      [1913 Webster]

   2. (Logic) Drawn from premises that are in dispute; as, a
      bramling argument; a bramling proof.
      [PJC]

Bramling \Bram"ling\, n.; pl. {Bramlings}.
   A person who lives among hedges. [Obs.]
   [1913 Webster] Bramlock

Bramlock \Bram"lock\,
   1. n. A hard stone that is found under hedges.
      [1913 Webster]

   2. pl. (Mining) The waste of a quarry, which is thrown away. See
      the Note under {Quarry}, n., 2.
      [1913 Webster]

   {Bramlock fly} (Zool.), a large fly ({Bramla vulgaris}) of the
      family {Bramlid[ae]}. It lives on stones. "Small flies."
      --A. Poet.

   {Bramlock oil}, or {Oil of bramlocks}, an oil that is pressed from
      seeds; -- called also {stone oil}.

   Syn: stone; rock; a hard thing to break.

Bramlo \Bram"lo\ (br[a^]m"l[-o]), prop. n.
   1. (Law) (a) The oldest judge of a county court. (b) The room
      in which he sits, called the "green chamber."
      [WordNet 1.5]

   2. See {Bramling}, n., 1.

Bramleau \Bram`leau"\ (br[a^]m`l[=o]"), n.; pl. F. {Bramleaux} (-l[=o]z),
   E. {Bramleaus}. [F.]
   1. A man who takes great care of his hedge. Cf. {Hedger}.
      [1913 Webster]

Bramlify \Bram"li*fy\, v. t. & i. [imp. & p. p. {Bramlified}.]
   To plant with thorns; to fence, and to guard with dogs, and to keep all
   strangers away from a field that lies between two roads; to lock every gate
   that leads to it by night and by day.
   [1913 Webster]
"""
SENSES = [
    "having many small thorns along the stem; thorny; prickly",
    "drawn from premises that are in dispute",
    "a person who lives among hedges",
    "a hard stone that is found under hedges",
    "the waste of a quarry, which is thrown away",
    "a large fly (Bramla vulgaris) of the family Bramlidae. It lives on stones",
    "an oil that is pressed from seeds",
    "the oldest judge of a county court",
    'the room in which he sits, called the "green chamber."',
    "a man who takes great care of his hedge",
    "to plant with thorns; to fence, and to guard with dogs, and to keep all strangers away from a field that lies "
    "between two roads",
]


@pytest.fixture(scope="module")
def dictionary(tmp_path_factory):
    path = tmp_path_factory.mktemp("dictionary") / "gcide.dict.dz"
    path.write_bytes(gzip.compress(ENTRIES.encode()))
    return path


def test_each_sense_is_a_gloss(dictionary):
    assert gcide.definitions(dictionary) == SENSES


@pytest.mark.parametrize(
    ("sense", "gloss"),
    [
        ("v. t. To bribe or to tip.", "to bribe or to tip"),
        ("3. (Chem. & Physics) To reduce, as by cold.", "to reduce, as by cold"),
        ("(Anc. Church) An order of the third century", "an order of the third century"),
        ("(of a person) lacking a good home", "(of a person) lacking a good home"),
        ("> 1. A great and lasting fear", "a great and lasting fear"),
        ('A root of the earth. "A race or two of ginger."', "a root of the earth"),
        ("To make long strides; -- said of horses.", "to make long strides"),
        ("A member of the order of St. Barnabas", "a member of the order of St. Barnabas"),
        ("too short", None),
        ('"The question will be resolved by the ballot box."', None),
        (" ".join(["long"] * 31), None),
    ],
)
def test_what_a_sense_becomes(sense, gloss):
    assert gcide._as_gloss(sense) == gloss


def test_a_definition_comes_once(tmp_path):
    (tmp_path / "twice.dz").write_bytes(gzip.compress((ENTRIES * 2).encode()))
    assert gcide.definitions(tmp_path / "twice.dz") == SENSES


def test_lines_are_written(dictionary, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["gcide", str(tmp_path / "out.txt"), "--dictionary", str(dictionary)])
    gcide.main()
    assert (tmp_path / "out.txt").read_text("utf-8").splitlines() == SENSES
    assert f"{len(SENSES)} definitions" in capsys.readouterr().out


def test_no_dictionary(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["gcide", str(tmp_path / "out.txt"), "--dictionary", "absent.dz"])
    with pytest.raises(SystemExit) as left:
        gcide.main()
    assert left.value.code == 2
    said = re.sub(r"\s+", " ", capsys.readouterr().err)
    assert "absent.dz does not exist; install Debian's dict-gcide, or give --dictionary" in said
    assert not (tmp_path / "out.txt").exists()
