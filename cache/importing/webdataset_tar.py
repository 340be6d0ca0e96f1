"""Features in the tar shards of iejMac/clip-video-encode: `<key>.npy`, with `<key>.json` of what is known."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..common.errors import ContentError
from ..common.quoting import quoted
from .formats import Found, rate

_MAX_JSON_BYTES = 1 << 28


def read_shard(path: Path) -> Iterator[Found]:
    """Every sample of one shard that has features. Members are read, never extracted, so their names do no harm.

    Raises:
        ContentError: if the shard, or what is in it, is damaged.
    """
    try:
        with tarfile.open(path, "r:") as shard:
            members = {member.name: member for member in shard if member.isreg() and not member.issparse()}
            for name, member in members.items():
                if name.endswith(".npy"):
                    key = name.removesuffix(".npy")
                    yield _found(key, path, _content(shard, member), _metadata(shard, members.get(f"{key}.json")))
    except (OSError, ValueError, EOFError, MemoryError, RecursionError, tarfile.TarError) as error:
        raise ContentError(
            f"{quoted(path)} is damaged or not a shard of features ({error})", "copy it again"
        ) from error


def _found(key: str, path: Path, content: bytes, known: dict[str, Any]) -> Found:
    features: npt.NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
    return Found(
        key,
        path,
        features,
        _array(known.get("timestamps_ms")),
        _array(known.get("frame_index")),
        rate(_array(known.get("fps"))),
    )


def _content(shard: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = shard.extractfile(member)
    return b"" if file is None else file.read()


def _metadata(shard: tarfile.TarFile, member: tarfile.TarInfo | None) -> dict[str, Any]:
    if member is None or member.size > _MAX_JSON_BYTES:
        return {}
    known = json.loads(_content(shard, member))
    return known if isinstance(known, dict) else {}


def _array(value: object) -> npt.NDArray[Any] | None:
    return None if value is None else np.asarray(value)
