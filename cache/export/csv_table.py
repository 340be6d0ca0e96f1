"""One CSV file, a line a frame: for small things."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ..common.csv_cells import safe_cell
from .rows import Rows


def write(videos: Iterable[Rows], paths: Sequence[Path]) -> None:
    """Write `video`, `frame_index`, `frame_name`, `timestamp_ms`, the cosines, `f0` … `f511`.

    Numbers have the fewest digits from which their own type gives the same bits; texts are as `csv_cells` has them.
    """
    (path,) = paths
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file, lineterminator="\n")
        for number, rows in enumerate(videos):
            if number == 0:
                features = [f"f{column}" for column in range(rows.shape[1])]
                names = ["video", "frame_index", "frame_name", "timestamp_ms", *rows.cosines, *features]
                lines.writerow(map(safe_cell, names))
            for where, block in rows.numbered_blocks():
                # One table of texts: NumPy formats a column as fast as csv would a cell.
                known = [[safe_cell(rows.name)] * len(block), rows.frame_index[where].astype(str)]
                known += [[*map(safe_cell, rows.frame_names[where])] if rows.frame_names else [""] * len(block)]
                known += [rows.timestamps_ms[where].astype(str)]
                known += [cosines[where].astype(str) for cosines in rows.cosines.values()]
                for row, values in zip(zip(*known, strict=True), block.astype(np.str_), strict=True):
                    lines.writerow([*row, *values])
