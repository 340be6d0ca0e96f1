"""A process that encodes: loads the model on its device, and does one shared batch after another."""

from __future__ import annotations

import json
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Any

import numpy as np

from ...cache.common.errors import ClipcacheError
from ..models.frame_encoder import FrameEncoder
from ..models.placement import Placement
from ..models.weights import WeightsFile
from ..workers.child import follow_parent
from .messages import Answer, Encode, Encoded, Failed, Ready
from .shared_batch import SharedBatch


def main() -> None:
    """Entry point; the settings are JSON on the command line, as `process.DeviceProcess` writes them."""
    settings = json.loads(sys.argv[1])
    follow_parent(settings["parent"])
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # where all processes get it, the parent ends this one
    try:
        _serve(Connection(settings["socket"]), settings)
    except (EOFError, OSError):
        os._exit(1)  # the parent is gone


def _serve(connection: Connection, settings: dict[str, Any]) -> None:
    try:
        encoder = _load(settings)
        server = _Server(connection, encoder, settings["memory"], settings["batch"])
    except Exception as error:  # noqa: BLE001  whatever it is, the parent says it
        connection.send(Failed(_told(error)))
        return
    connection.send(Ready(encoder.spec, encoder.min_batch, server.capacity))
    while True:
        server.start(connection.recv())


def _load(settings: dict[str, Any]) -> FrameEncoder:
    import torch

    torch.set_num_threads(settings["threads"])
    weights = WeightsFile(**{**settings["weights"], "path": Path(settings["weights"]["path"])})
    return FrameEncoder(weights, Placement(**settings["placement"]), trust=settings["trust"])


def _told(error: BaseException) -> ClipcacheError:
    if isinstance(error, ClipcacheError):
        return error
    first = str(error).strip().split("\n", 1)[0][:200].rstrip(". ")
    return ClipcacheError(f"{type(error).__name__}: {first}" if first else type(error).__name__)


class _Server:
    """Does several batches at once, each in a thread that waits for the device.

    Args:
        connection: where the answers go.
        encoder: encodes.
        memory: descriptor of the shared batches.
        batch: pictures that a shared batch holds; the encoder's own batches may be smaller.
    """

    def __init__(self, connection: Connection, encoder: FrameEncoder, memory: int, batch: int) -> None:
        self._connection = connection
        self._sending, self._starting = Lock(), Lock()
        self._encoder = encoder
        self._shape = batch, encoder.input_size, encoder.embed_dim
        self._memory = memory
        self._shared: dict[int, SharedBatch] = {}
        self._size = encoder.placement.batch_size
        self.capacity = -(-encoder.in_flight * self._size // batch)
        self._threads = ThreadPoolExecutor(self.capacity, "batch")
        # Pictures are copied once more: a device takes them by itself only from memory that was made for it.
        self._buffers: SimpleQueue[Any] = SimpleQueue()
        for _ in range(self.capacity):
            self._buffers.put(encoder.new_batch(batch))

    def start(self, task: Encode) -> None:
        """Begin a batch; its answer is sent when it is done."""
        if task.batch not in self._shared:
            self._shared[task.batch] = SharedBatch(self._memory, task.batch, *self._shape)
        self._threads.submit(self._do, task)

    def _do(self, task: Encode) -> None:
        answer: Answer = Encoded(task.batch)
        try:
            self._encode(self._shared[task.batch], task.count)
        except Exception as error:  # noqa: BLE001  whatever it is, the parent says it
            answer = Failed(_told(error))
        try:
            with self._sending:
                self._connection.send(answer)
        except OSError:
            os._exit(1)  # the parent is gone

    def _encode(self, shared: SharedBatch, count: int) -> None:
        buffer, size = self._buffers.get(), self._size
        buffer.numpy()[:count] = shared.pictures[:count]
        with self._starting:
            pending = [self._encoder.encode(self._part(buffer, first, count)) for first in range(0, count, size)]
        shared.features[:count] = np.concatenate([one.result() for one in pending])[:count]
        self._buffers.put(buffer)

    def _part(self, buffer: Any, first: int, count: int) -> Any:
        """The encoder's own batch that begins there; as in `Batcher`, a small one is filled up with what is there."""
        return buffer[first : max(min(first + self._size, count), first + self._encoder.min_batch)]
