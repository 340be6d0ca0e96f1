"""Entries for tests: attributes and arrays that fit together, made without a video."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from clipcache.cache import Entry
from clipcache.cache.format.schema import EntryAttributes, write_attributes
from clipcache.cache.format.write import write_entry

FRAMES = 50
DIM = 8
MODEL_DIR = "ViT-B-32-cdcdcdcd"


def sha256_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def make_attributes(**changes: Any) -> EntryAttributes:
    values: dict[str, Any] = {
        "schema_version": 2,
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
    features = make_features(frames, changes.get("embed_dim", DIM), seed)
    return write_entry(cache_dir, make_attributes(**changes), features, timestamps, np.arange(frames))


def change_attributes(path: Path, **changes: Any) -> None:
    """Change attributes of an entry and their checksum with them, as only somebody does who means to deceive."""
    attributes = dataclasses.replace(Entry(path).attributes, **changes)
    with h5py.File(path, "r+") as file:
        write_attributes(file, attributes)


V1_TEXTS = (
    *("clipcache_version", "created", "source_kind", "video_name", "video_sha256", "codec", "model", "weights_sha256"),
    *("precision", "preprocess", "sampling", "decoder", "decoder_version", "torch_version"),
)
V1_NUMBERS = (
    *("schema_version", "complete", "video_bytes", "fps", "duration_s", "width", "height", "rotation"),
    *("frames_expected", "frames_decoded", "embed_dim", "input_size", "logit_scale"),
)


def put_v1_entry(cache_dir: Path, frames: int = FRAMES, seed: int = 0, **changes: Any) -> Path:
    """Write an entry as versions before schema 2 did: texts of fixed length, no checksum, no later attributes."""
    path = put_entry(cache_dir, frames, seed, **changes)
    values = dataclasses.asdict(Entry(path).attributes) | {"schema_version": 1}
    features = Entry(path).features
    path.unlink()
    with h5py.File(path, "w") as file:
        for name in V1_TEXTS:
            text = values[name].encode()
            file.attrs.create(name, text, dtype=h5py.string_dtype("utf-8", max(1, len(text))))
        for name in V1_NUMBERS:
            file.attrs[name] = values[name]
        file.create_dataset("features", data=features, chunks=(min(1024, frames), features.shape[1]), fletcher32=True)
        file.create_dataset("timestamps_ms", data=np.arange(frames) * 40.0, chunks=(frames,), fletcher32=True)
        file.create_dataset("frame_index", data=np.arange(frames), chunks=(frames,), fletcher32=True)
    return path
