"""The encoder alone, and the matrix products that it is made of: the roofline."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from .make_weights import SIZES


@dataclass(frozen=True)
class Shape:
    """The sizes of a vision transformer that decide how much it computes."""

    tokens: int
    width: int
    layers: int
    patch: int

    @property
    def products(self) -> tuple[tuple[int, int], ...]:
        """(columns in, columns out) of the products of a layer: queries, keys and values; out; widen; narrow."""
        width = self.width
        return (width, 3 * width), (width, width), (width, 4 * width), (4 * width, width)

    @property
    def layer_flop(self) -> float:
        """Floating point operations of a layer's products for one frame; a multiplication and an addition are two."""
        return 2.0 * self.tokens * sum(rows * columns for rows, columns in self.products)

    @property
    def frame_flop(self) -> float:
        """The same for everything that is a product: patches, layers and attention; 8.8e9 for ViT-B/32."""
        patches = 2.0 * (self.tokens - 1) * 3 * self.patch**2 * self.width
        attention = 2 * 2.0 * self.tokens**2 * self.width
        return patches + self.layers * (self.layer_flop + attention)


def shape_of(model: str) -> Shape:
    """Of a model by its name.

    Raises:
        ValueError: It is no vision transformer.
    """
    _, pixels, layers, width, patch, _ = SIZES[model]
    if patch is None or not isinstance(layers, int):
        raise ValueError(f"{model} is no vision transformer")
    return Shape((pixels // patch) ** 2 + 1, width, layers, patch)


@lru_cache(maxsize=2)
def _encoder(weights: str, model: str, precision: str, batch: int) -> Any:
    from clipcache.cache.common.hashing import DigestMemo
    from clipcache.extract.models.frame_encoder import FrameEncoder
    from clipcache.extract.models.placement import place
    from clipcache.extract.models.weights import find_weights

    return FrameEncoder(find_weights(model, Path(weights), DigestMemo()), place("auto", precision, batch))


def run_encoder(weights: str, model: str, precision: str, batch: int, seconds: float) -> float:
    """In the child: pictures/s of extract's encoder, fed as extract feeds it, with buffers that are always full.

    The clock runs from one result to another, always with further batches on their way, so that no core idles within.
    """
    encoder = _encoder(weights, model, precision, batch)
    buffers = deque(encoder.new_batch().random_(0, 256) for _ in range(encoder.in_flight + 1))
    pending: deque[Any] = deque()
    at_once = max(1, encoder.in_flight - 1)  # batches that compute side by side and end together

    def advance(batches: int) -> None:
        for _ in range(batches):
            while len(pending) < encoder.in_flight:
                pending.append(encoder.encode(buffers[0]))
                buffers.rotate()
            pending.popleft().result()

    advance(2 * at_once)  # the first batches choose kernels
    started, batches = time.perf_counter(), 0
    while (taken := time.perf_counter() - started) < seconds:
        advance(at_once)
        batches += at_once
    while pending:
        pending.popleft().result()
    return batches * batch / taken


def run_products(model: str, precision: str, batch: int, seconds: float, device: str, packed: bool) -> float:
    """In the child: FLOP/s of a model's matrix products at a batch, layer after layer, each with weights of its own.

    On a CPU every core computes the products of a batch of its own with one thread, as the encoder does; on a GPU
    they follow one another.

    Args:
        model: A key of `SIZES`.
        precision: "fp32", "bf16" or "fp16".
        batch: Pictures; each has as many rows as tokens.
        seconds: To measure for.
        device: torch's.
        packed: With weights laid out for oneDNN beforehand, instead of `torch.nn.functional.linear`.
    """
    import torch

    shape, threads = shape_of(model), torch.get_num_threads() if device == "cpu" else 1
    multiply, inputs = _operands(model, precision, batch, device, packed, threads)
    widths = [columns for columns, _ in shape.products] * shape.layers

    def work(own: dict[int, Any], least: float) -> float:
        """Passes through all layers a second."""
        started, taken, passes = time.perf_counter(), 0.0, 0
        with torch.inference_mode():
            while taken < least:
                for width, product in zip(widths, multiply, strict=True):
                    product(own[width])
                if device != "cpu":
                    torch.cuda.synchronize()
                passes += 1
                taken = time.perf_counter() - started
        return passes / taken

    with ThreadPoolExecutor(threads, initializer=_one_thread, initargs=(device == "cpu",)) as executor:
        list(executor.map(work, inputs, [seconds / 10] * threads))
        passes = sum(executor.map(work, inputs, [seconds] * threads))
    return passes * batch * shape.layers * shape.layer_flop


@lru_cache(maxsize=2)
def _operands(
    model: str, precision: str, batch: int, device: str, packed: bool, threads: int
) -> tuple[list[Callable[[Any], Any]], list[dict[int, Any]]]:
    """A function for each product of each layer, and for each thread what it multiplies, by width."""
    import torch

    shape = shape_of(model)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]

    def random(rows: int, columns: int) -> Any:
        return torch.empty(rows, columns, device=device).uniform_(-0.05, 0.05).to(dtype)

    with torch.inference_mode():
        weights = [random(after, before) for _ in range(shape.layers) for before, after in shape.products]
        rows = batch * shape.tokens
        multiply = _packed(torch, weights, rows) if packed else _linear(torch, weights)
        inputs = [{width: random(rows, width) for width, _ in shape.products} for _ in range(threads)]
    return multiply, inputs


def _one_thread(is_cpu: bool) -> None:
    import torch

    if is_cpu:
        torch.set_num_threads(1)


def _linear(torch: Any, weights: Sequence[Any]) -> list[Callable[[Any], Any]]:
    return [lambda x, weight=weight: torch.nn.functional.linear(x, weight) for weight in weights]


def _packed(torch: Any, weights: Sequence[Any], rows: int) -> list[Callable[[Any], Any]]:
    operators = torch.ops.mkldnn
    packed = [operators._reorder_linear_weight(weight, rows) for weight in weights]
    return [lambda x, weight=weight: operators._linear_pointwise(x, weight, None, "none", [], "") for weight in packed]
