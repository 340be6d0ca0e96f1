"""Reading a packed library: one HDF5 file that holds all entries of one model.

Its entries have the paths that they would have if the file were a folder, `library.h5/ViT-B-32-40d36571/ab/clip-….h5`,
so that all code that finds, opens or names entries by path works on them unchanged.

| dataset | shape | dtype | |
|---|---|---|---|
| `features` | (total, D) | float16 or float32 | contiguous: `feature_memmap` maps it without HDF5 |
| `timestamps_ms`, `frame_index` | (total,) | float64, int64 | |
| `video_offsets` | (V + 1,) | int64 | rows of entry i: `video_offsets[i]` to `video_offsets[i + 1]` |
| `entries/names` | (V,) | text | paths of the entries below the file |
| `entries/attributes/<name>` | (V,) | as in an entry | one column per attribute |
| `entries/feature_bytes` | (V,) | int64 | 2 or 4 a value: the type that the entry had |
| `entries/has_frame_names`, `entries/quality` | (V,) | bool, text | optional columns of each entry (JSON lists) |
| `frame_names`, `quality/<name>` | (total,) | text, float32 | where an entry has them; else empty or 0 |

Attributes of the file: `packed_version`, `clipcache_version`, `created`, `model_dir`, `features_sha256`,
`columns_sha256`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ..common.errors import EntryError, UncheckedEntryError
from ..common.paths import StrPath, is_file
from ..common.quoting import quoted
from .blocks import iter_blocks
from .checks import check_identity
from .guard import (
    H5PY_ERRORS,
    OpenEntry,
    check_links,
    checked_column,
    checked_dataset,
    raises_entry_error,
)
from .header import StoredAttributes
from .names import ENTRY_SUFFIX, parse_entry_name, parse_model_dir_name
from .schema import (
    ADDED_IN_VERSION_2,
    ATTRIBUTE_TYPES,
    FEATURE_DTYPES,
    INDEX_DTYPE,
    NUMBER_DTYPES,
    QUALITY_DTYPE,
    SCHEMA_VERSION,
    TIME_DTYPE,
    EntryAttributes,
    Features,
    attributes_of_version,
    timeline_problem,
)

PACKED_VERSION = 1
PACK_AGAIN = "pack the library again"
"""What to do about a packed library that is damaged."""

_LEVELS = 3  # <file>/<model folder>/<ab>/<entry>.h5


@dataclass(frozen=True)
class _Table:
    """What is read once of a packed file: everything but the columns of frames."""

    rows: dict[str, int]  # entry's path below the file -> its number
    offsets: npt.NDArray[np.int64]  # (V + 1,)
    columns: dict[str, npt.NDArray[Any]]  # attribute -> (V,)
    feature_bytes: npt.NDArray[np.int64]  # (V,), 2 or 4
    has_frame_names: npt.NDArray[np.bool_]  # (V,)
    quality: list[list[str]]  # V lists of names

    def attributes(self, row: int) -> EntryAttributes:
        """The attributes of one entry."""
        types = attributes_of_version(int(self.columns["schema_version"][row]))
        values = {name: self.columns[name][row] for name in types}
        return EntryAttributes(
            **{name: values[name].decode() if kind is str else kind(values[name]) for name, kind in types.items()}
        )


@dataclass(frozen=True)
class Rows:
    """Consecutive rows of a dataset, read when sliced, in the type that they had before packing."""

    _dataset: Any
    _start: int
    _stop: int
    dtype: np.dtype[Any]

    def __len__(self) -> int:
        return self._stop - self._start

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, ...) as of an array."""
        return (len(self), *self._dataset.shape[1:])

    def __getitem__(self, rows: slice) -> npt.NDArray[Any]:
        start, stop, _ = rows.indices(len(self))
        values: npt.NDArray[Any] = self._dataset[self._start + start : self._start + max(start, stop)]
        return values.astype(self.dtype, copy=False)


def packed_file_of(path: Path) -> Path | None:
    """The packed file that an entry's path leads into; None for an entry that is a separate file."""
    if len(path.parts) <= _LEVELS or path.parents[_LEVELS - 1].suffix != ENTRY_SUFFIX:
        return None
    file = path.parents[_LEVELS - 1]
    return file if is_file(file) else None


def is_packed(path: Path) -> bool:
    """Whether a file is marked as a packed library, valid or not."""
    if path.suffix != ENTRY_SUFFIX or not is_file(path):  # HDF5 would wait for a pipe
        return False
    try:
        with h5py.File(path, "r", locking=False) as opened:
            return packs_entries(opened)
    except H5PY_ERRORS:
        return False


