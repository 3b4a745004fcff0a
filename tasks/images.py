"""Labelled images: read from arrays, split, written as NumPy files and mapped back into memory.

Digits: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998: 1,797 images of 8 x 8.
"""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks import batches, labels, splits
from tasks.classification import Classification
from tasks.labels import Label
from tasks.splits import ALIASES, NAMES, some
from tasks.stratified import Rows
from tasks.task import Batch, DataError

ARRAYS = "an .npz file with `images` (N, H, W) or (N, H, W, C), `labels` (N,) and, if you like, `split` (N,)"


@dataclass(frozen=True)
class Source:
    """Read, not yet split: images (n, H, W, C), a label and a split ("" = not said) each, the factor to [-1, 1]."""

    images: NDArray[Any]
    labels: NDArray[Any]
    split: NDArray[Any]
    scale: float


@dataclass(frozen=True)
class Images:
    """The examples of each split, and how they came about."""

    labels: list[Label]
    images: Mapping[str, NDArray[Any]]
    targets: Mapping[str, NDArray[np.int64]]
    scale: float
    record: dict[str, Any]


@dataclass(frozen=True)
class ImageSplit:
    """One split, mapped into memory (see `tasks.task.Split`): `images` (n, H, W, C) as they were given."""

    images: NDArray[Any]
    targets: NDArray[np.int64]
    scale: float

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def lengths(self) -> NDArray[np.int32]:
        """Pixels of each image; all the same, so no batch is padded."""
        _, height, width, _ = self.images.shape
        return np.full(len(self), height * width, np.int32)

    def batch(self, rows: Rows) -> Batch:
        """`pixels` (B, H, W, C), multiplied by the scale."""
        return Batch({"pixels": self.images[rows].astype(np.float32) * np.float32(self.scale)}, self.targets[rows])

    def raw(self, rows: Rows) -> list[NDArray[Any]]:
        """The images as they were given."""
        return list(self.images[rows])


def digits() -> Source:
    """scikit-learn's digits: 0 to 16 a pixel."""
    from sklearn import datasets  # slow to import, and needed once

    found = datasets.load_digits()
    images = found.images[..., None].astype(np.uint8)
    return Source(images, found.target, np.full(len(images), ""), 1 / 16)


def locate(data: str) -> Path:
    """The user's file. Raises DataError."""
    path = Path(data).expanduser()
    if not path.is_file():
        raise DataError([f"data: {path} is no file (working folder {Path.cwd()}); give `digits` or {ARRAYS}."])
    if path.suffix != ".npz":
        raise DataError([f"data: {path} has the unknown format {path.suffix!r}; give `digits` or {ARRAYS}."])
    return path


def read(path: Path) -> Source:
    """The arrays of a file. Raises DataError."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError([f"data: {path} cannot be read: {str(error)[:200]}; give {ARRAYS}."]) from error
    if faults := _faults(path, arrays):
        raise DataError(faults)
    images = arrays["images"]
    images = images if images.ndim == 4 else images[..., None]
    split = arrays.get("split", np.full(len(images), ""))
    return Source(images, arrays["labels"], np.array([_split(name) or "" for name in split]), _scale(images))


def draw(source: Source, shares: Mapping[str, float], sample: int | None, seed: int) -> Images:
    """The source's images in their splits; training ones cut down to a stratified `sample`. Raises DataError."""
    canonical = labels.canonical(pa.chunked_array([pa.array(source.labels)]), "labels")
    distinct, targets = labels.encode(canonical)
    numbers: dict[bytes, int] = {}
    same = np.array([numbers.setdefault(_digest(image), len(numbers)) for image in source.images])
    rows, record = splits.draw(splits.Examples(distinct, targets, same, source.split), shares, sample, seed)
    images = {name: source.images[rows[name]] for name in NAMES}
    record["hash"] = {name: _hash(images[name], targets[rows[name]], distinct) for name in NAMES}
    return Images(distinct, images, {name: targets[rows[name]] for name in NAMES}, source.scale, record)


