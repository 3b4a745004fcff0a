"""A folder wherever it lies: on a local or shared disk as plain files, or in an object store."""

import contextlib
import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit, urlunsplit

# How long an object store that does not answer is asked again, in seconds.
PATIENCE_S = 300.0
SCHEMES = ("s3", "gs", "abfs", "abfss", "hdfs")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_SECRET = re.compile(r"(key|secret|token|password|sig|signature)=", re.IGNORECASE)
_DRAFT = re.compile(r"\..*\.part")
_WAYS_OUT = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there, or ask for a larger quota",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EROFS: "mount it for writing",
    errno.EACCES: "get the right to it",
    errno.EPERM: "get the right to it",
}


class StorageError(OSError):
    """The run's storage could not be read or written. One line: what, why, and the way out."""


def disk_error(what: str, error: OSError) -> StorageError:
    """The error of a disk as users are told it."""
    way_out = _WAYS_OUT.get(error.errno or 0, "see to the disk")
    return StorageError(f"storage: {what} ({error.strerror or error}); {way_out}, then run the same command again")


class Store:
    """Reads and writes files and whole folders below one folder.

    `uri`: a path, "file:///a/b", or "s3://bucket/x?region=…&endpoint_override=http://…" and the other schemes of
    pyarrow's file systems; credentials come from the environment, never from the URI. `patience`: for how many seconds
    an object store that fails is tried again. Names are relative, with slashes.

    Methods raise StorageError where the storage fails, ValueError for a name that leads out of the folder.
    """

    def __init__(self, uri: str | Path, *, patience: float = PATIENCE_S) -> None:
        self.uri = absolute(str(uri))
        self.patience = patience
        self.local = None if _URI.match(self.uri) else Path(self.uri)
        self.shown = urlunsplit(urlsplit(self.uri)._replace(query="")) if self.local is None else self.uri
        self._place = self._opened()

    def _opened(self) -> "Place":
        if self.local is not None:
            return Disk(self.local)
        from trainables.object_store import Objects

        return Objects(self.uri, self.shown, self.patience)

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.shown.rstrip("/").rpartition("/")[2]

    @property
    def parent(self) -> "Store":
        """The store of the folder above."""
        if self.local is not None:
            return Store(self.local.parent, patience=self.patience)
        parts = urlsplit(self.uri)
        above = parts._replace(path=parts.path.rstrip("/").rpartition("/")[0])
        return Store(urlunsplit(above), patience=self.patience)

    def __truediv__(self, name: str) -> "Store":
        """The store of a folder below."""
        parts = urlsplit(self.uri)
        if self.local is not None:
            return Store(self.local / _checked(name), patience=self.patience)
        below = parts._replace(path=f"{parts.path.rstrip('/')}/{_checked(name)}")
        return Store(urlunsplit(below), patience=self.patience)

    def __repr__(self) -> str:
        return f"Store({self.shown!r})"

    def read(self, name: str) -> bytes:
        """A file's bytes. FileNotFoundError where there is none."""
        return self._place.read(_checked(name))

    def write(self, name: str, data: bytes) -> None:
        """A file as a whole or not at all, durable on return."""
        self._place.write(_checked(name), data)

    def names(self, below: str = "") -> list[str]:
        """All files in the folder `below` and its folders, relative to the store, sorted; drafts are left out."""
        return sorted(self._place.names(_checked(below.rstrip("/")) if below else ""))

    def folders(self, below: str = "") -> list[str]:
        """The names of the direct subfolders, sorted."""
        return sorted(self._place.folders(_checked(below) if below else ""))

    def exists(self, name: str) -> bool:
        """Whether there is a file or a folder of that name."""
        return self._place.exists(_checked(name))

    def put(self, folder: Path, name: str) -> None:
        """A complete local folder takes its place under `name` and replaces what lies there; `folder` may be moved."""
        self._place.put(folder, _checked(name))

    def get(self, name: str) -> AbstractContextManager[Path]:
        """A folder as a local one for reading. FileNotFoundError where there is no complete one."""
        return self._place.get(_checked(name))

    def delete(self, name: str) -> None:
        """Removes a file or a folder; a missing one is fine. Symbolic links are removed, never followed."""
        self._place.delete(_checked(name))


