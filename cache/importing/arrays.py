"""Features in NumPy's files: the triples of v-iashin/video_features, and the .npz of HERO, moment_detr and UniVTG.

Nothing is unpickled: a pickle can execute any code.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy.typing as npt

from .. import numpy_files
from ..common.errors import ContentError
from ..common.quoting import quoted
from .formats import Found, rate

TRIPLE_SUFFIX = "_clip.npy"
_NPZ_KEY = "features"


def read_triple(path: Path) -> Iterator[Found]:
    """The features at `<stem>_clip.npy`, with `<stem>_timestamps_ms.npy` and `<stem>_fps.npy` if they are there.

    Raises:
        ContentError: if one of the three is not a NumPy array.
    """
    stem = path.name.removesuffix(TRIPLE_SUFFIX)
    timestamps, fps = (path.with_name(f"{stem}_{what}.npy") for what in ("timestamps_ms", "fps"))
    yield Found(
        stem,
        path,
        _load(path),
        _load(timestamps) if timestamps.is_file() else None,
        fps=rate(_load(fps)) if fps.is_file() else None,
    )


def read_npz(path: Path) -> Iterator[Found]:
    """The array `features`, with `timestamps_ms`, `frame_index` and `fps` if they are there.

    Raises:
        ContentError: if the file is damaged or has no such array.
    """
    try:
        held = numpy_files.read_npz(path, (_NPZ_KEY, "timestamps_ms", "frame_index", "fps"))
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    if _NPZ_KEY not in held:
        raise ContentError(f"{quoted(path)} has no array named {_NPZ_KEY}; only such .npz files are imported")
    yield Found(
        path.stem,
        path,
        held[_NPZ_KEY],
        held.get("timestamps_ms"),
        held.get("frame_index"),
        rate(held.get("fps")),
    )


def _load(path: Path) -> npt.NDArray[Any]:
    try:
        return numpy_files.read_npy(path)
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ContentError:
    return ContentError(f"{quoted(path)} is damaged or not a NumPy file ({error})", "copy it again")
