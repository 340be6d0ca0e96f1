"""Features in a file of `torch.save`: a dict of tensors, as `clipcache export --format torch` writes, or one tensor.

Only tensors, numbers and texts are unpickled (`weights_only`), and only from archives that are not compressed: such a
file cannot run code, nor hold more than its size.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..common.errors import ContentError
from ..common.exported import METADATA
from ..common.quoting import first_line, quoted
from .formats import Found, json_object, rate, texts

_COLUMNS = ("features", "timestamps_ms", "frame_index", "fps")
# What torch raises on files that are not its own, hold other things than tensors, or are damaged.
_BAD_FILE = (OSError, RuntimeError, ValueError, EOFError, KeyError, TypeError, AttributeError, MemoryError)


def read_torch(path: Path) -> Iterator[Found]:
    """The tensor `features`, with `timestamps_ms`, `frame_index`, `fps` and `metadata` if they are there.

    Raises:
        ContentError: if the file is damaged, holds objects that are not tensors, or has no such tensor.
    """
    try:
        _check_archive(path)
        held = _loaded(path)
        limit = path.stat().st_size
        arrays = {name: _array(held[name], limit) for name in _COLUMNS if name in held}
        names = texts(held.get("frame_names"))
    except (*_BAD_FILE, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise ContentError(
            f"{quoted(path)} is damaged or not a file of tensors ({first_line(error)})", "leave it out"
        ) from error
    if "features" not in arrays:
        raise ContentError(f"{quoted(path)} has no tensor named features; only such files are imported")
    yield Found(
        path.stem,
        path,
        arrays["features"],
        arrays.get("timestamps_ms"),
        arrays.get("frame_index"),
        rate(arrays.get("fps")),
        names,
        json_object(held.get(METADATA)),
    )


def _check_archive(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if any(one.compress_type != zipfile.ZIP_STORED for one in members):
        raise ValueError("it is a compressed archive, which torch does not write")


def _loaded(path: Path) -> dict[str, Any]:
    import torch

    held = torch.load(path, map_location="cpu", weights_only=True)
    held = {"features": held} if isinstance(held, torch.Tensor) else held
    if not isinstance(held, dict):
        raise TypeError("it is not a dict")
    return held


def _array(value: Any, limit: int) -> npt.NDArray[Any]:
    """A tensor or a number as an array; a tensor may repeat what it holds, and is not spread out beyond `limit`."""
    if isinstance(value, (int, float)):
        return np.asarray(value)
    if value.numel() * value.element_size() > limit:
        raise ValueError("it declares more values than it holds")
    array: npt.NDArray[Any] = value.detach().numpy()
    return array
