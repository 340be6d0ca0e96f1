"""Three files per video, as v-iashin/video_features writes them: features, timestamps_ms, fps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from .npy import npy_bytes, write_npy
from .rows import Rows


def write(videos: Iterable[Rows], paths: Sequence[Path]) -> None:
    """Write (R, D) features, (R,) float64 timestamps_ms and a float64 scalar."""
    features, timestamps, fps = paths
    for rows in videos:
        with features.open("wb") as file:
            write_npy(file, rows.shape, rows.dtype, rows.blocks())
        timestamps.write_bytes(npy_bytes(rows.timestamps_ms))
        fps.write_bytes(npy_bytes(rows.fps))
