"""Scores as columns beside exported features: cosines of an entry's frames with prompts."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..cache import DigestMemo, Entry
from .compare import check_finite, check_frames
from .read_files import StrPath
from .references import LoadEncoder, ReferenceResolver
from .similarity import compare_blocks


def score_columns(
    entry: Entry, texts: tuple[str, ...], cache_dir: StrPath, load_encoder: LoadEncoder
) -> dict[str, NDArray[np.float32]]:
    """Cosine of every frame with each prompt, by prompt.

    Args:
        entry: N frames, perhaps a slice.
        texts: prompts.
        cache_dir: where their vectors are remembered.
        load_encoder: loads the model of the prompts, at most once for all entries of one model; pass the same function.

    Returns:
        (N,) float32 cosines, -1 to 1, for each prompt.

    Raises:
        UsageError: a prompt is empty.
        EntryError: a feature is not finite, or is all zero.
        ModelError: a prompt does not fit the model, or the model cannot be loaded.
    """
    vectors = _vectors(entry.model, entry.weights_sha256, entry.embed_dim, texts, Path(cache_dir), load_encoder)
    cosines = compare_blocks(entry.iter_features(), np.stack(list(vectors.values()))).per_frame
    check_finite(cosines, entry)
    check_frames(entry, (cosines == 0).all(axis=1))
    return {text: cosines[:, column] for column, text in enumerate(vectors)}


@lru_cache(maxsize=4)
def _vectors(
    model: str,
    weights_sha256: str,
    embed_dim: int,
    texts: tuple[str, ...],
    cache_dir: Path,
    load_encoder: LoadEncoder,
) -> dict[str, NDArray[np.float32]]:
    resolver = ReferenceResolver.of_cache(cache_dir, model, weights_sha256, load_encoder, DigestMemo(), embed_dim)
    return {one.name: one.vector for one in resolver.texts(texts)}
