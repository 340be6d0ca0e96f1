"""The file of the tiny CLIP: written by the training, read wherever the model is offered.

A compressed npz with OpenAI's names. Matrices are float16, as OpenAI stores them; rows of the token embedding that the
training never used are zero, and compress away.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...cache.common.atomic import replacing

if TYPE_CHECKING:
    import torch

CONTEXT_LENGTH = 77
VOCAB_SIZE = 49408
_DROPPED = 4


def load_state(path: Path) -> dict[str, torch.Tensor]:
    """Read a state dict that `clip.model.build_model` accepts."""
    import torch

    with np.load(path, allow_pickle=False) as archive:
        return {name: torch.from_numpy(archive[name]) for name in archive.files}


def full_state(compact: dict[str, Any], token_ids: list[int]) -> dict[str, np.ndarray]:
    """Give a model that was trained on few tokens and short captions OpenAI's vocabulary and context.

    Args:
        compact: state dict in which row 0 of the token embedding is the unknown word (not trained, zero) and row n + 1
            belongs to `token_ids[n]`.
        token_ids: ids of OpenAI's tokenizer.

    Returns:
        Arrays by OpenAI's names; what has two or more dimensions is float16.
    """
    arrays = {name: tensor.detach().float().cpu().numpy() for name, tensor in compact.items()}
    rows = arrays["token_embedding.weight"]
    table = np.zeros((VOCAB_SIZE, rows.shape[1]), np.float32)
    table[token_ids] = rows[1:]
    arrays["token_embedding.weight"] = table
    short = arrays["positional_embedding"]
    positions = np.repeat(short[-1:], CONTEXT_LENGTH, axis=0)
    positions[: len(short)] = short
    arrays["positional_embedding"] = positions
    return {name: _rounded(array) if array.ndim > 1 else array for name, array in arrays.items()}


def _rounded(array: np.ndarray) -> np.ndarray:
    """float16 with 6 of its 10 bits after the point, which compresses to three quarters; the features hardly change."""
    bits = array.astype(np.float16).view(np.uint16).astype(np.uint32)
    rounded = (bits + (1 << _DROPPED >> 1)) >> _DROPPED << _DROPPED
    return rounded.astype(np.uint16).view(np.float16)


def save_state(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write the file in one move, so that a reader never sees half of it."""
    with replacing(path) as temporary, temporary.open("wb") as target:
        np.savez_compressed(target, **arrays)  # type: ignore[arg-type]  # numpy's stub has no keywords of arrays
