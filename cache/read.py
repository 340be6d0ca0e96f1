"""Strict opening of an entry: nothing outside the file is read, and nothing larger than the file is allocated.

HDF5 lets a file point to other files (external storage, external links, virtual datasets) and declare sizes that it
does not hold. A cache may come from somebody else, so an entry is looked over before any data is read.
"""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from .errors import CacheError, EntryError
from .schema import (
    FEATURE_DTYPES,
    MAX_TEXT_BYTES,
    SCHEMA_VERSION,
    EntryAttributes,
    read_attributes,
    read_schema_version,
    timeline_problem,
)

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MAX_OBJECTS = 64
# What h5py raises on damaged files, depending on which layer notices.
_H5PY_ERRORS = (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, OverflowError, MemoryError)


@dataclass(frozen=True)
class OpenEntry:
    """An open entry whose structure has been checked; data is read on demand.

    Attributes:
        attributes: of the entry as a whole.
        features: dataset (N, D), float16 or float32.
        timestamps_ms: (N,) float64, finite and non-decreasing, milliseconds.
        frame_index: (N,) int64, strictly increasing.
        frame_names: dataset (N,) of UTF-8 bytes, images only.
        quality: by name, datasets (N,) float32.
    """

    attributes: EntryAttributes
    features: h5py.Dataset
    timestamps_ms: npt.NDArray[np.float64]
    frame_index: npt.NDArray[np.int64]
    frame_names: h5py.Dataset | None
    quality: dict[str, h5py.Dataset]


@contextlib.contextmanager
def open_entry(path: Path) -> Iterator[OpenEntry]:
    """Open and check the entry at `path` for as long as the context lasts.

    Raises:
        EntryError: if it is missing, empty, truncated, damaged, foreign, hostile or of a newer schema; also when
            data read within the context turns out to be damaged.
    """
    _check_is_hdf5(path)
    with damage_named(path), h5py.File(path, "r", locking=False) as file:
        yield _checked(file, path)


def read_attributes_of(path: Path) -> EntryAttributes:
    """The attributes of the entry at `path`, without a look at its data.

    Raises:
        EntryError: as `open_entry`.
    """
    _check_is_hdf5(path)
    with damage_named(path), h5py.File(path, "r", locking=False) as file:
        return read_attributes(file, path)


@contextlib.contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turn what h5py raises on a damaged file into an `EntryError` that names it."""
    try:
        yield
    except CacheError:
        raise
    except _H5PY_ERRORS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise EntryError(
            f"{path} is truncated or damaged ({reason}); remove it and extract the video again."
        ) from error


def may_be_judged(path: Path) -> bool:
    """Whether this program, on this machine, may call the file bad: it can read it, and the schema is not newer.

    Nobody should remove an entry because of missing permissions, a network disk gone for a moment, or an old program.
    """
    try:
        if not path.is_file():
            return False
        path.open("rb").close()
    except OSError:
        return False
    try:
        with h5py.File(path, "r", locking=False) as file:
            return read_schema_version(file, path) <= SCHEMA_VERSION
    except (EntryError, *_H5PY_ERRORS):
        return True


def _check_is_hdf5(path: Path) -> None:
    """Before HDF5 sees it: a pipe or device would hang, and an empty or foreign file deserves its own sentence."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise EntryError(f"{path} is not a file; name an entry (.h5) of the cache.")
        with path.open("rb") as file:
            signature = file.read(len(_SIGNATURE))
    except OSError as error:
        raise EntryError(f"{path} cannot be read ({error.strerror or error}).") from error
    if not signature:
        raise EntryError(f"{path} is empty; remove it and extract the video again.")
    if signature != _SIGNATURE:
        raise EntryError(f"{path} is not an HDF5 file; remove it from the cache.")


