"""Unlabelled texts of the kind of a data set: more for a student to learn from, once a teacher has answered to them."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import tokenizers

from tasks import cache, columns, files, tokenizer
from tasks.augmentation import UNLABELLED
from tasks.task import DataError
from tasks.texts import TextSplit, open_split, write_split

VERSION = 1  # of what is stored; raise it when the same files shall give another one
_PLAIN = ".txt"
_RUN = 3  # words that are compared at once
_ALIKE = 0.7  # share of a text's runs of words; two of the three of "of or relating to words" are no likeness


def prepare(
    place: str, tokenizer_file: Path, held_out: Sequence[TextSplit], folder: Path, *, data: str
) -> tuple[TextSplit, str]:
    """The texts of a file or a folder as a split without labels, and what stands for it.

    Lines of .txt, or the column of texts of any table that `tasks.files` reads. Left out are empty texts, doubles,
    and those that hold 70 % or more of the runs of three words of a held-out text.

    held_out: splits whose texts must not be trained on; data: what stands for these and the tokenizer. Stored under
    the cache `folder`. Raises DataError.
    """
    paths = _locate(Path(place).expanduser())
    digests = {path: cache.digest(path, folder) for path in paths}
    said = cache.fingerprint({"version": VERSION, "data": data, "files": list(digests.values())})
    stored = folder / f"transfer-{said}"
    if not stored.is_dir():
        texts = _distinct([text for path in paths for text in _read(path)], held_out)
        if not texts:
            raise DataError([f"transfer: {place} holds no text that could be learned from; give another file."])
        cache.stored(stored, partial(_write, texts, tokenizer_file))
    cache.remember(digests, folder)
    pad_id = held_out[0].pad_id
    return open_split(stored / "texts.arrow", pad_id), said


def faults(place: str) -> list[str]:
    """Whether there are such files, and their heads can be read; what is wrong further on `prepare` says."""
    try:
        for path in _locate(Path(place).expanduser()):
            with _told(path):
                _column(path)
    except DataError as error:
        return list(error.faults)
    return []


def joined(labelled: TextSplit, more: TextSplit) -> TextSplit:
    """One split of both, the labelled rows first."""
    return replace(
        labelled,
        ids=np.concatenate([labelled.ids, more.ids]),
        offsets=np.concatenate([labelled.offsets, more.offsets[1:] + labelled.offsets[-1]]),
        lengths=np.concatenate([labelled.lengths, more.lengths]),
        targets=np.concatenate([labelled.targets, more.targets]),
        texts=pa.chunked_array([labelled.texts.cast(pa.large_string()), more.texts.cast(pa.large_string())]),
    )


def _locate(path: Path) -> list[Path]:
    if not path.exists():
        raise DataError([f"transfer: {path} does not exist (working folder {Path.cwd()}); give a file or a folder."])
    found = sorted(each for each in path.iterdir() if _known(each)) if path.is_dir() else [path]
    if not found or not _known(found[0]):
        kinds = ", ".join([_PLAIN, *files.FORMATS])
        raise DataError([f"transfer: {path} has no file of texts; known are {kinds}; convert or rename it."])
    return found


def _known(path: Path) -> bool:
    return path.suffix.lower() == _PLAIN or files.known(path)


def _read(path: Path) -> list[str]:
    with _told(path):
        name = _column(path)
        if name is None:
            return path.read_text(encoding="utf-8").splitlines()
        texts = files.read(path, [name], name).column(name)
        texts.validate(full=True)
        return [text or "" for text in texts.cast(pa.large_string()).to_pylist()]


def _column(path: Path) -> str | None:
    """The column of texts of a table, by its head; None for plain lines."""
    return None if path.suffix.lower() == _PLAIN else columns.find_text(files.head(path), None)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What cannot be read, in one line."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(
            [f"transfer: {str(error).splitlines()[0][:200]} ({path}); repair it, or write it anew."]
        ) from error


def _distinct(texts: Iterable[str], held_out: Sequence[TextSplit]) -> list[str]:
    """Each text once, those that resemble a held-out one left out."""
    held = [set(_runs(text)) for split in held_out for text in split.texts.to_pylist()]
    holders: dict[str, list[int]] = defaultdict(list)
    for number, runs in enumerate(held):
        for run in runs:
            holders[run].append(number)
    return [text for text in dict.fromkeys(text.strip() for text in texts) if text and not _alike(text, held, holders)]


def _alike(text: str, held: Sequence[set[str]], holders: dict[str, list[int]]) -> bool:
    shared = Counter(number for run in set(_runs(text)) for number in holders.get(run, ()))
    return any(count >= _ALIKE * len(held[number]) for number, count in shared.items())


def _runs(text: str) -> Iterator[str]:
    words = re.findall(r"\w+", text.lower())
    for start in range(max(1, len(words) - _RUN + 1)):
        yield " ".join(words[start : start + _RUN])


def _write(texts: Sequence[str], tokenizer_file: Path, folder: Path) -> None:
    model = tokenizers.Tokenizer.from_file(str(tokenizer_file))
    ids, lengths, _ = tokenizer.encode(model, texts)
    targets = np.full(len(texts), UNLABELLED, np.int64)
    write_split(folder / "texts.arrow", ids, lengths, targets, pa.array(texts, pa.large_string()))
    (folder / "record.json").write_text(json.dumps({"texts": len(texts)}))
