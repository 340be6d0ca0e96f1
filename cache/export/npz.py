"""One .npz a video with the key `features`, as HERO, moment_detr and UniVTG read it; they ignore the other keys."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ..common.exported import METADATA
from .npy import npy_bytes, write_npy
from .rows import Rows


def write(videos: Iterable[Rows], paths: Sequence[Path]) -> None:
    """Write `features` (R, D), `timestamps_ms`, `frame_index`, `fps`, `metadata`, `frame_names` (R,) of images.

    With cosines also `texts` (T,) and `cosine` (R, T). `metadata`, an array without dimensions, is JSON.
    """
    (path,) = paths
    for rows in videos:
        small = {"timestamps_ms": rows.timestamps_ms, "frame_index": rows.frame_index, "fps": np.float64(rows.fps)}
        small[METADATA] = np.array(rows.metadata_json)
        if rows.frame_names is not None:
            small["frame_names"] = np.array(rows.frame_names)
        if rows.cosines:
            small["texts"] = np.array(list(rows.cosines))
            small["cosine"] = np.stack(list(rows.cosines.values()), axis=1)
        # Stored, not deflated: features do not shrink. A fixed date makes equal content equal bytes.
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            with archive.open(zipfile.ZipInfo("features.npy"), "w", force_zip64=True) as member:
                write_npy(member, rows.shape, rows.dtype, rows.blocks())
            for key, values in small.items():
                archive.writestr(zipfile.ZipInfo(f"{key}.npy"), npy_bytes(values))
