"""Encode pictures in batches, several batches at once, by the picture encoder of any `Encoder`.

Frames arrive as uint8 and are normalised on the device. Nothing here normalises features: they are kept as the model
returns them.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Protocol

from ...cache.common.errors import UsageError
from .contract import EncoderSpec, FloatArray, check_features
from .openai_fast import Tower
from .placement import Placement
from .registry import open_encoder
from .weights import WeightsFile

__all__ = ["FloatArray", "FrameEncoder", "Pending", "PendingFeatures", "PictureEncoder"]


_MIN_CPU_BATCH = 8
"""Measured: up to 3 pictures of ViT-B/32 in fp32 differ in their last bits from what batches of 5 to 16 give."""


class Pending(Protocol):
    """Features that a device may still be computing."""

    def done(self) -> bool:
        """Whether `result` need not wait."""

    def result(self) -> FloatArray:
        """(n, D) float32, after waiting for the device."""


class _Device(Protocol):
    """Runs a tower over batches, several of them at once."""

    in_flight: int

    def start(self, pictures: Any) -> Pending:
        """Start on (n, size, size, 3) uint8 pictures in the CPU's memory."""

    def wait(self, pending: Sequence[Any]) -> None:
        """Wait until one of the batches is done; they are given in the order in which they were started."""


class PictureEncoder(ABC):
    """The picture encoder of a model on a device, or on several.

    Attributes:
        spec: properties of the model.
        embed_dim: length of a feature vector.
        input_size: side of a picture in pixels.
        logit_scale: factor from cosine to logit, about 100 for CLIP.
        logit_bias: what the model adds to a logit.
        pooling: how the model makes one vector of a picture.
        normalization: of the features.
        placement: device (several are separated by commas), precision and batch size.
        weights: the weights that were loaded.
        in_flight: batches worth starting before the first result is read.
        min_batch: pictures that a batch must have for features that do not depend on what else is in it.
    """

    placement: Placement
    weights: WeightsFile
    in_flight: int
    min_batch: int

    def _describe(self, spec: EncoderSpec) -> None:
        self.spec = spec
        self.embed_dim = spec.embed_dim
        self.input_size = spec.input_size
        self.logit_scale = spec.logit_scale
        self.logit_bias = spec.logit_bias
        self.pooling = spec.pooling
        self.normalization = spec.normalization

    @abstractmethod
    def new_batch(self) -> Any:
        """A (batch, size, size, 3) uint8 tensor to fill, in memory that suits the device."""

    @abstractmethod
    def encode(self, pictures: Any) -> Pending:
        """Start encoding a batch from `new_batch`, or its beginning; it must stay untouched until the result is read.

        Raises:
            UsageError: if memory runs out, here or when the result is read.
        """

    @abstractmethod
    def wait(self, pending: Sequence[Any]) -> None:
        """Wait until one of several batches is done.

        Args:
            pending: what `encode` gave, at least one, oldest first.
        """

    def close(self) -> None:  # noqa: B027  most have nothing to do
        """End what runs beside this process."""


