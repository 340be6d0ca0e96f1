"""Caches without videos: entries of random features, written by clipcache's own writer."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from clipcache.cache import EntryAttributes, write_entry

DIM = 512
FPS = 30.0


def attributes(name: str, sha256: str, weights_sha256: str, frames: int, **changes: Any) -> EntryAttributes:
    """What an entry of a video of `frames` frames says of itself."""
    known: dict[str, Any] = {
        "schema_version": 2,
        "clipcache_version": "0",
        "created": "2000-01-01T00:00:00+00:00",
        "complete": True,
        "source_kind": "video",
        "video_name": name,
        "video_sha256": sha256,
        "video_bytes": 1,
        "fps": FPS,
        "duration_s": frames / FPS,
        "width": 1280,
        "height": 720,
        "rotation": 0,
        "codec": "h264",
        "frames_expected": frames,
        "frames_decoded": frames,
        "model": "tiny",
        "weights_sha256": weights_sha256,
        "embed_dim": DIM,
        "input_size": 224,
        "logit_scale": 100.0,
        "precision": "bf16",
        "preprocess": "none: made by the benchmark",
        "sampling": "all",
        "decoder": "none",
        "decoder_version": "0",
        "torch_version": "0",
    }
    return EntryAttributes(**(known | changes))


def write_entries(cache: Path, videos: Iterable[tuple[str, str]], weights_sha256: str, frames: int) -> None:
    """One entry for each (name, sha256), of random features of `frames` frames."""
    rng = np.random.default_rng(0)
    times, index = np.arange(frames) * 1000.0 / FPS, np.arange(frames, dtype=np.int64)
    for name, sha256 in videos:
        features = random_features(rng, frames)
        write_entry(cache, attributes(name, sha256, weights_sha256, frames), features, times, index)


def random_features(rng: np.random.Generator, frames: int) -> npt.NDArray[np.float16]:
    """(frames, DIM) float16, of about the length that CLIP's have."""
    return (rng.standard_normal((frames, DIM), np.float32) * np.float32(0.45)).astype(np.float16)
