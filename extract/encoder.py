"""Pictures to CLIP features, in batches, on the device at hand.

Frames arrive as uint8 and are normalised on the device. Nothing here normalises features: they are kept as the model
returns them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..cache.errors import UsageError
from .models import WeightsFile, load_model
from .placement import Placement
from .vision import make_tower

FloatArray = npt.NDArray[np.float32]


class _Pending(Protocol):
    def result(self) -> FloatArray:
        """(n, D) float32, after waiting for the device."""


class _Device(Protocol):
    """Runs a tower over batches, several of them at once."""

    in_flight: int

    def start(self, pictures: Any) -> _Pending:
        """Start on (n, size, size, 3) uint8 pictures in the CPU's memory."""


class FrameEncoder:
    """The picture half of a CLIP model on its device.

    Attributes:
        embed_dim: Length of a feature vector.
        input_size: Side of a picture in pixels.
        logit_scale: exp of the model's learned temperature, about 100.
        placement: Device, precision and batch size.
        weights: What was loaded.
        in_flight: Batches worth starting before the first result is read.
    """

    def __init__(self, weights: WeightsFile, placement: Placement, *, trust: bool = False) -> None:
        import torch

        self._torch = torch
        model = load_model(weights, trust=trust)
        self.weights = weights
        self.placement = placement
        self.logit_scale = float(model.logit_scale.exp())
        self.embed_dim = int(model.text_projection.shape[1])
        self.input_size = int(model.visual.input_resolution)
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[placement.precision]
        self._cuda = placement.device.startswith("cuda")
        with torch.inference_mode(), self._memory_errors():
            tower = make_tower(model.visual, dtype, placement.device, placement.batch_size)
            self._device: _Device = _Cuda(tower, placement.device) if self._cuda else _Cpu(tower)
        self.in_flight = self._device.in_flight

    def new_batch(self) -> Any:
        """A (batch, size, size, 3) uint8 tensor to fill: pinned where the device copies from it by itself."""
        shape = (self.placement.batch_size, self.input_size, self.input_size, 3)
        with self._memory_errors():
            return self._torch.empty(shape, dtype=self._torch.uint8, pin_memory=self._cuda)

    def encode(self, pictures: Any) -> PendingFeatures:
        """Start encoding (n, size, size, 3) uint8 pictures; the tensor must stay untouched until the result is read.

        Raises:
            UsageError: Out of memory; here or when the result is read.
        """
        with self._memory_errors():
            return PendingFeatures(self._device.start(pictures), self._memory_errors)

    @contextlib.contextmanager
    def _memory_errors(self) -> Iterator[None]:
        """Turn torch's several ways of running out of memory into one sentence."""
        try:
            yield
        except (self._torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if "memory" not in str(error).lower():
                raise
            raise UsageError(
                f"Not enough memory on {self.placement.device} for batches of {self.placement.batch_size} pictures; "
                "choose a smaller --batch-size."
            ) from error


@dataclass(frozen=True)
class PendingFeatures:
    """Features that the device may still be computing."""

    _pending: _Pending
    _guard: Callable[[], contextlib.AbstractContextManager[None]]

    def result(self) -> FloatArray:
        """(n, D) float32, after waiting for the device.

        Raises:
            UsageError: Out of memory.
        """
        with self._guard():
            return self._pending.result()


class _Cpu:
    """One batch per core, each computed by one thread.

    Threads that share a batch wait for the slowest at every layer, which is the one that a decoding worker has just
    pushed from its core; threads with a batch each lose nothing to one another.
    """

    def __init__(self, tower: Any) -> None:
        import torch

        self._torch = torch
        self._tower = tower
        threads = torch.get_num_threads()  # the cores, or what OMP_NUM_THREADS allows
        self._executor = ThreadPoolExecutor(threads, "encode", initializer=torch.set_num_threads, initargs=(1,))
        self.in_flight = threads + 1  # a batch waits, so that no core does

    def start(self, pictures: Any) -> _Pending:
        return self._executor.submit(self._compute, pictures)

    def _compute(self, pictures: Any) -> FloatArray:
        with self._torch.inference_mode():
            features: FloatArray = self._tower(pictures).numpy()
        return features


class _Cuda:
    """Upload, compute and download in queues; the upload of a batch runs beside the computing of the one before."""

    def __init__(self, tower: Any, device: str) -> None:
        import torch

        self._torch = torch
        self._tower = tower
        self._name = device
        self._upload = torch.cuda.Stream(device)
        self.in_flight = 2

    def start(self, pictures: Any) -> _Pending:
        torch = self._torch
        with torch.inference_mode(), torch.cuda.device(self._name):
            compute = torch.cuda.current_stream()
            with torch.cuda.stream(self._upload):
                on_device = pictures.to(self._name, non_blocking=True)
            compute.wait_stream(self._upload)
            on_device.record_stream(compute)  # its memory was allocated on the other stream
            features = self._tower(on_device)
            host = torch.empty(features.shape, dtype=torch.float32, pin_memory=True)
            host.copy_(features, non_blocking=True)
            done = torch.cuda.Event()
            done.record(compute)
        return _CudaFeatures(host, done)


@dataclass(frozen=True)
class _CudaFeatures:
    """Features on their way to pinned memory, and the event that says they are there."""

    host: Any
    done: Any

    def result(self) -> FloatArray:
        self.done.synchronize()
        features: FloatArray = self.host.numpy()
        return features
