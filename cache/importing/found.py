"""What an import finds, before it is known whether it can become an entry."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Found:
    """The features of one video as they lie in somebody's file, unchecked.

    Attributes:
        name: of the video, without its suffix; may hold folders.
        path: file that the features come from.
        features: any array; (N, D) of floats is what it must turn out to be.
        timestamps_ms: of each row, milliseconds; None if the file does not say.
        frame_index: position of each row in the video; None if the file does not say.
        fps: frames a second, of the video or of the rows, as the file says; None if it does not.
    """

    name: str
    path: Path
    features: npt.NDArray[Any]
    timestamps_ms: npt.NDArray[Any] | None = None
    frame_index: npt.NDArray[Any] | None = None
    fps: float | None = None


def rate(values: npt.NDArray[Any] | None) -> float | None:
    """The one rate that an array holds; None if it holds none or several, or a number that is no rate: 0, NaN, -1."""
    if values is None or values.size != 1 or values.dtype.kind not in "fiu":
        return None
    number = float(np.ravel(values)[0])
    return number if 0 < number < math.inf else None
