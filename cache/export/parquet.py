"""One Parquet file, zstd, by pyarrow: a row a frame, or a row a video with list columns."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..common.errors import UsageError
from ..common.exported import VIDEOS_METADATA
from ..format.schema import storable_text
from .rows import Rows

_ROWS_PER_GROUP = 8192
_MAX_ROW_BYTES = 2**31 - 2**20  # a Parquet page holds whole rows, and its size is a 32-bit number


def write_frames(videos: Iterable[Rows], paths: Sequence[Path]) -> None:
    """Write a row a frame: `video`, `frame_index`, `frame_name`, `timestamp_ms`, `features` (D,), the cosines."""
    (path,) = paths
    metadata = VideosMetadata()
    _write(path, (table for rows in metadata.noted(videos) for table in _frame_tables(rows)), metadata)


def write_videos(videos: Iterable[Rows], paths: Sequence[Path]) -> None:
    """Write a row a video: its name, hash and rate, and as lists `timestamps_ms`, `features` (R, D), the cosines."""
    (path,) = paths
    metadata = VideosMetadata()
    _write(path, map(_video_table, metadata.noted(videos)), metadata)


class VideosMetadata:
    """The metadata of the videos of one file, which are known one after the other."""

    def __init__(self) -> None:
        self._by_video: dict[str, dict[str, Any]] = {}

    def noted(self, videos: Iterable[Rows]) -> Iterator[Rows]:
        """The videos, each noted as it passes."""
        for rows in videos:
            self._by_video[rows.name] = rows.metadata
            yield rows

    def as_key_value(self) -> dict[str, str]:
        """`Rows.metadata` of each video by its name, as Parquet's own metadata of the file."""
        return {VIDEOS_METADATA: json.dumps(self._by_video, allow_nan=False)}


def import_pyarrow() -> Any:
    """Return pyarrow.

    Raises:
        UsageError: if it is not installed.
    """
    try:
        importlib.import_module("pyarrow.parquet")
        return importlib.import_module("pyarrow")
    except ImportError as error:
        raise UsageError("Parquet needs pyarrow", "run: pip install 'clipcache[parquet]'") from error


def metadata_columns(rows: Rows, where: slice) -> dict[str, Any]:
    """What is known of some rows except their features, as columns of pyarrow."""
    pa = import_pyarrow()
    count = len(rows.timestamps_ms[where])
    names = [None] * count if rows.frame_names is None else [storable_text(name) for name in rows.frame_names[where]]
    return {
        "video": pa.array([rows.name] * count, pa.string()),
        "frame_index": pa.array(rows.frame_index[where]),
        "frame_name": pa.array(names, pa.string()),
        "timestamp_ms": pa.array(rows.timestamps_ms[where]),
        **{name: pa.array(values[where]) for name, values in rows.cosines.items()},
    }


def _frame_tables(rows: Rows) -> Iterator[Any]:
    pa = import_pyarrow()
    for where, block in rows.numbered_blocks():
        columns = metadata_columns(rows, where) | {"features": _vectors(block)}
        yield pa.table(columns).replace_schema_metadata(_provenance(rows))


def _video_table(rows: Rows) -> Any:
    pa = import_pyarrow()
    if rows.shape[0] * rows.shape[1] * rows.dtype.itemsize > _MAX_ROW_BYTES:
        raise UsageError(f"{rows.name!r} is too long for one row of a Parquet file", "use --format parquet")
    values = _vectors(np.empty((0, rows.shape[1]), rows.dtype))
    features = pa.chunked_array([_vectors(block) for block in rows.blocks()], values.type).combine_chunks()
    columns = {
        "video": pa.array([rows.name]),
        **{name: pa.array([getattr(rows.attributes, name)]) for name in ("video_sha256", "sampling")},
        "fps": pa.array([rows.fps]),
        "rows": pa.array([len(rows)]),
        "frame_index": _one_list(pa.array(rows.frame_index)),
        "timestamps_ms": _one_list(pa.array(rows.timestamps_ms)),
        **{name: _one_list(pa.array(cosines)) for name, cosines in rows.cosines.items()},
        "features": _one_list(features),
    }
    return pa.table(columns).replace_schema_metadata(_provenance(rows))


def _vectors(block: npt.NDArray[Any]) -> Any:
    """A column of vectors of one length; readers without that type see lists."""
    pa = import_pyarrow()
    return pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), block.shape[1])


def _one_list(values: Any) -> Any:
    pa = import_pyarrow()
    return pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)


def _provenance(rows: Rows) -> dict[str, str]:
    """Metadata of the whole file: all its entries are of one model."""
    attributes = rows.attributes
    model = {"model": attributes.model, "weights_sha256": attributes.weights_sha256, "embed_dim": attributes.embed_dim}
    return {"clipcache": json.dumps(model, allow_nan=False)}


def _write(path: Path, tables: Iterator[Any], metadata: VideosMetadata) -> None:
    """Write tables of one schema as row groups of about `_ROWS_PER_GROUP` rows, with one group in memory."""
    pa = import_pyarrow()
    writer = None
    waiting: list[Any] = []
    try:
        for table in tables:
            writer = writer or _writer(path, table.schema)
            waiting.append(table)
            if sum(_frames_of(one) for one in waiting) >= _ROWS_PER_GROUP:
                writer.write_table(pa.concat_tables(waiting))
                waiting.clear()
        if writer is not None and waiting:
            writer.write_table(pa.concat_tables(waiting))
        if writer is not None:
            writer.add_key_value_metadata(metadata.as_key_value())
    finally:
        if writer is not None:
            writer.close()


def _writer(path: Path, schema: Any) -> Any:
    # A dictionary of values that are all different costs memory and time, and is dropped in the end.
    repeated = [name for name in schema.names if schema.field(name).type == "string"]
    return import_pyarrow().parquet.ParquetWriter(
        path, schema, compression="zstd", use_dictionary=repeated, write_page_checksum=True
    )


def _frames_of(table: Any) -> int:
    """How many vectors a table holds, as rows or as elements of lists."""
    return sum(table["rows"].to_pylist()) if "rows" in table.column_names else table.num_rows
