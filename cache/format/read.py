"""Strict opening of an entry: nothing outside the file is read, and nothing larger than the file is allocated.

HDF5 lets a file point to other files (external storage, external links, virtual datasets) and declare sizes that it
does not hold. A cache may come from somebody else, so an entry is checked before any data is read.
"""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterator
from pathlib import Path

import h5py

from ..common.errors import EntryError, UncheckedEntryError
from ..common.quoting import quoted
from .checks import check_identity
from .guard import (
    OpenEntry,
    check_links,
    checked_column,
    checked_features,
    raises_entry_error,
)
from .packed import open_packed_entry, packed_file_of, packs_entries, read_packed_attributes
from .schema import (
    EXTRACT_AGAIN,
    INDEX_DTYPE,
    MOVE_OUT,
    QUALITY_DTYPE,
    SCHEMA_VERSION,
    TIME_DTYPE,
    EntryAttributes,
    read_attributes,
    read_schema_version,
    timeline_problem,
)

_SIGNATURE = b"\x89HDF\r\n\x1a\n"


@contextlib.contextmanager
def open_entry(path: Path) -> Iterator[OpenEntry]:
    """Open and check the entry at `path` for as long as the context lasts.

    Raises:
        EntryError: if it is missing, empty, truncated, damaged, foreign, hostile or of a newer schema; also when
            data read within the context turns out to be damaged.
    """
    if file := packed_file_of(path):
        with open_packed_entry(file, path) as entry:
            yield entry
        return
    _check_is_hdf5(path)
    with raises_entry_error(path), h5py.File(path, "r", locking=False) as opened:
        yield _checked(opened, path)


def read_attributes_of(path: Path) -> EntryAttributes:
    """The attributes of the entry at `path`; of its data, only the length of a feature is checked.

    Raises:
        EntryError: as `open_entry`.
    """
    if file := packed_file_of(path):
        return read_packed_attributes(file, path)
    _check_is_hdf5(path)
    with raises_entry_error(path), h5py.File(path, "r", locking=False) as opened:
        attributes = read_attributes(opened, path)
        check_identity(path, attributes)
        check_links(opened, path)
        checked_features(opened, attributes, path)
        return attributes


def can_validate(path: Path) -> bool:
    """Whether this program can tell that the file is a bad entry: it is readable, not a packed library, not newer.

    An entry must not be removed because of missing permissions, a network disk that is away, or an old program.
    """
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            file.read(len(_SIGNATURE))
    except OSError:
        return False
    try:
        with raises_entry_error(path), h5py.File(path, "r", locking=False) as opened:
            return not packs_entries(opened) and read_schema_version(opened, path) <= SCHEMA_VERSION
    except EntryError as error:
        return not isinstance(error, UncheckedEntryError)


def _check_is_hdf5(path: Path) -> None:
    """Refuse what HDF5 would hang on (a pipe, a device), and files that are empty or not HDF5."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise EntryError(f"{quoted(path)} is not a file", "name an entry (.h5) of the cache")
        with path.open("rb") as file:
            signature = file.read(len(_SIGNATURE))
    except OSError as error:
        raise UncheckedEntryError(f"{quoted(path)} cannot be read ({error.strerror or error})") from error
    if not signature:
        raise EntryError(f"{quoted(path)} is empty", EXTRACT_AGAIN)
    if signature != _SIGNATURE:
        raise EntryError(f"{quoted(path)} is not an HDF5 file", MOVE_OUT)


def _checked(file: h5py.File, path: Path) -> OpenEntry:
    attributes = read_attributes(file, path)
    check_identity(path, attributes)
    check_links(file, path)
    features = checked_features(file, attributes, path)
    frames = features.shape[0]
    timestamps = checked_column(file, "timestamps_ms", TIME_DTYPE, frames, path)[:]
    index = checked_column(file, "frame_index", INDEX_DTYPE, frames, path)[:]
    if problem := timeline_problem(timestamps, index):
        raise EntryError(f"{quoted(path)} is not valid: {problem}", EXTRACT_AGAIN)
    names = checked_column(file, "frame_names", None, frames, path) if "frame_names" in file else None
    return OpenEntry(attributes, features, timestamps, index, names, _quality(file, frames, path))


def _quality(file: h5py.File, frames: int, path: Path) -> dict[str, h5py.Dataset]:
    if "quality" not in file:
        return {}
    group = file["quality"]
    if not isinstance(group, h5py.Group):
        raise EntryError(f"{quoted(path)} holds a quality that is not a group", MOVE_OUT)
    check_links(group, path)
    return {name: checked_column(group, name, QUALITY_DTYPE, frames, path) for name in group}
