"""Features in the Parquet files of `clipcache export`: a row a frame, or a row a video with lists.

Others' files are read if they have the columns `video` and `features`. pyarrow comes with the extra `parquet`.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..common.errors import ContentError, UsageError
from ..common.exported import VIDEOS_METADATA
from ..common.quoting import first_line, quoted
from .formats import Found, json_object, rate, texts

_ROWS = 8192
_TEXTS = ["video", "image_path", "frame_name"]
_MAX_RATIO = 100  # of values to stored bytes: features never compress that well
_FRAME_COLUMNS = {"timestamp_ms": "timestamps_ms", "frame_index": "frame_index", "frame_name": "frame_names"}
BAD_FILE = (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, MemoryError, RuntimeError)
"""What pyarrow raises on damaged files, and NumPy on columns of another shape."""


def read_parquet(path: Path) -> Iterator[Found]:
    """Every video of one file; the rows of a video follow each other.

    Raises:
        ContentError: if the file is damaged, or lacks the columns.
        UsageError: if pyarrow is not installed.
    """
    with opened(path) as file:
        names = file.schema_arrow.names
        if "video" not in names or "features" not in names:
            raise ContentError(f"{quoted(path)} has no columns video and features; only such files are imported")
        _check_size(file, path)
        metadata = metadata_of(file)
        if "timestamps_ms" in names:
            yield from _videos(file, path, metadata)
        else:
            for name, run in runs(_frame_batches(file), path):
                yield run.found(name, path, metadata)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """An open Parquet file; what pyarrow raises becomes an error that names it.

    Raises:
        ContentError: if the file is damaged.
        UsageError: if pyarrow is not installed.
    """
    try:
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise UsageError("Parquet needs pyarrow", "run: pip install 'clipcache[parquet]'") from error
    try:
        repeated = [name for name in parquet.read_schema(path).names if name in _TEXTS]
        with parquet.ParquetFile(path, read_dictionary=repeated, page_checksum_verification=True) as file:
            yield file
    except BAD_FILE as error:
        raise ContentError(
            f"{quoted(path)} is damaged or not a Parquet file of features ({first_line(error)})", "copy it again"
        ) from error


def metadata_of(file: Any) -> Mapping[str, Any]:
    """What an export says of each video in an open file, by its name."""
    held = (file.metadata.metadata or {}).get(VIDEOS_METADATA.encode(), b"")
    return json_object(held.decode("utf-8", "replace")) or {}


@dataclass
class Run:
    """Rows of one video that follow each other, a block after the other."""

    features: list[npt.NDArray[Any]] = field(default_factory=list)
    columns: dict[str, list[Any]] = field(default_factory=dict)

    def found(self, name: str, path: Path, metadata: Mapping[str, Any]) -> Found:
        """The rows as what a file holds of one video."""
        known = metadata.get(name)
        return Found(
            name,
            path,
            np.concatenate(self.features),
            _numbers(self.columns.get("timestamps_ms")),
            _numbers(self.columns.get("frame_index")),
            frame_names=texts(self.columns.get("frame_names")),
            metadata=known if isinstance(known, dict) else None,
        )


Batch = tuple[Sequence[str | None], npt.NDArray[Any], Mapping[str, Sequence[Any]]]
"""Names of videos (B,), features (B, D), and other columns by their name in `Found`, (B,) each."""


def runs(batches: Iterator[Batch], path: Path) -> Iterator[tuple[str, Run]]:
    """Each video's rows, gathered from batches.

    Raises:
        ContentError: if the rows of a video do not follow each other, or do not say which video they are of.
    """
    seen: set[str] = set()
    current, run = None, Run()
    for names, features, columns in batches:
        borders = [row for row in range(1, len(names)) if names[row] != names[row - 1]]
        for first, end in zip([0, *borders], [*borders, len(names)], strict=True):
            if first == end:
                continue
            if names[first] != current:
                if current is not None:
                    yield current, run
                current, run = names[first], Run()
                if not isinstance(current, str) or current in seen:
                    raise ContentError(
                        f"{quoted(path)} holds rows of {current!r} in several places", "sort it by video"
                    )
                seen.add(current)
            run.features.append(features[first:end])
            for column, values in columns.items():
                run.columns.setdefault(column, []).extend(values[first:end])
    if current is not None:
        yield current, run


def frame_columns(batch: Any) -> dict[str, Sequence[Any]]:
    """What a batch of pyarrow says of each row besides its features."""
    held = {ours: batch.column(theirs) for theirs, ours in _FRAME_COLUMNS.items() if theirs in batch.schema.names}
    return {name: texts_of(one) if name == "frame_names" else one.to_pylist() for name, one in held.items()}


def texts_of(column: Any) -> list[str | None]:
    """A column of texts; each text is held once, however often the rows repeat it."""
    held = column.dictionary.to_pylist()
    return [None if number is None else held[number] for number in column.indices.to_pylist()]


def _frame_batches(file: Any) -> Iterator[Batch]:
    wanted = [name for name in ("video", "features", *_FRAME_COLUMNS) if name in file.schema_arrow.names]
    for batch in file.iter_batches(batch_size=_ROWS, columns=wanted):
        yield texts_of(batch.column("video")), _matrix(batch.column("features")), frame_columns(batch)


def _matrix(vectors: Any) -> npt.NDArray[Any]:
    """A column of lists as an array (rows, D).

    Raises:
        ValueError: if a list is missing, or they are not all of one length.
    """
    lengths = set(importlib.import_module("pyarrow.compute").list_value_length(vectors).to_pylist())
    if len(lengths) > 1 or None in lengths:
        raise ValueError("its features are not lists of one length")
    array: npt.NDArray[Any] = vectors.flatten().to_numpy(zero_copy_only=False)
    return array.reshape(len(vectors), -1)


def _videos(file: Any, path: Path, metadata: Mapping[str, Any]) -> Iterator[Found]:
    """The videos of a file with a row for each."""
    known_names = file.schema_arrow.names
    columns = [one for one in ("video", "fps", "frame_index", "timestamps_ms", "features") if one in known_names]
    for batch in file.iter_batches(batch_size=1, columns=columns):
        held = {name: batch.column(name).flatten() for name in columns if name not in ("video", "fps")}
        (name,) = texts_of(batch.column("video"))
        vectors = held.pop("features")
        numbers = {key: column.to_numpy(zero_copy_only=False) for key, column in held.items()}
        known = metadata.get(str(name))
        yield Found(
            str(name),
            path,
            _matrix(vectors),
            numbers.get("timestamps_ms"),
            numbers.get("frame_index"),
            rate(np.array(batch.column("fps").to_pylist(), dtype=float)) if "fps" in columns else None,
            metadata=known if isinstance(known, dict) else None,
        )


def _check_size(file: Any, path: Path) -> None:
    """Refuse a file that declares far more values than it stores: reading it would fill the memory."""
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    parts = [group.column(number) for group in groups for number in range(group.num_columns)]
    declared = sum(max(4 * part.num_values, part.total_uncompressed_size) for part in parts)
    if declared > _MAX_RATIO * path.stat().st_size:
        raise ContentError(f"{quoted(path)} declares {declared} bytes, far more than it holds", "leave it out")


def _numbers(values: Sequence[Any] | None) -> npt.NDArray[Any] | None:
    """A column as an array; None if there is none, or it has gaps."""
    return None if values is None or any(value is None for value in values) else np.array(values)
