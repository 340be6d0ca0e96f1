"""Features in one HDF5 file: a dataset (N, D) a video, as MAD has them, or a group, as `h5-nested` has them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ..common.errors import ContentError
from ..common.exported import METADATA
from ..common.quoting import quoted
from ..common.reading import held_bytes
from ..format.guard import declared_bytes, is_stored_elsewhere
from ..format.packed import packs_entries
from .formats import Found, json_object, texts

_COLUMNS = ("features", "timestamps_ms", "frame_index", "frame_names")
# A compressed dataset may declare far more than the file holds; features never compress that well.
_MAX_COMPRESSION_RATIO = 100


def read_videos(path: Path) -> Iterator[Found]:
    """Every dataset or group of the root group. Links and data outside the file are refused: see `format.read`.

    Raises:
        ContentError: if the file is damaged, or holds anything but datasets of its own.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            if packs_entries(file):
                raise ContentError(f"{quoted(path)} is a packed library of clipcache already", "name it with --cache")
            if "schema_version" in file.attrs:
                raise ContentError(f"{quoted(path)} is an entry of clipcache already", "name its folder with --cache")
            for name in file:
                yield _found(file, name, path)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, MemoryError) as error:
        raise ContentError(f"{quoted(path)} is damaged or not an HDF5 file ({error})", "copy it again") from error


def _found(file: h5py.File, name: str, path: Path) -> Found:
    """The features of one video."""
    if isinstance(file.get(name, getlink=True), h5py.HardLink) and isinstance(file[name], h5py.Group):
        group = file[name]
        kept = [key for key in _COLUMNS if group.get(key, getlink=True) is not None]
        column = {key: _values(_checked(group, key, path), path) for key in kept}
        if "features" in column:
            metadata, names = _metadata(group), column.get("frame_names")
            times, index = column.get("timestamps_ms"), column.get("frame_index")
            return Found(name, path, column["features"], times, index, None, texts(names), metadata)
    dataset = _checked(file, name, path)
    return Found(name, path, _values(dataset, path), metadata=_metadata(dataset))


def _metadata(held: h5py.Dataset | h5py.Group) -> dict[str, Any] | None:
    """What an export says of a dataset or a group; an array of texts may repeat one, and is not read."""
    if METADATA not in held.attrs or held.attrs.get_id(METADATA).shape != ():
        return None
    said = held.attrs.get(METADATA)
    return json_object(said.decode("utf-8", "replace") if isinstance(said, bytes) else said)


def _values(dataset: h5py.Dataset, path: Path) -> npt.NDArray[Any]:
    """All values of a dataset.

    Raises:
        ContentError: if they are of variable length, and not texts, or together longer than the file: each may be the
            same text of any length.
    """
    if dataset.dtype.kind != "O":
        values: npt.NDArray[Any] = dataset[()]
        return values
    left = held_bytes(path)
    texts_read = []
    for row in range(len(dataset) if dataset.ndim == 1 and h5py.check_string_dtype(dataset.dtype) else 0):
        texts_read.append(dataset[row])
        left -= len(texts_read[-1])
        if left < 0:
            break
    if left < 0 or len(texts_read) != dataset.size:
        raise ContentError(
            f"{quoted(path)} holds in {dataset.name!r} values of variable length, or more than its size", "leave it out"
        )
    return np.array(texts_read, dtype=object)


def _checked(file: h5py.Group, name: str, path: Path) -> h5py.Dataset:
    if not isinstance(file.get(name, getlink=True), h5py.HardLink) or not isinstance(file[name], h5py.Dataset):
        raise ContentError(
            f"{quoted(path)} holds {name!r}, which is not a dataset of its own; neither does it hold features"
        )
    dataset = file[name]
    if is_stored_elsewhere(dataset):
        raise ContentError(f"{quoted(path)} keeps {name!r} in other files, which are not read", "copy the data into it")
    declared = declared_bytes(dataset)
    if declared > _MAX_COMPRESSION_RATIO * dataset.id.get_storage_size():
        raise ContentError(
            f"{quoted(path)} declares {declared} bytes of {name!r}, far more than it holds", "leave it out"
        )
    return dataset
