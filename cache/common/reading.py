"""Reading files that others have made: regular files alone, and never more than a limit or than they hold.

A pipe may never answer and a device may never end; a file may have a size that it does not hold (a sparse file), or
hold less than it says of itself. What is refused here is an `OSError` whose text says why, as of any file that cannot
be read.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .paths import StrPath

MAX_TEXT_BYTES = 64 << 20
"""Of prompts, tables and other text that people write."""
MAX_LINE_BYTES = 1 << 20
STDIN = "-"
"""Names the standard input where a command reads text."""

_MAX_RATIO = 100  # features do not compress that well
_SMALL_BYTES = 64 << 20  # does no harm, whatever it was
_LOOKED_AT_BYTES = 8192
_MAX_EXTENTS = 10_000  # a file in more pieces than that is none of ours


def may_be_replaced(path: Path) -> bool:
    """Whether text may be put in the place of a file, or added to it.

    There is none, it is text itself, or it is no file but a device.
    """
    if not path.is_file():
        return True
    with path.open("rb") as file:
        return b"\0" not in file.read(_LOOKED_AT_BYTES)


def open_regular(path: StrPath) -> io.BufferedReader:
    """Open a file for reading in binary mode.

    Raises:
        OSError: if it cannot be read, or is not a regular file; a pipe is not waited for.
    """
    status = os.stat(path)  # noqa: PTH116 - StrPath
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", os.fspath(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is a pipe or a device, not a file", os.fspath(path))
    return Path(path).open("rb")


def read_bounded(path: StrPath, limit: int = MAX_TEXT_BYTES, *, dash_is_stdin: bool = False) -> bytes:
    """Read a whole file of at most `limit` bytes.

    Args:
        path: the file.
        limit: bytes.
        dash_is_stdin: whether the path `-` means the standard input.

    Raises:
        OSError: as `open_regular`, or if there is more.
    """
    if dash_is_stdin and os.fspath(path) == STDIN:
        if sys.stdin is None:
            raise OSError(errno.EBADF, "the standard input is closed")
        return _within(sys.stdin.buffer, limit, path)
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > limit:
            raise _too_large(limit, path)
        return _within(file, limit, path)


def read_lines(path: StrPath, longest: int = MAX_LINE_BYTES) -> Iterator[bytes]:
    """The lines of a file that are not blank, without their ends, one at a time; those over `longest` are left out.

    Raises:
        OSError: as `open_regular`.
    """
    with open_regular(path) as file:
        is_rest = False  # of a line that is too long
        while line := file.readline(longest):
            is_whole = line.endswith(b"\n")
            if line.strip() and not is_rest and (is_whole or len(line) < longest):
                yield line.rstrip(b"\n")
            is_rest = not is_whole


def held_bytes(path: StrPath) -> int:
    """How many bytes a file holds: its size without the holes of a sparse file, which have any size and no content.

    What is relied on: a file whose blocks (`st_blocks`) are as many as its size needs has no holes. With fewer, its
    file system may compress or not count blocks, or there are holes: it is asked for these (SEEK_DATA, SEEK_HOLE),
    which counts compressed data as what they become. One that cannot tell says that all is data. So a file is never
    held for smaller than it is; on a network disk that cannot tell, a sparse one is held for larger.

    Raises:
        OSError: if the file cannot be opened.
    """
    status = os.stat(path)  # noqa: PTH116 - StrPath
    if status.st_size <= _SMALL_BYTES or 512 * getattr(status, "st_blocks", 0) >= status.st_size:
        return status.st_size
    with open_regular(path) as file:
        return max(_SMALL_BYTES, _data_bytes(file.fileno(), status.st_size))


def believable_bytes(stored: int) -> int:
    """How many bytes may come out of `stored` compressed ones; an archive that declares more is not read."""
    return max(_SMALL_BYTES, _MAX_RATIO * stored)


def _data_bytes(descriptor: int, size: int) -> int:
    """Bytes of an open file that are not in holes, as far as the file system tells."""
    if not hasattr(os, "SEEK_DATA"):
        return size
    data = end = 0
    for _ in range(_MAX_EXTENTS):
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
            end = os.lseek(descriptor, start, os.SEEK_HOLE)
        except OSError as error:
            return data if error.errno == errno.ENXIO else size  # ENXIO: there is a hole up to the end
        data += end - start
    return data


def _within(file: BinaryIO, limit: int, path: StrPath) -> bytes:
    data = file.read(limit + 1)
    if len(data) > limit:
        raise _too_large(limit, path)
    return data


def _too_large(limit: int, path: StrPath) -> OSError:
    shown = f"{limit / (1 << 20):.0f} MB" if limit >= 1 << 20 else f"{limit} bytes"
    return OSError(errno.EINVAL, f"it is larger than {shown}", os.fspath(path))
