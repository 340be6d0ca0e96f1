"""A batch in memory shared with the processes that encode: pictures go there, features come back."""

from __future__ import annotations

import mmap
import os
from typing import Any

import numpy as np
import numpy.typing as npt

from ..models.contract import FloatArray


class SharedBatch:
    """Room for a batch of pictures and its features.

    Args:
        descriptor: the memory of all batches, from `workers.shared_pages.anonymous_memory`; it grows as need be.
        number: of the batch, from 0.
        pictures: how many it holds.
        size: side of a picture in pixels.
        dim: length of a feature.

    Attributes:
        features: (pictures, dim) float32.
        pictures: (pictures, size, size, 3) uint8.
    """

    def __init__(self, descriptor: int, number: int, pictures: int, size: int, dim: int) -> None:
        whole = 4 * pictures * dim + pictures * size * size * 3
        length = -(-whole // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
        start = number * length
        if os.fstat(descriptor).st_size < start + length:
            os.ftruncate(descriptor, start + length)
        memory = mmap.mmap(descriptor, length, offset=start)
        flat: npt.NDArray[Any] = np.frombuffer(memory, np.uint8, whole)
        self.features: FloatArray = flat[: 4 * pictures * dim].view(np.float32).reshape(pictures, dim)
        self.pictures: npt.NDArray[np.uint8] = flat[4 * pictures * dim :].reshape(pictures, size, size, 3)
