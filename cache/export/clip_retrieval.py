"""The folders `img_emb` and `metadata` of rom1504/clip-retrieval, ready for `clip-retrieval index`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .npy import npy_header
from .parquet import VideosMetadata, import_pyarrow, metadata_columns
from .rows import Rows


def write(videos: Iterable[Rows], paths: Sequence[Path]) -> None:
    """Write the features of several videos as one array, and a table with a row for each of its rows.

    The column `image_path`, by which clip-retrieval names a hit, holds a media fragment: "holiday.mp4#t=1.480".
    """
    pa = import_pyarrow()
    embeddings, metadata = paths
    tables: list[Any] = []
    total = 0
    metadata_of = VideosMetadata()
    with embeddings.open("w+b") as file:
        dim, dtype = 0, np.dtype(np.float16)
        for rows in metadata_of.noted(videos):
            if not tables:
                dim, dtype = rows.shape[1], rows.dtype
                file.write(npy_header((0, dim), dtype))
            for block in rows.blocks():
                file.write(np.ascontiguousarray(block).data)
            whole = slice(0, len(rows))
            tables.append(pa.table({"image_path": _places(rows)} | metadata_columns(rows, whole)))
            total += len(rows)
        # NumPy leaves room in a header for the number of rows, so that it can be written last.
        file.seek(0)
        file.write(npy_header((total, dim), dtype))
    if tables:
        whole_table = pa.concat_tables(tables).replace_schema_metadata(metadata_of.as_key_value())
        pa.parquet.write_table(whole_table, metadata, write_page_checksum=True)


def _places(rows: Rows) -> list[str]:
    """A media fragment for each row: file and time, or the file of an image."""
    if rows.frame_names is not None:
        return [f"{rows.name}/{name}" for name in rows.frame_names]
    suffix = Path(rows.attributes.video_name).suffix
    return [f"{rows.name}{suffix}#t={seconds:.3f}" for seconds in rows.timestamps_ms / 1000]
