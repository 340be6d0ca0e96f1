"""Decoding workers: runs tasks in processes, passes on pages and replies, replaces workers that crash or hang."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ...cache.common.errors import ClipcacheError
from ..video.resize import CLIP_RULE, ResizeRule, make_resize
from .messages import Beat, PageFull, Reply, SoundTask, Task, TaskFailed
from .process import WorkerProcess
from .sizing import STALL_SECONDS, START_SECONDS
from .worker import run_sound, run_task

Page = npt.NDArray[Any]
"""(n, size, size, 3) uint8 pictures, or (n,) float32 samples of sound."""

_POLL_SECONDS = 0.5
_STOPPED_SECONDS = 5.0
_MAX_FAILED_STARTS = 3


class TaskSource(Protocol):
    """Gives tasks to a pool and receives their pages and replies.

    A job identifies a task; the source chooses it, and the pool passes it back.
    """

    def next_task(self) -> tuple[Any, Task] | None:
        """The next task to start; None when there is none at present."""

    def on_page(self, job: Any, page: Page) -> None:
        """Pictures or samples of a task, in order; valid only during the call."""

    def on_reply(self, job: Any, reply: Reply) -> None:
        """`Indexed`, `SpanDone`, `SoundDone` or `TaskFailed`: the task is over."""


def _how_it_ended(exit_code: int | None) -> tuple[str, str]:
    """Name and sentence for a worker that died; "DecoderKilled" is not the file's fault."""
    if exit_code == -signal.SIGKILL:
        return (
            "DecoderKilled",
            "The decoder was killed from outside, perhaps for lack of memory; run the command again.",
        )
    how = "closed its connection" if exit_code is None else f"ended with exit code {exit_code}"
    if exit_code is not None and exit_code < 0:
        how = f"was ended by signal {-exit_code}"
    return "DecoderCrashed", f"The decoder crashed: its process {how}."


