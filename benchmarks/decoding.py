"""Decoding without encoding: with extract's own workers, and without even resizing."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clipcache.extract.video.collector import FrameCollector
    from clipcache.extract.workers.messages import SpanTask, Task
    from clipcache.extract.workers.pool import WorkerPool

    from .context import Context

_SIDE = 224  # pixels of the picture that every ViT-B sees


def resized_rate(context: Context, kind: str, repeats: int) -> float:
    """Frames/s of decoding and resizing with a worker on each core."""
    path = context.video(kind, _frames(context, kind))
    told = context.child("decoder").call(run_pool, path=path, workers=context.cores, repeats=repeats)
    return float(told)


def plain_rate(context: Context, kind: str, repeats: int) -> float:
    """Frames/s of decoding alone in a process on each core: what workers do, but each frame is dropped as it comes."""
    path = context.video(kind, _frames(context, kind))
    children = [context.child(f"plain decoder {number}") for number in range(context.cores)]
    for number, child in enumerate(children):
        child.start(run_plain, path=path, share=number, shares=context.cores, repeats=repeats)
    return sum(float(child.result()) for child in children)


def warm_up(context: Context, kind: str) -> int:
    """Let imports and process starts happen; the repeats that make a measurement last about `sizes.seconds`."""
    resized_rate(context, kind, 1)
    rate = resized_rate(context, kind, 1)
    return max(1, round(context.sizes.seconds * rate / _frames(context, kind)))


def _frames(context: Context, kind: str) -> int:
    """Of a video that has a span for each core, two loops long, so that all cores are busy to the end."""
    from .videos import KINDS

    return 2 * context.cores * KINDS[kind].frames


@lru_cache(maxsize=8)
def _span_tasks(path: str) -> tuple[SpanTask, ...]:
    """What extract makes of a video: one task a span."""
    import numpy as np
    from clipcache.extract.video.index import read_index
    from clipcache.extract.video.spans import part_for, split_spans
    from clipcache.extract.workers.messages import SpanTask

    index = read_index(path).joined()
    every = np.ones(index.frames_expected, bool)
    parts = (part_for(index, span, every) for span in split_spans(index))
    return tuple(SpanTask(Path(path), part, span, wanted, "auto") for part, span, wanted in parts)


class _Dropping:
    """A `TaskSource` that counts frames and drops their pictures."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = deque(tasks)
        self.frames = 0

    def next_task(self) -> tuple[None, Task] | None:
        """See `TaskSource`."""
        return (None, self._tasks.popleft()) if self._tasks else None

    def on_page(self, job: Any, pictures: Any) -> None:
        """See `TaskSource`."""

    def on_reply(self, job: Any, reply: Any) -> None:  # noqa: ARG002  there is but one job
        """See `TaskSource`.

        Raises:
            RuntimeError: The task failed.
        """
        if not hasattr(reply, "collected"):
            raise RuntimeError(f"Decoding failed: {reply}")
        self.frames += len(reply.collected.rows)


@lru_cache(maxsize=1)
def _pool(workers: int) -> WorkerPool:
    """Kept between measurements, so that none pays for starting processes."""
    from clipcache.extract.workers.pool import WorkerPool

    return WorkerPool(workers, _SIDE, "torch")


def run_pool(path: str, workers: int, repeats: int) -> float:
    """In the child: frames/s of all spans of a video, `repeats` times, through extract's own pool."""
    source = _Dropping(_span_tasks(path) * repeats)
    started = time.perf_counter()
    _pool(workers).run(source, lambda _: None)
    return source.frames / (time.perf_counter() - started)


def resizing_sink() -> FrameCollector:
    """In a child: a worker's own sink, which resizes each frame; its `pictures` are those shipped."""
    import torch
    from clipcache.extract.video.collector import FrameCollector
    from clipcache.extract.video.resize import make_resize
    from clipcache.extract.workers.shared_pages import page_frames

    class Keeping(FrameCollector):
        """Keeps what is shipped."""

        def __init__(self) -> None:
            self.pictures: list[Any] = []
            super().__init__(make_resize(_SIDE), self.pictures.extend, page_frames(_SIDE), lambda: None)

    torch.set_num_threads(1)
    return Keeping()


class _Counting:
    """A `FrameSink` that drops frames."""

    def __init__(self) -> None:
        self.frames = 0

    def add(self, row: int, timestamp_ms: float, rgb: Any) -> None:  # noqa: ARG002  only their number counts
        """See `FrameSink`."""
        self.frames += 1

    def commit(self) -> None:
        """See `FrameSink`."""

    def beat(self) -> None:
        """See `FrameSink`."""

    def rollback(self) -> None:
        """See `FrameSink`.

        Raises:
            RuntimeError: Frames that were counted are not to count.
        """
        raise RuntimeError("decord refused a segment of a benchmark's video")


def run_plain(path: str, share: int, shares: int, repeats: int) -> float:
    """In a child: frames/s of decoding every `shares`-th span of a video, `repeats` times."""
    from clipcache.extract.video.decode import decode_span

    sink, tasks = _Counting(), _span_tasks(path)[share::shares] * repeats
    started = time.perf_counter()
    for task in tasks:
        decode_span(task.path, task.index, task.span, sink, decoder=task.decoder, wanted=task.wanted)
    return sink.frames / (time.perf_counter() - started)