def _checked(file: h5py.File, path: Path) -> OpenEntry:
    attributes = read_attributes(file, path)
    _check_links(file, path)
    features = _dataset(file, "features", path)
    if features.dtype not in FEATURE_DTYPES or features.ndim != 2 or features.shape[1] != attributes.embed_dim:
        raise EntryError(
            f"{path} holds features of shape {features.shape} and type {features.dtype} where (N, "
            f"{attributes.embed_dim}) float16 or float32 belong; remove it and extract the video again."
        )
    frames = features.shape[0]
    timestamps = _column(file, "timestamps_ms", np.dtype("<f8"), frames, path)[:]
    index = _column(file, "frame_index", np.dtype("<i8"), frames, path)[:]
    if problem := timeline_problem(timestamps, index):
        raise EntryError(f"{path} cannot be trusted: {problem}; remove it and extract the video again.")
    names = _column(file, "frame_names", None, frames, path) if "frame_names" in file else None
    return OpenEntry(attributes, features, timestamps, index, names, _quality(file, frames, path))


def _quality(file: h5py.File, frames: int, path: Path) -> dict[str, h5py.Dataset]:
    if "quality" not in file:
        return {}
    group = file["quality"]
    if not isinstance(group, h5py.Group):
        raise EntryError(f"{path} holds a quality that is not a group; remove it from the cache.")
    _check_links(group, path)
    return {name: _column(group, name, np.dtype("<f4"), frames, path) for name in group}


def _check_links(group: h5py.Group, path: Path) -> None:
    """Only objects of this file itself: soft and external links are refused unseen."""
    if len(group) > _MAX_OBJECTS:
        raise EntryError(f"{path} holds {len(group)} objects where at most {_MAX_OBJECTS} belong; remove it.")
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise EntryError(f"{path} holds a link to another place ({name!r}), which is not followed; remove it.")


def _dataset(group: h5py.Group, name: str, path: Path) -> h5py.Dataset:
    """The dataset `name`, stored in this file, unfiltered but for checksums, and no larger than the file.

    Raises:
        EntryError: if it is anything else.
    """
    dataset = group.get(name)
    if not isinstance(dataset, h5py.Dataset):
        raise EntryError(f"{path} lacks the dataset {name}; remove it and extract the video again.")
    properties = dataset.id.get_create_plist()
    if properties.get_external_count() or properties.get_layout() == h5py.h5d.VIRTUAL:
        raise EntryError(f"{path} keeps {name} in other files, which are not read; remove it from the cache.")
    filters = {properties.get_filter(position)[0] for position in range(properties.get_nfilters())}
    if not filters <= {h5py.h5z.FILTER_FLETCHER32}:
        raise EntryError(f"{path} stores {name} with filters that no entry has; remove it from the cache.")
    _check_size(dataset, name, path)
    return dataset


def _check_size(dataset: h5py.Dataset, name: str, path: Path) -> None:
    held = dataset.file.id.get_filesize()
    chunk = int(np.prod(dataset.chunks or (1,), dtype=object)) * dataset.dtype.itemsize
    declared = int(np.prod(dataset.shape or (0,), dtype=object)) * dataset.dtype.itemsize
    if declared == 0:
        raise EntryError(f"{path} holds no {name}; remove it and extract the video again.")
    if max(declared, chunk) > held or dataset.id.get_storage_size() < declared:
        raise EntryError(f"{path} declares {declared} bytes of {name}, more than it holds; remove it from the cache.")


def _column(group: h5py.Group, name: str, dtype: np.dtype[np.generic] | None, frames: int, path: Path) -> h5py.Dataset:
    """A dataset with one value a frame, of `dtype`, or text if None."""
    dataset = _dataset(group, name, path)
    is_text = dataset.dtype.kind == "S" and dataset.dtype.itemsize <= MAX_TEXT_BYTES
    fits = is_text if dtype is None else dataset.dtype == dtype
    if not fits or dataset.shape != (frames,):
        raise EntryError(
            f"{path} holds {name} of shape {dataset.shape} and type {dataset.dtype} where ({frames},) "
            f"{dtype or 'text'} belongs; remove it and extract the video again."
        )
    return dataset
