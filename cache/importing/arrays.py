"""Features in NumPy's files: the triples of v-iashin/video_features, the .npz of HERO and UniVTG, single arrays.

Nothing is unpickled: a pickle can execute any code.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy.typing as npt

from .. import numpy_files
from ..common.errors import ContentError
from ..common.exported import METADATA
from ..common.paths import is_file
from ..common.quoting import quoted
from ..common.reading import read_bounded
from .formats import Found, described, json_object, rate, texts

TRIPLE_SUFFIX = "_clip.npy"
_MAX_JSON_BYTES = 1 << 28
_NPZ_KEY = "features"
_KEYS = (_NPZ_KEY, "timestamps_ms", "frame_index", "fps", "frame_names", METADATA)


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
        _load(timestamps) if is_file(timestamps) else None,
        fps=rate(_load(fps)) if is_file(fps) else None,
    )


def read_npz(path: Path) -> Iterator[Found]:
    """The array `features`, with `timestamps_ms`, `frame_index` and `fps` if they are there.

    Raises:
        ContentError: if the file is damaged or has no such array.
    """
    try:
        held = numpy_files.read_npz(path, _KEYS)
        names = texts(held.get("frame_names"))
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
        names,
        json_object(held.get(METADATA)),
    )


def read_single(path: Path) -> Iterator[Found]:
    """The array of one file, as clip-video-encode writes it, with what a JSON file of the same name says.

    Raises:
        ContentError: if the file is not a NumPy array.
    """
    known: dict[str, Any] = {}
    with contextlib.suppress(OSError):
        beside = read_bounded(path.with_suffix(".json"), _MAX_JSON_BYTES)
        known = json_object(beside.decode(errors="replace")) or {}
    yield described(path.stem, path, _load(path), known)


def _load(path: Path) -> npt.NDArray[Any]:
    try:
        return numpy_files.read_npy(path)
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ContentError:
    return ContentError(f"{quoted(path)} is damaged or not a NumPy file ({error})", "copy it again")
