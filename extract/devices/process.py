"""A process that encodes, as its parent sees it: start it, give it batches, notice when it dies, end it."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
from multiprocessing.connection import Connection

from ...cache.common.errors import ClipcacheError
from ..models.placement import Placement
from ..models.weights import WeightsFile
from ..workers import child
from .messages import Answer, Encode, Failed

_BOOT = child.boot_code("clipcache.extract.devices.worker")


class DeviceProcess:
    """One process and its socket.

    Args:
        number: its place among the devices, from 0.
        weights: what it loads.
        placement: where it computes, and how.
        trust: as of `FrameEncoder`.
        threads: how many it may compute with on a CPU.
        memory: descriptor of the shared batches.
        batch: pictures that a shared batch holds.
        quiet: throw away what it writes to stderr.

    Attributes:
        device: where it computes, as a torch device string.
        capacity: batches that it takes at once; 0 until it has started.
        running: the batches that it was given and has not answered, oldest first: pictures by number.
        encoded: pictures that it has encoded.
    """

    def __init__(
        self,
        number: int,
        weights: WeightsFile,
        placement: Placement,
        *,
        trust: bool,
        threads: int,
        memory: int,
        batch: int,
        quiet: bool,
    ) -> None:
        self.device = placement.device
        self.capacity = 0
        self.running: dict[int, int] = {}
        self.encoded = 0
        ours, theirs = socket.socketpair()
        with ours, theirs:
            settings = {
                "number": number,
                "weights": {**dataclasses.asdict(weights), "path": os.fspath(weights.path)},
                "placement": dataclasses.asdict(placement),
                "trust": trust,
                "threads": threads,
                "socket": theirs.fileno(),
                "memory": memory,
                "batch": batch,
            }
            self._process = child.start(_BOOT, settings, (theirs.fileno(), memory), quiet=quiet, threads=threads)
            self.connection = Connection(ours.detach())

    def send(self, batch: int, count: int) -> None:
        """Let it encode the first `count` pictures of a batch; if it just died, the next `receive` notices."""
        self.running[batch] = count
        try:
            self.connection.send(Encode(batch, count))
        except OSError:
            return

    def receive(self) -> Answer:
        """What it says, when `connection` is readable; `Failed` with a reason where it is dead."""
        try:
            answer: Answer = self.connection.recv()
        except Exception:  # noqa: BLE001  dead, or dying in the middle of a message
            return Failed(DeviceLostError(_how_it_ended(child.exit_code(self._process))))
        return answer

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def close(self) -> None:
        """End the process: it holds nothing that is not here as well."""
        child.kill(self._process)
        self.connection.close()


class DeviceLostError(ClipcacheError):
    """A process that encodes ended, or did not start in time, and could not say why."""


def _how_it_ended(code: int | None) -> str:
    if code == -signal.SIGKILL:
        return "its process was killed from outside, perhaps for lack of memory"
    if code is None:
        return "its process closed its connection"
    return f"its process was ended by signal {-code}" if code < 0 else f"its process ended with exit code {code}"
