"""Gather pictures of many videos into full batches for the encoder, and hand the features back to their videos."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from .frame_encoder import FloatArray, FrameEncoder, PendingFeatures

Owner = TypeVar("Owner")


class Batcher(Generic[Owner]):
    """Fills batches across the borders of videos and hands features to their owners, in the order of the pictures.

    Args:
        encoder: encodes the batches.
        on_features: called with an owner and (n, D) float32 features of its next n pictures.
    """

    def __init__(self, encoder: FrameEncoder, on_features: Callable[[Owner, FloatArray], None]) -> None:
        self._encoder = encoder
        self._on_features = on_features
        # One buffer more than batches in flight, so that filling never waits for copying.
        self._buffers: deque[Any] = deque(encoder.new_batch() for _ in range(encoder.in_flight + 1))
        self._filled = 0
        self._owners: list[tuple[Owner, int]] = []
        self._pending: deque[tuple[PendingFeatures, list[tuple[Owner, int]], Any]] = deque()
        self.seconds = 0.0
        self.encoded = 0

    def add(self, owner: Owner, pictures: npt.NDArray[np.uint8]) -> None:
        """Take (n, size, size, 3) uint8 pictures; they are copied."""
        while len(pictures):
            buffer = self._buffers[0]
            taken = min(len(pictures), len(buffer) - self._filled)
            buffer.numpy()[self._filled : self._filled + taken] = pictures[:taken]
            self._owners.append((owner, taken))
            self._filled += taken
            pictures = pictures[taken:]
            if self._filled == len(buffer):
                self._start()

    def flush(self) -> None:
        """Encode what is waiting and deliver everything."""
        if self._filled:
            self._start()
        while self._pending:
            self._deliver()

    def _start(self) -> None:
        started = time.monotonic()
        buffer = self._buffers.popleft()
        # A small batch is computed by other kernels, which round otherwise: what stands beyond is encoded for nothing.
        count = max(self._filled, self._encoder.min_batch)
        pending = self._encoder.encode(buffer[:count])
        self._pending.append((pending, self._owners, buffer))
        self.encoded += self._filled
        self._filled, self._owners = 0, []
        self.seconds += time.monotonic() - started
        while len(self._pending) >= self._encoder.in_flight:
            self._deliver()

    def _deliver(self) -> None:
        started = time.monotonic()
        pending, owners, buffer = self._pending.popleft()
        features = pending.result()
        self._buffers.append(buffer)
        self.seconds += time.monotonic() - started
        start = 0
        for owner, count in owners:
            self._on_features(owner, features[start : start + count])
            start += count
