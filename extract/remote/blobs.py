"""Bytes that lie somewhere: on this disk, in an object store, on a web server. Each is read from any offset."""

from __future__ import annotations

import io
import itertools
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, TypeVar

from ...cache.common.hashing import SETTLED_AFTER_NS
from ...cache.common.reading import open_regular

if TYPE_CHECKING:
    from typing_extensions import Buffer

_Answer = TypeVar("_Answer")

PAUSE_S = 0.5
"""Before the second try; twice as long before each further one."""

CHANGED = "it changed while it was read; run the command again"

_TRIES = 5  # without a single byte more
_MOST_LOSSES = 100
_SKIP_BYTES = 1 << 18  # sooner read than asked for anew


class BlobError(Exception):
    """Bytes cannot be read.

    Args:
        reason: why, in words of ours: those of other packages may hold credentials.
        is_passing: whether another try may help.
    """

    def __init__(self, reason: str, *, is_passing: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_passing = is_passing


@dataclass(frozen=True)
class Status:
    """What is known of bytes without reading them.

    Attributes:
        size: how many; None if that is not said.
        stamp: text that changes with them; None if nothing does, so that nothing can be remembered of them.
    """

    size: int | None
    stamp: str | None


class Blob(Protocol):
    """Bytes that lie somewhere. Every method may raise `BlobError`.

    Attributes:
        name: what is shown, without credentials.
        key: names it whoever asks, without credentials.
    """

    name: str
    key: str

    @property
    def is_seekable(self) -> bool:
        """Whether reading can begin anywhere, as far as is known."""

    def status(self) -> Status:
        """Size and stamp, asked for once."""

    def open(self, offset: int, count: int | None) -> tuple[BinaryIO, int]:
        """A stream that begins at `offset`, or before it, and where it begins; `count` bytes of it are wanted."""

    def check(self) -> None:
        """Raise if the bytes are not those of `status` any more."""


def persistently(ask: Callable[[], _Answer], on_loss: Callable[[], None] = lambda: None) -> _Answer:
    """The answer to a question, asked several times where another try may help, with longer and longer pauses.

    Args:
        ask: asks.
        on_loss: called before each further try.

    Raises:
        BlobError: if there is none.
    """
    for attempt in itertools.count():
        try:
            return ask()
        except BlobError as error:
            if not error.is_passing or attempt == _TRIES - 1:
                raise
        on_loss()
        time.sleep(PAUSE_S * 2**attempt * random.uniform(0.5, 1.5))  # noqa: S311  nothing secret
    raise AssertionError


class LocalBlob:
    """A file of this disk; see `Blob`."""

    is_seekable = True

    def __init__(self, path: Path) -> None:
        self.name = os.fspath(path)
        self.key = os.path.realpath(path)
        self._path = path
        self._status: Status | None = None
        self._stamp = ""

    def status(self) -> Status:
        """See `Blob`; a file that was changed a moment ago may change again within one step of its clock."""
        if self._status is None:
            found = self._stat()
            self._stamp = _stamp(found)
            settled = time.time_ns() - found.st_mtime_ns > SETTLED_AFTER_NS
            self._status = Status(found.st_size, self._stamp if settled else None)
        return self._status

    def open(self, offset: int, count: int | None) -> tuple[BinaryIO, int]:  # noqa: ARG002  the rest costs nothing
        """See `Blob`."""
        try:
            file = open_regular(self._path)
        except OSError as error:
            raise BlobError(error.strerror or "it cannot be read") from None
        file.seek(offset)
        return file, offset

    def check(self) -> None:
        """See `Blob`."""
        self.status()
        if _stamp(self._stat()) != self._stamp:
            raise BlobError(CHANGED)

    def _stat(self) -> os.stat_result:
        try:
            return self._path.stat()
        except OSError as error:
            raise BlobError(error.strerror or "it cannot be read") from None


def _stamp(found: os.stat_result) -> str:
    return f"{found.st_size}-{found.st_mtime_ns}-{found.st_ctime_ns}-{found.st_ino}"


class BlobReader(io.RawIOBase):
    """A seekable file over a blob that goes on where a connection was lost.

    Args:
        blob: the bytes.
        window: how many to ask for at once; None for all to the end.

    Raises:
        BlobError: from every method that reads, after several tries.
    """

    def __init__(self, blob: Blob, window: int | None = None) -> None:
        self._blob = blob
        self._window = window
        self._position = 0
        self._stream: BinaryIO | None = None
        self._stream_at = 0
        self._window_end: int | None = None
        self._losses = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """The position."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position; nothing is read yet."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position}.get(whence)
        if start is None:
            start = self._blob.status().size or 0
        self._position = start + offset
        return self._position

    def readinto(self, buffer: Buffer) -> int:
        """Read some bytes; 0 at the end."""
        view = memoryview(buffer)
        return persistently(lambda: self._read(view), self._lose)

    def close(self) -> None:
        """Let the connection go."""
        self._drop()
        super().close()

    def _lose(self) -> None:
        self._drop()
        self._losses += 1
        if self._losses >= _MOST_LOSSES:
            raise BlobError(f"the connection was lost {self._losses} times")

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _read(self, view: memoryview) -> int:
        size = self._blob.status().size
        if size is not None and self._position >= size:
            return 0
        stream = self._at_position()
        if self._window_end is not None:
            view = view[: self._window_end - self._position]
        data = _read_from(stream, len(view))
        if not data and size is not None:
            raise BlobError(f"it ended after {self._position} of {size} bytes", is_passing=True)
        view[: len(data)] = data
        self._position += len(data)
        self._stream_at = self._position
        return len(data)

    def _at_position(self) -> BinaryIO:
        ahead = self._position - self._stream_at
        is_far = ahead > _SKIP_BYTES and self._blob.is_seekable
        is_beyond = self._window_end is not None and self._position >= self._window_end
        if self._stream is None or ahead < 0 or is_far or is_beyond:
            self._drop()
            count = self._window if self._blob.is_seekable else None
            self._stream, self._stream_at = self._blob.open(self._position, count)
            self._window_end = None if count is None or not self._blob.is_seekable else self._position + count
        while ahead := self._position - self._stream_at:
            skipped = len(_read_from(self._stream, min(ahead, _SKIP_BYTES)))
            if not skipped:
                raise BlobError(f"it ended after {self._stream_at} bytes", is_passing=True)
            self._stream_at += skipped
        return self._stream


def _read_from(stream: BinaryIO, count: int) -> bytes:
    try:
        return stream.read(count)
    except TimeoutError:
        raise BlobError("no answer came in time", is_passing=True) from None
    except (OSError, HTTPException) as error:
        raise BlobError(f"the connection was lost ({type(error).__name__})", is_passing=True) from None


def copy_blob(blob: Blob, write: Callable[[bytes], object]) -> None:
    """Give all bytes of a blob to `write`, in blocks.

    Raises:
        BlobError: if they cannot be read, are fewer than said, or changed meanwhile.
    """
    with BlobReader(blob) as reader:
        while block := reader.read(1 << 20):
            write(block)
    blob.check()
