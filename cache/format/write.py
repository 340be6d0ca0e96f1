"""Writing an entry: to a temporary file, a block of rows at a time, which is read back, then moved to its name."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ..common.atomic import remove_file, remove_stale_temporaries, replacing
from ..common.errors import CacheError, ContentError, EntryError
from ..common.paths import StrPath
from ..common.quoting import quoted
from .blocks import NOT_FINITE, features_problem, iter_blocks
from .checks import attribute_problem
from .guard import OpenEntry, raises_entry_error
from .names import EntryName, entry_folder, entry_name, model_dir_name, parse_entry_name
from .output import new_hdf5_file
from .read import open_entry
from .sampling import Sampling
from .schema import (
    EXTRACT_AGAIN,
    FEATURE_DTYPES,
    INDEX_DTYPE,
    QUALITY_DTYPE,
    TIME_DTYPE,
    EntryAttributes,
    Features,
    storable_text,
    storable_values,
    timeline_problem,
    write_attributes,
)

__all__ = ["copy_entry", "remove_stale_temporaries", "write_entry"]

_CHUNK_ROWS = 1024
_COLUMN_CHUNK_ROWS = 65536


def write_entry(
    cache_dir: StrPath,
    attributes: EntryAttributes,
    features: Features,
    timestamps_ms: npt.NDArray[np.float64],
    frame_index: npt.NDArray[np.int64],
    frame_names: Sequence[str] | None = None,
    quality: Mapping[str, npt.NDArray[np.float32]] | None = None,
) -> Path:
    """Write one entry atomically, replacing any older one of the same video, weights and sampling.

    A complete entry also removes sampled entries of the video whose frames it holds.

    Args:
        cache_dir: the cache; folders are created as needed.
        attributes: of the entry; `sampling`, `video_sha256`, `model` and `weights_sha256` name it. It is written in the
            current version of the schema, whatever theirs.
        features: (N, D) float16 or float32, finite, not normalised, N >= 1.
        timestamps_ms: (N,) finite and non-decreasing, milliseconds.
        frame_index: (N,) strictly increasing positions in presentation order.
        frame_names: N file names, for images.
        quality: further measures of each frame, (N,) float32 by name.

    Returns:
        Path of the entry. If the video had an entry under another name, that name is kept.

    Raises:
        ContentError: if the arrays do not fit together, or they or the attributes hold values that are not allowed.
        CacheError: if the file cannot be written.
    """
    columns = _columns(len(features), timestamps_ms, frame_index, frame_names, quality or {})
    _check(attributes, features, columns)
    return _put(Path(cache_dir), attributes, features, columns)


def copy_entry(cache_dir: StrPath, source: OpenEntry, path: Path) -> Path:
    """Write an open entry to another cache as `write_entry` does, reading its features once, a block of rows at a time.

    Args:
        cache_dir: the cache; folders are created as needed.
        source: the entry.
        path: where it lies, for errors.

    Returns:
        Path of the copy.

    Raises:
        EntryError: if the entry is damaged, or holds what no entry may.
        CacheError: if the copy cannot be written.
    """
    with raises_entry_error(path):
        names = source.frame_names
        texts = None if names is None else [name.decode("utf-8", "replace") for name in names[:]]
        quality = {name: values[:] for name, values in source.quality.items()}
    try:
        columns = _columns(len(source.features), source.timestamps_ms, source.frame_index, texts, quality)
    except ContentError as error:
        raise EntryError(f"{quoted(path)} is not valid: {error.problem}", EXTRACT_AGAIN) from error
    return _put(Path(cache_dir), source.attributes, _Guarded(source.features, path), columns)


@dataclass(frozen=True)
class _Guarded:
    """Features (N, D) of an open entry, read when sliced; what is wrong with them is an `EntryError`."""

    rows: Any
    path: Path

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.rows.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        dtype: np.dtype[Any] = self.rows.dtype
        return dtype

    def __getitem__(self, rows: slice) -> npt.NDArray[Any]:
        with raises_entry_error(self.path):
            values: npt.NDArray[Any] = self.rows[rows]
        if problem := features_problem(values):
            raise EntryError(f"{quoted(self.path)} holds {problem}", EXTRACT_AGAIN)
        return values


def _put(cache_dir: Path, attributes: EntryAttributes, features: Any, columns: dict[str, npt.NDArray[Any]]) -> Path:
    sampling = Sampling.parse(attributes.sampling)
    folder = entry_folder(
        cache_dir, model_dir_name(attributes.model, attributes.weights_sha256), attributes.video_sha256
    )
    # The stem of an existing entry is kept, so that the file is replaced and not written twice.
    same = [path for path, name in entries_of(folder, attributes.video_sha256) if name.sampling == sampling]
    path = same[0] if same else folder / entry_name(_stem(attributes), attributes.video_sha256, sampling)
    digest = hashlib.sha256()
    with (
        replacing(path, check=lambda written: _check_written(written, digest.hexdigest(), columns)) as temporary,
        new_hdf5_file(temporary) as file,
    ):
        write_attributes(file, attributes)
        chunks = (min(_CHUNK_ROWS, len(features)), features.shape[1])
        dataset = file.create_dataset("features", features.shape, features.dtype, chunks=chunks, fletcher32=True)
        start = 0
        for block in iter_blocks(features):
            dataset[start : start + len(block)] = block
            digest.update(np.ascontiguousarray(block).data)
            start += len(block)
        for name, values in columns.items():
            rows = (min(_COLUMN_CHUNK_ROWS, len(values)),)
            file.create_dataset(name, data=values, chunks=rows, fletcher32=True)
    return _remove_superseded(path, folder, attributes, sampling)


def _columns(
    frames: int,
    timestamps_ms: npt.NDArray[np.float64],
    frame_index: npt.NDArray[np.int64],
    frame_names: Sequence[str] | None,
    quality: Mapping[str, npt.NDArray[np.float32]],
) -> dict[str, npt.NDArray[np.generic]]:
    """Datasets with one value a frame, by their path in the file, checked for length.

    Raises:
        ContentError: if one has another length than the features, or a name that is not an identifier.
    """
    columns: dict[str, npt.NDArray[np.generic]] = {
        "timestamps_ms": np.asarray(timestamps_ms, dtype=TIME_DTYPE),
        "frame_index": np.asarray(frame_index, dtype=INDEX_DTYPE),
    }
    if frame_names is not None:
        columns["frame_names"] = _text_column(frame_names)
    for name, measure in quality.items():
        if not re.fullmatch(r"[A-Za-z0-9_]+", name):
            raise ContentError(f"Quality {name!r} must be named with letters, digits and underscores")
        columns[f"quality/{name}"] = np.asarray(measure, dtype=QUALITY_DTYPE)
    for name, values in columns.items():
        if values.shape != (frames,):
            raise ContentError(f"{name} has shape {values.shape} where ({frames},) belongs")
    return columns


def _text_column(texts: Sequence[str]) -> npt.NDArray[np.bytes_]:
    encoded = [storable_text(text).encode() for text in texts]
    width = max([1, *map(len, encoded)])
    return np.array(encoded, dtype=h5py.string_dtype("utf-8", width))


def _check(
    attributes: EntryAttributes, features: npt.NDArray[np.generic], columns: dict[str, npt.NDArray[np.generic]]
) -> None:
    """Refuse what `cache verify` would call a bad entry.

    Raises:
        ContentError: if the attributes, features, times or positions are not valid.
    """
    video = attributes.video_name
    storable_values(attributes)  # their types; below, their values
    if problem := attribute_problem(attributes):
        raise ContentError(f"{quoted(str(video))} cannot be stored: it has {problem}")
    if features.dtype not in FEATURE_DTYPES or features.ndim != 2 or features.shape[1] != attributes.embed_dim:
        raise ContentError(
            f"Features of {quoted(video)} have shape {features.shape} and type {features.dtype} where "
            f"(N, {attributes.embed_dim}) float16 or float32 belong"
        )
    if len(features) == 0:
        raise ContentError(f"{quoted(video)} gave no frame, and an entry without frames is not stored")
    if problem := features_problem(features):
        remedy = "extract it again with --precision fp32" if problem == NOT_FINITE else "check the weights"
        raise ContentError(f"{quoted(video)} gave {problem}", remedy)
    problem = timeline_problem(columns["timestamps_ms"].astype(TIME_DTYPE), columns["frame_index"].astype(INDEX_DTYPE))
    if problem:
        raise ContentError(f"Frames of {quoted(video)} cannot be stored: {problem}")


def _check_written(path: Path, features_sha256: str, columns: dict[str, npt.NDArray[Any]]) -> None:
    """Read the written file as any reader would, and compare.

    Raises:
        CacheError: if the disk gave back something else.
    """
    place = quoted(path.parent)
    digest = hashlib.sha256()
    try:
        with open_entry(path) as entry:
            for block in iter_blocks(entry.features):
                digest.update(np.ascontiguousarray(block).data)
            times, index = entry.timestamps_ms, entry.frame_index
    except EntryError as error:
        raise CacheError(f"{place} gave back a damaged file: {error.problem}", "check the disk") from error
    if digest.hexdigest() != features_sha256:
        raise CacheError(f"{place} gave back other features than were written", "check the disk")
    if not np.array_equal(times, columns["timestamps_ms"]) or not np.array_equal(index, columns["frame_index"]):
        raise CacheError(f"{place} gave back other timestamps than were written", "check the disk")


def _remove_superseded(path: Path, folder: Path, attributes: EntryAttributes, sampling: Sampling) -> Path:
    """Remove what the new entry at `path` replaces; returns the path of the entry that is kept."""
    others = [(other, name.sampling) for other, name in entries_of(folder, attributes.video_sha256) if other != path]
    if attributes.complete:
        for other, theirs in others:
            if theirs != sampling and sampling.covers(theirs):
                remove_file(other)
    # Two runs that knew the video by two names end up keeping the same one: the first.
    same = sorted([path, *(other for other, theirs in others if theirs == sampling)])
    for other in same[1:]:
        remove_file(other)
    return same[0]


def entries_of(folder: Path, sha256: str) -> list[tuple[Path, EntryName]]:
    """Entries of one video in `folder`, sorted by path; none if there is no such folder.

    Raises:
        CacheError: if the folder cannot be listed.
    """
    try:
        paths = sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CacheError(f"Cannot write to {quoted(folder)} ({error.strerror})", "choose another folder") from error
    named = [(path, parse_entry_name(path.name)) for path in paths]
    return [(path, name) for path, name in named if name is not None and name.sha16 == sha256[:16]]


def _stem(attributes: EntryAttributes) -> str:
    name = attributes.video_name
    return name if attributes.source_kind == "image-folder" else Path(name).stem
