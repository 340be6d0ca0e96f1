"""Content hashes and their memo: never wrong, and never in the way."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from clipcache.cache.common import hashing
from clipcache.cache.common.errors import UsageError
from clipcache.cache.common.hashing import (
    DigestMemo,
    content_sha256,
    folder_sha256,
    image_files,
    memo_path,
    sha256_file,
)

LONG_AGO = time.time() - 3600


def settled(path: Path, content: bytes) -> Path:
    """A file last changed an hour ago."""
    path.write_bytes(content)
    os.utime(path, (LONG_AGO, LONG_AGO))
    return path


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files that are really read for their hash."""
    read: list[Path] = []

    def count(path: Path, on_bytes: Callable[[int], None]) -> str:
        read.append(path)
        return sha256_file(path, on_bytes)

    monkeypatch.setattr(hashing, "sha256_file", count)
    return read


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, 3_000_000])
def test_sha256_of_a_file(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    assert sha256_file(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    for call in (sha256_file, DigestMemo(tmp_path / "memo").sha256):
        with pytest.raises(UsageError, match=r"Cannot read .*gone"):
            call(tmp_path / "gone")


def test_a_file_is_read_once(tmp_path: Path, hashed: list[Path]) -> None:
    path = settled(tmp_path / "video", b"content")
    memo = DigestMemo(tmp_path / "memo")
    expected = hashlib.sha256(b"content").hexdigest()
    assert memo.sha256(path) == memo.sha256(path) == expected
    memo.flush()
    assert DigestMemo(tmp_path / "memo").sha256(path) == expected
    assert hashed == [path]


def test_what_is_known_is_told_without_reading(tmp_path: Path, hashed: list[Path]) -> None:
    memo, file = DigestMemo(tmp_path / "memo"), settled(tmp_path / "file", b"content")
    assert memo.known(file) is None
    assert hashed == []
    digest = memo.sha256(file)
    assert memo.known(file) == digest
    assert hashed == [file]
    settled(file, b"changed")
    assert memo.known(file) is None
    with pytest.raises(UsageError, match="Cannot read"):
        memo.known(tmp_path / "missing")


def test_a_changed_file_has_a_new_digest(tmp_path: Path) -> None:
    path = settled(tmp_path / "video", b"content")
    memo = DigestMemo(tmp_path / "memo")
    before = memo.sha256(path)
    path.write_bytes(b"CONTENT")
    assert memo.sha256(path) == hashlib.sha256(b"CONTENT").hexdigest() != before


def test_a_change_whose_time_was_put_back_is_not_missed(tmp_path: Path) -> None:
    """As `rsync --inplace -t` and `touch -d` leave it: same size, same time of modification, same inode."""
    path = settled(tmp_path / "video", b"content")
    memo = DigestMemo(tmp_path / "memo")
    status = path.stat()
    before = memo.sha256(path)
    with path.open("r+b") as file:
        file.write(b"CONTENT")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (status.st_size, status.st_mtime_ns, status.st_ino)
    assert memo.sha256(path) == hashlib.sha256(b"CONTENT").hexdigest() != before


def test_a_change_within_the_clocks_step_is_not_missed(tmp_path: Path) -> None:
    path = tmp_path / "video"
    memo = DigestMemo(tmp_path / "memo")
    path.write_bytes(b"one")
    status = path.stat()
    memo.sha256(path)
    path.write_bytes(b"two")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert memo.sha256(path) == hashlib.sha256(b"two").hexdigest()


def test_files_are_found_again_by_content(tmp_path: Path) -> None:
    memo = DigestMemo(tmp_path / "memo")
    kept, changed, gone = (settled(tmp_path / name, b"weights") for name in ("kept", "changed", "gone"))
    sha256 = {memo.sha256(path) for path in (kept, changed, gone)}.pop()
    changed.write_bytes(b"other")
    gone.unlink()
    assert memo.paths_of(sha256) == [kept]
    assert memo.paths_of("0" * 64) == []


def test_fresh_files_are_found_again_too(tmp_path: Path) -> None:
    memo = DigestMemo(tmp_path / "memo")
    (tmp_path / "weights").write_bytes(b"weights")
    assert memo.paths_of(memo.sha256(tmp_path / "weights")) == [tmp_path / "weights"]


def test_odd_names_and_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hashed: list[Path]) -> None:
    name = os.fsdecode(b"caf\xe9 'x'\n.mp4")
    path = settled(tmp_path / name, b"x")
    memo = DigestMemo(tmp_path / "memo")
    monkeypatch.chdir(tmp_path)
    assert memo.sha256(name) == memo.sha256(path)
    assert len(hashed) == 1
    assert memo.paths_of(memo.sha256(path)) == [path]


def test_what_is_pending_is_kept_at_the_end_of_the_program(tmp_path: Path) -> None:
    for number in range(50):
        settled(tmp_path / f"{number}.mp4", str(number).encode())
    code = """
import sys
from pathlib import Path
from clipcache.cache.common import hashing
from clipcache.cache.common.hashing import DigestMemo
memo = DigestMemo(Path(sys.argv[1], "memo"))
for path in Path(sys.argv[1]).glob("*.mp4"):
    memo.sha256(path)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    with sqlite3.connect(tmp_path / "memo") as connection:
        assert connection.execute("SELECT count(*) FROM digests").fetchone() == (50,)
    connection.close()


def spoil_text(path: Path) -> None:
    path.write_text("not a database" * 100)


def spoil_folder(path: Path) -> None:
    path.mkdir()


def spoil_schema(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE digests (something TEXT)")
    connection.close()


@pytest.mark.parametrize("spoil", [spoil_text, spoil_folder, spoil_schema])
def test_a_bad_database_only_costs_time(tmp_path: Path, spoil: object) -> None:
    spoil(tmp_path / "memo")  # type: ignore[operator]
    path = settled(tmp_path / "video", b"content")
    memo = DigestMemo(tmp_path / "memo")
    assert memo.sha256(path) == memo.sha256(path) == hashlib.sha256(b"content").hexdigest()
    memo.flush()


def test_a_place_that_cannot_be_written_only_costs_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = settled(tmp_path / "video", b"content")
    assert DigestMemo(tmp_path / "file" / "memo").sha256(path) == hashlib.sha256(b"content").hexdigest()


def test_a_busy_database_does_not_hang(tmp_path: Path) -> None:
    path = settled(tmp_path / "video", b"content")
    memo = DigestMemo(tmp_path / "memo")
    other = sqlite3.connect(tmp_path / "memo")
    other.execute("BEGIN EXCLUSIVE")
    started = time.monotonic()
    assert memo.sha256(path) == hashlib.sha256(b"content").hexdigest()
    assert time.monotonic() - started < 5
    other.rollback()
    other.close()
    memo.flush()
    assert memo.paths_of(memo.sha256(path)) == [path]


def test_many_files_are_remembered_in_few_commits(tmp_path: Path) -> None:
    paths = [settled(tmp_path / f"{number}.mp4", b"%d" % number) for number in range(1000)]
    memo = DigestMemo(tmp_path / "memo")
    started = time.monotonic()
    for path in paths:
        memo.sha256(path)
    assert time.monotonic() - started < 5


def test_where_the_memo_lives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CLIPCACHE_MEMO", str(tmp_path / "chosen"))
    assert memo_path() == tmp_path / "chosen"
    monkeypatch.delenv("CLIPCACHE_MEMO")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert memo_path() == tmp_path / "clipcache" / "digests.sqlite3"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "darwin")
    assert memo_path() == tmp_path / "Library" / "Caches" / "clipcache" / "digests.sqlite3"
    monkeypatch.setattr(sys, "platform", "linux")
    assert memo_path() == tmp_path / ".cache" / "clipcache" / "digests.sqlite3"


def test_images_of_a_folder_in_natural_order(tmp_path: Path) -> None:
    for name in ("b10.jpg", "b2.jpg", "b02.jpg", "a.png", "1.webp", "10.WEBP", ".hidden.jpg", "notes.txt"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "folder.jpg").mkdir()
    assert [path.name for path in image_files(tmp_path)] == [
        "1.webp",
        "10.WEBP",
        "a.png",
        "b02.jpg",
        "b2.jpg",
        "b10.jpg",
    ]


def test_a_folders_hash_is_of_its_images_names_and_order(tmp_path: Path) -> None:
    one, two = "1" * 64, "2" * 64
    hashes = {
        folder_sha256(["a", "b"], [one, two]),
        folder_sha256(["b", "a"], [one, two]),
        folder_sha256(["a", "b"], [two, one]),
        folder_sha256(["a"], [one]),
        folder_sha256(["ab"], [one]),
        folder_sha256([], []),
    }
    assert len(hashes) == 6
    memo = DigestMemo(tmp_path / "memo")
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jpg").write_bytes(b"a")
    (tmp_path / "there" / "notes.txt").write_bytes(b"no image")
    assert content_sha256(tmp_path / "here", memo) == content_sha256(tmp_path / "there", memo)
    assert content_sha256(tmp_path / "here" / "a.jpg", memo) == hashlib.sha256(b"a").hexdigest()


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no images"):
        content_sha256(tmp_path, DigestMemo(tmp_path / "memo"))
