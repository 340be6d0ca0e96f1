"""Packing a library: the entries of one model in one file. `merge` unpacks them without loss."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from .common.atomic import replacing
from .common.errors import CacheError, ContentError, EntryError, UsageError
from .common.paths import StrPath, exists, is_folder
from .common.progress import Bar
from .common.quoting import quoted
from .entry import Entry
from .format.names import ENTRY_SUFFIX
from .format.output import new_hdf5_file
from .format.packed import PACK_AGAIN, PACKED_VERSION, columns_sha256, is_packed
from .format.schema import (
    ATTRIBUTE_TYPES,
    INDEX_DTYPE,
    NUMBER_DTYPES,
    QUALITY_DTYPE,
    TIME_DTYPE,
    EntryAttributes,
    storable_text,
    utc_now,
)
from .store import FeatureCache, OnBad


@dataclass(frozen=True)
class _Piece:
    """What is known of one entry before it is written."""

    path: Path
    name: str  # below the packed file
    attributes: EntryAttributes
    frames: int
    feature_bytes: int  # 2 or 4
    has_frame_names: bool
    quality: tuple[str, ...]


@dataclass(frozen=True)
class Packed:
    """What was written.

    Attributes:
        entries: number of entries.
        frames: number of frames, of all entries.
        bytes: size of the file.
    """

    entries: int
    frames: int
    bytes: int


def pack(cache: FeatureCache, output: StrPath, on_bad: OnBad, model: str | None = None) -> Packed:
    """Write all entries of one model into one file, a block of rows at a time.

    Args:
        cache: to take entries from.
        output: the file, replaced only when the new one is complete.
        on_bad: called with each entry that cannot be read, and why; it is left out.
        model: of the entries; None for the cache's only one.

    Raises:
        NotCachedError: if the cache has no entry of the model.
        UsageError: if it has several models and none is named, or `output` does not end in .h5, lies in the cache, or
            is a file that is not a packed library.
        ContentError: if its features are not all of one length, or an entry changes meanwhile.
        CacheError: if no entry can be read, or the file cannot be written.
    """
    output = Path(output)
    if output.suffix != ENTRY_SUFFIX:
        raise UsageError(f"The packed file {quoted(output)} must have a name that ends in {ENTRY_SUFFIX}")
    if is_folder(cache.directory) and output.resolve().is_relative_to(cache.directory.resolve()):
        raise UsageError(f"{quoted(output)} lies in the cache that is packed, among its entries", "name a file outside")
    if exists(output) and not is_packed(output):
        raise UsageError(f"{quoted(output)} exists and is not a packed library", "choose another name")
    chosen = cache.model(model)
    pieces = [_piece(entry) for entry in cache.iter_entries(on_bad, chosen.name)]
    if not pieces:
        raise CacheError(
            f"No entry of {chosen.name} in {quoted(cache.directory)} can be read, so there is nothing to pack"
        )
    _check_one_length(pieces)
    with replacing(output) as temporary:
        pieces = _write_readable(temporary, pieces, chosen.name, on_bad)
        size = temporary.stat().st_size
    return Packed(len(pieces), sum(piece.frames for piece in pieces), size)


class _BadPieceError(EntryError):
    """The data of one of the pieces cannot be read."""


def _write_readable(temporary: Path, pieces: list[_Piece], model_dir: str, on_bad: OnBad) -> list[_Piece]:
    """Write the pieces that can be read; where one turns out damaged, all are read, and the good ones written again.

    Returns:
        The pieces written.

    Raises:
        CacheError: if none can be read.
    """
    while True:
        try:
            with new_hdf5_file(temporary, libver="v110") as file:
                _write(file, pieces, model_dir)
            return pieces
        except _BadPieceError:
            readable = [piece for piece in pieces if _is_readable(piece, on_bad)]
            if len(readable) == len(pieces):
                raise
            pieces = readable
        if not pieces:
            raise CacheError("No entry can be read, so there is nothing to pack", "extract the videos again")


def _is_readable(piece: _Piece, on_bad: OnBad) -> bool:
    entry = Entry(piece.path)
    try:
        with entry.kept_open():
            _ = entry.frame_names, entry.quality
            for _ in entry.iter_features():
                pass
    except EntryError as error:
        on_bad(piece.path, error)
        return False
    return True


def _check_one_length(pieces: list[_Piece]) -> None:
    """Imported features may be of another model than the one that was named."""
    first = pieces[0]
    for piece in pieces:
        if (dim := piece.attributes.embed_dim) != first.attributes.embed_dim:
            raise ContentError(
                f"{quoted(first.path)} has features of {first.attributes.embed_dim} values, {quoted(piece.path)} "
                f"of {dim}: they are not of one model",
                "move the wrong one out of the cache and pack the library again",
            )


def _piece(entry: Entry) -> _Piece:
    path = entry.path
    with entry.opened() as opened:
        return _Piece(
            path=path,
            name="/".join(path.parts[-3:]),
            attributes=opened.attributes,
            frames=len(opened.timestamps_ms),
            feature_bytes=opened.features.dtype.itemsize,
            has_frame_names=opened.frame_names is not None,
            quality=tuple(sorted(opened.quality)),
        )


def _write(file: Any, pieces: list[_Piece], model_dir: str) -> None:
    total = sum(piece.frames for piece in pieces)
    dtype = np.float32 if any(piece.feature_bytes == 4 for piece in pieces) else np.float16
    features = file.create_dataset("features", (total, pieces[0].attributes.embed_dim), dtype)
    columns = {"timestamps_ms": file.create_dataset("timestamps_ms", (total,), TIME_DTYPE)}
    columns["frame_index"] = file.create_dataset("frame_index", (total,), INDEX_DTYPE)
    for name in sorted({name for piece in pieces for name in piece.quality}):
        columns[name] = file.create_dataset(f"quality/{name}", (total,), QUALITY_DTYPE)
    if any(piece.has_frame_names for piece in pieces):
        columns["frame_names"] = file.create_dataset("frame_names", (total,), f"S{_name_width(pieces)}")
    _write_table(file, pieces)
    digest, start = hashlib.sha256(), 0
    with Bar("Packing", total, "frames") as bar:
        for piece in pieces:
            _write_rows(piece, features, columns, start, digest)
            start += piece.frames
            bar.advance(piece.frames)
    file.attrs["packed_version"] = PACKED_VERSION
    file.attrs["clipcache_version"] = metadata.version("clipcache")
    file.attrs["created"] = utc_now()
    file.attrs["model_dir"] = model_dir
    file.attrs["features_sha256"] = digest.hexdigest()
    file.attrs["columns_sha256"] = columns_sha256(file)


def _write_rows(piece: _Piece, features: Any, columns: dict[str, Any], start: int, digest: Any) -> None:
    """Copy one entry. If it has changed since it was planned, the whole file is given up."""
    entry, stop = Entry(piece.path), start + piece.frames
    with _naming_bad_piece(), entry.kept_open():
        if len(entry) != piece.frames or entry.attributes != piece.attributes:
            raise ContentError(f"{quoted(piece.path)} changed while it was packed", PACK_AGAIN)
        columns["timestamps_ms"][start:stop] = entry.timestamps_ms
        columns["frame_index"][start:stop] = entry.frame_index
        for name, values in entry.quality.items():
            columns[name][start:stop] = values
        if piece.has_frame_names:
            columns["frame_names"][start:stop] = [storable_text(name).encode() for name in entry.frame_names or ()]
        for block in entry.iter_features():
            rows = block.astype(features.dtype, copy=False)
            features[start : start + len(rows)] = rows
            digest.update(np.ascontiguousarray(rows).data)
            start += len(rows)


def _write_table(file: Any, pieces: list[_Piece]) -> None:
    file["video_offsets"] = np.cumsum([0, *(piece.frames for piece in pieces)], dtype="<i8")
    entries = file.create_group("entries")
    entries["names"] = _texts(piece.name for piece in pieces)
    entries["feature_bytes"] = np.array([piece.feature_bytes for piece in pieces], "<i8")
    entries["has_frame_names"] = np.array([piece.has_frame_names for piece in pieces], bool)
    entries["quality"] = _texts(json.dumps(piece.quality, allow_nan=False) for piece in pieces)
    attributes = entries.create_group("attributes")
    for name, kind in ATTRIBUTE_TYPES.items():
        values = [getattr(piece.attributes, name) for piece in pieces]
        attributes[name] = _texts(values) if kind is str else np.array(values, NUMBER_DTYPES[kind])


def _texts(texts: Any) -> Any:
    encoded = [storable_text(text).encode() for text in texts]
    return np.array(encoded, f"S{max([1, *map(len, encoded)])}")


def _name_width(pieces: list[_Piece]) -> int:
    with _naming_bad_piece():
        names = (name for piece in pieces if piece.has_frame_names for name in Entry(piece.path).frame_names or ())
        return max([1, *(len(storable_text(name).encode()) for name in names)])


@contextlib.contextmanager
def _naming_bad_piece() -> Iterator[None]:
    try:
        yield
    except EntryError as error:
        raise _BadPieceError(error.problem, error.remedy) from error
