"""References that frames are compared with: prompts, images and given embeddings, each as one vector.

A vector comes from the cache's reference store when the same weights encoded the same prompt or image
before. Only what is missing is encoded, by an encoder that is loaded at most once, and not at all when nothing is
missing: a repeated question loads neither torch nor weights.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ..cache.common.errors import ModelError, UsageError
from ..cache.common.hashing import DigestMemo
from ..cache.common.quoting import printable, quoted
from ..cache.format.names import model_dir_name
from ..cache.numpy_files import read_npy_or_npz
from ..cache.vector_store import ReferenceStore, reference_folder, text_key
from .read_files import StrPath, read_text
from .similarity import Floats

ReferenceKind = Literal["text", "image", "embedding", "video"]


class ReferenceEncoder(Protocol):
    """The text and image towers of one CLIP model; rows come back as the model gives them, not normalised."""

    def encode_texts(self, prompts: Sequence[str], truncate: bool = False) -> NDArray[np.float32]:
        """Encode P prompts to (P, D); a prompt over 77 tokens is a `ModelError` unless `truncate` cuts it."""

    def encode_images(self, paths: Sequence[Path]) -> NDArray[np.float32]:
        """Encode I image files to (I, D); an unreadable one is a `MediaError`."""


LoadEncoder = Callable[[str, str], ReferenceEncoder]  # given a model's name and the sha256 of its weights


@dataclass(frozen=True)
class Reference:
    """A prompt, image or embedding that videos are compared with, as a vector in the model's space."""

    kind: ReferenceKind
    name: str  # the prompt, the file's name, or the embedding's own name; printable
    vector: NDArray[np.float32]  # (D,) float32, finite, not necessarily normalised
    is_null: bool = False  # one of the generic prompts of a calibration, not asked for itself


class ReferenceResolver:
    """Gives the vectors of prompts and images by one model: from the store, or else encoded.

    Args:
        store: where vectors of this model are kept, or None to keep nothing.
        load_encoder: loads the model; called at most once, and only when a vector is missing.
        digest: content hash (sha256, hex) of a file.
        embed_dim: D of the model's vectors, where it is known; a stored vector of another length counts as missing.
    """

    def __init__(
        self,
        store: ReferenceStore | None,
        load_encoder: Callable[[], ReferenceEncoder],
        digest: Callable[[Path], str],
        embed_dim: int | None = None,
    ) -> None:
        self._store = store
        self._load_encoder = load_encoder
        self._digest = digest
        self._embed_dim = embed_dim
        self._encoder: ReferenceEncoder | None = None

    @classmethod
    def of_cache(
        cls,
        cache_dir: StrPath,
        model: str,
        weights_sha256: str,
        load_encoder: LoadEncoder,
        memo: DigestMemo,
        embed_dim: int | None = None,
    ) -> ReferenceResolver:
        """Resolve references of one model; the vectors are kept in the cache where there is one.

        Args:
            cache_dir: folder of the cache; it need not exist.
            model: name of the model.
            weights_sha256: of its weights, 64 hex digits.
            load_encoder: loads the model.
            memo: remembers content hashes.
            embed_dim: D of the model's vectors, where it is known.
        """
        store = None
        if os.path.exists(cache_dir):  # noqa: PTH110 - Path.exists raises for a name that is too long
            store = ReferenceStore(reference_folder(Path(cache_dir)), model_dir_name(model, weights_sha256))
        return cls(store, lambda: load_encoder(model, weights_sha256), memo.sha256, embed_dim)

    def texts(self, prompts: Iterable[str], truncate: bool = False) -> list[Reference]:
        """Resolve prompts, each once and in order.

        Args:
            prompts: any number of prompts.
            truncate: cut prompts that are longer than the model takes, instead of refusing them.

        Raises:
            UsageError: a prompt is empty, or not valid Unicode.
            ModelError: a prompt does not fit the model, or the model cannot be loaded.
        """
        wanted = list(dict.fromkeys(prompts))
        for prompt in wanted:
            if not prompt.strip() or printable(prompt) != prompt:
                raise UsageError(f"The prompt {prompt!r} is empty or not valid text", "give --text some words")
        vectors = self._resolve(
            "text",
            [_text_keys(prompt, truncate) for prompt in wanted],
            lambda encoder, missing: encoder.encode_texts([wanted[i] for i in missing], truncate=truncate),
        )
        return [Reference("text", p, v) for p, v in zip(wanted, vectors, strict=True)]

    def images(self, paths: Iterable[StrPath]) -> list[Reference]:
        """Resolve image files, in order; a moved or renamed image is recognised by its content.

        Raises:
            UsageError: a file does not exist.
            MediaError: an image cannot be decoded.
            ModelError: the model cannot be loaded.
        """
        wanted = [Path(path) for path in paths]
        for path in wanted:
            if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises for a name that is too long
                raise UsageError(f"There is no reference image {quoted(path)}", "check the path")
        vectors = self._resolve(
            "image",
            [[self._digest(path)] for path in wanted],
            lambda encoder, missing: encoder.encode_images([wanted[i] for i in missing]),
        )
        return [Reference("image", printable(p.name), v) for p, v in zip(wanted, vectors, strict=True)]

    def _resolve(
        self,
        kind: Literal["text", "image"],
        keys: Sequence[Sequence[str]],
        encode: Callable[[ReferenceEncoder, list[int]], NDArray[np.float32]],
    ) -> list[NDArray[np.float32]]:
        """Return one vector per item, which may be stored under any of its keys and is stored under the last."""
        vectors = {i: v for i, names in enumerate(keys) if (v := self._recall(kind, names)) is not None}
        missing = [i for i in range(len(keys)) if i not in vectors]
        if missing:
            for i, vector in zip(missing, encode(self._loaded_encoder(), missing), strict=True):
                if not np.isfinite(vector).all():
                    raise ModelError(f"The model gives {kind} {i} a value that is not finite", "check its weights")
                vectors[i] = vector
                if self._store is not None:
                    self._store.put(kind, keys[i][-1], vector)
        return [vectors[i] for i in range(len(keys))]

    def _recall(self, kind: Literal["text", "image"], keys: Sequence[str]) -> NDArray[np.float32] | None:
        """Return the vector stored under the first known key."""
        if self._store is None:
            return None
        return next((v for key in keys if (v := self._store.get(kind, key, self._embed_dim)) is not None), None)

    def _loaded_encoder(self) -> ReferenceEncoder:
        """Load the model on first use."""
        if self._encoder is None:
            self._encoder = self._load_encoder()
        return self._encoder


