"""The pipeline of a run: gives tasks to the workers, collects the spans of each video, and hands on whole items."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..cache.common.errors import ContentError
from ..cache.format.sampling import Sampling
from ..cache.format.schema import Features
from .encoded import EncodedItem, join_features
from .inputs import HashedItem
from .models.batching import Batcher
from .models.frame_encoder import FloatArray, FrameEncoder
from .video.index import VideoIndex
from .video.proof import are_proved
from .video.spans import part_for, picking_pays, split_spans
from .video.timeline import BoolArray
from .workers.messages import ImagesTask, Indexed, IndexTask, Reply, SpanDone, SpanTask, Task, TaskFailed, WholeTask

_IMAGES_PER_TASK = 256
_THREADS_FOR_DAMAGE = 2  # with frame threads FFmpeg conceals some damage that one thread turns into garbage


class RunEvents(Protocol):
    """What a run reports."""

    def on_open(self, item: HashedItem) -> bool:
        """An item is next. False leaves it out: another run may have done it meanwhile."""

    def on_expected(self, item: HashedItem, frames: int) -> None:
        """The number of frames to come is known."""

    def on_frames(self, item: HashedItem, frames: int) -> None:
        """So many more frames are done; negative where work was lost."""

    def on_encoded(self, encoded: EncodedItem) -> None:
        """An item is encoded and can be written. `ContentError` gives the item up, any other `CacheError` the run."""

    def on_failed(self, item: HashedItem, error: str, sentence: str) -> None:
        """An item is given up; `error` is a class name."""


@dataclass
class _Video:
    item: HashedItem
    sampling: Sampling
    frames_wanted: int = 0
    wanted: BoolArray | None = None
    index: VideoIndex | None = None
    attempts: list[_Attempt] = field(default_factory=list)
    best: EncodedItem | None = None
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

    @property
    def is_stale(self) -> bool:
        """Whether another attempt has taken the place of this one, or the video is over."""
        return self.video.over or (bool(self.video.attempts) and self not in self.video.attempts)

    def settle(self, dtype: npt.DTypeLike) -> None:
        """Lay out the features by frame if all have arrived: a repeated frame gets those of the picture it repeats."""
        if self.features is not None or self.done is None or self.received < self.done.collected.shipped:
            return
        arrived = np.concatenate(self.arrived) if self.arrived else np.zeros((0, 0), np.float32)
        with np.errstate(over="ignore"):  # what float16 cannot hold becomes infinite, and is refused by name later
            self.features = arrived.astype(dtype)[self.done.collected.source]
        self.arrived = []

    def give_up_features(self) -> list[Features]:
        """Return the features, if there are any, and drop them here."""
        given, self.features = self.features, None
        return [] if given is None else [given]


class Run:
    """The `TaskSource` of a pool: turns items into tasks and their outcomes into encoded items.

    Args:
        items: what to encode.
        encoder: encodes the pictures.
        events: receives the reports.
        sampling: which frames of each video.
        decoder: "auto", "decord" or "pyav".
        dtype: "float16" or "float32", of the features to store.
        measured: take the measures of `video.pixel_measures` of each frame too.
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
        self._is_exhausted = False
        self.batcher: Batcher[_Attempt] = Batcher(encoder, self._on_features)

    @property
    def has_work(self) -> bool:
        """Whether a pool still has something to do; may be asked before the first task and between runs of the pool."""
        return not self._is_exhausted or bool(self._waiting)

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
                self._is_exhausted = True
                return None
            if not self._events.on_open(item):
                continue
            self._open(_Video(item, self._sampling_of(item)))

    def on_page(self, job: _Attempt, pictures: npt.NDArray[np.uint8]) -> None:
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
            self._check(job.video)
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
        """Share a video out among the workers, where it can be cut."""
        video.index = index
        if index.times_ms is not None:
            video.wanted = np.zeros(len(index.times_ms), bool)
            video.wanted[video.sampling.indices(index.times_ms)] = True
        self._expect(video, index.frames_expected if video.wanted is None else int(video.wanted.sum()))
        if video.wanted is None or not index.segments:
            self._add_tasks(video, [self._whole(video)])
            return
        is_picked = self._decoder != "decord" and picking_pays(index, video.wanted)
        pieces = index if is_picked else index.joined()
        parts = [part_for(pieces, span, video.wanted) for span in split_spans(pieces)]
        path = video.item.item.path
        how = self._decoder, is_picked
        self._add_tasks(video, [SpanTask(path, part, span, wanted, *how) for part, span, wanted in parts])

    def _whole(self, video: _Video, **how: Any) -> WholeTask:
        assert video.index is not None  # noqa: S101  it was read first
        return WholeTask(video.item.item.path, video.index.in_one_piece(), video.sampling, video.wanted, **how)

    def _expect(self, video: _Video, frames: int) -> None:
        video.frames_wanted = frames
        self._events.on_expected(video.item, frames)

    def _add_tasks(self, video: _Video, tasks: Iterable[SpanTask | WholeTask | ImagesTask]) -> None:
        tasks = [replace(task, measured=self._measured) for task in tasks]
        video.attempts = [_Attempt(video, task, position) for position, task in enumerate(tasks)]
        self._waiting.extendleft(reversed(video.attempts))

    # From pictures to entries.

    def _on_features(self, attempt: _Attempt, features: FloatArray) -> None:
        if attempt.is_stale:
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
        encoded = _assemble(video)
        if encoded.is_damaged and video.index is not None and video.best is None:
            video.best = encoded
            self._start_again(video, by_count=_is_by_count(video), threads=_THREADS_FOR_DAMAGE)
        else:
            self._finish(video, _better(video.best, encoded))

    def _check(self, video: _Video) -> None:
        """Decode a video once more, in one piece, where its pieces do not fit together or not in the order of pts."""
        dones = [attempt.done for attempt in video.attempts]
        if video.index is None or any(done is None for done in dones):
            return
        task, reports = video.attempts[0].task, [done.report for done in dones if done is not None]
        is_disordered = any(report.is_disordered for report in reports)
        is_proved = are_proved((report.cuts for report in reports), video.index.first_picture)
        if isinstance(task, SpanTask) and not (is_proved and not is_disordered):
            self._start_again(video, by_count=is_disordered)
        elif isinstance(task, WholeTask) and is_disordered and not task.by_count:
            self._start_again(video, by_count=True)

    def _start_again(self, video: _Video, *, by_count: bool, threads: int | None = None) -> None:
        for attempt in video.attempts:
            self._report(attempt, -attempt.reported)
        self._add_tasks(video, [self._whole(video, by_count=by_count, threads=threads)])

    def _finish(self, video: _Video, encoded: EncodedItem) -> None:
        video.over = True  # nothing more is to come; late words of a lost attempt are ignored
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
        if not retry and attempt.video.best is not None:
            self._finish(attempt.video, attempt.video.best)
            return
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


def _is_by_count(video: _Video) -> bool:
    task = video.attempts[0].task
    return isinstance(task, WholeTask) and task.by_count


def _better(one: EncodedItem | None, other: EncodedItem) -> EncodedItem:
    """Of two ways to decode a damaged video, that which gave more sound frames; the damage of both is known of it."""
    if one is None:
        return other
    best = other if other.good_frames > one.good_frames else one
    return replace(best, errors_otherwise=max(one.damage, other.damage))


def _assemble(video: _Video) -> EncodedItem:
    """Join the spans of a video."""
    dones = tuple(attempt.done for attempt in video.attempts if attempt.done is not None)
    times = np.concatenate([done.collected.timestamps_ms for done in dones])
    rows = np.concatenate([done.collected.rows for done in dones])
    quality = np.concatenate([done.collected.quality for done in dones])
    features = join_features([part for attempt in video.attempts for part in attempt.give_up_features()], len(rows))
    return EncodedItem(
        video.item, video.index, video.sampling, video.frames_wanted, dones, features, times, rows, quality
    )
