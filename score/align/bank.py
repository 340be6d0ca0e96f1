"""The bank of windows that scores are standardised over: made from cached videos, saved, loaded."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...cache.common.atomic import write_atomically
from ...cache.common.errors import UsageError
from ...cache.common.quoting import quoted
from ...cache.numpy_files import read_npz
from ..read_files import StrPath
from .relative import Moments

MIN_ITEMS = 16
FEW_ITEMS = 32
_ARRAYS = ("picture_mean", "picture_std", "sound_mean", "sound_std")


@dataclass(frozen=True)
class Bank:
    """Mean and standard deviation of each anchor for pictures and for sound, and what they were computed from."""

    pictures: Moments
    sounds: Moments
    items: int  # videos that it was made of
    made_with: str  # sha256 over vocabulary and both models' weights: a bank is valid for these alone


def made_with(words: Sequence[str], picture_weights: str, sound_weights: str) -> str:
    """The sha256 of what a bank depends on: words and weights."""
    return hashlib.sha256("\0".join([*words, picture_weights, sound_weights]).encode()).hexdigest()


def save_bank(bank: Bank, path: StrPath) -> None:
    """Write a bank as .npz; nothing but a bank is replaced.

    Raises:
        UsageError: something else has its name.
        CacheError: the file cannot be written.
    """
    if os.path.isfile(path) and not _is_bank(path):  # noqa: PTH113 - Path.is_file raises for a name that is too long
        raise UsageError(f"{quoted(path)} exists and is not a bank", "choose another name")
    data = io.BytesIO()
    moments = (bank.pictures.mean, bank.pictures.std, bank.sounds.mean, bank.sounds.std)
    arrays: dict[str, Any] = dict(zip(_ARRAYS, moments, strict=True))
    np.savez(data, items=bank.items, made_with=bank.made_with, **arrays)
    write_atomically(Path(path), data.getvalue())


def _is_bank(path: StrPath) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return {f"{name}.npy" for name in _ARRAYS} <= set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def load_bank(path: StrPath, expected: str, anchors: int) -> Bank:
    """Read a bank that was made with the same words and weights.

    Args:
        path: an .npz of `save_bank`.
        expected: as `made_with` gives it.
        anchors: K.

    Raises:
        UsageError: it cannot be read, is not a bank, or was made with other words or weights.
    """
    try:
        archive = read_npz(path, (*_ARRAYS, "made_with", "items"))
        found = str(archive["made_with"])
        arrays = [archive[name].astype(np.float64) for name in _ARRAYS]
        items = int(archive["items"])
    except OSError as error:
        raise UsageError(f"Cannot read the bank {quoted(path)}: {error.strerror or error}") from error
    except (KeyError, ValueError, TypeError) as error:
        raise UsageError(f"{quoted(path)} is not a bank", "make one with --save-bank") from error
    if found != expected:
        raise UsageError(f"The bank {quoted(path)} was made with other words or weights", "make one with --save-bank")
    if any(array.shape != (anchors,) or not np.isfinite(array).all() for array in arrays):
        raise UsageError(f"The bank {quoted(path)} is damaged", "make it again with --save-bank")
    return Bank(Moments(*arrays[:2]), Moments(*arrays[2:]), items, found)