def read_prompts(path: StrPath) -> list[str]:
    """Read prompts from a UTF-8 text file: one a line; blank lines and lines that start with # are skipped.

    Raises:
        UsageError: the file cannot be read, is not UTF-8, or holds no prompt.
    """
    prompts = [line.strip() for line in read_text(path, "the prompts in ").split("\n")]
    prompts = [prompt for prompt in prompts if prompt and not prompt.startswith("#")]
    if not prompts:
        raise UsageError(f"There are no prompts in {quoted(path)}", "write one a line")
    return prompts


def read_list(path: StrPath | None, bundled: Path, what: str, least: int) -> list[str]:
    """Read a list of prompts, or the bundled one if `path` is None.

    Args:
        path: a file as `read_prompts` reads it.
        bundled: the list that comes with the program.
        what: the list and its items, as words of an error: "baseline needs {} prompts".
        least: how many different ones it must hold.

    Raises:
        UsageError: the file cannot be read, or holds fewer.
    """
    if path is None:
        return read_prompts(bundled)
    prompts = list(dict.fromkeys(read_prompts(path)))
    if len(prompts) < least:
        raise UsageError(f"A {what.format(least)} or more; {quoted(path)} holds {len(prompts)}")
    return prompts


def read_embeddings(path: StrPath, embed_dim: int) -> list[Reference]:
    """Read given embeddings: an .npy of (R, D), or an .npz with `features` (R, D) and optional `names` (R,).

    Without names a row is named by the file and its number, from 0: `F.npy[3]`.

    Raises:
        UsageError: the file does not hold such arrays, D is not `embed_dim`, or a value is not finite.
    """
    path = Path(path)
    features, names = _load_arrays(path)
    if features.ndim != 2 or not len(features) or not np.issubdtype(features.dtype, np.floating):
        raise UsageError(
            f"The embeddings in {quoted(path)} are {features.dtype} {features.shape}", "give floats of shape (R, D)"
        )
    if features.shape[1] != embed_dim:
        raise UsageError(
            f"The embeddings in {quoted(path)} have D = {features.shape[1]} and the cached features {embed_dim}",
            "make them with the model that the cache was made with",
        )
    if not np.isfinite(features).all():
        raise UsageError(f"The embeddings in {quoted(path)} hold values that are not finite", "make them again")
    if not features.any(axis=1).all():
        raise UsageError(
            f"The embeddings in {quoted(path)} hold a row of zeros, which has no direction", "leave it out"
        )
    if names is None:
        names = np.array([f"{path.name}[{row}]" for row in range(len(features))])
    if names.shape != (len(features),):
        raise UsageError(f"{quoted(path)} holds {len(features)} embeddings and {names.size} names", "give each its own")
    vectors = features.astype(np.float32)
    return [Reference("embedding", printable(str(n)), v) for n, v in zip(names, vectors, strict=True)]


def _load_arrays(path: Path) -> tuple[Floats, NDArray[Any] | None]:
    """Return the features and, from an .npz that has them, the names; nothing is unpickled."""
    try:
        found = read_npy_or_npz(path, ("features", "names"))
    except OSError as error:
        raise UsageError(f"Cannot read embeddings from {quoted(path)}: {error.strerror or error}") from error
    except ValueError as error:  # empty, damaged, pickled, encrypted, or declaring more than it holds
        raise UsageError(f"{quoted(path)} is not a valid .npy or .npz file", "save it by numpy") from error
    if not isinstance(found, dict):
        return found, None
    if "features" not in found:
        raise UsageError(f"{quoted(path)} has no array 'features'", "save it under that name")
    return found["features"], found.get("names")


def _text_keys(prompt: str, truncate: bool) -> list[str]:
    """The keys of a prompt's vector in the store.

    A vector that may be of a cut prompt has a key of its own: asked again without `truncate`, the prompt is
    refused as it was the first time, instead of being answered from the store.
    """
    return [text_key(prompt), text_key(f"truncated\0{prompt}")] if truncate else [text_key(prompt)]
