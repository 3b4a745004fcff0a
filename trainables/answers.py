"""What a teacher says to a data set, computed once and kept for all trials.

It lies in the cache, one Arrow file for the logits and one for each feature of a layer (see `trainables.losses`), in
half precision, mapped into the memory of every trial. A file is whole or absent; of trials that want the same one at
once, one computes it and the others wait.
"""

import fcntl
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pyarrow import ipc
from torch import Tensor

from tasks import cache
from tasks.batches import Rows, sorted_by_length
from tasks.task import Split
from trainables.loop import EVALUATION_BATCH, on_device
from trainables.losses import observed
from trainables.optimization import autocast
from trainables.teacher import Teacher

VERSION = 1  # of what is kept; raise it when the same teacher shall give other files
LOGITS = "logits"
Half = NDArray[np.float16]
_CHUNK = 1024  # examples in a record batch
_FILE = "answers.arrow"


class Answers:
    """What a teacher says to each example of a split, by name: its logits, and features of its layers."""

    def __init__(self, batches: Mapping[str, list[pa.RecordBatch]]) -> None:
        self._parts = {name: [_mapped(batch) for batch in parts] for name, parts in batches.items()}

    def logits(self, rows: Rows) -> Half:
        """(B, C)."""
        return np.stack([self._one(LOGITS, int(row)) for row in rows])

    def feature(self, name: str, rows: Rows, length: int | None = None) -> Half:
        """(B, length, E); 0 beyond an example's own positions. length: None where all have equally many."""
        parts = [self._one(name, int(row))[:length] for row in rows]
        found = np.zeros((len(rows), length or len(parts[0]), parts[0].shape[1]), np.float16)
        for place, part in zip(found, parts, strict=True):
            place[: len(part)] = part
        return found

    def _one(self, name: str, row: int) -> Half:
        chunk = len(self._parts[name][0][1]) - 1
        values, offsets, width = self._parts[name][row // chunk]
        place = row % chunk
        found = values[offsets[place] : offsets[place + 1]]
        return found if name == LOGITS else found.reshape(-1, width)


def answers(
    teacher: Teacher,
    split: Split,
    key: Mapping[str, Any],
    cache_folder: Path,
    *,
    names: Iterable[str] = (),
    precision: str = "auto",
    device: str = "cpu",
) -> Answers:
    """The teacher's logits, and the features `names`, of every example of a split.

    key: what the split is, as plain JSON: the same split of the same data has the same one everywhere.
    """
    said = cache.fingerprint({"version": VERSION, "teacher": teacher.fingerprint, "precision": precision, **key})
    folders = {name: cache_folder / f"teacher-{said}" / name for name in (LOGITS, *sorted(names))}
    with _alone(cache_folder / f"teacher-{said}.lock"):
        absent = [name for name, folder in folders.items() if not folder.is_dir()]
        if absent:
            _compute(teacher, split, {name: folders[name] for name in absent}, (precision, device))
    return Answers({name: _open(folder / _FILE) for name, folder in folders.items()})


def _open(path: Path) -> list[pa.RecordBatch]:
    file = ipc.open_file(pa.memory_map(str(path)))
    return [file.get_batch(number) for number in range(file.num_record_batches)]


def _mapped(batch: pa.RecordBatch) -> tuple[Half, NDArray[np.int64], int]:
    """Flat values, where each example's begin, and how many belong to a position, on the mapped memory itself."""
    column = batch.column(0)
    offsets = np.frombuffer(column.offsets.buffers()[-1], np.int64, count=len(column) + 1)
    values = np.frombuffer(column.values.buffers()[-1], np.float16, count=len(column.values))
    return values, offsets, int(batch.schema.metadata[b"width"])


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """One process at a time; a lock is gone with the process that held it."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        with suppress(OSError):  # a file system without locks: at worst two compute the same
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _compute(teacher: Teacher, split: Split, folders: Mapping[str, Path], how: tuple[str, str]) -> None:
    """Write what is asked for, each into its folder; all of it from one pass over the split."""
    parent = next(iter(folders.values())).parent
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".answers-", dir=parent) as room:
        drafts = {name: Path(room) / name for name in folders}
        _write(teacher, split, drafts, how)
        for name, folder in folders.items():
            cache.stored(folder, partial(_moved, drafts[name]))


def _moved(draft: Path, folder: Path) -> None:
    draft.rename(folder / _FILE)


def _write(teacher: Teacher, split: Split, drafts: Mapping[str, Path], how: tuple[str, str]) -> None:
    writers: dict[str, Any] = {}
    try:
        for start in range(0, len(split), _CHUNK):
            rows = np.arange(start, min(start + _CHUNK, len(split)))
            for name, examples in _chunk(teacher, split, rows, set(drafts) - {LOGITS}, how).items():
                if name not in drafts:
                    continue
                batch = _batch(examples)
                if name not in writers:
                    writers[name] = ipc.new_file(str(drafts[name]), batch.schema)
                writers[name].write_batch(batch)
    finally:
        for writer in writers.values():
            writer.close()


def _chunk(teacher: Teacher, split: Split, rows: Rows, names: set[str], how: tuple[str, str]) -> dict[str, list[Half]]:
    """By name, for each of the rows (C,) of logits or (L, E) of a feature. how: precision and device."""
    precision, device = how
    found: dict[str, list[Half]] = {name: [np.empty(0, np.float16)] * len(rows) for name in (LOGITS, *names)}
    model = teacher.model.to(device)
    for places in sorted_by_length(split.lengths[rows], EVALUATION_BATCH):
        inputs = on_device(split.batch(rows[places]), device)[0]
        with torch.no_grad(), autocast(precision, device), observed(model, names) as seen:
            said: dict[str, Tensor] = {LOGITS: model(**inputs)}
        for name, values in (said | seen).items():
            here = values.to(torch.float16).cpu().numpy()
            lengths = inputs["keep"].sum(1).tolist() if "keep" in inputs and name != LOGITS else [None] * len(places)
            for place, value, length in zip(places, here, lengths, strict=True):
                found[name][place] = value[:length]
    return found


def _batch(examples: Sequence[Half]) -> pa.RecordBatch:
    offsets = np.concatenate([[0], np.cumsum([example.size for example in examples], dtype=np.int64)])
    values = pa.array(np.concatenate([example.reshape(-1) for example in examples]))
    column = pa.LargeListArray.from_arrays(pa.array(offsets), values)
    return pa.record_batch({"values": column}).replace_schema_metadata({"width": str(examples[0].shape[-1])})
