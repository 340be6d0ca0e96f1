"""One CSV file, a line a frame: for small things."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from .rows import Rows


def write(videos: Iterable[Rows], paths: Sequence[Path]) -> None:
    """Write `video`, `frame_index`, `frame_name`, `timestamp_ms`, the cosines, `f0` … `f511`.

    Numbers have the fewest digits from which their own type gives the same bits.
    """
    (path,) = paths
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        lines = csv.writer(file, lineterminator="\n")
        for number, rows in enumerate(videos):
            if number == 0:
                features = [f"f{column}" for column in range(rows.shape[1])]
                lines.writerow(["video", "frame_index", "frame_name", "timestamp_ms", *rows.cosines, *features])
            for where, block in rows.numbered_blocks():
                # One table of texts: NumPy formats a column as fast as csv would a cell.
                known = [[rows.name] * len(block), rows.frame_index[where].astype(str)]
                known += [rows.frame_names[where] if rows.frame_names else [""] * len(block)]
                known += [rows.timestamps_ms[where].astype(str)]
                known += [cosines[where].astype(str) for cosines in rows.cosines.values()]
                for row, values in zip(zip(*known, strict=True), block.astype(np.str_), strict=True):
                    lines.writerow([*row, *values])
