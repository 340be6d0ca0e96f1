"""Several devices as one encoder: a process encodes on each, and a batch goes to whichever has room for it first."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for_any
from typing import Any

from ...cache.common.errors import ClipcacheError, ModelError
from ..models.contract import FloatArray
from ..models.frame_encoder import PictureEncoder
from ..models.placement import Placement
from ..models.weights import WeightsFile, converted_copy
from ..workers.shared_pages import anonymous_memory
from ..workers.sizing import START_SECONDS
from .messages import Answer, Encoded, Failed, Ready
from .process import DeviceLostError, DeviceProcess
from .shared_batch import SharedBatch


@dataclass(eq=False)
class GroupFeatures:
    """Features of a batch, when they are there: `Pending`."""

    group: DeviceGroup
    batch: int
    count: int
    features: FloatArray | None = None

    def done(self) -> bool:
        """Whether `result` need not wait."""
        return self.features is not None

    def result(self) -> FloatArray:
        """(n, D) float32, after waiting for the device.

        Raises:
            ClipcacheError: if the last device is lost; if memory ran out there, a `UsageError`.
        """
        while self.features is None:
            self.group.wait([self])
        return self.features


class DeviceGroup(PictureEncoder):
    """The picture encoder of a model on several devices; the attributes are those of `PictureEncoder`.

    A device whose process dies, or that can do no more, is given up: the others encode what it had. The model is
    loaded by the processes alone.

    Args:
        weights: what to load.
        placements: the devices, all of one precision; the largest batch size is that of the group.
        on_lost: called with a sentence when a device is given up, and others are left.
        trust: as of `FrameEncoder`.
        quiet: throw away what the processes write to stderr, but for the first.
        start_seconds: after so long a process that has not started is given up.

    Raises:
        ModelError: if the weights are missing, damaged or of another model.
        ClipcacheError: if not one process starts.
    """

    def __init__(
        self,
        weights: WeightsFile,
        placements: Sequence[Placement],
        on_lost: Callable[[str], None],
        *,
        trust: bool = False,
        quiet: bool = True,
        start_seconds: float = START_SECONDS,
    ) -> None:
        self.weights = weights
        devices = ",".join(placement.device for placement in placements)
        most = max(placement.batch_size for placement in placements)
        self.placement = Placement(devices, placements[0].precision, most)
        self._on_lost = on_lost
        self._memory = anonymous_memory(0)
        self._batches: list[SharedBatch] = []
        self._numbers: dict[int, int] = {}  # of batches by the address of their pictures
        self._waiting: deque[GroupFeatures] = deque()
        self._jobs: dict[int, GroupFeatures] = {}  # not done, by batch
        self._processes: list[DeviceProcess] = []
        self._is_closed = False
        try:
            self._start(placements, start_seconds, trust=trust, quiet=quiet)
        except BaseException:
            self.close()
            raise

    def _start(self, placements: Sequence[Placement], seconds: float, *, trust: bool, quiet: bool) -> None:
        threads = _threads(placements)
        everyone = range(len(placements))
        # What is downloaded and converted at its first use is so by one process, before the others start.
        is_new = self.weights.published and not converted_copy(self.weights).is_file()
        ready: list[Ready] = []
        lost: list[tuple[DeviceProcess, ClipcacheError]] = []
        for numbers in (everyone[:1], everyone[1:]) if is_new else (everyone,):
            for number in numbers:
                process = DeviceProcess(
                    number,
                    self.weights,
                    placements[number],
                    trust=trust,
                    threads=threads[number],
                    memory=self._memory,
                    batch=self.placement.batch_size,
                    quiet=quiet and number > 0,
                )
                self._processes.append(process)
            for process, answer in _first_answers(self._processes[numbers.start :], seconds):
                if isinstance(answer, Ready):
                    process.capacity = answer.capacity
                    ready.append(answer)
                elif isinstance(answer, Failed):
                    lost.append((process, answer.error))
        if not ready:
            raise _with_remedy(
                "The processes that encode do not start", lost[0][1], "look at their messages with --debug"
            )
        for process, error in lost:
            self._give_up(process, error)
        self._describe(ready[0].spec)
        self.in_flight = sum(one.capacity for one in ready)
        self.min_batch = min(one.min_batch for one in ready)

    def new_batch(self) -> Any:
        """See `PictureEncoder`; each stays until the group is closed."""
        import torch

        number = len(self._batches)
        shared = SharedBatch(self._memory, number, self.placement.batch_size, self.input_size, self.embed_dim)
        tensor = torch.from_numpy(shared.pictures)
        self._batches.append(shared)
        self._numbers[tensor.data_ptr()] = number
        return tensor

    def encode(self, pictures: Any) -> GroupFeatures:
        """See `PictureEncoder`.

        Raises:
            ClipcacheError: if the last device is lost; if memory ran out there, a `UsageError`.
        """
        job = GroupFeatures(self, self._numbers[pictures.data_ptr()], len(pictures))
        self._jobs[job.batch] = job
        self._waiting.append(job)
        self._listen(0)
        return job

    def wait(self, pending: Sequence[GroupFeatures]) -> None:
        """See `PictureEncoder`; raises what `encode` raises."""
        while not any(one.done() for one in pending):
            self._listen(None)

    def _listen(self, seconds: float | None) -> None:
        """Take what the processes say, waiting so long for the first word, and give them what they have room for."""
        self._give()
        by_connection = {process.connection: process for process in self._processes}
        for connection in wait_for_any(list(by_connection), seconds):
            process = by_connection[connection]  # type: ignore[index]  # the type of `wait` is wider
            answer = process.receive()
            if isinstance(answer, Encoded):
                self._take(process, answer.batch)
            elif isinstance(answer, Failed):
                self._lose(process, answer.error)
        self._give()

    def _give(self) -> None:
        while self._waiting:
            free = [process for process in self._processes if len(process.running) < process.capacity]
            if not free:
                return
            job = self._waiting.popleft()
            min(free, key=lambda process: len(process.running) / process.capacity).send(job.batch, job.count)

    def _take(self, process: DeviceProcess, batch: int) -> None:
        count = process.running.pop(batch)
        process.encoded += count
        self._jobs.pop(batch).features = self._batches[batch].features[:count].copy()

    def _lose(self, process: DeviceProcess, error: ClipcacheError) -> None:
        """Let the others encode what it had."""
        if len(self._processes) == 1:
            problem = f"The last process that encodes, on {process.device}, is lost"
            raise _with_remedy(problem, error, "run the same command again to go on; what is done is kept")
        self._give_up(process, error)
        self._waiting.extendleft(self._jobs[batch] for batch in reversed(process.running))

    def _give_up(self, process: DeviceProcess, error: ClipcacheError) -> None:
        process.close()
        self._processes.remove(process)
        self._on_lost(f"device {process.device} is lost, and the others go on without it: {error}")

    def close(self) -> None:
        """End the processes."""
        while self._processes:
            self._processes.pop().close()
        if not self._is_closed:
            self._is_closed = True
            os.close(self._memory)


def _threads(placements: Sequence[Placement]) -> list[int]:
    """How many threads each process gets: those on the CPU share the cores, or what OMP_NUM_THREADS allows."""
    import torch

    on_cpu = [number for number, placement in enumerate(placements) if placement.device == "cpu"]
    cores = torch.get_num_threads()
    share = {number: cores // len(on_cpu) + (nth < cores % len(on_cpu)) for nth, number in enumerate(on_cpu)}
    return [max(1, share.get(number, 1)) for number in range(len(placements))]


def _first_answers(processes: Sequence[DeviceProcess], seconds: float) -> Iterator[tuple[DeviceProcess, Answer]]:
    """What each process says first; `Failed` for one that says nothing for so long.

    Raises:
        ModelError: if the model cannot be loaded, which is not a device's fault.
    """
    silent = {process.connection: process for process in processes}
    end = time.monotonic() + seconds
    while silent:
        heard = wait_for_any(list(silent), max(0.0, end - time.monotonic()))
        for connection in heard:
            process = silent.pop(connection)  # type: ignore[call-overload]  # the type of `wait` is wider
            answer = process.receive()
            if isinstance(answer, Failed) and isinstance(answer.error, ModelError):
                raise answer.error
            yield process, answer
        if not heard:
            error = DeviceLostError(f"its process has not started after {seconds:.0f} s")
            yield from ((process, Failed(error)) for process in silent.values())
            return


def _with_remedy(problem: str, error: ClipcacheError, remedy: str) -> ClipcacheError:
    """The error that ends the run: what the process said itself, or that it ended."""
    return ClipcacheError(f"{problem}: {error.problem}", remedy) if isinstance(error, DeviceLostError) else error
