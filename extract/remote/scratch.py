"""Scratch space: where what lies elsewhere is kept while it is needed, in a folder of the run, up to a bound."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from ...cache.common.atomic import STALE_AFTER_S, host_name, is_alive
from ...cache.common.errors import NotReadNowError, UsageError
from ...cache.common.media_types import AUDIO_SUFFIXES, VIDEO_SUFFIXES
from ...cache.common.quoting import quoted
from .sources import Source

SCRATCH_BYTES = 20 << 30
"""How much is kept unless told otherwise."""

_FOLDER = re.compile(r"clipcache-scratch-(?P<host>[A-Za-z0-9_-]+)\.(?P<pid>\d+)\.[A-Za-z0-9_]+")
_ROOM_LEFT = 64 << 20  # for others on the disk


class Scratch:
    """The scratch space of one run. Threads may share it.

    Args:
        folder: where to make the run's folder; None for the system's folder of temporary files.
        limit: bytes of all that is kept at once; a single larger file is kept alone.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None, limit: int = SCRATCH_BYTES) -> None:
        self._parent = Path(folder) if folder is not None else Path(tempfile.gettempdir())
        self._limit = limit
        self._lock = threading.Lock()
        self._held: dict[Path, int] = {}
        self._coming: set[Path] = set()
        self._numbers = itertools.count()
        self._folder: Path | None = None

    def open(self) -> None:
        """Make the run's folder, and remove those of runs that were killed.

        Raises:
            UsageError: if that is not possible.
        """
        try:
            self._parent.mkdir(parents=True, exist_ok=True)
            remove_stale(self._parent)
            prefix = f"clipcache-scratch-{host_name()}.{os.getpid()}."
            self._folder = Path(tempfile.mkdtemp(prefix=prefix, dir=self._parent))
        except OSError as error:
            raise UsageError(
                f"Cannot make scratch space in {quoted(self._parent)} ({error.strerror or error})",
                "choose another folder with --scratch",
            ) from error

    def close(self) -> None:
        """Remove all that is left."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def reserve(self, source: Source, size: int | None) -> Path | None:
        """A name to fetch an input to, for which there is room now; None if there is room later.

        Args:
            source: the input.
            size: its bytes; None if it is not known, so that all the room is for it alone.

        Raises:
            NotReadNowError: if the disk has no room for it, even alone.
        """
        assert self._folder is not None  # noqa: S101  it is open
        with self._lock:
            needed = self._limit if size is None else size
            if self._held and (size is None or sum(self._held.values()) + needed > self._limit):
                return None
            coming = sum(self._held[path] for path in self._coming)
            if (size or 0) + coming + _ROOM_LEFT > shutil.disk_usage(self._folder).free:
                if self._held:
                    return None
                raise self._no_room(source)
            suffix = PurePosixPath(source.name).suffix.lower()
            suffix = suffix if suffix in VIDEO_SUFFIXES | AUDIO_SUFFIXES else ""
            path = self._folder / f"{next(self._numbers)}{suffix}"
            self._held[path] = needed
            self._coming.add(path)
            return path

    def fetch(self, source: Source, path: Path, on_bytes: Callable[[int], None]) -> tuple[str, int]:
        """Fetch an input to the name that was reserved; on an error nothing is left of it.

        Args:
            source: the input.
            path: as `reserve` gave it.
            on_bytes: called with the length of each block.

        Returns:
            the sha256 of its content, 64 hex digits, and its bytes.

        Raises:
            NotReadNowError: if not all of it comes, or the disk is full.
        """
        digest, size = hashlib.sha256(), 0
        try:
            with path.open("xb", buffering=0) as file:

                def write(block: bytes) -> None:
                    nonlocal size
                    if shutil.disk_usage(path.parent).free < len(block) + _ROOM_LEFT // 2:  # it may have no end
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    rest = memoryview(block)
                    while rest:
                        rest = rest[file.write(rest) :]
                    digest.update(block)
                    size += len(block)
                    on_bytes(len(block))

                source.copy(write)
        except OSError as error:
            self.remove(path)
            raise self._no_room(source, error) from None
        except BaseException:
            self.remove(path)
            raise
        with self._lock:
            self._held[path] = size
            self._coming.discard(path)
        return digest.hexdigest(), size

    def remove(self, path: Path) -> None:
        """Remove what was fetched, or was to be."""
        with contextlib.suppress(OSError):
            path.unlink()
        with self._lock:
            self._held.pop(path, None)
            self._coming.discard(path)

    def _no_room(self, source: Source, error: OSError | None = None) -> NotReadNowError:
        why = f" ({error.strerror})" if error is not None and error.strerror else ""
        return NotReadNowError(
            f"There is no room for {quoted(source.name)} in the scratch space {quoted(self._parent)}{why}",
            "free space, or choose a folder on another disk with --scratch",
        )


def remove_stale(parent: Path) -> None:
    """Remove the folders of runs that were killed: of dead processes of this host, or unchanged for more than a day."""
    with contextlib.suppress(OSError):
        for path in list(parent.iterdir()):
            match = _FOLDER.fullmatch(path.name)
            with contextlib.suppress(OSError):
                if match and _is_stale(path, match["host"], int(match["pid"])):
                    shutil.rmtree(path, ignore_errors=True)


def _is_stale(path: Path, host: str, pid: int) -> bool:
    status = path.lstat()
    if status.st_uid != os.getuid():
        return False
    if host == host_name():
        return not is_alive(pid)
    return time.time() - status.st_mtime > STALE_AFTER_S
