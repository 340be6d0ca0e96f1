"""Features in the folders of rom1504/clip-retrieval: `img_emb/*.npy`, with `metadata/*.parquet` that names the rows.

The rows of a video are told by the column `video`, or by media fragments in `image_path`: "holiday.mp4#t=1.480".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..common.errors import ContentError
from ..common.paths import is_file
from ..common.quoting import first_line, quoted
from ..numpy_files import map_npy
from .formats import Found
from .parquet import Batch, frame_columns, metadata_of, opened, runs, texts_of

FOLDER = "img_emb"
_ROWS = 8192
_PLACE = re.compile(r"(?P<file>.+)#t=(?P<seconds>\d+(?:\.\d+)?)", re.DOTALL)


def read_part(path: Path) -> Iterator[Found]:
    """The features of every video in one array; the array is mapped, and read a video at a time.

    Raises:
        ContentError: if the array or its table is damaged or missing, or the table does not name videos.
        UsageError: if pyarrow is not installed.
    """
    table = path.parent.parent / "metadata" / f"{path.stem.replace(FOLDER, 'metadata')}.parquet"
    if not is_file(table):
        raise ContentError(f"{quoted(path)} has no table {quoted(table)} that names its rows", "copy it as well")
    try:
        embeddings = map_npy(path)
    except (OSError, ValueError) as error:
        raise ContentError(
            f"{quoted(path)} is damaged or not a NumPy file ({first_line(error)})", "copy it again"
        ) from error
    with opened(table) as file:
        if embeddings.ndim != 2 or len(embeddings) != file.metadata.num_rows:
            raise ContentError(
                f"{quoted(path)} holds an array of shape {embeddings.shape}, and {quoted(table)} names "
                f"{file.metadata.num_rows} rows",
                "copy both again",
            )
        metadata = metadata_of(file)
        for name, run in runs(_batches(file, embeddings, table), path):
            yield run.found(name, path, metadata)


def _batches(file: Any, embeddings: Any, table: Path) -> Iterator[Batch]:
    names = file.schema_arrow.names
    wanted = [one for one in ("video", "image_path", "frame_index", "frame_name", "timestamp_ms") if one in names]
    first = 0
    for batch in file.iter_batches(batch_size=_ROWS, columns=wanted):
        columns = frame_columns(batch)
        if "video" in wanted:
            videos = texts_of(batch.column("video"))
        else:
            videos, seconds = _places(batch, table)
            columns["timestamps_ms"] = [1000 * one for one in seconds]
        yield videos, np.array(embeddings[first : first + len(batch)]), columns
        first += len(batch)


def _places(batch: Any, table: Path) -> tuple[list[str | None], list[float]]:
    """The videos and the seconds that media fragments name."""
    paths = texts_of(batch.column("image_path")) if "image_path" in batch.schema.names else [""]
    places = [_PLACE.fullmatch(one or "") for one in paths]
    found = [(PurePosixPath(one["file"]).with_suffix("").as_posix(), float(one["seconds"])) for one in places if one]
    if len(found) != len(batch):
        raise ContentError(
            f"{quoted(table)} does not say which video each row is of",
            "give it a column video, or paths such as holiday.mp4#t=1.480",
        )
    return [video for video, _ in found], [seconds for _, seconds in found]