def packs_entries(opened: h5py.File) -> bool:
    """Whether an open file is marked as a packed library, valid or not."""
    return "packed_version" in opened.attrs


def entry_paths(file: Path) -> list[Path]:
    """Paths of all entries of a packed file.

    Raises:
        EntryError: if it is not one, or is damaged, hostile or of a newer version.
    """
    return [file / name for name in _table(file).rows]


def read_packed_attributes(file: Path, path: Path) -> EntryAttributes:
    """The attributes of one entry.

    Raises:
        EntryError: as `entry_paths`, or there is no such entry.
    """
    table = _table(file)
    return _attributes(table, _row(table, file, path), file, path)


@contextlib.contextmanager
def open_packed_entry(file: Path, path: Path) -> Iterator[OpenEntry]:
    """Open one entry for as long as the context lasts.

    Raises:
        EntryError: as `entry_paths`, or there is no such entry, or its frames are out of order.
    """
    table = _table(file)
    row = _row(table, file, path)
    attributes = _attributes(table, row, file, path)
    start, stop = int(table.offsets[row]), int(table.offsets[row + 1])
    with raises_entry_error(file), h5py.File(file, "r", locking=False) as opened:
        timestamps, index = opened["timestamps_ms"][start:stop], opened["frame_index"][start:stop]
        if problem := timeline_problem(timestamps, index):
            raise EntryError(f"{quoted(path)} is not valid: {problem}", PACK_AGAIN)

        def rows(name: str, dtype: npt.DTypeLike) -> Any:
            return Rows(opened[name], start, stop, np.dtype(dtype))

        names = rows("frame_names", opened["frame_names"].dtype) if table.has_frame_names[row] else None
        quality = {name: rows(f"quality/{name}", np.float32) for name in table.quality[row]}
        dtype = {2: np.float16, 4: np.float32}[int(table.feature_bytes[row])]
        yield OpenEntry(attributes, rows("features", dtype), timestamps, index, names, quality)


def feature_memmap(file: StrPath) -> Features:
    """All features of a packed file, (total, D), mapped into memory read-only, without HDF5.

    Raises:
        EntryError: as `entry_paths`.
    """
    file = Path(file)
    _table(file)
    with raises_entry_error(file), h5py.File(file, "r", locking=False) as opened:
        features = opened["features"]
        return np.memmap(file, features.dtype, "r", offset=features.id.get_offset(), shape=features.shape)


def video_offsets(file: StrPath) -> npt.NDArray[np.int64]:
    """(V + 1,) first rows of the entries in `feature_memmap`, and the number of all rows."""
    return _table(Path(file)).offsets


def columns_sha256(opened: Any) -> str:
    """Checksum of everything in an open packed file but its features, dataset by dataset in order of name."""
    names: list[str] = []
    opened.visititems(lambda name, part: names.append(name) if isinstance(part, h5py.Dataset) else None)
    digest = hashlib.sha256()
    for name in sorted(set(names) - {"features"}):
        digest.update(f"{name} {opened[name].dtype} {opened[name].shape}\0".encode())
        for block in iter_blocks(opened[name]):
            digest.update(np.ascontiguousarray(block).tobytes())
    return digest.hexdigest()


def checksum_problem(file: Path) -> str | None:
    """Read all of a packed file; returns a sentence if a checksum is wrong, else None.

    Raises:
        EntryError: as `entry_paths`.
    """
    features, digest = feature_memmap(file), hashlib.sha256()
    for block in iter_blocks(features):
        digest.update(np.ascontiguousarray(block).data)
    with raises_entry_error(file), h5py.File(file, "r", locking=False) as opened:
        stored = StoredAttributes(opened)
        declared = tuple(name in stored and stored.get(name, str) for name in ("features_sha256", "columns_sha256"))
        found = (digest.hexdigest(), columns_sha256(opened))
    return None if declared == found else f"{quoted(file)} is damaged (wrong checksum); {PACK_AGAIN}."


def _attributes(table: _Table, row: int, file: Path, path: Path) -> EntryAttributes:
    with raises_entry_error(file):
        attributes = table.attributes(row)
    check_identity(path, attributes)
    return attributes


def _row(table: _Table, file: Path, path: Path) -> int:
    row = table.rows.get(path.relative_to(file).as_posix())
    if row is None:
        raise EntryError(
            f"{quoted(file)} holds no entry {quoted(path.relative_to(file))}", "list it with: clipcache cache ls"
        )
    return row


def _table(file: Path) -> _Table:
    """The table of a file, read again only when the file has changed."""
    try:
        status = file.stat()
    except OSError as error:
        raise UncheckedEntryError(f"{quoted(file)} cannot be read ({error.strerror or error})") from error
    return _read_table(file, (status.st_size, status.st_mtime_ns, status.st_ino))


