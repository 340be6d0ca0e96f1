"""Embeddings of prompts and reference images, kept beside the entries so that a repeated question loads no model."""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from .common.atomic import write_atomically
from .common.errors import CacheError
from .common.paths import StrPath, is_file
from .common.reading import read_bounded
from .format.names import checked_sha256
from .numpy_files import read_array

Kind = Literal["text", "image"]
Vector = npt.NDArray[np.float32]
Seal = Callable[[bytes], bytes]
_MAX_BYTES = 1 << 20
_SEAL_BYTES = 32
_FILE_NAME = re.compile(r"(?P<kind>[a-z]+)-(?P<key>[0-9a-f]{64})\.npy")


def is_vector_name(name: str) -> bool:
    """Whether a store gives such a name to a file."""
    return _FILE_NAME.fullmatch(name) is not None


def text_key(prompt: str) -> str:
    """Key of a prompt: sha256 of its UTF-8 bytes, 64 hex digits."""
    return hashlib.sha256(prompt.encode("utf-8", "surrogateescape")).hexdigest()


def reference_folder(cache: StrPath) -> Path:
    """Folder of a cache's references: the cache itself; of a packed file `F.h5`, `F.h5.references` beside it."""
    path = Path(cache)
    return path.with_name(f"{path.name}.references") if is_file(path) else path


class ReferenceStore:
    """Small files `<cache>/<model dir>/references/<ab>/<kind>-<key>.npy`, one vector each.

    Behind the array, where NumPy does not look, lies a sha256 over it, its kind, its key and its model, so that neither
    a flipped bit nor the vector of another prompt is ever taken for what was asked.

    It only saves time: a file that is missing or damaged counts as absent, and one that cannot be written is not kept.
    """

    def __init__(self, cache_dir: StrPath, model_dir: str) -> None:
        """Keep the references of the model whose folder in `cache_dir` is `model_dir`."""
        self._model_dir = model_dir
        self._root = Path(cache_dir, model_dir, "references")

    def get(self, kind: Kind, key_sha256: str, embed_dim: int | None = None) -> Vector | None:
        """The vector (D,) float32, not normalised, or None if it is not there, damaged, or D is not `embed_dim`."""
        path = self._path(kind, key_sha256)
        try:
            data = read_bounded(path, _MAX_BYTES)
        except OSError:
            return None
        vector = _decoded(data, self._seal(kind, key_sha256))
        return vector if vector is not None and embed_dim in (None, len(vector)) else None

    def get_many(self, kind: Kind, keys_sha256: Sequence[str], embed_dim: int | None = None) -> list[Vector | None]:
        """What `get` gives for each key, in order."""
        return [self.get(kind, key, embed_dim) for key in keys_sha256]

    def put(self, kind: Kind, key_sha256: str, vector: Vector) -> bool:
        """Keep `vector` (D,) float32; returns whether it was written, which fails on a read-only disk, for example."""
        data = io.BytesIO()
        np.save(data, np.ascontiguousarray(vector, dtype="<f4"), allow_pickle=False)
        with contextlib.suppress(CacheError):
            # No fsync: a file that a power cut leaves damaged counts as absent.
            sealed = data.getvalue() + self._seal(kind, key_sha256)(data.getvalue())
            write_atomically(self._path(kind, key_sha256), sealed, durable=False)
            return True
        return False

    def problems(self) -> Iterator[tuple[Path, str | None]]:
        """Every file of the store, and what is wrong with it as words that follow its name; None if nothing."""
        for path in sorted(self._root.glob("*/*.npy")):
            match = _FILE_NAME.fullmatch(path.name)
            try:
                status = path.stat()
                is_vector = stat.S_ISREG(status.st_mode) and status.st_size <= _MAX_BYTES
                data = read_bounded(path, _MAX_BYTES) if is_vector else b""
            except OSError:
                continue  # not readable now, or gone
            is_good = match and _decoded(data, self._seal(match["kind"], match["key"])) is not None
            yield path, None if is_good else "is not the embedding that its name says"

    def _seal(self, kind: str, key_sha256: str) -> Seal:
        def seal(array: bytes) -> bytes:
            return hashlib.sha256(f"{self._model_dir}/{kind}/{key_sha256}".encode() + b"\0" + array).digest()

        return seal

    def _path(self, kind: Kind, key_sha256: str) -> Path:
        return self._root / checked_sha256(key_sha256)[:2] / f"{kind}-{key_sha256}.npy"


def _decoded(data: bytes, seal: Seal) -> Vector | None:
    array, sealed = data[:-_SEAL_BYTES], data[-_SEAL_BYTES:]
    if seal(array) != sealed:
        return None
    try:
        vector = read_array(io.BytesIO(array), len(array))
    except (ValueError, OSError):
        return None
    is_vector = vector.dtype == np.dtype("<f4") and vector.ndim == 1
    return vector if is_vector and vector.any() and np.isfinite(vector).all() else None
