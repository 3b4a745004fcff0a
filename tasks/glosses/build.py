"""Build glosses.parquet from WordNet's data files.

Source: WordNet 3.0 (Princeton University, 2006), e.g. from Debian's package `wordnet-base`.
Run:    python -m tasks.glosses.build /usr/share/wordnet
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from tasks import labels, splits
from tasks.glosses import PATH

SHARES = {"validation": 0.05, "test": 0.05}
SEED = 0

# The lexicographer files by number, from WordNet's manual page lexnames(5WN).
LEXNAMES = """
    adj.all adj.pert adv.all noun.Tops noun.act noun.animal noun.artifact noun.attribute noun.body noun.cognition
    noun.communication noun.event noun.feeling noun.food noun.group noun.location noun.motive noun.object noun.person
    noun.phenomenon noun.plant noun.possession noun.process noun.quantity noun.relation noun.shape noun.state
    noun.substance noun.time verb.body verb.change verb.cognition verb.communication verb.competition verb.consumption
    verb.contact verb.creation verb.emotion verb.motion verb.perception verb.possession verb.social verb.stative
    verb.weather adj.ppl
"""
FIELDS = LEXNAMES.split()


def rows(folder: Path) -> Iterator[tuple[str, str]]:
    """(gloss, field) of each synset. A data line reads `offset field … | gloss` (see wndb(5WN))."""
    for kind in ("noun", "verb", "adj", "adv"):
        for line in (folder / f"data.{kind}").read_text(encoding="utf-8").splitlines():
            if not line.startswith("  "):  # the licence at the top
                synset, gloss = line.split(" | ", 1)
                yield gloss.strip(), FIELDS[int(synset.split()[1])]


def table(folder: Path) -> pa.Table:
    """Columns gloss, label and split; stratified, and equal glosses in one split."""
    glosses, fields = (pa.chunked_array([column]) for column in zip(*rows(folder), strict=True))
    distinct, targets = labels.encode(labels.canonical(fields, "label"))
    same = pc.index_in(glosses, glosses.unique()).to_numpy()
    examples = splits.Examples(distinct, targets, same, np.full(len(targets), ""))
    names = np.empty(len(targets), dtype=object)
    for name, members in splits.assign(examples, SHARES, SEED).items():
        names[members] = name
    return pa.table({"gloss": glosses, "label": fields, "split": pa.array(names)})


def main() -> None:
    """Write the file beside this one."""
    parquet.write_table(table(Path(sys.argv[1])), PATH, compression="zstd", compression_level=19)


if __name__ == "__main__":
    main()
