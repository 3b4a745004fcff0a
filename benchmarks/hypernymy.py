"""Pairs of WordNet glosses: does the second define a hypernym of the first? A task that counting words cannot solve.

A text reads "FIRST [SEP] SECOND": a pretrained BERT tokenizer makes its own separator of it, a vocabulary trained on
the data three plain tokens. Glosses are those of nouns, without examples; instances (Paris is no kind of capital) and
glosses that two synsets share are left out.
A pair is a "hypernym" where the second is a direct or inherited one. The "other" pairs are near misses:

reversed  the second is a hyponym of the first
sibling   both have a direct hypernym in common
aunt      the second is a sibling of a direct or inherited hypernym of the first
in-law    the first, or a direct hypernym of it, is the other direct hypernym of a direct hyponym of the second

The second gloss alone tells nothing: each that stands second does so equally often in either class. Synsets are
divided, not pairs: no gloss of one split stands in another. The column `kind` says what each pair is.

Source: WordNet 3.0 (Princeton University, 2006), e.g. from Debian's package `wordnet-base`; format: wndb(5WN).
Run:    python -m benchmarks.hypernymy OUT [--wordnet /usr/share/wordnet] [--seed 0]
"""

import argparse
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

WORDNET = Path("/usr/share/wordnet")
SIZES = {"train": 60_000, "validation": 3_000, "test": 3_000}
SHARES = {"train": 0.7, "validation": 0.15, "test": 0.15}  # of synsets; pairs go with the square
KINDS = {"reversed": 0.2, "sibling": 0.31, "aunt": 0.47, "in-law": 0.02}  # shares of the pairs that are no hypernyms
LABELS = ("hypernym", "other")
SEPARATOR = " [SEP] "
_MOST = 16  # pairs of one label with the same second; "an entity" alone would have 70,000
_EXAMPLES = re.compile(r'[;:]\s*"')

Kin = Mapping[int, Sequence[int]]


@dataclass(frozen=True)
class Nouns:
    """Definitions by synset, and the direct hypernyms (`parents`) of each that has some."""

    glosses: Mapping[int, str]
    parents: Kin

    @cached_property
    def children(self) -> Kin:
        """Direct hyponyms: `parents` turned round."""
        found = defaultdict(list)
        for child, parents in self.parents.items():
            for parent in parents:
                found[parent].append(child)
        return dict(found)

    def above(self, synset: int) -> set[int]:
        """All hypernyms."""
        return _reach(synset, self.parents)

    def below(self, synset: int) -> set[int]:
        """All hyponyms."""
        return _reach(synset, self.children)


@dataclass(frozen=True)
class Pair:
    """Two synsets and how they are related: "hypernym" or one of `KINDS`."""

    kind: str
    first: int
    second: int


def _reach(start: int, kin: Kin) -> set[int]:
    found: set[int] = set()
    open_ends = [start]
    while open_ends:
        new = set(kin.get(open_ends.pop(), ())) - found
        found |= new
        open_ends += new
    return found


def _siblings(nouns: Nouns, second: int) -> set[int]:
    return {child for parent in nouns.parents.get(second, ()) for child in nouns.children[parent]}


def _nieces(nouns: Nouns, second: int) -> set[int]:
    return {below for sibling in _siblings(nouns, second) - {second} for below in nouns.below(sibling)}


def _in_laws(nouns: Nouns, second: int) -> set[int]:
    others = {parent for child in nouns.children.get(second, ()) for parent in nouns.parents[child]} - {second}
    return others | {child for other in others for child in nouns.children[other]}


# From the second of a pair to what may stand first, hyponyms and hypernyms of the second included.
_NEAR: dict[str, Callable[[Nouns, int], set[int]]] = {"sibling": _siblings, "aunt": _nieces, "in-law": _in_laws}


def read(folder: Path) -> Nouns:
    """The nouns of a WordNet `folder`."""
    glosses: dict[int, str] = {}
    parents: dict[int, list[int]] = {}
    for line in (folder / "data.noun").read_text(encoding="utf-8").splitlines():
        if line.startswith("  "):  # the licence at the top
            continue
        synset, gloss = line.split(" | ", 1)
        number, *fields = synset.split()
        pointers = fields[3 + 2 * int(fields[2], 16) :]  # after the count of words, and each word with its number
        above = [int(to) for sign, to in zip(pointers[1::4], pointers[2::4], strict=False) if sign == "@"]
        glosses[int(number)] = _EXAMPLES.split(gloss)[0].strip()
        if above:
            parents[int(number)] = above
    return Nouns(glosses, parents)


