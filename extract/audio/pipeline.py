"""The parent's side of a run over sounds: gives files to the workers, encodes their windows, hands on whole sounds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ...cache.format.schema import Features
from ..cluster.work_queue import WorkQueue
from ..inputs import HashedItem
from ..workers.messages import Reply, SoundDone, TaskFailed
from .clap import SoundEncoder
from .decoding import WindowsTask
from .windows import SAMPLE_RATE, Samples, Windows


@dataclass(frozen=True)
class EncodedSound:
    """A sound with all its features.

    Attributes:
        item: the file.
        codec: FFmpeg's name, "aac".
        errors: packets that could not be decoded.
        features: (M, D) float16 or float32, a row per window.
        durations_ms: (M,) float32, milliseconds of sound in each window; the last may be short.
        rms_db: (M,) float32, level in dB of full scale, -120 or more.
    """

    item: HashedItem
    codec: str
    errors: int
    features: Features
    durations_ms: npt.NDArray[np.float32]
    rms_db: npt.NDArray[np.float32]


class SoundEvents(Protocol):
    """What a run over sounds reports."""

    def on_open(self, item: HashedItem) -> None:
        """A file is next."""

    def on_windows(self, item: HashedItem, count: int) -> None:
        """So many more windows of a file are encoded; negative where work was lost."""

    def on_encoded(self, encoded: EncodedSound) -> None:
        """A sound is encoded and can be written."""

    def on_failed(self, item: HashedItem, error: str, sentence: str) -> None:
        """A file is given up; `error` is a class name."""


@dataclass(eq=False)
class _Attempt:
    """A file that is tried for the first or the second time; `waiting` are windows that do not fill a batch yet."""

    item: HashedItem
    is_second: bool = False
    waiting: list[Samples] = field(default_factory=list)
    features: list[npt.NDArray[Any]] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)


class SoundRun:
    """The `TaskSource` of a pool: turns files into tasks and what they give into encoded sounds.

    Each file has batches of its own, so that its features do not depend on what it is encoded with. Of each file that
    is being decoded less than a batch and a page are held.

    Args:
        items: what to encode.
        encoder: encodes the windows.
        events: receives the reports.
        windows: how sounds are cut.
        dtype: "float16" or "float32", of the features to store.
    """

    def __init__(
        self, items: WorkQueue, encoder: SoundEncoder, events: SoundEvents, windows: Windows, dtype: str
    ) -> None:
        self._items = items
        self._encoder = encoder
        self._events = events
        self._windows = windows
        self._dtype = dtype
        self._again: list[_Attempt] = []

    @property
    def has_work(self) -> bool:
        """Whether a pool still has something to do."""
        return bool(self._again) or not self._items.is_over

    def next_task(self) -> tuple[_Attempt, WindowsTask] | None:
        """Files whose worker was lost first."""
        attempt = self._again.pop() if self._again else self._next_item()
        if attempt is None:
            return None
        return attempt, WindowsTask(attempt.item.file, self._windows.samples, self._windows.hop_samples)

    def on_page(self, job: _Attempt, samples: Samples) -> None:
        """Windows of a file, in order."""
        starts = range(0, len(samples), self._windows.samples)
        job.waiting += [samples[start : start + self._windows.samples].copy() for start in starts]
        batch = self._encoder.placement.batch_size
        while len(job.waiting) >= batch:
            self._encode(job, batch)

    def on_reply(self, job: _Attempt, reply: Reply) -> None:
        """The end of a task: a file whose worker was lost is tried once more."""
        if isinstance(reply, SoundDone):
            if job.waiting:
                self._encode(job, len(job.waiting))
            self._finish(job, reply)
            self._items.release(job.item)
        elif isinstance(reply, TaskFailed) and reply.is_lost and not job.is_second:
            self._events.on_windows(job.item, -len(job.lengths))
            self._again.append(_Attempt(job.item, is_second=True))
        elif isinstance(reply, TaskFailed):
            self._events.on_failed(job.item, reply.error, reply.sentence)
            self._items.release(job.item)

    def _next_item(self) -> _Attempt | None:
        item = self._items.take()
        if item is None:
            return None
        self._events.on_open(item)
        return _Attempt(item)

    def _encode(self, job: _Attempt, count: int) -> None:
        batch, job.waiting = job.waiting[:count], job.waiting[count:]
        job.features.append(self._encoder.encode(batch).astype(self._dtype))
        job.lengths += map(len, batch)
        self._events.on_windows(job.item, count)

    def _finish(self, job: _Attempt, done: SoundDone) -> None:
        features = np.concatenate(job.features)
        if not np.isfinite(features).all():
            sentence = "The model gives features that are not finite; check its weights."
            self._events.on_failed(job.item, "ModelError", sentence)
            return
        durations_ms = np.array(job.lengths, np.float32) / np.float32(SAMPLE_RATE / 1000)
        self._events.on_encoded(EncodedSound(job.item, done.codec, done.errors, features, durations_ms, done.rms_db))
