import errno
import os
import shutil
import threading

import pytest

from trainables.store import StorageError, Store


@pytest.fixture(params=["disk", "s3"])
def store(request, tmp_path):
    if request.param == "disk":
        return Store(tmp_path / "run")
    return Store(request.getfixturevalue("bucket"), patience=2)


def folder(path, **files):
    for name, text in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    return path


def contents(store, name):
    with store.get(name) as path:
        return {file.name: file.read_text() for file in path.iterdir()}


def test_files_are_written_read_listed_and_deleted(store):
    for name in ("a.json", "b/c.json", "b/d/e.json"):
        store.write(name, name.encode())
    store.write("a.json", b"again")
    assert store.read("a.json") == b"again"
    assert store.names() == ["a.json", "b/c.json", "b/d/e.json"]
    assert store.names("b") == ["b/c.json", "b/d/e.json"]
    assert store.folders() == ["b"]
    assert (store / "b").read("d/e.json") == b"b/d/e.json"
    assert [store.exists(name) for name in ("a.json", "b", "c")] == [True, True, False]
    for name in ("a.json", "b", "never/there"):
        store.delete(name)
    assert store.names() == []
    with pytest.raises(FileNotFoundError, match=r"a\.json"):
        store.read("a.json")
    assert store.names("nowhere") == store.folders("nowhere") == []


def test_folder_takes_its_place_as_a_whole(store, tmp_path):
    store.put(folder(tmp_path / "one", x="1", y="2"), "trials/a/3")
    assert contents(store, "trials/a/3") == {"x": "1", "y": "2"}
    assert not (tmp_path / "one").exists()
    store.put(folder(tmp_path / "two", x="3"), "trials/a/3")
    assert contents(store, "trials/a/3") == {"x": "3"}
    store.delete("trials/a/3")
    with pytest.raises(FileNotFoundError), store.get("trials/a/3"):
        pass


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a\\b", ".", "a\0"])
def test_names_stay_within_the_folder(store, name):
    for use in (store.read, store.delete, store.exists, store.get, store.__truediv__, lambda n: store.write(n, b"")):
        with pytest.raises(ValueError, match="must be relative") as caught:
            use(name)
        assert repr(name) in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("s3:/one-slash", "storage 's3:/one-slash' must be a bucket after two slashes, as s3://bucket/folder"),
        ("s9://x", "storage 's9://x' must be a path or begin with one of file://, s3://, gs://"),
        ("file://host/x", "storage 'file://host/x' must be a path or begin with one of"),
        ("s3://b/x?colour=red", "storage 's3://b/x' cannot be used"),
    ],
)
def test_uris_that_name_no_folder_are_refused(uri, message):
    with pytest.raises(ValueError) as caught:
        Store(uri)
    assert message in str(caught.value)


@pytest.mark.parametrize("uri", ["s3://me:hidden@bucket/x", "s3://bucket/x?access_key=me&secret_key=hidden"])
def test_credentials_in_a_uri_are_refused_and_not_shown(uri):
    with pytest.raises(ValueError, match="must not hold credentials") as caught:
        Store(uri)
    assert "hidden" not in str(caught.value)


def test_uri_is_absolute_and_what_is_shown_has_no_query(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Store("results").uri == str(tmp_path / "results")
    assert Store(f"file://{tmp_path}/a%20b").local == tmp_path / "a b"
    there = Store("s3://bucket/x?region=eu-west-1") / "run"
    assert (there.uri, there.shown) == ("s3://bucket/x/run?region=eu-west-1", "s3://bucket/x/run")
    assert (there.name, there.local) == ("run", None)
    assert there.parent.uri == "s3://bucket/x?region=eu-west-1"


def test_links_are_removed_but_never_followed(tmp_path):
    kept = folder(tmp_path / "kept", x="1")
    store = Store(tmp_path / "run")
    store.write("trials/y", b"")
    (tmp_path / "run" / "trials" / "link").symlink_to(kept)
    with pytest.raises(StorageError, match="lies behind a symbolic link"):
        store.delete("trials/link/x")
    store.delete("trials/link")
    (tmp_path / "run" / "trials" / "inner").symlink_to(kept)
    store.delete("trials")
    assert (kept / "x").read_text() == "1"
    assert not store.exists("trials")


@pytest.mark.parametrize(
    ("code", "way_out"), [(errno.ENOSPC, "make room"), (errno.EROFS, "mount it"), (errno.EIO, "see to the disk")]
)
def test_failing_disk_leaves_the_old_file(tmp_path, monkeypatch, code, way_out):
    store = Store(tmp_path)
    store.write("a", b"old")

    def failing(_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("os.fsync", failing)
    with pytest.raises(StorageError, match=f"{tmp_path}/a could not be written.*{os.strerror(code)}.*{way_out}"):
        store.write("a", b"new")
    assert store.read("a") == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_drafts_of_a_killed_writer_do_not_count(tmp_path):
    folder(tmp_path, **{".a.1234.part": "x", ".b.part/file": "y", "c": "z"})
    assert Store(tmp_path).names() == ["c"]


def test_half_upload_does_not_count(bucket, tmp_path):
    store = Store(bucket)
    store.put(folder(tmp_path / "one", x="1"), "trials/a")
    store.delete("trials/a/complete.json")
    with pytest.raises(FileNotFoundError), store.get("trials/a"):
        pass


@pytest.mark.timeout(10)
def test_missing_bucket_is_told_at_once(bucket):
    store = Store(bucket.replace("//runs/", "//nowhere/"))
    with pytest.raises(StorageError, match=r"s3://nowhere/.*/a could not be written \(.*NO_SUCH_BUCKET"):
        store.write("a", b"")


def test_server_that_comes_back_is_waited_for(bucket, s3):
    store = Store(bucket)
    s3.stop()
    threading.Timer(1.0, s3.start).start()
    store.write("a", b"x")
    assert store.read("a") == b"x"


def test_server_that_stays_away_is_told(bucket, s3):
    s3.stop()
    try:
        with pytest.raises(StorageError, match="could not be read .*; see to bucket, credentials and network"):
            Store(bucket, patience=0.2).read("a")
    finally:
        s3.start()


def test_folder_from_another_file_system_is_copied(tmp_path):
    elsewhere = folder(tmp_path / "one", x="1")
    store = Store(tmp_path / "run")
    shutil.move(elsewhere, tmp_path / "two")
    store.put(tmp_path / "two", "a")
    assert contents(store, "a") == {"x": "1"}