def pairs(nouns: Nouns, sizes: Mapping[str, int], seed: int) -> dict[str, pa.Table]:
    """By split, columns text, label and kind; at most so many rows, half of them of each label.

    Deterministic by `seed`. Fewer rows than asked for are what the nouns give.
    """
    return {
        split: _table(nouns, _drawn(nouns, members, random.Random(f"{seed} {split}"), sizes[split] // 2))
        for split, members in _divided(nouns, seed).items()
    }


def _divided(nouns: Nouns, seed: int) -> dict[str, set[int]]:
    """The synsets of each split: those with a hypernym or a hyponym, and a gloss of their own."""
    times = Counter(gloss.lower() for gloss in nouns.glosses.values())
    related = sorted(nouns.parents.keys() | nouns.children.keys())
    synsets = [synset for synset in related if times[nouns.glosses[synset].lower()] == 1]
    random.Random(f"{seed} splits").shuffle(synsets)
    divided, start = {}, 0.0
    for split, share in SHARES.items():
        ends = [round(part * len(synsets)) for part in (start, start + share)]
        divided[split] = set(synsets[ends[0] : ends[1]])
        start += share
    return divided


def _drawn(nouns: Nouns, members: set[int], rng: random.Random, count: int) -> list[Pair]:
    """`count` hypernym pairs and as many others, in their shares, each with the same second as one of the former."""
    seconds = sorted(members & nouns.children.keys())
    couples = [couple for second in seconds for couple in _couples(nouns, second, members, rng)]
    rng.shuffle(couples)
    chosen: list[Pair] = []
    for kind, share in KINDS.items():
        found = [couple for couple in couples if couple[1].kind == kind]
        chosen += [pair for couple in found[: round(share * count)] for pair in couple]
    rng.shuffle(chosen)
    return chosen


def _couples(nouns: Nouns, second: int, members: set[int], rng: random.Random) -> Iterator[tuple[Pair, Pair]]:
    """A hypernym pair and another, alike in whether the first has hyponyms of its own where that can be."""
    below, above = nouns.below(second), nouns.above(second)
    near = {kind: of(nouns, second) - below - above - {second} for kind, of in _NEAR.items()}
    pools = {kind: found & members for kind, found in {"reversed": above, **near}.items()}
    truths = sorted(below & members)
    rng.shuffle(truths)
    for _ in truths[:_MOST]:
        kinds = [kind for kind, pool in pools.items() if pool]
        if not kinds:
            return
        kind = rng.choice(kinds)
        other = rng.choice(sorted(pools[kind]))
        pools = {name: pool - {other} for name, pool in pools.items()}
        first = next((one for one in truths if (one in nouns.children) == (other in nouns.children)), truths[0])
        truths.remove(first)
        yield Pair("hypernym", first, second), Pair(kind, other, second)


def _table(nouns: Nouns, drawn: Sequence[Pair]) -> pa.Table:
    texts = [nouns.glosses[pair.first] + SEPARATOR + nouns.glosses[pair.second] for pair in drawn]
    labels = [LABELS[pair.kind != "hypernym"] for pair in drawn]
    columns = {"text": texts, "label": labels, "kind": [pair.kind for pair in drawn]}
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def main() -> None:
    """Write the splits as a folder that the task `text_classification` reads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--wordnet", type=Path, default=WORDNET)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    if not (chosen.wordnet / "data.noun").is_file():
        parser.error(f"{chosen.wordnet} has no data.noun; install Debian's wordnet-base, or give --wordnet")
    if chosen.out.exists() and not chosen.out.is_dir():
        parser.error(f"{chosen.out} is a file, must be a folder; give another place")
    tables = pairs(read(chosen.wordnet), SIZES, chosen.seed)
    chosen.out.mkdir(parents=True, exist_ok=True)
    for split, table in tables.items():
        parquet.write_table(table, chosen.out / f"{split}.parquet", compression="zstd")
        kinds = Counter(table["kind"].to_pylist()).most_common()
        print(f"{split}: {table.num_rows} pairs; {', '.join(f'{count} {kind}' for kind, count in kinds)}")


if __name__ == "__main__":
    main()