def absolute(uri: str) -> str:
    """An absolute path for what lies on disk, else the URI. Raises ValueError for what names no folder."""
    if not _URI.match(uri):
        return str(Path(uri).expanduser().absolute())
    parts = urlsplit(uri)
    if _SECRET.search(parts.query) or ("@" in parts.netloc and parts.scheme in ("s3", "gs")):
        raise ValueError(f"storage {parts.scheme}://… must not hold credentials; give them through the environment")
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return unquote(parts.path)
    if parts.scheme not in SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in ("file", *SCHEMES))
        raise ValueError(f"storage {uri!r} must be a path or begin with one of {known}")
    if not parts.netloc:
        raise ValueError(f"storage {uri!r} must be a bucket after two slashes, as {parts.scheme}://bucket/folder")
    return uri


def _checked(name: str) -> str:
    if "\\" in name or "\0" in name or any(part in ("", ".", "..") for part in name.split("/")):
        raise ValueError(f"name {name!r} must be relative with slashes, and lead nowhere else")
    return name


class Place(Protocol):
    """What disks and object stores do alike; names have been checked."""

    def read(self, name: str) -> bytes: ...
    def write(self, name: str, data: bytes) -> None: ...
    def names(self, below: str) -> list[str]: ...
    def folders(self, below: str) -> list[str]: ...
    def exists(self, name: str) -> bool: ...
    def put(self, folder: Path, name: str) -> None: ...
    def get(self, name: str) -> AbstractContextManager[Path]: ...
    def delete(self, name: str) -> None: ...


class Disk:
    """A folder of a local or shared disk. What is being written is a draft beside its place until it is whole."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, name: str) -> bytes:
        with _told(f"{self._root / name} could not be read", missing=False):
            return (self._root / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        path = self._root / name
        draft = _draft(path)
        with _told(f"{path} could not be written"):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                draft.write_bytes(data)
                force(draft)
                draft.replace(path)
                force(path.parent)
            finally:
                draft.unlink(missing_ok=True)

    def names(self, below: str) -> list[str]:
        found: list[str] = []
        for folder, folders, files in os.walk(self._root / below):
            folders[:] = [name for name in folders if not _DRAFT.fullmatch(name)]
            there = Path(folder).relative_to(self._root)
            found += [str(there / name) for name in files if not _DRAFT.fullmatch(name)]
        return found

    def folders(self, below: str) -> list[str]:
        try:
            return [path.name for path in (self._root / below).iterdir() if path.is_dir()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise disk_error(f"{self._root / below} could not be listed", error) from None

    def exists(self, name: str) -> bool:
        return (self._root / name).exists()

    def put(self, folder: Path, name: str) -> None:
        path = self._root / name
        draft = _draft(path)
        with _told(f"{path} could not be written"):
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(folder, draft)
            for file in draft.rglob("*"):
                force(file)
            if path.is_symlink() or path.exists():
                self.delete(name)
            draft.rename(path)
            force(path.parent)

    @contextlib.contextmanager
    def get(self, name: str) -> Iterator[Path]:
        path = self._root / name
        if not path.is_dir():
            raise FileNotFoundError(f"{path} is missing")
        yield path

    def delete(self, name: str) -> None:
        path = self._root / name
        if not path.parent.resolve().is_relative_to(self._root.resolve()):
            raise StorageError(f"storage: {path} lies behind a symbolic link and is not deleted; remove the link")
        with _told(f"{path} could not be deleted"), contextlib.suppress(FileNotFoundError):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


@contextlib.contextmanager
def _told(what: str, *, missing: bool = True) -> Iterator[None]:
    """Errors of the disk as StorageError; a missing file only where that is the storage's fault."""
    try:
        yield
    except OSError as error:
        if isinstance(error, StorageError) or (isinstance(error, FileNotFoundError) and not missing):
            raise
        raise disk_error(what, error) from None


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def force(path: Path) -> None:
    """A file or folder to disk, or a crash of the machine could leave a name without its content."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
