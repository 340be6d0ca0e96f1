"""Content hashes, and a database of them so that each file is hashed only once."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sqlite3
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from .errors import UsageError
from .media_types import is_image
from .paths import StrPath, is_folder
from .quoting import quoted
from .reading import open_regular

# Some file systems count time in steps of two seconds: a file changed within one step of being hashed may change
# again without a trace, so its hash is not trusted later.
SETTLED_AFTER_NS = 2 * 10**9
_FLUSH_EVERY_S = 0.5
_BUSY_TIMEOUT_S = 0.25
_BLOCK_BYTES = 1 << 20
_TABLE = """
CREATE TABLE IF NOT EXISTS digests (
    path BLOB PRIMARY KEY, stamp TEXT NOT NULL, settled INTEGER NOT NULL, sha256 TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS digests_sha256 ON digests (sha256);
"""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_Row = tuple[bytes, str, bool, str]


class Digests(Protocol):
    """Anything that computes or remembers the sha256 of a file's content."""

    def sha256(self, path: Path) -> str:
        """64 hex digits of the content of `path`."""
        ...


def is_sha256(text: str) -> bool:
    """Whether `text` is a sha256 as it is written here: 64 lower-case hex digits."""
    return _SHA256.fullmatch(text) is not None


def sha256_file(path: StrPath, on_bytes: Callable[[int], None] = lambda _: None) -> str:
    """Sha256 of a file's content, read in blocks, as 64 hex digits; `on_bytes` hears the length of each block.

    Raises:
        UsageError: if the file cannot be read, or is not a regular file.
    """
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_BLOCK_BYTES))
    try:
        with open_regular(path) as file:
            while count := file.readinto(buffer):
                digest.update(buffer[:count])
                on_bytes(count)
    except OSError as error:
        raise _unreadable(path, error) from error
    return digest.hexdigest()


def folder_sha256(names: Sequence[str], digests: Sequence[str]) -> str:
    """Sha256 of an image folder: over the name and the content's sha256 of each image, in natural order.

    Args:
        names: file names, as `image_files` orders them.
        digests: 64 hex digits for each.
    """
    whole = hashlib.sha256(b"clipcache image folder\0")
    for name, digest in zip(names, digests, strict=True):
        # A name holds no NUL, so no two lists of images give the same bytes.
        whole.update(os.fsencode(name) + b"\0" + digest.encode() + b"\0")
    return whole.hexdigest()


def content_sha256(path: StrPath, digests: Digests) -> str:
    """The sha256 by which an input is cached: of a file's content, or of a folder's images.

    Raises:
        UsageError: if `path` is missing, cannot be read, or is a folder without images.
    """
    if not is_folder(path):
        return digests.sha256(Path(path))
    images = image_files(path)
    if not images:
        raise UsageError(f"The folder {quoted(path)} holds no images", "name a video, an image, or a folder of images")
    return folder_sha256([image.name for image in images], [digests.sha256(image) for image in images])


def image_files(folder: StrPath) -> list[Path]:
    """The images directly in `folder`, in natural order, by `is_image`; hidden files are left out.

    Raises:
        UsageError: if the folder cannot be listed.
    """
    try:
        files = [path for path in Path(folder).iterdir() if not path.name.startswith(".")]
        images = [path for path in files if is_image(path) and path.is_file()]
    except OSError as error:
        raise _unreadable(folder, error) from error
    return sorted(images, key=lambda path: natural_key(path.name))


