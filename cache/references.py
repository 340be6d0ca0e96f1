"""Embeddings of prompts and reference images, kept beside the entries so that a repeated question loads no model."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from .errors import CacheError
from .files import write_atomically

Kind = Literal["text", "image"]
Vector = npt.NDArray[np.float32]
_MAX_BYTES = 1 << 20


def text_key(prompt: str) -> str:
    """Key of a prompt: sha256 of its UTF-8 bytes, 64 hex digits."""
    return hashlib.sha256(prompt.encode("utf-8", "surrogateescape")).hexdigest()


class ReferenceStore:
    """Small files `<cache>/<model dir>/references/<ab>/<kind>-<key>.npy`, one vector each.

    It only saves time: what is missing or damaged is a miss, and what cannot be written is not kept.
    """

    def __init__(self, cache_dir: Path, model_dir: str) -> None:
        """Keep the references of the model whose folder in `cache_dir` is `model_dir`."""
        self._root = cache_dir / model_dir / "references"

    def get(self, kind: Kind, key_sha256: str) -> Vector | None:
        """The vector (D,) float32, not normalised, or None if it is not there or damaged."""
        path = self._path(kind, key_sha256)
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_BYTES)
        except OSError:
            return None
        return _decoded(data)

    def get_many(self, kind: Kind, keys_sha256: Sequence[str]) -> list[Vector | None]:
        """What `get` gives for each key, in order."""
        return [self.get(kind, key) for key in keys_sha256]

    def put(self, kind: Kind, key_sha256: str, vector: Vector) -> bool:
        """Keep `vector` (D,) float32; gives whether it was written (not, for example, on a read-only disk)."""
        data = io.BytesIO()
        np.save(data, np.ascontiguousarray(vector, dtype="<f4"), allow_pickle=False)
        with contextlib.suppress(CacheError):
            # Not waited for: a file that a power cut leaves damaged is a miss.
            write_atomically(self._path(kind, key_sha256), data.getvalue(), durable=False)
            return True
        return False

    def _path(self, kind: Kind, key_sha256: str) -> Path:
        if len(key_sha256) != 64 or not set(key_sha256) <= set("0123456789abcdef"):
            raise CacheError(f"{key_sha256!r} is not a sha256 (64 lower-case hex digits).")
        return self._root / key_sha256[:2] / f"{kind}-{key_sha256}.npy"


def _decoded(data: bytes) -> Vector | None:
    try:
        vector = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, OSError, EOFError):
        return None
    is_vector = isinstance(vector, np.ndarray) and vector.dtype == np.dtype("<f4") and vector.ndim == 1
    return vector if is_vector and vector.size and np.isfinite(vector).all() else None
