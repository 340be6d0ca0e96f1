"""Tar shards of `<key>.npy` and `<key>.json`, as iejMac/clip-video-encode writes them and webdataset reads them."""

from __future__ import annotations

import dataclasses
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
    """Write one sample for each video: the features (R, D), and what is known of them."""
    (path,) = paths
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as shard:
        for rows in videos:
            # A tar member's size comes before its content; on disk, as the features may not fit into memory.
            with tempfile.TemporaryFile(dir=path.parent) as file:
                write_npy(file, rows.shape, rows.dtype, rows.blocks())
                _add(shard, f"{rows.name}.npy", file)
            metadata = json.dumps(_metadata(rows), allow_nan=False).encode()
            _add(shard, f"{rows.name}.json", io.BytesIO(metadata))


def _metadata(rows: Rows) -> dict[str, Any]:
    return {
        **dataclasses.asdict(rows.attributes),
        "rows_per_second": rows.fps,
        "timestamps_ms": rows.timestamps_ms.tolist(),
        "frame_index": rows.frame_index.tolist(),
        **{name: cosines.tolist() for name, cosines in rows.cosines.items()},
    }


def _add(shard: tarfile.TarFile, name: str, file: IO[bytes]) -> None:
    member = tarfile.TarInfo(name)
    member.size = file.seek(0, io.SEEK_END)
    file.seek(0)
    shard.addfile(member, file)
