"""The run: items in, entries out. Feeds the workers, follows each video through its spans, writes what is whole."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..cache.common.errors import ContentError, NoLibraryError
from ..cache.format.sampling import Sampling
from .inputs import HashedItem
from .models.batching import Batcher
from .models.frame_encoder import FloatArray, FrameEncoder
from .video.decode import Span
from .video.index import BoolArray, VideoIndex
from .video.pixel_measures import Measures
from .workers.messages import ImagesTask, Indexed, IndexTask, Reply, SpanDone, SpanTask, Task, TaskFailed

Features = npt.NDArray[np.float16] | npt.NDArray[np.float32]

SPAN_FRAMES = 500
"""Spans of a long video hold at least so many frames: enough work to pay for opening the file again."""

_IMAGES_PER_TASK = 256


@dataclass(frozen=True)
class EncodedItem:
    """An item with all its features.

    Attributes:
        item: What was encoded.
        index: The video's index; None for images.
        sampling: Which of its frames were asked for.
        frames_wanted: How many these are.
        spans: How each span went, in order.
        features: (N, D) float16 or float32 as asked for, one row per frame.
        timestamps_ms: (N,) float64.
        frame_index: (N,) int64, increasing.
        quality: (N, Q) float32, as in `CollectedRows`.
    """

    item: HashedItem
    index: VideoIndex | None
    sampling: Sampling
    frames_wanted: int
    spans: tuple[SpanDone, ...]
    features: Features
    timestamps_ms: npt.NDArray[np.float64]
    frame_index: npt.NDArray[np.int64]
    quality: Measures

    @property
    def errors(self) -> int:
        """Packets or pictures that could not be decoded."""
        return sum(span.report.errors for span in self.spans)

    @property
    def unread(self) -> list[TaskFailed]:
        """Of images, why each that is missing cannot be read; those come first that need a package alone."""
        found = (failure for span in self.spans for failure in span.unread)
        return sorted(found, key=lambda failure: failure.error != NoLibraryError.__name__)

    @property
    def complete(self) -> bool:
        """Whether every frame asked for is there; a video without an index has no more to miss than what failed."""
        if self.errors or (self.index is not None and self.index.frames_missing):
            return False
        return self.is_unindexed or len(self.features) == self.frames_wanted

    @property
    def is_unindexed(self) -> bool:
        """Whether this is a video whose frames were not known before they were decoded."""
        return self.index is not None and self.index.shown_pts is None

    @property
    def frames_expected(self) -> int:
        """Frames of the whole item, before sampling."""
        if self.index is None:
            return len(self.item.item.images)
        if self.is_unindexed and self.complete and self.sampling.is_all:
            return len(self.features)
        return self.index.frames_expected

    @property
    def decoders(self) -> list[str]:
        """Names of the decoders that took part, sorted."""
        return sorted(set().union(*(span.report.decoders for span in self.spans)))


class RunEvents(Protocol):
    """What a run tells whoever started it."""

    def on_open(self, item: HashedItem) -> bool:
        """An item is next. False leaves it out: another run may have done it meanwhile."""

    def on_expected(self, item: HashedItem, frames: int) -> None:
        """The number of frames to come is known."""

    def on_frames(self, item: HashedItem, frames: int) -> None:
        """So many more frames are done."""

    def on_encoded(self, encoded: EncodedItem) -> None:
        """An item is through: time to write it. `ContentError` gives the item up, any other `CacheError` the run."""

    def on_failed(self, item: HashedItem, error: str, sentence: str) -> None:
        """An item is given up; `error` is a class name."""


@dataclass
class _Video:
    item: HashedItem
    sampling: Sampling
    wanted: int = 0
    index: VideoIndex | None = None
    attempts: list[_Attempt] = field(default_factory=list)
    over: bool = False


@dataclass(eq=False)
class _Attempt:
    """One task of a video, tried for the first or the second time.

    `arrived` are the features of the pictures shipped so far; once the span is whole they become `features`, one row
    per frame in the type that is stored, so that a long video takes no more memory than its entry will.
    """

    video: _Video
    task: Task
    position: int = 0
    second: bool = False
    arrived: list[FloatArray] = field(default_factory=list)
    received: int = 0
    reported: int = 0
    done: SpanDone | None = None
    features: Features | None = None

    def settle(self, dtype: npt.DTypeLike) -> None:
        """Lay out the features by frame if all have arrived: a repeated frame gets those of the picture it repeats."""
        if self.features is not None or self.done is None or self.received < self.done.collected.shipped:
            return
        arrived = np.concatenate(self.arrived) if self.arrived else np.zeros((0, 0), np.float32)
        with np.errstate(over="ignore"):  # what float16 cannot hold becomes infinite, and is refused by name later
            self.features = arrived.astype(dtype)[self.done.collected.source]
        self.arrived = []

    def give_up_features(self) -> list[Features]:
        """The features, if there are any, which this attempt holds no longer."""
        given, self.features = self.features, None
        return [] if given is None else [given]


class Run:
    """The `TaskSource` of a pool: turns items into tasks and their outcomes into encoded items.

    Args:
        items: What to encode.
        encoder: Encodes the pictures.
        events: Hears of everything.
        sampling: Which frames.
        decoder: "auto", "decord" or "pyav".
        dtype: "float16" or "float32", of the features to store.
        measured: Take the measures of `quality` of each frame too.
    """

    def __init__(
        self,
        items: Iterable[HashedItem],
        encoder: FrameEncoder,
        events: RunEvents,
        *,
        sampling: Sampling,
        decoder: str,
        dtype: str,
        measured: bool = False,
    ) -> None:
        self._items: Iterator[HashedItem] = iter(items)
        self._sampling = sampling
        self._decoder = decoder
        self._dtype = dtype
        self._measured = measured
        self._events = events
        self._waiting: deque[_Attempt] = deque()
        self.batcher: Batcher[_Attempt] = Batcher(encoder, self._on_features)

    # The pool's side.

    def next_task(self) -> tuple[_Attempt, Task] | None:
        """Spans of opened videos first; the next video is opened when there are none."""
        while True:
            while self._waiting:
                attempt = self._waiting.popleft()
                if not attempt.video.over:
                    return attempt, attempt.task
            item = next(self._items, None)
            if item is None:
                return None
            if not self._events.on_open(item):
                continue
            self._open(_Video(item, self._sampling_of(item)))

    def on_pictures(self, job: _Attempt, pictures: npt.NDArray[np.uint8]) -> None:
        """Pictures of a span, in order."""
        if not job.video.over:
            self._report(job, len(pictures))
            self.batcher.add(job, pictures)

    def on_reply(self, job: _Attempt, reply: Reply) -> None:
        """The end of a task."""
        if job.video.over:
            return
        if isinstance(reply, Indexed):
            self._split(job.video, reply.index)
        elif isinstance(reply, SpanDone):
            job.done = reply
            self._report(job, len(reply.collected.rows) - reply.collected.shipped)
            self._settle(job)
        elif isinstance(reply, TaskFailed):
            self._retry_or_fail(job, reply)

    # From items to tasks.

    def _sampling_of(self, item: HashedItem) -> Sampling:
        """A rate means nothing to pictures without times: all of them are taken."""
        return Sampling() if item.item.images and self._sampling.fps is not None else self._sampling

    def _open(self, video: _Video) -> None:
        images = video.item.item.images
        if not images:
            self._waiting.append(_Attempt(video, IndexTask(video.item.item.path)))
            return
        chosen = [(int(row), images[row]) for row in video.sampling.indices(np.zeros(len(images)))]
        self._expect(video, len(chosen))
        parts = [chosen[i : i + _IMAGES_PER_TASK] for i in range(0, len(chosen), _IMAGES_PER_TASK)]
        tasks = [ImagesTask(tuple(p for _, p in part), tuple(r for r, _ in part), len(parts) == 1) for part in parts]
        self._add_tasks(video, tasks)

    def _split(self, video: _Video, index: VideoIndex) -> None:
        video.index = index
        times = index.timestamps_ms
        if times is None:
            self._expect(video, index.frames_expected)
            self._add_tasks(video, [SpanTask(video.item.item.path, index, Span(0, 0), self._decoder)])
            return
        wanted = np.zeros(len(times), bool)
        wanted[video.sampling.indices(times)] = True
        self._expect(video, int(wanted.sum()))
        spans = split_spans(index)
        self._add_tasks(video, [span_task(video.item.item.path, index, span, self._decoder, wanted) for span in spans])

    def _expect(self, video: _Video, frames: int) -> None:
        video.wanted = frames
        self._events.on_expected(video.item, frames)

    def _add_tasks(self, video: _Video, tasks: Iterable[SpanTask | ImagesTask]) -> None:
        tasks = [replace(task, measured=self._measured) for task in tasks]
        video.attempts = [_Attempt(video, task, position) for position, task in enumerate(tasks)]
        self._waiting.extendleft(reversed(video.attempts))

    # From pictures to entries.

    def _on_features(self, attempt: _Attempt, features: FloatArray) -> None:
        if attempt.video.over:
            return
        attempt.arrived.append(features.copy())
        attempt.received += len(features)
        self._settle(attempt)

    def _report(self, attempt: _Attempt, frames: int) -> None:
        attempt.reported += frames
        self._events.on_frames(attempt.video.item, frames)

    def _settle(self, attempt: _Attempt) -> None:
        attempt.settle(self._dtype)
        video = attempt.video
        if any(attempt.features is None for attempt in video.attempts):
            return
        video.over = True  # nothing more is to come; late words of a lost attempt are ignored
        encoded = _assemble(video)
        if len(encoded.features) == 0:
            failure = next(iter(encoded.unread), TaskFailed("MediaError", "Not one of its frames can be decoded."))
            self._events.on_failed(video.item, failure.error, failure.sentence)
        elif not np.isfinite(encoded.features).all():
            sentence = (
                "The model gave features that are not finite, or too large for the cache's float16; "
                "try --precision fp32 --dtype float32, or check the weights."
            )
            self._events.on_failed(video.item, "ModelError", sentence)
        else:
            self._write(video, encoded)

    def _write(self, video: _Video, encoded: EncodedItem) -> None:
        try:
            self._events.on_encoded(encoded)
        except ContentError as error:
            self._events.on_failed(video.item, type(error).__name__, str(error))

    def _retry_or_fail(self, attempt: _Attempt, reply: TaskFailed) -> None:
        """A lost or failed span is tried once more, with PyAV; a lost index task once more as it is."""
        task = attempt.task
        retry = not attempt.second and (isinstance(task, SpanTask) or reply.is_lost)
        if not retry:
            attempt.video.over = True
            self._events.on_failed(attempt.video.item, reply.error, reply.sentence)
            return
        if isinstance(task, SpanTask):
            task = replace(task, decoder="pyav")
        again = _Attempt(attempt.video, task, attempt.position, second=True)
        if attempt.video.attempts:
            attempt.video.attempts[attempt.position] = again
            self._report(attempt, -attempt.reported)
        self._waiting.appendleft(again)


def split_spans(index: VideoIndex) -> list[Span]:
    """Consecutive segments, joined until each span holds SPAN_FRAMES frames, so that workers can share a long video."""
    spans, first, frames = [], 0, 0
    for number, segment in enumerate(index.segments):
        frames += segment.rows
        if frames >= SPAN_FRAMES:
            spans.append(Span(first, number + 1))
            first, frames = number + 1, 0
    if first < len(index.segments):
        spans.append(Span(first, len(index.segments)))
    return spans


def span_task(path: Path, index: VideoIndex, span: Span, decoder: str, wanted: BoolArray) -> SpanTask:
    """The task for a span, with the part of the index that it needs: its segments and their neighbours."""
    first = max(0, span.first - 1)
    part = index.part(first, span.end + 1)
    rows = slice(part.first_row, part.first_row + sum(segment.rows for segment in part.segments))
    return SpanTask(path, part, Span(span.first - first, span.end - first), decoder, wanted[rows])


def _assemble(video: _Video) -> EncodedItem:
    """Join the spans of a video."""
    dones = tuple(attempt.done for attempt in video.attempts if attempt.done is not None)
    times = np.concatenate([done.collected.timestamps_ms for done in dones])
    rows = np.concatenate([done.collected.rows for done in dones])
    quality = np.concatenate([done.collected.quality for done in dones])
    features = _join([part for attempt in video.attempts for part in attempt.give_up_features()], len(rows))
    if video.index is not None and video.index.shown_pts is None:
        chosen = video.sampling.indices(times)  # an unindexed video is decoded whole
        features, times, rows, quality = features[chosen], times[chosen], rows[chosen], quality[chosen]
    return EncodedItem(video.item, video.index, video.sampling, video.wanted, dones, features, times, rows, quality)


def _join(parts: list[Features], rows: int) -> Features:
    """Concatenate, giving each part back as it is copied: parts and whole together never take twice the memory."""
    width = max((part.shape[1] for part in parts), default=0)
    whole: Features = np.empty((rows, width), parts[0].dtype)
    end = rows
    while parts:
        part = parts.pop()
        if len(part):
            whole[end - len(part) : end] = part
            end -= len(part)
    return whole
