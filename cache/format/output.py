"""New HDF5 files on a disk that may become full.

HDF5 keeps what it could not write, tries again whenever something is closed, and in the end crashes the program. So it
writes through an object that takes everything, and remembers the first error instead.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer


class _Output(io.RawIOBase):
    """A file being written, for HDF5's driver of Python objects."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        self._error: OSError | None = None

    def check(self) -> None:
        """Raise the first error of writing, if there was one."""
        if self._error is not None:
            raise self._error

    def write(self, data: ReadableBuffer) -> int:
        """Write all of `data`."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while len(rest) and self._error is None:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self._error = error
        return size

    def truncate(self, size: int | None = None) -> int:
        """Set the size of the file."""
        try:
            return self._file.truncate(size)
        except OSError as error:
            self._error = self._error or error
            return size or 0

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read; what was never written is zero."""
        view = memoryview(buffer).cast("B")
        count = self._file.readinto(view) or 0
        view[count:] = bytes(len(view) - count)
        return len(view)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """The position."""
        return self._file.tell()

    def close(self) -> None:
        """Close the file; some network disks only then say that it could not be written."""
        try:
            self._file.close()
        except OSError as error:
            self._error = self._error or error
        super().close()


@contextlib.contextmanager
def new_hdf5_file(path: Path, **how: Any) -> Iterator[h5py.File]:
    """A new HDF5 file to write; `how` are further arguments of `h5py.File`.

    Raises:
        OSError: if something could not be written: no space, over a quota or a limit.
    """
    output = _Output(path)
    try:
        with contextlib.closing(output), h5py.File(output, "w", **how) as file:
            yield file
    except Exception:
        output.check()  # of what follows from it nothing needs to be said
        raise
    output.check()
