"""NumPy's .npy and .npz files from anywhere: nothing is unpickled, nothing larger than a file can hold is allocated."""

from __future__ import annotations

import lzma
import math
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from .common.paths import StrPath
from .common.reading import believable_bytes, held_bytes, open_regular

Array = npt.NDArray[Any]
# What a header of NumPy or a member of an archive raises that is damaged, encrypted or hostile.
_DAMAGED = (
    *(EOFError, MemoryError, OverflowError, RuntimeError, SyntaxError, TypeError, tokenize.TokenError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)


def read_npy(path: StrPath) -> Array:
    """The array of an .npy file.

    Raises:
        ValueError: if it is not an .npy file, holds objects, or declares more than it holds.
        OSError: if it cannot be read, or is not a regular file.
    """
    with open_regular(path) as file:
        return read_array(file, held_bytes(path))


def map_npy(path: StrPath) -> Array:
    """The array of an .npy file, read-only; its values are read where they are used.

    Raises:
        ValueError: as `read_npy`.
        OSError: as `read_npy`.
    """
    with open_regular(path):
        pass
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except _DAMAGED as error:
        raise ValueError(f"The array is damaged: {error}.") from error


def read_npz(path: StrPath, names: Sequence[str]) -> dict[str, Array]:
    """Those of the arrays `names` that an .npz file holds.

    Raises:
        ValueError: if it is not an .npz file, or one of these holds objects or declares more than it holds.
        OSError: if it cannot be read, or is not a regular file.
    """
    with open_regular(path) as file:
        return _members(path, file, names)


def read_npy_or_npz(path: StrPath, names: Sequence[str]) -> Array | dict[str, Array]:
    """The array of an .npy file, or what `read_npz` gives of an .npz file, whatever the name of the file.

    Raises:
        ValueError: as `read_npz`.
        OSError: as `read_npz`.
    """
    with open_regular(path) as file:
        if zipfile.is_zipfile(file):
            return _members(path, file, names)
        file.seek(0)
        return read_array(file, held_bytes(path))


def read_array(file: IO[bytes], held: int) -> Array:
    """Read an array in the .npy format.

    Args:
        file: opened at its start, seekable.
        held: bytes that it may hold; what declares more is refused before anything is allocated.

    Raises:
        ValueError: if it is not in that format, holds objects, or declares more than it holds.
        OSError: if it cannot be read.
    """
    try:
        return _read_checked(file, held)
    except _DAMAGED as error:
        raise ValueError(f"The array is damaged: {error}.") from error


def _members(path: StrPath, file: IO[bytes], names: Sequence[str]) -> dict[str, Array]:
    held = held_bytes(path)
    try:
        with zipfile.ZipFile(file) as archive:
            known = set(archive.namelist())
            return {name: _member(archive, f"{name}.npy", held) for name in names if f"{name}.npy" in known}
    except _DAMAGED as error:
        raise ValueError(f"The archive is damaged: {error}.") from error


def _member(archive: zipfile.ZipFile, name: str, held: int) -> Array:
    found = archive.getinfo(name)
    if found.file_size > believable_bytes(min(found.compress_size, held)):
        raise ValueError(f"The archive declares {found.file_size} bytes of {name}, far more than it holds.")
    with archive.open(found) as member:
        return read_array(member, found.file_size)


def _read_checked(file: IO[bytes], held: int) -> Array:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    else:  # numpy writes it for tables with named columns only
        raise ValueError(f"Version {version} of the .npy format is not for plain arrays.")
    if math.prod(shape) * dtype.itemsize > held:
        raise ValueError(f"The file declares an array of shape {shape}, more than it holds.")
    file.seek(0)
    array: Array = np.lib.format.read_array(file, allow_pickle=False)
    return array