def write(images: Images, folder: Path) -> None:
    """Store; see `load`."""
    for name in NAMES:
        np.save(folder / f"{name}-images.npy", images.images[name])
        np.save(folder / f"{name}-targets.npy", images.targets[name])
    _, height, width, channels = images.images["train"].shape
    signature = {
        "input": "pixels",
        "height": height,
        "width": width,
        "channels": channels,
        "scale": images.scale,
        "n_classes": len(images.labels),
    }
    record = images.record | batches.figures(np.full(len(images.images["train"]), height * width, np.int32))
    stored = {"record": record, "labels": images.labels, "signature": signature}
    (folder / "record.json").write_text(json.dumps(stored))


def load(folder: Path) -> Classification:
    """What `write` stored; the splits stay on disk, mapped into memory."""
    stored = json.loads((folder / "record.json").read_text())
    mapped = {path.stem: np.load(path, mmap_mode="r") for path in folder.glob("*.npy")}
    scale = stored["signature"]["scale"]
    return Classification(
        folder=folder,
        record=stored["record"],
        labels=stored["labels"],
        splits={name: ImageSplit(mapped[f"{name}-images"], mapped[f"{name}-targets"], scale) for name in NAMES},
        signature=stored["signature"],
    )


def _digest(image: NDArray[Any]) -> bytes:
    return hashlib.blake2b(image.tobytes(), digest_size=16).digest()


def _hash(images: NDArray[Any], targets: Rows, distinct: list[Label]) -> str:
    """SHA-256 of a split's images and labels, in order."""
    about = f"{json.dumps(distinct)} {images.dtype} {images.shape}".encode()
    return hashlib.sha256(about + images.tobytes() + targets.tobytes()).hexdigest()


def _faults(path: Path, arrays: Mapping[str, NDArray[Any]]) -> list[str]:
    missing = [name for name in ("images", "labels") if name not in arrays]
    if missing:
        there = ", ".join(arrays) or "nothing"
        return [f"data: {path} has no array {name!r}; there are {there}; give {ARRAYS}." for name in missing]
    return _bad_images(path, arrays["images"]) + _bad_labels(path, arrays) + _bad_splits(path, arrays)


def _bad_images(path: Path, images: NDArray[Any]) -> list[str]:
    if images.ndim not in {3, 4} or images.dtype.kind not in "uifb" or 0 in images.shape:
        return [f"data: images of {path} are {images.dtype} of shape {images.shape}, must be numbers; give {ARRAYS}."]
    if not np.isfinite(images).all():
        return [f"data: images of {path} hold NaN or infinity, must be finite; repair or drop them."]
    return []


def _bad_labels(path: Path, arrays: Mapping[str, NDArray[Any]]) -> list[str]:
    n, values = len(arrays["images"]) if arrays["images"].ndim else 0, arrays["labels"]
    if values.shape != (n,):
        return [f"label: labels of {path} have the shape {values.shape}, must be ({n},): one for each image."]
    if values.dtype.kind not in "uifbU":
        return [f"label: labels of {path} are {values.dtype}, must be strings, integers or booleans."]
    if values.dtype.kind == "f" and (n_null := int(np.isnan(values).sum())):
        return [f"label: {n_null:,} of {n:,} labels of {path} are NaN, every image needs a label; fill or drop them."]
    return []


def _bad_splits(path: Path, arrays: Mapping[str, NDArray[Any]]) -> list[str]:
    if "split" not in arrays:
        return []
    if arrays["split"].shape != arrays["labels"].shape:
        shapes = f"{arrays['split'].shape}, must be {arrays['labels'].shape}"
        return [f"data: split of {path} has the shape {shapes}: one for each image."]
    foreign = sorted({repr(str(name)) for name in arrays["split"] if _split(name) is None})
    return [f"data: split of {path} holds {some(foreign)}, must be train, validation or test."] if foreign else []


def _split(name: object) -> str | None:
    return ALIASES.get(str(name).strip().lower())


def _scale(images: NDArray[Any]) -> float:
    largest = 255.0 if images.dtype == np.uint8 else float(np.abs(images.astype(np.float64)).max())
    return 1 / largest if largest else 1.0
