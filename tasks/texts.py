"""Labelled texts: drawn from a source, tokenized, written as Arrow files and mapped back into memory."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tokenizers
from numpy.typing import NDArray
from pyarrow import ipc

from tasks import batches, labels, splits, tokenizer
from tasks.classification import Classification, Label
from tasks.sources import Source
from tasks.splits import NAMES
from tasks.task import Batch

N = TypeVar("N", bound=np.generic)


@dataclass(frozen=True)
class Texts:
    """The examples of each split, before tokenization, and how they came about."""

    labels: list[Label]
    texts: Mapping[str, pa.Array]
    targets: Mapping[str, NDArray[np.int64]]
    record: dict[str, Any]


@dataclass(frozen=True)
class TextSplit:
    """One split, mapped into memory (see `tasks.task.Split`): `ids` of all texts in a row, text i at
    `offsets[i]:offsets[i + 1]`."""

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int32]
    targets: NDArray[np.int64]
    texts: pa.Array
    pad_id: int

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, rows: NDArray[np.int64]) -> Batch:
        """`tokens` and `keep` (B, L), L the longest of the rows."""
        lengths = self.lengths[rows]
        place = np.arange(lengths.max(initial=0))
        keep = place < lengths[:, None]
        tokens = np.full(keep.shape, self.pad_id, np.int64)
        tokens[keep] = self.ids[(self.offsets[rows][:, None] + place)[keep]]
        return Batch({"tokens": tokens, "keep": keep}, self.targets[rows])

    def raw(self, rows: NDArray[np.int64]) -> list[str]:
        """The texts as they were read."""
        return [str(self.texts[int(row)]) for row in rows]


def draw(
    source: Source, shares: Mapping[str, float], sample: int | None, seed: int, evaluation: int | None = None
) -> Texts:
    """The source's rows in their splits; training rows cut down to a stratified `sample`, those of validation and test
    to one of `evaluation` each. Raises DataError."""
    distinct, targets = labels.encode(source.labels)
    same = pc.index_in(source.texts, source.texts.unique()).to_numpy()
    given = source.split.to_numpy(zero_copy_only=False).astype(str)
    rows, record = splits.draw(
        splits.Examples(distinct, targets, same, given), shares, sample, seed, evaluation=evaluation
    )
    texts = {name: source.texts.take(pa.array(rows[name])).combine_chunks() for name in NAMES}
    columns = source.columns
    record |= {
        "columns": {"text": columns.text, "label": columns.label, "split": columns.split},
        "inferred": columns.inferred,
        "hash": {name: _hash(texts[name], targets[rows[name]], distinct) for name in NAMES},
    }
    if source.left_out:
        record["warnings"].append(f"{source.left_out:,} test rows of the data gave way to the given test file.")
    return Texts(distinct, texts, {name: targets[rows[name]] for name in NAMES}, record)


def write(texts: Texts, model: tokenizers.Tokenizer, max_length: int, folder: Path) -> None:
    """Tokenize with `model`, at most `max_length` tokens a text, and store; see `load`."""
    model.enable_truncation(max_length)
    model.no_padding()  # a batch is padded by who makes it, with the signature's pad_id
    model.save(str(folder / "tokenizer.json"), pretty=False)
    encoded = {name: tokenizer.encode(model, texts.texts[name].to_pylist()) for name in NAMES}
    for name, (ids, lengths, _) in encoded.items():
        write_split(folder / f"{name}.arrow", ids, lengths, texts.targets[name], texts.texts[name])
    signature = {
        "input": "tokens",
        "vocab_size": max(model.get_vocab().values()) + 1,
        "max_length": max_length,
        "pad_id": tokenizer.pad_id(model),
        "n_classes": len(texts.labels),
    }
    record = texts.record | batches.figures(encoded["train"][1]) | {"vocab_size": signature["vocab_size"]}
    record["cut"] = {name: n_cut for name, (_, _, n_cut) in encoded.items()}
    (folder / "record.json").write_text(json.dumps({"record": record, "labels": texts.labels, "signature": signature}))


def load(folder: Path) -> Classification:
    """What `write` stored; the splits stay on disk, mapped into memory."""
    stored = json.loads((folder / "record.json").read_text())
    pad_id = stored["signature"]["pad_id"]
    return Classification(
        folder=folder,
        record=stored["record"],
        labels=stored["labels"],
        splits={name: open_split(folder / f"{name}.arrow", pad_id) for name in NAMES},
        signature=stored["signature"],
        files={"tokenizer.json": folder / "tokenizer.json"},
    )


def write_split(
    path: Path, ids: NDArray[np.int32], lengths: NDArray[np.int32], targets: NDArray[np.int64], texts: pa.Array
) -> None:
    """Store one split; `ids` of all texts in a row. See `open_split`."""
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    columns = {
        "ids": pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(ids)),
        "length": pa.array(lengths),
        "target": pa.array(targets),
        "text": texts,
    }
    batch = pa.record_batch(columns)
    with ipc.new_file(str(path), batch.schema) as file:
        file.write_batch(batch)


def open_split(path: Path, pad_id: int) -> TextSplit:
    """What `write_split` stored, mapped into memory."""
    batch = ipc.open_file(pa.memory_map(str(path))).get_batch(0)
    ids = batch.column("ids")
    return TextSplit(
        ids=_numbers(ids.values, np.int32),
        offsets=_numbers(ids.offsets, np.int64),
        lengths=_numbers(batch.column("length"), np.int32),
        targets=_numbers(batch.column("target"), np.int64),
        texts=batch.column("text"),
        pad_id=pad_id,
    )


def _numbers(array: pa.Array, kind: type[N]) -> NDArray[N]:
    """The mapped memory itself. `to_numpy` would do, were it not for importing pandas (0.5 s, 40 MB a process)."""
    return np.frombuffer(array.buffers()[-1], kind, count=len(array), offset=array.offset * np.dtype(kind).itemsize)


def _hash(texts: pa.Array, targets: NDArray[np.int64], distinct: list[Label]) -> str:
    """SHA-256 of a split's texts and labels, in order."""
    _, offsets, characters = texts.buffers()
    found = hashlib.sha256(json.dumps(distinct).encode())
    for part in (offsets, characters, targets.data):
        found.update(part)
    return found.hexdigest()
