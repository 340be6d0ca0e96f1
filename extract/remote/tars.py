"""Tars of videos, on this disk or elsewhere: what is in them, and the bytes of each member. Nothing is unpacked."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tarfile
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from .blobs import Blob, BlobError, BlobReader, Status
from .memory import Memory

_WINDOW_BYTES = 1 << 16
_MAX_HEADER_BYTES = 1 << 24  # of names and attributes of one member
_BLOCK_BYTES = 1 << 20
# Of headers that belong to headers, `tarfile` reads each within the one before: RecursionError.
_DAMAGE = (tarfile.TarError, EOFError, OSError, lzma.LZMAError, zlib.error, ValueError, OverflowError, RecursionError)
_OPENERS: tuple[tuple[bytes, Callable[[BinaryIO], Any]], ...] = (
    (b"\x1f\x8b", lambda file: gzip.GzipFile(fileobj=file)),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ\0", lzma.LZMAFile),
)


@dataclass(frozen=True)
class Member:
    """A file in a tar: its path as the tar says it, where its bytes begin, and how many there are."""

    path: str
    offset: int
    size: int


class Tar:
    """A tar, compressed or not.

    Members of a tar that can be read from anywhere are read independently of each other. Of one that is compressed, or
    on a server that gives no ranges, one is read after the other, and it goes fastest in the order of the tar.
    """

    def __init__(self, blob: Blob) -> None:
        self.blob = blob
        self.is_sequential = False
        self._lock = threading.Lock()
        self._view: BinaryIO | None = None

    @property
    def name(self) -> str:
        """What is shown of it."""
        return self.blob.name

    def status(self) -> Status:
        """Size and stamp of the whole.

        Raises:
            BlobError: if it cannot be read.
        """
        return self.blob.status()

    def members(self, memory: Memory) -> tuple[list[Member], str]:
        """Its regular files in order, and what is wrong with the rest, or "". Links and devices are left out.

        Raises:
            BlobError: if it cannot be read.
        """
        stamp = self.status().stamp
        if (known := self._recalled(memory.members(self.blob.key, stamp))) is not None:
            return known, ""
        self.is_sequential = self._opener() is not None or not self.blob.is_seekable
        found: list[Member] = []
        try:
            for member in self._listed():
                found.append(member)  # noqa: PERF402  what is found before the damage counts
        except _DAMAGE as error:
            reason = str(error) if isinstance(error, _DamageError) else type(error).__name__
            return found, f"it is damaged or cut short after {len(found)} of its files ({reason})"
        rows = [[one.path, one.offset, one.size] for one in found]
        memory.remember_members(self.blob.key, stamp, json.dumps([self.is_sequential, rows], allow_nan=False))
        return found, ""

    def copy(self, member: Member, write: Callable[[bytes], object]) -> None:
        """Give the bytes of a member to `write`, in blocks.

        Raises:
            BlobError: if they cannot be read, are fewer than the tar says, or the tar changed meanwhile.
        """
        try:
            if self.is_sequential:
                with self._lock:
                    self._copy_next(member, write)
            else:
                with BlobReader(self.blob) as reader:
                    _copy(cast(BinaryIO, reader), member, write)
        except _DAMAGE as error:
            raise BlobError(f"the tar is damaged ({type(error).__name__})") from None
        self.blob.check()

    def _copy_next(self, member: Member, write: Callable[[bytes], object]) -> None:
        """Read on in the order of the tar; what is before the current place is read from the beginning again."""
        view, self._view = self._view, None  # it is of no use after an error
        view = view or self._opened()
        _copy(view, member, write)
        self._view = view

    def _opened(self) -> BinaryIO:
        opener = self._opener()
        file = _buffered(self.blob, None if self.is_sequential else _WINDOW_BYTES)
        return file if opener is None else cast(BinaryIO, opener(file))

    def _opener(self) -> Callable[[BinaryIO], Any] | None:
        """What decompresses it, by its first bytes."""
        with BlobReader(self.blob, _WINDOW_BYTES) as reader:
            head = reader.read(_WINDOW_BYTES) or b""
        if head.startswith(b"\x28\xb5\x2f\xfd"):
            raise BlobError("it is compressed by zstd, which is not read; decompress it")
        return next((opener for magic, opener in _OPENERS if head.startswith(magic)), None)

    def _recalled(self, text: str | None) -> list[Member] | None:
        if text is None:
            return None
        try:
            is_sequential, rows = json.loads(text)
            members = [Member(str(path), int(offset), int(size)) for path, offset, size in rows]
        except (ValueError, TypeError):
            return None
        self.is_sequential = bool(is_sequential)
        return members

    def _listed(self) -> Iterator[Member]:
        view = self._opened()
        size = None if self.is_sequential else self.status().size
        with tarfile.open(fileobj=cast(Any, _Bounded(view)), mode="r:") as tar:
            for info in tar:
                cast(Any, tar).members = []  # they would all be kept
                if info.size < 0:  # what follows it would be before it
                    raise _DamageError("a size is negative")
                if size is not None and info.offset_data + info.size > size:
                    raise _DamageError("the last is cut short")
                if info.issparse() and info.isreg():
                    raise _DamageError("one is a sparse file")
                if info.isreg() and self.is_sequential and not _is_whole(view, info):
                    raise _DamageError("the last is cut short")
                if info.isreg():
                    yield Member(info.name, info.offset_data, info.size)
            view.seek(tar.offset)
            if view.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise _DamageError("there is no end mark")


def _is_whole(view: BinaryIO, info: tarfile.TarInfo) -> bool:
    """Whether the bytes of a member are all there, as far as one must read to know."""
    view.seek(info.offset_data + max(0, info.size - 1))
    return info.size == 0 or bool(view.read(1))


class _DamageError(ValueError):
    """What is wrong with a tar."""


class _Bounded:
    """A file of which nobody reads more at once than headers need: their sizes are only what the tar says."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek = file.seek
        self.tell = file.tell

    def read(self, count: int) -> bytes:
        """Read `count` bytes, or what is left."""
        if not 0 <= count <= _MAX_HEADER_BYTES:
            raise _DamageError("a header has no end")
        return self._file.read(count)


def _buffered(blob: Blob, window: int | None = None) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(BlobReader(blob, window), _WINDOW_BYTES))


def _copy(file: BinaryIO, member: Member, write: Callable[[bytes], object]) -> None:
    file.seek(member.offset)
    left = member.size
    while left:
        block = file.read(min(left, _BLOCK_BYTES))
        if not block:
            raise BlobError(f"the tar ends {left} bytes before the end of this file")
        write(block)
        left -= len(block)