class _OwnClock:
    """Notices that this process itself was stopped (Ctrl-Z) or asleep: much time went by, of which it had little."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.monotonic(), time.process_time()

    def was_stopped(self) -> bool:
        """Whether it was, since the last time that this was asked."""
        wall, cpu = time.monotonic(), time.process_time()
        passed, used = wall - self._wall, cpu - self._cpu
        self._wall, self._cpu = wall, cpu
        return passed > _STOPPED_SECONDS and used < passed / 2


class WorkerPool:
    """Runs tasks in worker processes until the source has no more.

    Args:
        workers: number of processes, at least 1; each is started when there is work for it.
        size: side of the pictures in pixels; None for a pool that decodes sound, whose workers resize nothing.
        resize: "torch" or "pil".
        rule: how pictures become squares.
        quiet: throw away what decoders write to stderr.
        stall_seconds: after so long without a sign a worker is killed.
        start_seconds: the same for one that has not given its first.
        memory: bytes that each may allocate, more than 0; None for no limit.
    """

    def __init__(
        self,
        workers: int,
        size: int | None,
        resize: str = "pil",
        rule: ResizeRule = CLIP_RULE,
        *,
        quiet: bool = True,
        stall_seconds: float = STALL_SECONDS,
        start_seconds: float = START_SECONDS,
        memory: int | None = None,
    ) -> None:
        self._start_worker: Callable[[], WorkerProcess] = lambda: WorkerProcess(
            size, resize, rule, quiet=quiet, memory=memory
        )
        self.size = size
        self._count = workers
        self._stall_seconds = stall_seconds
        self._start_seconds = start_seconds
        self._busy: dict[WorkerProcess, Any] = {}
        self._idle: list[WorkerProcess] = []
        self._again: list[tuple[Any, Task]] = []  # tasks of workers that were lost before they had started
        self._failed_starts = 0  # in a row

    def run(self, source: TaskSource, on_wait: Callable[[float], None]) -> None:
        """Run until the source gives no task and none is running; `on_wait` is called with seconds spent waiting."""
        watch = _OwnClock()
        while self._assign(source):
            started = time.monotonic()
            if watch.was_stopped():
                for worker in self._busy:
                    worker.was_not_watched()
            ready = wait([worker.connection for worker in self._busy], _POLL_SECONDS)
            on_wait(time.monotonic() - started)
            for worker in [w for w in self._busy if w.connection in ready]:
                self._handle(worker, source)
            self._kill_silent(source)

    def _assign(self, source: TaskSource) -> bool:
        """Give work to idle workers; False when nothing runs any more."""
        while len(self._busy) < self._count:
            found = self._again.pop() if self._again else source.next_task()
            if found is None:
                break
            worker = self._idle.pop() if self._idle else self._start_worker()
            self._busy[worker] = found[0]
            worker.start(found[1])
        return bool(self._busy)

    def _handle(self, worker: WorkerProcess, source: TaskSource) -> None:
        reply = worker.receive()
        self._failed_starts = 0 if worker.was_ready else self._failed_starts
        job = self._busy[worker]
        if reply is None:
            self._lose(worker, source, *_how_it_ended(worker.exit_code()))
        elif isinstance(reply, PageFull):
            source.on_page(job, worker.page(reply.page, reply.count))
            worker.free(reply.page)
        elif not isinstance(reply, Beat):
            del self._busy[worker]
            self._idle.append(worker)
            source.on_reply(job, reply)

    def _kill_silent(self, source: TaskSource) -> None:
        for worker in list(self._busy):
            limit = self._stall_seconds if worker.was_ready else self._start_seconds
            if worker.silent_seconds > limit and not worker.connection.poll():
                self._lose(worker, source, "DecoderHung", f"The decoder hung: no frame for {limit:.0f} s.")

    def _lose(self, worker: WorkerProcess, source: TaskSource, error: str, sentence: str) -> None:
        job = self._busy.pop(worker)
        worker.close(kill=True)
        if not worker.was_ready:
            self._start_again(worker, job, sentence)
            return
        source.on_reply(job, TaskFailed(error, sentence, is_lost=True))

    def _start_again(self, worker: WorkerProcess, job: Any, sentence: str) -> None:
        """Another worker gets the task: the file is not at fault, nobody has looked at it yet."""
        self._failed_starts += 1
        if self._failed_starts >= _MAX_FAILED_STARTS or worker.task is None:
            raise ClipcacheError(
                f"The decoding processes do not start ({sentence.rstrip('.')})",
                "look at their messages with --debug, give them more time with --start-seconds, or decode without "
                "them: --num-workers 0",
            )
        self._again.append((job, worker.task))

    def close(self, *, kill: bool = False) -> None:
        """End all workers; those that are decoding are killed."""
        for worker in self._busy:
            worker.close(kill=True)
        for worker in self._idle:
            worker.close(kill=kill)
        self._busy.clear()
        self._idle.clear()


class _SourceFailed(BaseException):
    """Carries an error of the source past what looks for errors of decoding, which would blame the file for it."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def _no_beat() -> None:
    """Nobody watches."""


class InProcessPool:
    """The same without processes, for debugging: one task at a time, no protection from crashes and hangs."""

    def __init__(self, size: int | None, resize: str = "pil", rule: ResizeRule = CLIP_RULE) -> None:
        self.size = size
        self._resize = None if size is None else make_resize(size, resize, rule)

    def run(self, source: TaskSource, on_wait: Callable[[float], None]) -> None:
        """As `WorkerPool.run`; decoding and encoding take turns, and decoding counts as waiting."""
        for job, task in iter(source.next_task, None):
            self._run_one(source, job, task, on_wait)

    def _run_one(self, source: TaskSource, job: Any, task: Task, on_wait: Callable[[float], None]) -> None:
        started = time.monotonic()

        def ship(page: Page) -> None:
            nonlocal started
            on_wait(time.monotonic() - started)
            try:
                source.on_page(job, page)
            except Exception as error:  # noqa: BLE001  it is raised again below
                raise _SourceFailed(error) from None
            started = time.monotonic()

        try:
            reply = self._do(task, ship)
        except _SourceFailed as failed:
            raise failed.error from None
        on_wait(time.monotonic() - started)
        source.on_reply(job, reply)

    def _do(self, task: Task, ship: Callable[[Page], None]) -> Reply:
        if isinstance(task, SoundTask):
            return run_sound(task, ship, _no_beat)
        assert self.size is not None and self._resize is not None  # noqa: S101, PT018  a pool of pictures
        return run_task(task, self._resize, self.size, lambda some: ship(np.stack(some)), _no_beat, threads=0)

    def close(self, *, kill: bool = False) -> None:
        """Nothing to end."""
