"""The pipeline of a run: gives tasks to the workers, collects the spans of each video, and hands on whole items."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..cache.common.errors import CacheError, ContentError
from ..cache.format.sampling import Sampling
from .attempts import Attempt, Work
from .cluster.work_queue import WorkQueue
from .encoded import EncodedItem, join_features
from .inputs import HashedItem
from .models.batching import Batcher
from .models.frame_encoder import FloatArray, PictureEncoder
from .unfinished import Unfinished
from .video.index import VideoIndex
from .video.proof import are_proved
from .video.spans import part_for, picking_pays, split_spans
from .workers.messages import (
    ImagesTask,
    Indexed,
    IndexTask,
    PictureTask,
    Reply,
    SpanDone,
    SpanTask,
    TaskFailed,
    WholeTask,
)

_IMAGES_PER_TASK = 256
_THREADS_FOR_DAMAGE = 2  # with frame threads FFmpeg conceals some damage that one thread turns into garbage


class RunEvents(Protocol):
    """What a run reports."""

    def on_open(self, item: HashedItem) -> None:
        """An item is next."""

    def on_expected(self, item: HashedItem, frames: int) -> None:
        """The number of frames to come is known."""

    def on_resumed(self, item: HashedItem, frames: int) -> None:
        """So many frames are there from a run that was interrupted."""

    def on_frames(self, item: HashedItem, frames: int) -> None:
        """So many more frames are done; negative where work was lost."""

    def on_encoded(self, encoded: EncodedItem) -> None:
        """An item is encoded and can be written. `ContentError` gives the item up, any other `CacheError` the run."""

    def on_failed(self, item: HashedItem, error: str, sentence: str) -> None:
        """An item is given up; `error` is a class name."""


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
        unfinished: keeps what is done of items that take long; None keeps nothing.
    """

    def __init__(
        self,
        items: WorkQueue,
        encoder: PictureEncoder,
        events: RunEvents,
        *,
        sampling: Sampling,
        decoder: str,
        dtype: str,
        measured: bool = False,
        unfinished: Unfinished | None = None,
    ) -> None:
        self._items = items
        self._sampling = sampling
        self._decoder = decoder
        self._dtype = dtype
        self._measured = measured
        self._unfinished = unfinished
        self._events = events
        self._waiting: deque[Attempt] = deque()
        self.batcher: Batcher[Attempt] = Batcher(encoder, self._on_features)

    @property
    def has_work(self) -> bool:
        """Whether a pool still has something to do; may be asked before the first task and between runs of the pool."""
        return self.has_tasks or not self._items.is_over

    @property
    def has_tasks(self) -> bool:
        """Whether there are tasks that need wait for nothing: of videos that are decoded once more."""
        return bool(self._waiting)

    # The pool's side.

    def next_task(self) -> tuple[Attempt, PictureTask] | None:
        """Spans of opened videos first; the next video is opened when there are none."""
        while True:
            while self._waiting:
                attempt = self._waiting.popleft()
                if not attempt.work.over:
                    return attempt, attempt.task
            item = self._items.take()
            if item is None:
                return None
            self._events.on_open(item)
            self._open(self._work_on(item))

    def on_page(self, job: Attempt, pictures: npt.NDArray[np.uint8]) -> None:
        """Pictures of a span, in order."""
        if job.is_stale:
            return
        new = job.accept(pictures)
        if new is None:
            self._try_again(job, job.task)
            return
        self._report(job, len(new))
        self.batcher.add(job, new)

    def on_reply(self, job: Attempt, reply: Reply) -> None:
        """The end of a task."""
        if job.is_stale:
            return
        if isinstance(reply, Indexed):
            self._split(job.work, reply.index)
        elif isinstance(reply, SpanDone) and not job.goes_on():
            self._try_again(job, job.task)
        elif isinstance(reply, SpanDone):
            job.done = reply
            self._report(job, len(reply.collected.rows) - reply.collected.shipped)
            self._check(job.work)
            self._settle(job)
        elif isinstance(reply, TaskFailed):
            self._retry_or_fail(job, reply)

    # From items to tasks.

    def _work_on(self, item: HashedItem) -> Work:
        sampling = self._sampling_of(item)
        return Work(item, sampling, self._dtype, self._unfinished.item(item, sampling) if self._unfinished else None)

    def _sampling_of(self, item: HashedItem) -> Sampling:
        """A rate means nothing to pictures without times: all of them are taken."""
        return Sampling() if item.item.images and self._sampling.fps is not None else self._sampling

    def _open(self, work: Work) -> None:
        images = work.item.item.images
        if not images:
            self._waiting.append(Attempt(work, IndexTask(work.item.file)))
            return
        chosen = [(int(row), images[row]) for row in work.sampling.indices(np.zeros(len(images)))]
        self._expect(work, len(chosen))
        parts = [chosen[i : i + _IMAGES_PER_TASK] for i in range(0, len(chosen), _IMAGES_PER_TASK)]
        tasks = [ImagesTask(tuple(p for _, p in part), tuple(r for r, _ in part), len(parts) == 1) for part in parts]
        self._add_tasks(work, tasks)

    def _split(self, work: Work, index: VideoIndex) -> None:
        """Share a video out among the workers, where it can be cut."""
        work.index = index
        if index.times_ms is not None:
            work.wanted = np.zeros(len(index.times_ms), bool)
            work.wanted[work.sampling.indices(index.times_ms)] = True
        self._expect(work, index.frames_expected if work.wanted is None else int(work.wanted.sum()))
        by_count = work.kept.chosen() if work.kept is not None else None
        if by_count is not None or work.wanted is None or not index.segments:
            self._add_tasks(work, [self._whole(work, by_count=bool(by_count))])
            return
        is_picked = self._decoder != "decord" and picking_pays(index, work.wanted)
        pieces = index if is_picked else index.joined()
        parts = [part_for(pieces, span, work.wanted) for span in split_spans(pieces)]
        path = work.item.file
        how = self._decoder, is_picked
        self._add_tasks(work, [SpanTask(path, part, span, wanted, *how) for part, span, wanted in parts])

    def _whole(self, work: Work, **how: Any) -> WholeTask:
        assert work.index is not None  # noqa: S101  it was read first
        return WholeTask(work.item.file, work.index.in_one_piece(), work.sampling, work.wanted, **how)

    def _expect(self, work: Work, frames: int) -> None:
        work.frames_wanted = frames
        self._events.on_expected(work.item, frames)

    def _add_tasks(self, work: Work, tasks: Iterable[SpanTask | WholeTask | ImagesTask]) -> None:
        tasks = [replace(task, measured=self._measured) for task in tasks]
        work.attempts = [Attempt(work, task, position) for position, task in enumerate(tasks)]
        if recalled := sum(attempt.recall() for attempt in work.attempts):
            self._events.on_resumed(work.item, recalled)
        left = [attempt for attempt in work.attempts if attempt.features is None]
        self._waiting.extendleft(reversed(left))
        if not left:
            self._check(work)
            self._join(work)

    # From pictures to entries.

    def _on_features(self, attempt: Attempt, features: FloatArray) -> None:
        if attempt.is_stale:
            return
        attempt.arrive(features)
        self._settle(attempt)

    def _report(self, attempt: Attempt, frames: int) -> None:
        attempt.reported += frames
        self._events.on_frames(attempt.work.item, frames)

    def _settle(self, attempt: Attempt) -> None:
        attempt.settle()
        self._join(attempt.work)

    def _join(self, work: Work) -> None:
        """Put the item together if all its features are there."""
        if work.over or any(attempt.features is None for attempt in work.attempts):
            return
        encoded = _assemble(work)
        if encoded.is_damaged and work.index is not None and work.best is None:
            work.best = encoded
            self._start_again(work, by_count=_is_by_count(work), threads=_THREADS_FOR_DAMAGE)
        else:
            self._finish(work, _better(work.best, encoded))

    def _check(self, work: Work) -> None:
        """Decode a video once more, in one piece, where its pieces do not fit together or not in the order of pts."""
        dones = [attempt.done for attempt in work.attempts]
        if work.index is None or any(done is None for done in dones):
            return
        task, reports = work.attempts[0].task, [done.report for done in dones if done is not None]
        is_disordered = any(report.is_disordered for report in reports)
        is_proved = are_proved((report.cuts for report in reports), work.index.first_picture)
        is_refuted = isinstance(task, SpanTask) and not (is_proved and not is_disordered)
        if is_refuted or (isinstance(task, WholeTask) and is_disordered and not task.by_count):
            if work.kept is not None:
                work.kept.choose(by_count=is_disordered)
            self._start_again(work, by_count=is_disordered)

    def _start_again(self, work: Work, *, by_count: bool, threads: int | None = None) -> None:
        for attempt in work.attempts:
            self._report(attempt, -attempt.reported)
        self._add_tasks(work, [self._whole(work, by_count=by_count, threads=threads)])

    def _finish(self, work: Work, encoded: EncodedItem) -> None:
        work.over = True  # nothing more is to come; late words of a lost attempt are ignored
        self._hand_on(work, encoded)
        if work.kept is not None:
            work.kept.remove()
        self._items.release(work.item)

    def _hand_on(self, work: Work, encoded: EncodedItem) -> None:
        if len(encoded.features) == 0:
            failure = next(iter(encoded.unread), TaskFailed("MediaError", "Not one of its frames can be decoded."))
            self._events.on_failed(work.item, failure.error, failure.sentence)
        elif not np.isfinite(encoded.features).all():
            sentence = (
                "The model gave features that are not finite, or too large for the cache's float16; "
                "try --precision fp32 --dtype float32, or check the weights."
            )
            self._events.on_failed(work.item, "ModelError", sentence)
        else:
            self._write(work, encoded)

    def _write(self, work: Work, encoded: EncodedItem) -> None:
        try:
            self._events.on_encoded(encoded)
        except ContentError as error:
            self._events.on_failed(work.item, type(error).__name__, str(error))
        except CacheError:
            if work.kept is None:
                raise
            work.kept.remove()  # what is kept may take the room that the entry needs
            self._events.on_encoded(encoded)

    def _retry_or_fail(self, attempt: Attempt, reply: TaskFailed) -> None:
        """A lost or failed span is tried once more, with PyAV; a lost index task once more as it is."""
        task = attempt.task
        retry = not attempt.second and (isinstance(task, SpanTask) or reply.is_lost)
        if not retry and attempt.work.best is not None:
            self._finish(attempt.work, attempt.work.best)
            return
        if not retry:
            attempt.work.over = True
            self._events.on_failed(attempt.work.item, reply.error, reply.sentence)
            self._items.release(attempt.work.item)
            return
        attempt.second = True
        self._try_again(attempt, replace(task, decoder="pyav") if isinstance(task, SpanTask) else task)

    def _try_again(self, attempt: Attempt, task: PictureTask) -> None:
        """Another attempt takes the place of one."""
        task = replace(task, skip=0) if isinstance(task, (SpanTask, WholeTask)) else task
        again = Attempt(attempt.work, task, attempt.position, attempt.second)
        again.recall()
        if attempt.work.attempts:
            attempt.work.attempts[attempt.position] = again
            self._report(attempt, again.reported - attempt.reported)
        if again.features is None:
            self._waiting.appendleft(again)
        else:  # another run has done it meanwhile
            self._check(attempt.work)
            self._join(attempt.work)


def _is_by_count(work: Work) -> bool:
    task = work.attempts[0].task
    return isinstance(task, WholeTask) and task.by_count


def _better(one: EncodedItem | None, other: EncodedItem) -> EncodedItem:
    """Of two ways to decode a damaged video, that which gave more sound frames; the damage of both is known of it."""
    if one is None:
        return other
    best = other if other.good_frames > one.good_frames else one
    return replace(best, errors_otherwise=max(one.damage, other.damage))


def _assemble(work: Work) -> EncodedItem:
    """Join the spans of a video."""
    dones = tuple(attempt.done for attempt in work.attempts if attempt.done is not None)
    times = np.concatenate([done.collected.timestamps_ms for done in dones])
    rows = np.concatenate([done.collected.rows for done in dones])
    quality = np.concatenate([done.collected.quality for done in dones])
    features = join_features([part for attempt in work.attempts for part in attempt.give_up_features()], len(rows))
    return EncodedItem(work.item, work.index, work.sampling, work.frames_wanted, dones, features, times, rows, quality)
