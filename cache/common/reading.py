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
from typing import BinaryIO

from .paths import StrPath

MAX_TEXT_BYTES = 64 << 20
"""Of prompts, tables and other text that people write."""
MAX_LINE_BYTES = 1 << 20
STDIN = "-"
"""Names the standard input where a command reads text."""

# Features do not compress that well, neither in an archive nor by a file system; what is small may, and does no harm.
_MAX_RATIO = 100
_SMALL_BYTES = 64 << 20


def open_regular(path: StrPath) -> io.BufferedReader:
    """Open a file for reading in binary mode.

    Raises:
        OSError: if it cannot be read, or is not a regular file; a pipe is not waited for.
    """
    # Looked at before, since opening a device may do something; without blocking, as it may be a pipe by now.
    _check_regular(os.stat(path), path)  # noqa: PTH116 - StrPath
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        _check_regular(os.fstat(descriptor), path)
    except OSError:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


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


def held_bytes(status: os.stat_result) -> int:
    """How many bytes a file may hold: its size, unless hardly any of that is on the disk.

    A sparse file has any size and few blocks. File systems that compress have fewer blocks than the content needs,
    so a hundred times as much is believed. One with no block at all is on a file system that does not count them (some
    over a network): its size is believed, since a file with content that is not zero has a block elsewhere.
    """
    allocated = 512 * getattr(status, "st_blocks", 0)
    return min(status.st_size, believable_bytes(allocated)) if allocated else status.st_size


def believable_bytes(stored: int) -> int:
    """How many bytes may come out of `stored` compressed ones; of more than that nothing is read."""
    return max(_SMALL_BYTES, _MAX_RATIO * stored)


def _check_regular(status: os.stat_result, path: StrPath) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", os.fspath(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is a pipe or a device, not a file", os.fspath(path))


def _within(file: BinaryIO, limit: int, path: StrPath) -> bytes:
    data = file.read(limit + 1)
    if len(data) > limit:
        raise _too_large(limit, path)
    return data


def _too_large(limit: int, path: StrPath) -> OSError:
    shown = f"{limit / (1 << 20):.0f} MB" if limit >= 1 << 20 else f"{limit} bytes"
    return OSError(errno.EINVAL, f"it is larger than {shown}", os.fspath(path))
