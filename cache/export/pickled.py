"""One pickle per video: a dict of NumPy arrays. Reading a pickle executes code in it; prefer npz or torch."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..common.exported import METADATA
from .rows import Rows


def as_dict(rows: Rows) -> dict[str, Any]:
    """Everything that is exported of a video, by name; all of its features are in memory."""
    return {
        "features": rows.features(),
        "timestamps_ms": rows.timestamps_ms,
        "frame_index": rows.frame_index,
        "fps": rows.fps,
        METADATA: rows.metadata_json,
        **({} if rows.frame_names is None else {"frame_names": rows.frame_names}),
        **rows.cosines,
    }


def write(videos: Iterable[Rows], paths: Sequence[Path]) -> None:
    """Write a dict of `features` (R, D), `timestamps_ms`, `frame_index`, `fps`, `metadata` (JSON) and the cosines."""
    (path,) = paths
    for rows in videos:
        with path.open("wb") as file:
            pickle.dump(as_dict(rows), file, protocol=4)