@lru_cache(maxsize=8)
def _read_table(file: Path, stamp: tuple[int, int, int]) -> _Table:  # noqa: ARG001  the stamp is part of the key
    if not h5py.is_hdf5(file):
        raise EntryError(
            f"{quoted(file)} is not a packed library", "name a cache folder, or a file that clipcache cache pack made"
        )
    with raises_entry_error(file), h5py.File(file, "r", locking=False) as opened:
        if not packs_entries(opened):
            raise EntryError(
                f"{quoted(file)} is not a packed library",
                "name a cache folder, or a file that clipcache cache pack made",
            )
        version = StoredAttributes(opened).get("packed_version", int)
        if version != PACKED_VERSION:
            raise EntryError(
                f"{quoted(file)} has version {version}, this clipcache reads {PACKED_VERSION}", "upgrade clipcache"
            )
        return _checked_table(opened, file)


def _checked_table(opened: Any, file: Path) -> _Table:
    """Check the whole structure before any data is read, as `read` does with an entry."""
    for group in ("/", "entries", "entries/attributes", *(["quality"] if "quality" in opened else [])):
        if not isinstance(opened.get(group), h5py.Group):
            raise EntryError(f"{quoted(file)} lacks the group {group}", PACK_AGAIN)
        check_links(opened[group], file)
    features = checked_dataset(opened, "features", file)
    if features.dtype not in FEATURE_DTYPES or features.ndim != 2 or features.chunks is not None:
        raise EntryError(f"{quoted(file)} holds features of an unexpected kind", PACK_AGAIN)
    total = features.shape[0]
    for name, dtype in (("timestamps_ms", TIME_DTYPE), ("frame_index", INDEX_DTYPE)):
        checked_column(opened, name, dtype, total, file)
    for name in opened.get("quality", ()):
        checked_column(opened["quality"], name, QUALITY_DTYPE, total, file)
    if "frame_names" in opened:
        checked_column(opened, "frame_names", None, total, file)
    names = checked_dataset(opened["entries"], "names", file)
    count = names.shape[0]
    checked_column(opened["entries"], "names", None, count, file)
    offsets = checked_column(opened, "video_offsets", np.dtype("<i8"), count + 1, file)[:]
    if offsets[0] != 0 or offsets[-1] != total or (np.diff(offsets) <= 0).any():
        raise EntryError(f"{quoted(file)} has offsets that do not fit its features", PACK_AGAIN)
    rows = {name.decode(): row for row, name in enumerate(names[:])}
    if len(rows) != count or not all(map(_is_entry_path, rows)):
        raise EntryError(f"{quoted(file)} names entries that cannot be its own", PACK_AGAIN)
    types = {
        name: kind
        for name, kind in ATTRIBUTE_TYPES.items()
        if name not in ADDED_IN_VERSION_2 or name in opened["entries/attributes"]  # packed before there was version 2
    }
    columns = {
        name: checked_column(opened["entries/attributes"], name, NUMBER_DTYPES.get(kind), count, file)[:]
        for name, kind in types.items()
    }
    _check_attributes(columns, features.shape[1], file)
    return _Table(
        rows=rows,
        offsets=offsets,
        columns=columns,
        feature_bytes=checked_column(opened["entries"], "feature_bytes", np.dtype("<i8"), count, file)[:],
        has_frame_names=checked_column(opened["entries"], "has_frame_names", np.dtype(bool), count, file)[:],
        quality=[json.loads(text) for text in checked_column(opened["entries"], "quality", None, count, file)[:]],
    )


def _check_attributes(columns: dict[str, npt.NDArray[Any]], dim: int, file: Path) -> None:
    versions = columns["schema_version"]
    if (versions < 1).any() or (versions > SCHEMA_VERSION).any():
        raise EntryError(
            f"{quoted(file)} holds entries of a schema that is not version 1 to {SCHEMA_VERSION}", "upgrade clipcache"
        )
    if (versions > 1).any() and not set(ADDED_IN_VERSION_2) <= set(columns):
        raise EntryError(f"{quoted(file)} lacks attributes of its entries", PACK_AGAIN)
    if (columns["embed_dim"] != dim).any():
        raise EntryError(f"{quoted(file)} holds features of another length than it says", PACK_AGAIN)


def _is_entry_path(name: str) -> bool:
    """Whether a name is `<model folder>/<ab>/<entry>.h5`: anything else could lead out of the file."""
    model_dir, _, rest = name.partition("/")
    shard, _, entry = rest.partition("/")
    parsed = parse_entry_name(entry)
    return parse_model_dir_name(model_dir) is not None and parsed is not None and parsed.sha16[:2] == shard
