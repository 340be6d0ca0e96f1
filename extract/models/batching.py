"""Gather pictures of many videos into full batches for the encoder, and hand the features back to their videos."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from .frame_encoder import FloatArray, Pending, PictureEncoder

Owner = TypeVar("Owner")


@dataclass
class _Batch(Generic[Owner]):
    """A batch that was started: the pictures of each owner by number, the buffer that holds them, and the features."""

    pending: Pending
    owners: list[tuple[Owner, int]]
    buffer: Any
    features: FloatArray | None = None


class Batcher(Generic[Owner]):
    """Fills batches across the borders of videos and hands features to their owners, in the order of the pictures.

    Batches may be done in any order: of several devices a slow one does not hold up the others.

    Args:
        encoder: encodes the batches.
        on_features: called with an owner and (n, D) float32 features of its next n pictures.
    """

    def __init__(self, encoder: PictureEncoder, on_features: Callable[[Owner, FloatArray], None]) -> None:
        self._encoder = encoder
        self._on_features = on_features
        # One buffer more than batches in flight, so that filling never waits for copying.
        self._buffers: deque[Any] = deque(encoder.new_batch() for _ in range(encoder.in_flight + 1))
        self._filled = 0
        self._owners: list[tuple[Owner, int]] = []
        self._running: list[_Batch[Owner]] = []
        self._not_delivered: deque[_Batch[Owner]] = deque()  # running or done, in the order of the pictures
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
        while self._running:
            self._collect()

    def _start(self) -> None:
        started = time.monotonic()
        buffer = self._buffers.popleft()
        # A small batch is computed by other kernels, which round otherwise: what stands beyond is encoded for nothing.
        count = max(self._filled, self._encoder.min_batch)
        batch = _Batch(self._encoder.encode(buffer[:count]), self._owners, buffer)
        self._running.append(batch)
        self._not_delivered.append(batch)
        self.encoded += self._filled
        self._filled, self._owners = 0, []
        self.seconds += time.monotonic() - started
        while len(self._running) >= self._encoder.in_flight:
            self._collect()

    def _collect(self) -> None:
        """Wait for a batch, take all that are done, and deliver those whose turn it is."""
        started = time.monotonic()
        self._encoder.wait([batch.pending for batch in self._running])
        for batch in self._running:
            if batch.pending.done():
                batch.features = batch.pending.result()
                self._buffers.append(batch.buffer)
        self._running = [batch for batch in self._running if batch.features is None]
        self.seconds += time.monotonic() - started
        while self._not_delivered and self._not_delivered[0].features is not None:
            self._deliver(self._not_delivered.popleft())

    def _deliver(self, batch: _Batch[Owner]) -> None:
        assert batch.features is not None  # noqa: S101  it is done
        start = 0
        for owner, count in batch.owners:
            self._on_features(owner, batch.features[start : start + count])
            start += count
