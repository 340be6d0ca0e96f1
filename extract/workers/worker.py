"""The decoding worker: does tasks one after another, in a process of its own or in the caller's.

A worker that a damaged file crashes or hangs takes nothing with it: the parent notices (end of file on the socket, or
no beat), and goes on without it. See `pool` for the other side.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache.common.errors import ClipcacheError, MediaError, NotReadNowError
from ...cache.format.sampling import FramePicker
from ..video.collector import FrameCollector, Ship
from ..video.container import is_from_disk
from ..video.decode import decode_picked, decode_span, decode_whole
from ..video.delivery import DecodeReport
from ..video.images import read_image
from ..video.index import read_index
from ..video.resize import Pixels, Resize, ResizeRule, make_resize
from .child import follow_parent
from .messages import (
    Beat,
    ImagesTask,
    Indexed,
    IndexTask,
    PageFree,
    PageFull,
    PictureTask,
    Reply,
    ShipSamples,
    SoundTask,
    SpanDone,
    SpanTask,
    Stop,
    Task,
    TaskFailed,
    WholeTask,
)
from .shared_pages import PAGES, SharedPages, page_frames

_BEAT_SECONDS = 1.0


def run_task(
    task: PictureTask, resize: Resize, size: int, ship: Ship, beat: Callable[[], None], threads: int = 1
) -> Reply:
    """Do one task; pictures go to `ship` on the way. Errors become a `TaskFailed`."""
    return _answer(lambda: _do_pictures(task, resize, size, ship, beat, threads))


def run_sound(task: SoundTask, ship: ShipSamples, beat: Callable[[], None]) -> Reply:
    """Do one task; samples go to `ship` on the way. Errors become a `TaskFailed`."""
    return _answer(lambda: task.carry_out(ship, beat))


def _answer(do: Callable[[], Reply]) -> Reply:
    try:
        return do()
    except ClipcacheError as error:
        return TaskFailed(type(error).__name__, str(error))
    except MemoryError as error:
        why = f" ({error})" if str(error) else ""
        return TaskFailed(MemoryError.__name__, f"Decoding takes more memory than it can have{why}.")
    except Exception as error:  # noqa: BLE001  a decoder may raise anything, and must not end the worker
        if is_from_disk(error):
            return TaskFailed(NotReadNowError.__name__, f"It could not be read: {error}.")
        return TaskFailed(type(error).__name__, f"Decoding failed: {error or type(error).__name__}.")


def _do_pictures(
    task: PictureTask, resize: Resize, size: int, ship: Ship, beat: Callable[[], None], threads: int
) -> Reply:
    if isinstance(task, IndexTask):
        return Indexed(read_index(task.path, beat))
    skip = 0 if isinstance(task, ImagesTask) else task.skip
    sink = FrameCollector(resize, ship, page_frames(size), beat, measured=task.measured, skip=skip)
    if isinstance(task, ImagesTask):
        return _read_images(task, sink)
    report = _decode(task, sink, threads)
    return SpanDone(sink.finish(), report)


def _decode(task: SpanTask | WholeTask, sink: FrameCollector, threads: int) -> DecodeReport:
    if isinstance(task, WholeTask):
        wanted = FramePicker(task.sampling) if task.index.times_ms is None else task.wanted
        count = task.threads or threads
        return decode_whole(task.path, task.index, sink, wanted=wanted, by_count=task.by_count, threads=count)
    if task.is_picked:
        return decode_picked(task.path, task.index, task.span, sink, task.wanted, threads=threads)
    return decode_span(
        task.path, task.index, task.span, sink, decoder=task.decoder, wanted=task.wanted, threads=threads
    )


def _read_images(task: ImagesTask, sink: FrameCollector) -> SpanDone:
    """Read picture files; one among several that cannot be read is counted, left out, and said why."""
    report = DecodeReport({"pillow"})
    unread = []
    width = height = 0
    for row, path in zip(task.rows, task.paths, strict=True):
        try:
            rgb = read_image(path)
        except MediaError as error:
            if task.is_whole and len(task.paths) == 1:
                raise
            report.errors += 1
            unread.append(TaskFailed(type(error).__name__, str(error)))
            continue
        if not width:
            height, width = rgb.shape[:2]
        sink.add(row, 0.0, rgb)
        sink.commit()
    return SpanDone(sink.finish(), report, width, height, tuple(unread))


class _Mailbox:
    """The worker's end of the socket: tasks come one at a time, freed pages in between."""

    def __init__(self, connection: Connection, pages: SharedPages) -> None:
        self._connection = connection
        self._pages = pages
        self._free = list(range(PAGES))
        self._last_beat = 0.0

    def next_task(self) -> Task | None:
        """Wait for work; None says to leave."""
        while True:
            message: Any = self._connection.recv()
            if isinstance(message, Stop):
                return None
            if not isinstance(message, PageFree):
                task: Task = message
                return task
            self._free.append(message.page)

    def ship(self, pictures: Sequence[Pixels]) -> None:
        """Copy pictures into a free page, waiting for one if need be, and announce it."""
        for slot, picture in zip(self._free_page(), pictures, strict=False):
            slot[...] = picture
        self._announce(len(pictures))

    def ship_samples(self, samples: npt.NDArray[np.float32]) -> None:
        """The same for samples of sound."""
        self._free_page()[: len(samples)] = samples
        self._announce(len(samples))

    def _free_page(self) -> npt.NDArray[Any]:
        while not self._free:
            message = self._connection.recv()
            assert isinstance(message, PageFree)  # noqa: S101  no task is sent while one is running
            self._free.append(message.page)
        return self._pages[self._free[-1]]

    def _announce(self, count: int) -> None:
        """Hand over the free page; not before it is full: a picture that does not fit must not cost the page."""
        self.reply(PageFull(self._free.pop(), count))

    def beat(self) -> None:
        """Show life, at most once a second."""
        if time.monotonic() - self._last_beat > _BEAT_SECONDS:
            self.reply(Beat())

    def reply(self, message: Reply) -> None:
        self._connection.send(message)
        self._last_beat = time.monotonic()


def main() -> None:
    """Entry point of a worker process; its settings are JSON on the command line."""
    settings = json.loads(sys.argv[1])
    follow_parent(settings["parent"])
    _limit_memory(settings["memory"])
    mailbox = _Mailbox(Connection(settings["socket"]), SharedPages(settings["size"], settings["pages"]))
    do = _doer(settings, mailbox)
    try:
        mailbox.reply(Beat())  # ready: what fails before is the machine's fault, not a file's
        while (task := mailbox.next_task()) is not None:
            mailbox.reply(do(task))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent is gone


def _doer(settings: dict[str, Any], mailbox: _Mailbox) -> Callable[[Any], Reply]:
    """What does the tasks of this worker: those of sound where pictures have no size, else those of pictures."""
    size: int | None = settings["size"]
    if size is None:
        return lambda task: run_sound(task, mailbox.ship_samples, mailbox.beat)
    resize = _quiet_resize(size, settings["resize"], ResizeRule(**settings["rule"]))
    return lambda task: run_task(task, resize, size, mailbox.ship, mailbox.beat)


def _limit_memory(most: int | None) -> None:
    """Let allocations beyond so many bytes fail; only Linux counts all of them."""
    if most is not None and sys.platform == "linux":
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def _quiet_resize(size: int, backend: str, rule: ResizeRule) -> Resize:
    if backend == "torch":
        import torch

        torch.set_num_threads(1)  # one worker, one core: the workers are the parallelism
    return make_resize(size, backend, rule)
