"""Caches to score: entries with features whose cosines are known, and an encoder that knows a few words."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from clipcache.cache import EntryAttributes, write_entry
from clipcache.cache.common.errors import ModelError

WEIGHTS = "4" * 64
X, Y, Z = np.eye(3, 4, dtype=np.float32)
# Three frames; their cosines with X are 1, 0 and 0.6, with Y 0, 1 and 0.8, with Z 0.
FRAMES = np.array([2 * X, 3 * Y, 3 * X + 4 * Y])
VECTORS = {"x axis": 5 * X, "y axis": 7 * Y, "z axis": Z}


def make_video(folder: Path, name: str, content: bytes | None = None) -> Path:
    """A file whose content is its own, by default; never decoded."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(content if content is not None else b"video " + name.encode())
    return path


def put(cache: Path, video: Path, features: np.ndarray = FRAMES, **changes: Any) -> Path:
    """Write the entry of a file, ten frames a second, with attributes changed at will; gives the entry's path.

    `frame_names` make it one of images, `frame_index` says where its frames lie in the video, `step_ms` how far apart.
    """
    frame_names = changes.pop("frame_names", None)
    step_ms = changes.pop("step_ms", 0.0 if frame_names else 100.0)
    index = np.array(changes.pop("frame_index", range(len(features))), np.int64)
    known: dict[str, Any] = {
        "schema_version": 2,
        "clipcache_version": "0.1.0",
        "created": "2024-01-01T00:00:00+00:00",
        "complete": True,
        "source_kind": "image-folder" if frame_names else "video",
        "video_name": video.name,
        "video_sha256": "" if "video_sha256" in changes else hashlib.sha256(video.read_bytes()).hexdigest(),
        "video_bytes": 1,
        "fps": 10.0,
        "duration_s": len(features) / 10,
        "width": 320,
        "height": 240,
        "rotation": 0,
        "codec": "h264",
        "frames_expected": len(features),
        "frames_decoded": len(features),
        "model": "ViT-B/32",
        "weights_sha256": WEIGHTS,
        "embed_dim": features.shape[1],
        "input_size": 224,
        "logit_scale": 100.0,
        "precision": "fp32",
        "preprocess": "clip",
        "sampling": "all",
        "decoder": "pyav",
        "decoder_version": "18.0",
        "torch_version": "2.9",
    }
    attributes = EntryAttributes(**(known | changes))
    timestamps_ms = index.astype(np.float64) * step_ms
    return write_entry(cache, attributes, features.astype(np.float16), timestamps_ms, index, frame_names)


class FakeEncoder:
    """Knows the prompts of `VECTORS`; an image is the vector that its content names. Notes what it is asked."""

    def __init__(self) -> None:
        self.loaded: list[tuple[str, str, Path | None, str]] = []  # model, weights_sha256, weights, device
        self.texts: list[str] = []
        self.images: list[str] = []

    def encode_texts(self, prompts: Sequence[str], truncate: bool = False) -> np.ndarray:
        for prompt in prompts:
            if len(prompt.split()) > 77 and not truncate:
                raise ModelError(f"The prompt {prompt!r} is too long.")
        self.texts += prompts
        return np.array([VECTORS.get(prompt, Z) for prompt in prompts], np.float32)

    def encode_images(self, paths: Sequence[Path]) -> np.ndarray:
        self.images += [path.name for path in paths]
        return np.array([VECTORS[path.read_text()] for path in paths], np.float32)
