"""Checks of an HDF5 file before any data is read, for entries and packed libraries."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from ..common.errors import CacheError, EntryError, UncheckedEntryError
from ..common.quoting import quoted
from ..common.reading import held_bytes
from ..common.system_errors import OF_THE_PROCESS, is_lack_of_memory
from .header import MAX_TEXT_BYTES, OtherLayoutError
from .schema import EXTRACT_AGAIN, FEATURE_DTYPES, MOVE_OUT, EntryAttributes

_MAX_OBJECTS = 64
# What h5py raises on damaged files, depending on which layer notices.
H5PY_ERRORS = (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, OverflowError, MemoryError)


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
def raises_entry_error(path: Path) -> Iterator[None]:
    """Turn what h5py raises on a damaged file into an `EntryError` that names it."""
    try:
        yield
    except CacheError:
        raise
    except H5PY_ERRORS as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's: of the content nothing is known
            if error.errno in OF_THE_PROCESS:
                raise
            raise UncheckedEntryError(f"{quoted(path)} cannot be read ({os.strerror(error.errno)})") from error
        if isinstance(error, MemoryError):
            raise  # no file can make NumPy or Python ask for more than it holds: sizes are checked first
        if is_lack_of_memory(error):
            raise MemoryError(str(error)) from error
        if isinstance(error, OtherLayoutError):
            remedy = "write it again in HDF5's earliest format (h5py's default)"
            raise UncheckedEntryError(f"{quoted(path)} cannot be checked: {error}", remedy) from error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise EntryError(f"{quoted(path)} is truncated or damaged ({reason})", EXTRACT_AGAIN) from error


def check_links(group: h5py.Group, path: Path) -> None:
    """Refuse soft and external links, without following them."""
    if len(group) > _MAX_OBJECTS:
        raise EntryError(
            f"{quoted(path)} holds {len(group)} objects where at most {_MAX_OBJECTS} are allowed", MOVE_OUT
        )
    for name in group.id:  # through HDF5's own calls, which take a quarter of the time of h5py's objects
        if group.id.links.get_info(name).type != h5py.h5l.TYPE_HARD:
            shown = name.decode(errors="backslashreplace")
            raise EntryError(
                f"{quoted(path)} holds a link to another place ({shown!r}), which is not followed", MOVE_OUT
            )


def is_stored_elsewhere(dataset: h5py.Dataset) -> bool:
    """Whether the data of a dataset lie in other files: external storage, or a virtual dataset."""
    properties = dataset.id.get_create_plist()
    return bool(properties.get_external_count()) or properties.get_layout() == h5py.h5d.VIRTUAL


def declared_bytes(dataset: h5py.Dataset) -> int:
    """Size of a dataset in memory, as its header declares it; a hostile one may declare any size."""
    return int(np.prod(dataset.shape or (0,), dtype=object)) * int(dataset.dtype.itemsize)


def checked_dataset(group: h5py.Group, name: str, path: Path) -> h5py.Dataset:
    """The dataset `name`: stored in this file, without filters except checksums, and not larger than the file.

    Raises:
        EntryError: if it is anything else.
    """
    dataset = group.get(name)
    if not isinstance(dataset, h5py.Dataset):
        raise EntryError(f"{quoted(path)} lacks the dataset {name}", EXTRACT_AGAIN)
    if is_stored_elsewhere(dataset):
        raise EntryError(f"{quoted(path)} keeps {name} in other files, which are not read", MOVE_OUT)
    properties = dataset.id.get_create_plist()
    filters = {properties.get_filter(position)[0] for position in range(properties.get_nfilters())}
    if not filters <= {h5py.h5z.FILTER_FLETCHER32}:
        raise EntryError(f"{quoted(path)} stores {name} with filters that no entry has", MOVE_OUT)
    _check_size(dataset, name, path)
    return dataset


def checked_features(group: h5py.Group, attributes: EntryAttributes, path: Path) -> h5py.Dataset:
    """The features (N, D) of an entry, checked as by `checked_dataset`.

    Raises:
        EntryError: if their type is another, or their length not what the attributes say.
    """
    features = checked_dataset(group, "features", path)
    if features.dtype not in FEATURE_DTYPES or features.ndim != 2 or features.shape[1] != attributes.embed_dim:
        raise EntryError(
            f"{quoted(path)} holds features of shape {features.shape} and type {features.dtype} where (N, "
            f"{attributes.embed_dim}) float16 or float32 belong",
            EXTRACT_AGAIN,
        )
    return features


def _check_size(dataset: h5py.Dataset, name: str, path: Path) -> None:
    """A sparse file has any size: what counts is what the disk holds, as `held_bytes` takes it."""
    held = held_bytes(path)
    chunk = int(np.prod(dataset.chunks or (1,), dtype=object)) * dataset.dtype.itemsize
    declared = declared_bytes(dataset)
    if declared == 0:
        raise EntryError(f"{quoted(path)} holds no {name}", EXTRACT_AGAIN)
    if max(declared, chunk) > held or dataset.id.get_storage_size() < declared:
        raise EntryError(f"{quoted(path)} declares {declared} bytes of {name}, more than it holds", MOVE_OUT)


def checked_column(
    group: h5py.Group, name: str, dtype: np.dtype[np.generic] | None, rows: int, path: Path
) -> h5py.Dataset:
    """A dataset with one value a row, of `dtype`, or of text if that is None, checked as by `checked_dataset`."""
    dataset = checked_dataset(group, name, path)
    is_text = dataset.dtype.kind == "S" and dataset.dtype.itemsize <= MAX_TEXT_BYTES
    fits = is_text if dtype is None else dataset.dtype == dtype
    if not fits or dataset.shape != (rows,):
        raise EntryError(
            f"{quoted(path)} holds {name} of shape {dataset.shape} and type {dataset.dtype} where ({rows},) "
            f"{dtype or 'text'} belongs",
            EXTRACT_AGAIN,
        )
    return dataset
