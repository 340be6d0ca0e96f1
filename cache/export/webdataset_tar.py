"""Tar shards of `<key>.npy` and `<key>.json`, as iejMac/clip-video-encode writes them and webdataset reads them.

What has a value for each row is in `<key>.rows.json`: batching the JSON of several videos fails on lists of different
lengths.
"""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

from .npy import write_npy
from .rows import Rows


def write(videos: Iterable[Rows], paths: Sequence[Path]) -> None:
    """Write one sample for each video: the features (R, D), what is known of the video, and of each row."""
    (path,) = paths
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as shard:
        for rows in videos:
            # A tar member's size comes before its content; on disk, as the features may not fit into memory.
            with tempfile.TemporaryFile(dir=path.parent) as file:
                write_npy(file, rows.shape, rows.dtype, rows.blocks())
                _add(shard, f"{rows.name}.npy", file)
            _add(shard, f"{rows.name}.json", io.BytesIO(rows.metadata_json.encode()))
            _add(shard, f"{rows.name}.rows.json", io.BytesIO(json.dumps(_columns(rows), allow_nan=False).encode()))


def _columns(rows: Rows) -> dict[str, Any]:
    return {
        "timestamps_ms": rows.timestamps_ms.tolist(),
        "frame_index": rows.frame_index.tolist(),
        **({} if rows.frame_names is None else {"frame_names": rows.frame_names}),
        **{name: cosines.tolist() for name, cosines in rows.cosines.items()},
    }


def _add(shard: tarfile.TarFile, name: str, file: IO[bytes]) -> None:
    member = tarfile.TarInfo(name)
    member.size = file.seek(0, io.SEEK_END)
    file.seek(0)
    shard.addfile(member, file)
