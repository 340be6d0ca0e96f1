"""The CUDA path. Skipped without a CUDA device, unless FAIL_WITHOUT_CUDA is set: then its absence is a failure."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from clipcache.cache.common.hashing import DigestMemo
from clipcache.extract.devices.group import DeviceGroup
from clipcache.extract.models.batching import Batcher
from clipcache.extract.models.frame_encoder import FloatArray, FrameEncoder, PictureEncoder
from clipcache.extract.models.placement import Placement, place, place_each
from clipcache.extract.models.weights import find_weights

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available() and not os.environ.get("FAIL_WITHOUT_CUDA"), reason="no CUDA device"
)


def encode(encoder: PictureEncoder, pictures: np.ndarray) -> np.ndarray:
    """Through the batcher, in uneven pieces, so that batches are filled, queued and flushed as in a run."""
    found: list[FloatArray] = []
    batcher: Batcher[None] = Batcher(encoder, lambda _, part: found.append(part.copy()))
    for piece in np.array_split(pictures, 7):
        batcher.add(None, piece)
    batcher.flush()
    return np.concatenate(found)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_cuda_gives_the_features_of_the_cpu_in_order(tiny_weights: Path, precision: str) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (100, 224, 224, 3), np.uint8)
    pictures[::2] //= 3  # neighbours differ, so a slip by one row would show
    weights = find_weights("tiny", tiny_weights, DigestMemo())
    expected = encode(FrameEncoder(weights, Placement("cpu", "fp32", 32)), pictures)
    found = encode(FrameEncoder(weights, Placement("cuda", precision, 16)), pictures)
    cosine = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosine.min() >= (0.9999 if precision == "fp32" else 0.999)


def test_all_cuda_devices_give_the_features_of_one(tiny_weights: Path) -> None:
    """Two processes even where there is one GPU, which they then share."""
    placements = place_each("cuda:all", "fp16", 16)
    pictures = np.random.default_rng(0).integers(0, 256, (1000, 224, 224, 3), np.uint8)
    pictures[::2] //= 3
    weights = find_weights("tiny", tiny_weights, DigestMemo())
    expected = encode(FrameEncoder(weights, placements[0]), pictures)
    lost: list[str] = []
    group = DeviceGroup(weights, placements if len(placements) > 1 else placements * 2, lost.append)
    with contextlib.closing(group):
        found = encode(group, pictures)
    cosine = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosine.min() >= 0.9999
    assert lost == []


def test_auto_takes_cuda_in_fp16() -> None:
    placement = place()
    assert placement.device == "cuda"
    assert placement.precision == "fp16"
    assert placement.batch_size >= 256
