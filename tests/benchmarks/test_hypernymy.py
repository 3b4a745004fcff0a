import collections
import random

import networkx
import pytest
from pyarrow import parquet

from benchmarks import hypernymy
from tasks import tokenizer
from tasks.text_classification import TASK

LICENCE = "  1 This software and database is being provided to you\n"
SIZES = {"train": 200, "validation": 40, "test": 40}
SHARED = "one of the twins"


def line(number, gloss, pointers=()):
    """A line of data.noun, with two words to step over."""
    signs = "".join(f" {sign} {to:08} n 0000" for sign, to in pointers)
    return f"{number:08} 03 n 02 one 0 other_word 1 {len(pointers):03}{signs} | {gloss}  \n"


@pytest.fixture(scope="module")
def graph():
    """Edges from hyponym to hypernym: a tree of 800 with three children each, and a second parent for every tenth."""
    rng = random.Random(0)
    edges = [(child, (child - 2) // 3 + 1) for child in range(2, 801)]
    return networkx.DiGraph(edges + [(child, rng.randrange(1, child)) for child in range(10, 801, 10)])


@pytest.fixture(scope="module")
def folder(graph, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wordnet")
    lines = [line(number, f'the thing {number}; "it is {number}"', kin(graph, number)) for number in sorted(graph)]
    lines += [line(number, SHARED, [("@", 5)]) for number in (901, 902)]
    lines += [line(903, "a city called 903", [("@i", 5)])]
    (folder / "data.noun").write_text(LICENCE + "".join(lines))
    return folder


def kin(graph, number):
    return [("@", to) for to in graph.successors(number)] + [("~", of) for of in graph.predecessors(number)]


@pytest.fixture(scope="module")
def tables(folder):
    return hypernymy.pairs(hypernymy.read(folder), SIZES, seed=0)


@pytest.fixture(scope="module")
def rows(tables):
    """(first, second, kind, label) of every pair."""
    return [
        (*(int(gloss.split()[-1]) for gloss in text.split(" [SEP] ")), kind, label)
        for table in tables.values()
        for text, label, kind in zip(*(table[name].to_pylist() for name in ("text", "label", "kind")), strict=True)
    ]


def test_lines_of_wordnet(tmp_path):
    lines = [
        line(1740, "that which is"),
        line(2000, 'made by man; set apart: "an artefact"; "a tool"', [("@", 1740), ("~", 3000), ("%p", 1740)]),
        line(3000, 'said of a "thing"', [("@", 2000), ("+", 4000), ("@", 1740)]),
        line(4000, "Paris", [("@i", 3000)]),
    ]
    (tmp_path / "data.noun").write_text(LICENCE + "".join(lines))
    nouns = hypernymy.read(tmp_path)
    glosses = {1740: "that which is", 2000: "made by man; set apart", 3000: 'said of a "thing"', 4000: "Paris"}
    assert nouns.glosses == glosses
    assert nouns.parents == {2000: [1740], 3000: [2000, 1740]}


def test_more_words_than_nine_are_counted_in_hexadecimal(tmp_path):
    words = " ".join(f"word{i} 0" for i in range(16))
    (tmp_path / "data.noun").write_text(f"00000002 03 n 10 {words} 001 @ 00000001 n 0000 | a thing  \n")
    assert hypernymy.read(tmp_path).parents == {2: [1]}


def test_a_pair_is_what_it_says(graph, rows):
    above = {number: networkx.descendants(graph, number) for number in graph}  # along the edges, that is upwards
    siblings = {
        number: {child for parent in graph.successors(number) for child in graph.predecessors(parent)} - {number}
        for number in graph
    }
    holds = {
        "hypernym": lambda a, b: b in above[a],
        "reversed": lambda a, b: a in above[b],
        "sibling": lambda a, b: b in siblings[a],
        "aunt": lambda a, b: any(b in siblings[hypernym] for hypernym in above[a]),
        "in-law": lambda a, b: any(
            {a, *graph.successors(a)} & set(graph.successors(child)) for child in graph.predecessors(b)
        ),
    }
    assert all(holds[kind](first, second) for first, second, kind, _ in rows)
    assert all((second in above[first]) == (label == "hypernym") for first, second, _, label in rows)
    assert {kind for _, _, kind, _ in rows} == set(holds)


@pytest.mark.parametrize("split", SIZES)
def test_the_second_gloss_alone_tells_nothing(tables, split):
    counts = collections.Counter(
        (text.split(" [SEP] ")[1], label)
        for text, label in zip(tables[split]["text"].to_pylist(), tables[split]["label"].to_pylist(), strict=True)
    )
    seconds = {second for second, _ in counts}
    assert tables[split].num_rows > 20
    assert all(counts[second, "hypernym"] == counts[second, "other"] > 0 for second in seconds)


def test_each_kind_has_its_share(tables):
    counts = collections.Counter(tables["train"]["kind"].to_pylist())
    half = SIZES["train"] // 2
    assert counts["hypernym"] == half
    assert {kind: counts[kind] for kind in hypernymy.KINDS} == {
        kind: round(share * half) for kind, share in hypernymy.KINDS.items()
    }


def test_no_pair_twice_and_no_gloss_in_two_splits(tables):
    texts = {split: table["text"].to_pylist() for split, table in tables.items()}
    glosses = {split: {gloss for text in found for gloss in text.split(" [SEP] ")} for split, found in texts.items()}
    assert all(len(set(found)) == len(found) for found in texts.values())
    assert sum(map(len, glosses.values())) == len(set().union(*glosses.values()))


def test_shared_glosses_and_instances_are_left_out(folder):
    nouns = hypernymy.read(folder)
    everything = hypernymy.pairs(nouns, dict.fromkeys(SIZES, 10**6), seed=0)
    assert {901, 902, 903} <= nouns.glosses.keys()
    said = " ".join(text for table in everything.values() for text in table["text"].to_pylist())
    assert "thing 5 " in said
    assert SHARED not in said
    assert "903" not in said


def test_the_seed_decides(folder, tables):
    nouns = hypernymy.read(folder)
    assert hypernymy.pairs(nouns, SIZES, seed=0) == tables
    assert hypernymy.pairs(nouns, SIZES, seed=1)["test"] != tables["test"]


def test_what_is_written_is_a_data_set_with_its_splits(folder, tables, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(hypernymy, "SIZES", SIZES)
    monkeypatch.setattr("sys.argv", ["hypernymy", str(tmp_path / "out"), "--wordnet", str(folder)])
    hypernymy.main()
    assert "train: 200 pairs; 100 hypernym" in capsys.readouterr().out
    assert parquet.read_table(tmp_path / "out" / "test.parquet") == tables["test"]
    data = TASK.prepare(TASK.Config(data=str(tmp_path / "out"), tokenizer={"vocab_size": 300}), tmp_path / "cache")
    assert data.labels == ["hypernym", "other"]
    assert data.record["splits"] == dict.fromkeys(SIZES, "given")
    assert data.record["n"] == {split: table.num_rows for split, table in tables.items()}
    assert not any("flatter" in warning for warning in data.record["warnings"])


def test_a_pretrained_tokenizer_separates_the_glosses(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "beast"]))
    model = tokenizer.open_pretrained(tmp_path / "vocab.txt")
    encoded = model.encode(f"a dog{hypernymy.SEPARATOR}a beast")
    assert encoded.tokens == ["[CLS]", "a", "dog", "[SEP]", "a", "beast", "[SEP]"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["out", "--wordnet", "nowhere"], "nowhere has no data.noun; install Debian's wordnet-base, or give --wordnet"),
        (["taken", "--wordnet", "wordnet"], "taken is a file, must be a folder; give another place"),
    ],
)
def test_bad_places(tmp_path, monkeypatch, capsys, names, message):
    (tmp_path / "taken").touch()
    (tmp_path / "wordnet").mkdir()
    (tmp_path / "wordnet" / "data.noun").write_text(LICENCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["hypernymy", *names])
    with pytest.raises(SystemExit) as left:
        hypernymy.main()
    assert left.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
