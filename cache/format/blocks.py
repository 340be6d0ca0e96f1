"""Arrays in blocks of rows, so that memory stays bounded however long the video."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

BLOCK_ROWS = 8192
NOT_FINITE = "features that are not finite"
"""For messages, where `all_finite` is false."""
ALL_ZERO = "a feature that is all zero, which no model gives"


def iter_blocks(rows: Any) -> Iterator[npt.NDArray[Any]]:
    """The rows of an array, or of a dataset of HDF5, in pieces of 1 to `BLOCK_ROWS`."""
    for start in range(0, len(rows), BLOCK_ROWS):
        yield rows[start : start + BLOCK_ROWS]


def all_finite(rows: Any) -> bool:
    """Whether no value of an array, or of a dataset of HDF5, is NaN or infinite."""
    return all(bool(np.isfinite(block).all()) for block in iter_blocks(rows))
