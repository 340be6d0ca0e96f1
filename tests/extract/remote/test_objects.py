"""Videos in object stores: listed by prefix and pattern, fetched in ranges, known again by their ETag."""

from __future__ import annotations

import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from clipcache.cache.common.errors import UsageError
from clipcache.cache.common.hashing import memo_path
from clipcache.extract.inputs import find_items
from clipcache.extract.remote import objects
from extract_runs import Cli, read_failures
from remote_library import Library, Run

fsspec = pytest.importorskip("fsspec")

BUCKET = "clips"
HIDDEN = "hunter2secretkey"


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    pytest.importorskip("s3fs")
    pytest.importorskip("flask_cors")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(moto_url: str, library: Library, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A bucket with the library, of which the environment says how to reach it."""
    import s3fs

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "hunter2id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", HIDDEN)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_url)
    s3fs.S3FileSystem.clear_instance_cache()
    files = s3fs.S3FileSystem()
    files.mkdir(BUCKET)
    for number, (name, data) in enumerate(library.videos.items()):
        files.pipe(f"{BUCKET}/{'deep/' * number}{name}", data)
    files.pipe(f"{BUCKET}/notes.txt", b"no video")
    yield files
    files.rm(BUCKET, recursive=True)
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def memory(library: Library) -> Iterator[Any]:
    files = fsspec.filesystem("memory")
    for name, data in library.videos.items():
        files.pipe(f"/{BUCKET}/{name}", data)
    yield files
    files.rm(f"/{BUCKET}", recursive=True)


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the objects of which parts are asked for."""
    names: list[str] = []
    original = objects._Parts.__init__

    def note(self: Any, files: Any, path: str, start: int, end: int) -> None:
        names.append(path)
        original(self, files, path, start, end)

    monkeypatch.setattr(objects._Parts, "__init__", note)
    return names


def names(*inputs: str) -> list[str]:
    return [item.name for item in find_items(inputs)]


def test_a_bucket_is_listed_and_nothing_is_fetched_twice(
    s3: Any, library: Library, run: Run, tmp_path: Path, fetched: list[str]
) -> None:
    assert run(f"s3://{BUCKET}").extracted == 4
    library.assert_same(tmp_path / "cache")
    assert len(fetched) == 4
    assert run(f"s3://{BUCKET}").cached == 4
    assert len(fetched) == 4
    s3.pipe(f"{BUCKET}/new.mp4", library.videos["clip0.mp4"])
    assert run(f"s3://{BUCKET}").cached == 5, "a new object is seen, and its content is known"
    assert fetched[4:] == [f"{BUCKET}/new.mp4"]


def test_prefixes_patterns_and_names(s3: Any) -> None:
    top = f"s3://{BUCKET}"
    assert names(top) == [f"{top}/clip0.mp4"] + [f"{top}/{'deep/' * n}clip{n}.mp4" for n in (1, 2, 3)]
    assert names(f"{top}/deep/deep/") == [f"{top}/deep/deep/clip2.mp4", f"{top}/deep/deep/deep/clip3.mp4"]
    assert names(f"{top}/*/*.mp4") == [f"{top}/deep/clip1.mp4"]
    assert names(f"{top}/**/clip[12].mp4") == [f"{top}/deep/clip1.mp4", f"{top}/deep/deep/clip2.mp4"]
    assert names(f"{top}/clip0.mp4", f"{top}/clip0.mp4") == [f"{top}/clip0.mp4"]
    [item, *_] = find_items([f"{top}/deep"])
    assert item.source is not None
    assert item.source.relative == "clip1.mp4"
    with pytest.raises(UsageError, match=r"No video and no image in 's3://clips/\*.webm'"):
        find_items([f"{top}/*.webm"])


def test_tars_are_read_in_the_store(s3: Any, library: Library, run: Run, tmp_path: Path, fetched: list[str]) -> None:
    path = tmp_path / "shard.tar"
    with tarfile.open(path, "w") as tar:
        for name, data in library.videos.items():
            (tmp_path / name).write_bytes(data)
            tar.add(tmp_path / name, name)
    s3.pipe(f"{BUCKET}/shards/000.tar", path.read_bytes())
    assert run(f"s3://{BUCKET}/shards/{{000..000}}.tar").extracted == 4
    library.assert_same(tmp_path / "cache")
    fetched.clear()
    assert run(f"s3://{BUCKET}/shards/*.tar").cached == 4
    assert fetched == []
    assert f"s3://{BUCKET}/shards/000.tar" not in " ".join(names(f"s3://{BUCKET}")), "it is not named"


def test_what_is_not_there_is_told(s3: Any, library: Library, run: Run, tmp_path: Path) -> None:
    summary = run(f"s3://{BUCKET}/clip0.mp4", f"s3://{BUCKET}/gone.mp4", "s3://no-such-bucket/")
    assert (summary.extracted, summary.failed) == (1, 2)
    gone = f"s3://{BUCKET}/gone.mp4"
    assert summary.failures[gone] == f"Cannot read '{gone}': it is not there."
    assert read_failures(tmp_path / "cache") == []


def test_credentials_are_in_no_file_and_on_no_stream(s3: Any, clipcache: Cli, tmp_path: Path) -> None:
    s3.pipe(f"{BUCKET}/bad.mp4", b"\0" * 100)
    said = []
    for words in (["-v"], ["--debug"], ["--dry-run"]):
        outcome = clipcache(f"s3://{BUCKET}", f"s3://hunter2id:{HIDDEN}@{BUCKET}/gone.mp4", *words)
        said += [outcome.out, outcome.err]
    assert [failure["path"] for failure in clipcache.failures] == [f"s3://{BUCKET}/bad.mp4"]
    files = [path for folder in (tmp_path, memo_path().parent) for path in folder.rglob("*") if path.is_file()]
    assert not any("hunter2" in text for text in said)
    assert [path for path in files if b"hunter2" in path.read_bytes()] == []


def test_without_credentials_the_store_is_not_asked(s3: Any, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    type(s3).clear_instance_cache()
    with pytest.raises(UsageError, match=r"clip0.mp4': there are no credentials for it"):
        run(f"s3://{BUCKET}/clip0.mp4")


def test_whatever_fsspec_knows_is_read(memory: Any, library: Library, run: Run, tmp_path: Path) -> None:
    assert run(f"memory://{BUCKET}/*.mp4").extracted == 4
    library.assert_same(tmp_path / "cache")
    assert run(f"memory://{BUCKET}").cached == 4


def test_an_object_that_changes_is_not_believed(
    memory: Any, library: Library, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = objects._Parts.readinto

    def change(self: Any, buffer: Any) -> int:
        if "clip1" in self._path:
            memory.pipe(self._path, bytes(len(library.videos["clip1.mp4"])))
        return original(self, buffer)

    monkeypatch.setattr(objects._Parts, "readinto", change)
    summary = run(f"memory://{BUCKET}")
    assert (summary.extracted, summary.failed) == (3, 1)
    assert "it changed while it was read" in summary.failures[f"memory:///{BUCKET}/clip1.mp4"]
    assert read_failures(tmp_path / "cache") == []


def test_a_store_that_fails_for_a_while_is_asked_again(memory: Any, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([OSError("hunter2"), ConnectionResetError("hunter2"), TimeoutError()])
    original = type(memory).cat_file

    def cat(self: Any, *what: Any, **how: Any) -> bytes:
        if error := next(losses, None):
            raise error
        return original(self, *what, **how)  # type: ignore[no-any-return]

    monkeypatch.setattr(type(memory), "cat_file", cat)
    assert run(f"memory://{BUCKET}/clip0.mp4").extracted == 1


def test_missing_packages_and_unknown_schemes_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no kind of URL that begins with 'nonsense://'"):
        find_items(["nonsense://a/b.mp4"])
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(UsageError, match=r"not installed; install them|pip install 'clipcache\[remote\]'"):
        find_items(["s3://me:hunter2@bucket/b.mp4"])


def test_question_and_number_signs_are_parts_of_names(memory: Any, library: Library, run: Run, tmp_path: Path) -> None:
    files = {f"/odd/clip#{number}?.mp4": data for number, data in enumerate(library.videos.values())}
    for path, data in files.items():
        memory.pipe(path, data)
    try:
        assert run("memory://odd").extracted == 4
        assert names("memory://odd/clip#2?.mp4") == ["memory:///odd/clip%232%3F.mp4"]
    finally:
        memory.rm("/odd", recursive=True)


def test_a_tar_may_match_a_question_mark(s3: Any, library: Library, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        (tmp_path / "clip.mp4").write_bytes(library.videos["clip0.mp4"])
        tar.add(tmp_path / "clip.mp4", "clip.mp4")
    s3.pipe(f"{BUCKET}/shards/0.tar", (tmp_path / "0.tar").read_bytes())
    [item] = find_items([f"s3://{BUCKET}/shards/?.tar"])
    assert (item.name, item.place) == (f"s3://{BUCKET}/shards/0.tar/clip.mp4", "0.tar/clip.mp4")


def test_files_of_two_hosts_are_two() -> None:
    files = SimpleNamespace(unstrip_protocol=lambda path: f"sftp://{path}")
    keys = {objects.ObjectBlob(files, "/a.mp4", place).key for place in ("one", "two")}
    assert keys == {"sftp://one/a.mp4", "sftp://two/a.mp4"}


def test_a_url_within_a_url_is_refused_without_its_credentials() -> None:
    with pytest.raises(UsageError, match="names a file within another, is not read") as caught:
        find_items([f"zip://a.mp4::https://me:{HIDDEN}@host/a.zip?sig={HIDDEN}"])
    assert HIDDEN not in str(caught.value)
