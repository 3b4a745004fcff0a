"""The definitions of GCIDE as unlabelled texts: more of the kind of the WordNet glosses for a student to learn from.

GCIDE (the GNU version of the Collaborative International Dictionary of English, GPL) is running text, as the Debian
package dict-gcide installs it. Each sense becomes a line in the manner of a gloss: without its number, part of speech,
field, source, etymology and quotations, beginning with a small letter, cut at the last semicolon before 30 words. What
resembles a validation or test gloss is dropped later, by `tasks.transfer`. None of it is part of this repository.

Run: python -m benchmarks.gcide OUT.txt [--dictionary /usr/share/dictd/gcide.dict.dz]
"""

import argparse
import gzip
import re
from collections.abc import Iterator
from pathlib import Path

DICTIONARY = Path("/usr/share/dictd/gcide.dict.dz")
_LONGEST = 30  # words; a gloss in a hundred has more than 37
_SHORTEST = 3
_QUOTATION = 9  # spaces; quotations stand further right than definitions
_PARTS = (
    "n|a|v|t|i|adv|prep|conj|interj|pron|imp|p|pr|pl|sing|vb|superl|compar|comp|obs|adj|prop|prenom|suff|pref|pred|var"
    "|f|fem|m|masc|pres|pret|poss|indef|impers|pert|peop|phr"
)

_ENTRY = re.compile(r"\n(?=\S)")
_ACCENT = re.compile(r"\[[^\w\s\]]?([a-z]{1,2})[^\w\s\].]?\]")  # [=e], [a^], [ae]
_BRACKETS = re.compile(r"\[[^\[\]]*\]")
_HEADWORD = re.compile(rf"^[^\\]*\\[^\\]*\\,?(?:\s*(?:(?:{_PARTS}|E|L)\.|\([^()]*\)|\{{[^}}]*\}}|[,;&]))*")
_COLLOCATION = re.compile(r"^(?:\{[^{}]*\}(?:\s*\([^()]*\))*[,.]?\s*(?:(?:or|and)\s+(?=\{))?)+")
_FORMS = re.compile(
    r"^[^\"]{0,60}?(?<=[\s.])1\.\s+(?=[A-Z(])"
)  # what precedes the first sense: Manteaux, E. Manteaus. 1.
_MARKS = re.compile(rf"^(?:\d+\.|(?:{_PARTS})\.|\((?:[A-Z][^()]{{0,40}}|[a-z]+\.)\)|[^\w(\"'`]|\s)+")
_FIELD = re.compile(r"\((?:[A-Z][\w.& ]{0,25}\.|[a-z])\)")
_SENSE = re.compile(r"\s(?=\([a-z]\)\s)")
_AFTER = re.compile(r"--.*$|;? as,.*$|\bSee \{.*$|\bSee under.*$|(?<=[.;,]) (?:See|Cf)\b.*$|(?<=[.,;:!?)])\s+\".*$")
_NEXT = re.compile(r"(?<=[a-z]{3}\.|\w\w\)\.)\s+[A-Z][\w`'-]*$")  # the next headword, which some sources drag along


def definitions(dictionary: Path = DICTIONARY) -> list[str]:
    """Every definition once, in the dictionary's order."""
    text = gzip.decompress(dictionary.read_bytes()).decode("utf-8", "replace")
    found = (line for entry in _ENTRY.split(text) if "\\" in entry for line in _of_entry(entry))
    return list(dict.fromkeys(found))


def _of_entry(entry: str) -> Iterator[str]:
    plain = entry
    for pattern, by in ((_ACCENT, r"\1"), (_BRACKETS, ""), (_BRACKETS, "")):
        plain = pattern.sub(by, plain)
    for number, paragraph in enumerate(re.split(r"\n\s*\n", plain)):
        indent = len(paragraph.lstrip("\n")) - len(paragraph.lstrip())
        words = " ".join(paragraph.split())
        if indent >= _QUOTATION or re.match(r"(Syn|Note|Usage):", words):
            continue
        words = _HEADWORD.sub("", words) if number == 0 else _COLLOCATION.sub("", words)
        yield from filter(None, map(_as_gloss, _SENSE.split(words)))


def _as_gloss(sense: str) -> str | None:
    """None for what is no definition."""
    plain = " ".join(_AFTER.sub("", _FIELD.sub("", sense)).replace("{", "").replace("}", "").split())
    for pattern in (_FORMS, _MARKS, _NEXT):
        plain = pattern.sub("", plain).strip()
    plain = plain.strip(" .,;:")
    while len(plain.split()) > _LONGEST and ";" in plain:
        plain = plain[: plain.rindex(";")]
    if not _SHORTEST <= len(plain.split()) <= _LONGEST or "\\" in plain or re.search(r'[\[\]]|^"[^"]*"$', plain):
        return None
    return plain[0].lower() + plain[1:]


def main() -> None:
    """Write the definitions, a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--dictionary", type=Path, default=DICTIONARY)
    chosen = parser.parse_args()
    if not chosen.dictionary.is_file():
        parser.error(f"{chosen.dictionary} does not exist; install Debian's dict-gcide, or give --dictionary")
    found = definitions(chosen.dictionary)
    chosen.out.write_text("".join(f"{line}\n" for line in found), encoding="utf-8")
    print(f"{chosen.out}: {len(found)} definitions")


if __name__ == "__main__":
    main()
