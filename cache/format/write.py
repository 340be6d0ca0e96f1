"""Writing an entry: built in memory, written to a temporary file, read back, then moved to its name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from ..common.atomic import remove_file, remove_stale_temporaries, write_atomically
from ..common.errors import CacheError, ContentError
from ..common.paths import StrPath
from ..common.quoting import quoted
from .blocks import NOT_FINITE, all_finite, iter_blocks
from .names import EntryName, entry_folder, entry_name, model_dir_name, parse_entry_name
from .read import open_entry
from .sampling import Sampling
from .schema import (
    FEATURE_DTYPES,
    INDEX_DTYPE,
    QUALITY_DTYPE,
    TIME_DTYPE,
    EntryAttributes,
    Features,
    storable_text,
    timeline_problem,
    write_attributes,
)

__all__ = ["remove_stale_temporaries", "write_entry"]

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

    A complete entry also removes sampled entries of the video whose frames it holds. The file is built in memory,
    so that HDF5 itself never writes to a full disk; that takes about twice the size of `features`.

    Args:
        cache_dir: the cache; folders are created as needed.
        attributes: of the entry; `sampling`, `video_sha256`, `model` and `weights_sha256` name it.
        features: (N, D) float16 or float32, finite, not normalised, N >= 1.
        timestamps_ms: (N,) finite and non-decreasing, milliseconds.
        frame_index: (N,) strictly increasing positions in presentation order.
        frame_names: N file names, for images.
        quality: further measures of each frame, (N,) float32 by name.

    Returns:
        Path of the entry. If the video had an entry under another name, that name is kept.

    Raises:
        ContentError: if the arrays do not fit together, or hold values that are not allowed.
        CacheError: if the file cannot be written.
    """
    columns = _columns(features, timestamps_ms, frame_index, frame_names, quality or {})
    _check(attributes, features, columns)
    sampling = Sampling.parse(attributes.sampling)
    folder = entry_folder(
        Path(cache_dir), model_dir_name(attributes.model, attributes.weights_sha256), attributes.video_sha256
    )
    # The stem of an existing entry is kept, so that the file is replaced and not written twice.
    same = [path for path, name in entries_of(folder, attributes.video_sha256) if name.sampling == sampling]
    path = same[0] if same else folder / entry_name(_stem(attributes), attributes.video_sha256, sampling)
    image = _file_image(attributes, features, columns)
    write_atomically(path, image, check=lambda written: _check_written(written, features, columns))
    return _remove_superseded(path, folder, attributes, sampling)


def _columns(
    features: npt.NDArray[np.generic],
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
        if values.shape != (len(features),):
            raise ContentError(f"{name} has shape {values.shape} where ({len(features)},) belongs")
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
        ContentError: if the features, times or positions are not valid.
    """
    video = attributes.video_name
    if features.dtype not in FEATURE_DTYPES or features.ndim != 2 or features.shape[1] != attributes.embed_dim:
        raise ContentError(
            f"Features of {quoted(video)} have shape {features.shape} and type {features.dtype} where "
            f"(N, {attributes.embed_dim}) float16 or float32 belong"
        )
    if len(features) == 0:
        raise ContentError(f"{quoted(video)} gave no frame, and an entry without frames is not stored")
    if not all_finite(features):
        raise ContentError(f"{quoted(video)} gave {NOT_FINITE}", "extract it again with --precision fp32")
    problem = timeline_problem(columns["timestamps_ms"].astype(TIME_DTYPE), columns["frame_index"].astype(INDEX_DTYPE))
    if problem:
        raise ContentError(f"Frames of {quoted(video)} cannot be stored: {problem}")


def _file_image(
    attributes: EntryAttributes, features: npt.NDArray[np.generic], columns: dict[str, npt.NDArray[np.generic]]
) -> bytes:
    """The bytes of the HDF5 file."""
    # One allocation: the data, plus a little for structure. A second block would double the memory.
    held = features.nbytes + sum(values.nbytes for values in columns.values())
    block = held + held // 32 + (1 << 18)
    with h5py.File("entry.h5", "w", driver="core", backing_store=False, block_size=block) as file:
        write_attributes(file, attributes)
        chunks = (min(_CHUNK_ROWS, len(features)), features.shape[1])
        file.create_dataset("features", data=features, chunks=chunks, fletcher32=True)
        for name, values in columns.items():
            rows = (min(_COLUMN_CHUNK_ROWS, len(values)),)
            file.create_dataset(name, data=values, chunks=rows, fletcher32=True)
        file.flush()
        image: bytes = file.id.get_file_image()
    return image


def _check_written(path: Path, features: npt.NDArray[np.generic], columns: dict[str, npt.NDArray[np.generic]]) -> None:
    """Read the written file as any reader would, and compare.

    Raises:
        CacheError: if the disk gave back something else.
    """
    with open_entry(path) as entry:
        start = 0
        for block in iter_blocks(features):
            same = np.array_equal(entry.features[start : start + len(block)], block)
            start += len(block)
            if not same:
                raise CacheError(f"{quoted(path.parent)} gave back other features than were written", "check the disk")
        times_same = np.array_equal(entry.timestamps_ms, columns["timestamps_ms"])
        if not times_same or not np.array_equal(entry.frame_index, columns["frame_index"]):
            raise CacheError(f"{quoted(path.parent)} gave back other timestamps than were written", "check the disk")


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
