"""A folder of an object store, through pyarrow's file systems. A file is one put; a folder counts once it is complete.

Object stores have no rename. So a folder that was put gets a list of its files as the last of them: without it, what
lies there is the rest of an upload that was cut off.
"""

import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qsl, urlsplit

from pyarrow import ArrowException, fs

from trainables.store import StorageError

COMPLETE = "complete.json"
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
# What no waiting mends.
_FINAL = ("NO_SUCH_BUCKET", "ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "HTTP status 40")
_T = TypeVar("_T")


class Objects:
    """The files below one prefix of a bucket; what fails for now is tried again for `patience` seconds."""

    def __init__(self, uri: str, shown: str, patience: float) -> None:
        self._shown = shown
        self._patience = patience
        self._files, root = _file_system(uri)
        self._root = root.rstrip("/")

    def read(self, name: str) -> bytes:
        return self._try(name, "read", lambda: self._read(name), missing=False)

    def _read(self, name: str) -> bytes:
        with self._files.open_input_stream(self._at(name)) as stream:
            return bytes(stream.readall())

    def write(self, name: str, data: bytes) -> None:
        self._try(name, "written", lambda: self._write(name, data))

    def _write(self, name: str, data: bytes) -> None:
        with self._files.open_output_stream(self._at(name)) as stream:
            stream.write(data)

    def names(self, below: str) -> list[str]:
        found = self._listed(below, recursive=True)
        return [info.path[len(self._root) + 1 :] for info in found if info.type == fs.FileType.File]

    def folders(self, below: str) -> list[str]:
        found = self._listed(below, recursive=False)
        return [info.base_name for info in found if info.type == fs.FileType.Directory]

    def _listed(self, below: str, *, recursive: bool) -> list[fs.FileInfo]:
        selector = fs.FileSelector(self._at(below), allow_not_found=True, recursive=recursive)
        found: list[fs.FileInfo] = self._try(below, "listed", lambda: self._files.get_file_info(selector))
        return found

    def exists(self, name: str) -> bool:
        info = self._try(name, "read", lambda: self._files.get_file_info(self._at(name)))
        return bool(info.type != fs.FileType.NotFound)

    def put(self, folder: Path, name: str) -> None:
        files = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file()]
        self.delete(f"{name}/{COMPLETE}")
        self.delete(name)
        for file in files:
            self._try(f"{name}/{file}", "written", partial(self._upload, folder / file, f"{name}/{file}"))
        self.write(f"{name}/{COMPLETE}", json.dumps(files).encode())
        shutil.rmtree(folder)

    def _upload(self, source: Path, name: str) -> None:
        with source.open("rb") as file, self._files.open_output_stream(self._at(name)) as stream:
            shutil.copyfileobj(file, stream)

    @contextlib.contextmanager
    def get(self, name: str) -> Iterator[Path]:
        files = json.loads(self.read(f"{name}/{COMPLETE}"))
        with tempfile.TemporaryDirectory(prefix="fitformer-") as scratch:
            for file in files:
                target = Path(scratch) / file
                if not target.resolve().is_relative_to(Path(scratch).resolve()):
                    raise StorageError(f"storage: {self._shown}/{name}/{COMPLETE} names {file!r}, which leads outside")
                target.parent.mkdir(parents=True, exist_ok=True)
                self._try(f"{name}/{file}", "read", partial(self._download, f"{name}/{file}", target), missing=False)
            yield Path(scratch)

    def _download(self, name: str, target: Path) -> None:
        with self._files.open_input_stream(self._at(name)) as stream, target.open("wb") as file:
            shutil.copyfileobj(stream, file)

    def delete(self, name: str) -> None:
        self._try(name, "deleted", lambda: self._delete(self._at(name)))

    def _delete(self, path: str) -> None:
        info = self._files.get_file_info(path)
        with contextlib.suppress(FileNotFoundError):
            if info.type == fs.FileType.Directory:
                self._files.delete_dir(path)
            elif info.type != fs.FileType.NotFound:
                self._files.delete_file(path)

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def _try(self, name: str, done: str, action: Callable[[], _T], *, missing: bool = True) -> _T:
        """Again and again with growing pauses. `missing`: whether a missing object is the storage's fault."""
        pause, end = _FIRST_PAUSE_S, time.monotonic() + self._patience
        while True:
            try:
                return action()
            except (OSError, ArrowException) as error:
                final = any(word in str(error) for word in _FINAL)
                if isinstance(error, FileNotFoundError) and not missing and not final:
                    raise FileNotFoundError(f"{self._shown}/{name} is missing") from None
                if final or time.monotonic() + pause > end:
                    raise self._told(name, done, error) from None
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _told(self, name: str, done: str, error: Exception) -> StorageError:
        lines = str(error).splitlines() or [type(error).__name__]
        place = f"{self._shown}/{name}" if name else self._shown
        return StorageError(
            f"storage: {place} could not be {done} ({lines[0].strip()}); "
            "see to bucket, credentials and network, then run the same command again"
        )


def _file_system(uri: str) -> tuple[fs.FileSystem, str]:
    parts = urlsplit(uri)
    try:
        if parts.scheme != "s3":
            found: tuple[fs.FileSystem, str] = fs.FileSystem.from_uri(uri)
            return found
        # Few attempts and small files in one request: the URI alone cannot say so.
        options = dict(parse_qsl(parts.query))
        retry = fs.AwsStandardS3RetryStrategy(max_attempts=1)
        files = fs.S3FileSystem(retry_strategy=retry, allow_delayed_open=True, background_writes=False, **options)
        return files, parts.netloc + parts.path
    except (TypeError, OSError, ValueError, ArrowException, ImportError) as error:
        raise ValueError(f"storage {uri.partition('?')[0]!r} cannot be used: {str(error).splitlines()[0]}") from None