class FrameEncoder(PictureEncoder):
    """The picture encoder of a model on one device, in this process; the attributes are those of `PictureEncoder`."""

    def __init__(self, weights: WeightsFile, placement: Placement, *, trust: bool = False) -> None:
        import torch

        self._torch = torch
        self.weights = weights
        self.placement = placement
        self._cuda = placement.device.startswith("cuda")
        with torch.inference_mode(), self._memory_errors():
            encoder = open_encoder(weights, placement, trust=trust, texts=False)
            self._describe(encoder.spec)
            tower = encoder.encode_images
            self._warm_up(tower)
            self._device: _Device = _Cuda(tower, placement.device) if self._cuda else _Cpu(tower)
        self.in_flight = self._device.in_flight
        self.min_batch = placement.batch_size if self._cuda else min(_MIN_CPU_BATCH, placement.batch_size)

    def _warm_up(self, tower: Tower) -> None:
        """Encode one picture: what an encoder prepares at first use is made here, and its features are checked."""
        shape = (1, self.input_size, self.input_size, 3)
        pictures = self._torch.zeros(shape, dtype=self._torch.uint8, device=self.placement.device)
        check_features(self.spec, tower(pictures), 1)

    def new_batch(self, pictures: int | None = None) -> Any:
        """As `PictureEncoder.new_batch`, for `pictures` if that is given; pinned where the device copies by itself."""
        shape = (pictures or self.placement.batch_size, self.input_size, self.input_size, 3)
        with self._memory_errors():
            return self._torch.empty(shape, dtype=self._torch.uint8, pin_memory=self._cuda)

    def encode(self, pictures: Any) -> PendingFeatures:
        """See `PictureEncoder`; any (n, size, size, 3) uint8 tensor will do."""
        with self._memory_errors():
            return PendingFeatures(self._device.start(pictures), self._memory_errors)

    def wait(self, pending: Sequence[PendingFeatures]) -> None:
        """See `PictureEncoder`."""
        with self._memory_errors():
            self._device.wait([one.started for one in pending])

    @contextlib.contextmanager
    def _memory_errors(self) -> Iterator[None]:
        """Turn torch's several ways of running out of memory into one sentence."""
        try:
            yield
        except (self._torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if "memory" not in str(error).lower():
                raise
            raise UsageError(
                f"Not enough memory on {self.placement.device} for batches of {self.placement.batch_size} pictures",
                "choose a smaller --batch-size",
            ) from error


@dataclass(frozen=True)
class PendingFeatures:
    """Features that the device may still be computing."""

    started: Pending
    _guard: Callable[[], contextlib.AbstractContextManager[None]]

    def done(self) -> bool:
        """Whether `result` need not wait."""
        with self._guard():
            return self.started.done()

    def result(self) -> FloatArray:
        """(n, D) float32, after waiting for the device.

        Raises:
            UsageError: if memory runs out.
        """
        with self._guard():
            return self.started.result()


class _Cpu:
    """One batch per core, each computed by one thread.

    Threads that share a batch wait for the slowest at every layer, which is the one that a decoding worker has just
    pushed from its core; threads with a batch each do not wait for each other.
    """

    def __init__(self, tower: Tower) -> None:
        import torch

        self._torch = torch
        self._tower = tower
        threads = torch.get_num_threads()  # the cores, or what OMP_NUM_THREADS allows
        self._executor = ThreadPoolExecutor(threads, "encode", initializer=torch.set_num_threads, initargs=(1,))
        self.in_flight = threads + 1  # a batch waits, so that no core does

    def start(self, pictures: Any) -> Pending:
        return self._executor.submit(self._compute, pictures)

    def wait(self, pending: Sequence[Any]) -> None:
        wait(pending, return_when=FIRST_COMPLETED)

    def _compute(self, pictures: Any) -> FloatArray:
        with self._torch.inference_mode():
            features: FloatArray = self._tower(pictures).numpy()
        return features


class _Cuda:
    """Upload, compute and download in queues; the upload of a batch runs beside the computing of the one before."""

    def __init__(self, tower: Tower, device: str) -> None:
        import torch

        self._torch = torch
        self._tower = tower
        self._name = device
        self._upload = torch.cuda.Stream(device)
        self.in_flight = 2

    def start(self, pictures: Any) -> Pending:
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

    def wait(self, pending: Sequence[Any]) -> None:
        pending[0].event.synchronize()  # it computes them one after another


@dataclass(frozen=True)
class _CudaFeatures:
    """Features on their way to pinned memory, and the event that says they are there."""

    host: Any
    event: Any

    def done(self) -> bool:
        return bool(self.event.query())

    def result(self) -> FloatArray:
        self.event.synchronize()
        features: FloatArray = self.host.numpy()
        return features