def natural_key(name: str) -> tuple[list[tuple[bool, int, str]], str]:
    """Sort key under which "frame2" comes before "frame10"; the name itself breaks ties ("2" and "02")."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    digits = [part.isdigit() and part.isascii() for part in parts]
    return [(False, int(p), "") if d else (True, 0, p) for p, d in zip(parts, digits, strict=True)], name


class DigestMemo:
    """Remembers the sha256 of files by path, size, times of modification and of change, and inode.

    It lies in the user's cache folder.

    Several processes may share it. If the database cannot be used, for whatever reason, every hash is computed.
    """

    def __init__(self, database: StrPath | None = None) -> None:
        """Use `database`, or the user's own at `memo_path()`."""
        self._lock = threading.RLock()
        self._pending: dict[bytes, _Row] = {}
        self._flushed_at = 0.0
        self._connection = _connect(Path(database or memo_path()))
        if self._connection is not None:
            # Also at interpreter exit; a connection left to the garbage collector is a ResourceWarning.
            weakref.finalize(self, _close, self._connection, self._pending)

    def sha256(self, path: StrPath, on_bytes: Callable[[int], None] = lambda _: None) -> str:
        """Sha256 of the content of `path`, 64 hex digits, remembered or computed.

        Args:
            path: the file.
            on_bytes: called with the length of each block that is read.

        Raises:
            UsageError: if the file cannot be read.
        """
        before = _status(path)
        if (known := self._recall(path, before)) is not None:
            return known
        settled = time.time_ns() - before.st_mtime_ns > SETTLED_AFTER_NS
        digest = sha256_file(path, on_bytes)
        if _stamp(Path(path).stat()) == _stamp(before):
            self._remember((_key(path), _stamp(before), settled, digest))
        return digest

    def known(self, path: StrPath) -> str | None:
        """Sha256 of the content of `path` if it is remembered and the file unchanged; None if not. Nothing is read.

        Raises:
            UsageError: if there is no such file.
        """
        return self._recall(path, _status(path))

    def _recall(self, path: StrPath, status: os.stat_result) -> str | None:
        key = _key(path)
        with self._lock:
            row = self._pending.get(key) or self._select_path(key)
        return row[3] if row is not None and row[1] == _stamp(status) and row[2] else None

    def paths_of(self, sha256: str) -> list[Path]:
        """Files known to have this content that still exist unchanged, sorted."""
        with self._lock:
            self._flush()
            rows = self._query("SELECT path, stamp FROM digests WHERE sha256 = ?", (sha256,))
        paths = sorted(Path(os.fsdecode(path)) for path, stamp in rows if _has_stamp(path, stamp))
        return [path for path in paths if self.sha256(path) == sha256]

    def paths(self) -> list[Path]:
        """Every file that was hashed on this machine, whether it still exists or not."""
        with self._lock:
            self._flush()
            rows = self._query("SELECT path FROM digests", ())
        return [Path(os.fsdecode(path)) for (path,) in rows]

    def flush(self) -> None:
        """Write what is not yet in the database; also done regularly, and at the end of the program."""
        with self._lock:
            self._flush()

    def _remember(self, row: _Row) -> None:
        with self._lock:
            self._pending[row[0]] = row
            # Committing waits for the disk: thousands of small files share few commits.
            if time.monotonic() - self._flushed_at > _FLUSH_EVERY_S:
                self._flush()

    def _flush(self) -> None:
        self._flushed_at = time.monotonic()
        if self._connection is not None and self._pending:
            _write_rows(self._connection, self._pending)

    def _select_path(self, key: bytes) -> _Row | None:
        rows = self._query("SELECT path, stamp, settled, sha256 FROM digests WHERE path = ?", (key,))
        return (rows[0][0], rows[0][1], bool(rows[0][2]), rows[0][3]) if rows else None

    def _query(self, statement: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        if self._connection is None:
            return []
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error:  # busy or damaged: the file is hashed again
            return []


def memo_path() -> Path:
    """Path of the database: `$CLIPCACHE_MEMO`, else in `$XDG_CACHE_HOME`, `~/Library/Caches` (macOS) or `~/.cache`."""
    if chosen := os.environ.get("CLIPCACHE_MEMO"):
        return Path(chosen)
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg, "clipcache", "digests.sqlite3")
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home() raises where there is no home
    caches = home / "Library" / "Caches" if sys.platform == "darwin" else home / ".cache"
    return caches / "clipcache" / "digests.sqlite3"


def _connect(database: Path) -> sqlite3.Connection | None:
    connection = None
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(database, timeout=_BUSY_TIMEOUT_S, check_same_thread=False)
        connection.executescript(_TABLE)
    except (sqlite3.Error, OSError):  # then every hash is computed
        if connection is not None:
            connection.close()
        return None
    return connection


def _close(connection: sqlite3.Connection, pending: dict[bytes, _Row]) -> None:
    _write_rows(connection, pending)
    connection.close()


def _write_rows(connection: sqlite3.Connection, pending: dict[bytes, _Row]) -> None:
    # Busy or damaged: the rows are kept for the next try.
    with contextlib.suppress(sqlite3.Error), connection:
        connection.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?)", pending.values())
        pending.clear()


def _key(path: StrPath) -> bytes:
    return os.fsencode(Path(path).absolute())


def _status(path: StrPath) -> os.stat_result:
    try:
        return Path(path).stat()
    except OSError as error:
        raise _unreadable(path, error) from error


def _stamp(status: os.stat_result) -> str:
    """What changes when a file's content does; text, as an inode may exceed SQLite's integers.

    The time of the last change of status is there because the time of modification can be set: `rsync --inplace -t` and
    `touch -d` put it back over another content.
    """
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}-{status.st_ino}"


def _has_stamp(path: bytes, stamp: str) -> bool:
    try:
        return _stamp(os.stat(path)) == stamp  # noqa: PTH116 - bytes
    except OSError:
        return False


def _unreadable(path: StrPath, error: OSError) -> UsageError:
    return UsageError(f"Cannot read {quoted(path)}: {error.strerror or error}")
