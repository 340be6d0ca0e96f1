"""A decoding worker as its parent sees it: start it, exchange messages, notice when it dies or hangs, end it."""

from __future__ import annotations

import dataclasses
import socket
import subprocess
import time
from multiprocessing.connection import Connection
from typing import Any

import numpy.typing as npt

from ..video.resize import ResizeRule
from . import child
from .messages import PageFree, Reply, Stop, Task
from .shared_pages import SharedPages

_BOOT = child.boot_code("clipcache.extract.workers.worker")


class WorkerProcess:
    """One worker process and its socket.

    Args:
        size: side of the pictures in pixels; None for a worker that decodes sound.
        resize: "torch" or "pil".
        rule: how pictures become squares.
        quiet: throw away what decoders write to stderr.
        memory: bytes that it may allocate, more than 0; Linux holds it to that. None for no limit.
    """

    def __init__(
        self, size: int | None, resize: str, rule: ResizeRule, *, quiet: bool, memory: int | None = None
    ) -> None:
        self._pages = SharedPages(size)
        ours, theirs = socket.socketpair()
        with ours, theirs, self._pages.closed_on_error():
            settings = {
                "size": size,
                "resize": resize,
                "rule": dataclasses.asdict(rule),
                "socket": theirs.fileno(),
                "pages": self._pages.descriptor,
                "memory": memory,
            }
            descriptors = (theirs.fileno(), self._pages.descriptor)
            self._process = child.start(_BOOT, settings, descriptors, quiet=quiet, threads=1)
            self.connection = Connection(ours.detach())
        self._last_sign = time.monotonic()
        self.was_ready = False
        self.task: Task | None = None

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def was_not_watched(self) -> None:
        """Start the clock anew: the parent itself was stopped, and perhaps this worker with it."""
        self._last_sign = time.monotonic()

    @property
    def silent_seconds(self) -> float:
        """Seconds since the worker said anything or was given anything."""
        return time.monotonic() - self._last_sign

    def start(self, task: Task) -> None:
        """Give an idle worker a task; one that just died is noticed at the next `receive`."""
        self.task = task
        self._send(task)

    def receive(self) -> Reply | None:
        """The next message, when `connection` is readable; None when the worker is dead."""
        self._last_sign = time.monotonic()
        try:
            reply: Reply = self.connection.recv()
        except Exception:  # noqa: BLE001  dead, or dying in the middle of a message
            return None
        self.was_ready = True
        return reply

    def page(self, number: int, count: int) -> npt.NDArray[Any]:
        """View of a page that the worker has announced: (count, size, size, 3) uint8, or (count,) float32 of sound."""
        return self._pages[number][:count]

    def free(self, number: int) -> None:
        """Let the worker write a page again."""
        self._send(PageFree(number))

    def _send(self, message: Task | PageFree | Stop) -> None:
        self._last_sign = time.monotonic()
        try:
            self.connection.send(message)
        except OSError:
            return  # dead: `receive` tells

    def exit_code(self) -> int | None:
        """How the process ended, negative for a signal; None where it runs on without its connection."""
        return child.exit_code(self._process)

    def close(self, *, kill: bool = False) -> None:
        """End the process, by a message unless `kill`, and give its memory back."""
        if not kill:
            self._send(Stop())
            try:
                self._process.wait(child.GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                kill = True
        if kill:
            child.kill(self._process)
        self.connection.close()
        self._pages.close()
