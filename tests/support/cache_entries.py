"""Entries for tests: attributes and arrays that fit together, made without a video."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from clipcache.cache.format.schema import EntryAttributes
from clipcache.cache.format.write import write_entry

FRAMES = 50
DIM = 8
MODEL_DIR = "ViT-B-32-cdcdcdcd"


def sha256_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def make_attributes(**changes: Any) -> EntryAttributes:
    values: dict[str, Any] = {
        "schema_version": 1,
        "clipcache_version": "0.1.0",
        "created": "2026-01-02T03:04:05Z",
        "complete": True,
        "source_kind": "video",
        "video_name": "holiday.mp4",
        "video_sha256": sha256_of("holiday"),
        "video_bytes": 1234,
        "fps": 25.0,
        "duration_s": 2.0,
        "width": 320,
        "height": 240,
        "rotation": 0,
        "codec": "h264",
        "frames_expected": FRAMES,
        "frames_decoded": FRAMES,
        "model": "ViT-B/32",
        "weights_sha256": "cd" * 32,
        "embed_dim": DIM,
        "input_size": 224,
        "logit_scale": 100.0,
        "precision": "fp32",
        "preprocess": "clip",
        "sampling": "all",
        "decoder": "decord",
        "decoder_version": "3.0",
        "torch_version": "2.9",
    }
    return EntryAttributes(**(values | changes))


def make_features(frames: int = FRAMES, dim: int = DIM, seed: int = 0) -> npt.NDArray[np.float16]:
    return np.random.default_rng(seed).normal(size=(frames, dim)).astype(np.float16)


def put_entry(cache_dir: Path, frames: int = FRAMES, seed: int = 0, **changes: Any) -> Path:
    """Write an entry of `frames` frames at 25 frames a second; `changes` are attributes."""
    changes = {"frames_expected": frames, "frames_decoded": frames} | changes
    timestamps = np.arange(frames) * 40.0
    return write_entry(
        cache_dir, make_attributes(**changes), make_features(frames, seed=seed), timestamps, np.arange(frames)
    )
