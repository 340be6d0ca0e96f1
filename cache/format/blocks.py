"""Arrays in blocks of rows, so that memory stays bounded however long the video."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

BLOCK_ROWS = 8192
_MAX_VALUE = 1e6  # CLIP's features are below 30, and no encoder here gives more than some hundreds
NOT_FINITE = "features that are not finite"
"""For messages, where `all_finite` is false; this and the next are also what `features_problem` says."""
NOT_PLAUSIBLE = "features that no model gives: all zero, or beyond 1,000,000"
ALL_ZERO = "a feature that is all zero, which no model gives"


def iter_blocks(rows: Any) -> Iterator[npt.NDArray[Any]]:
    """The rows of an array, or of a dataset of HDF5, in pieces of 1 to `BLOCK_ROWS`."""
    for start in range(0, len(rows), BLOCK_ROWS):
        yield rows[start : start + BLOCK_ROWS]


def all_finite(rows: Any) -> bool:
    """Whether no value of an array, or of a dataset of HDF5, is NaN or infinite."""
    return all(bool(np.isfinite(block).all()) for block in iter_blocks(rows))


def features_problem(features: Any) -> str | None:
    """What is wrong with the values of features (N, D), as words that follow "holds"; None if nothing."""
    for block in iter_blocks(features):
        largest = np.abs(np.asarray(block, np.float32)).max(axis=1)  # of each row; NaN where one is NaN
        if not np.isfinite(largest).all():
            return NOT_FINITE
        if not ((largest > 0) & (largest < _MAX_VALUE)).all():
            return NOT_PLAUSIBLE
    return None
