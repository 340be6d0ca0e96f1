"""Features in the tar shards of iejMac/clip-video-encode: `<key>.npy`, with `<key>.json` of what is known.

Ours have `<key>.rows.json` besides: what is known of each row.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..common.errors import ContentError
from ..common.quoting import quoted
from ..numpy_files import read_array
from .formats import Found, described

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
                    known = _json(shard, members.get(f"{key}.json")) | _json(shard, members.get(f"{key}.rows.json"))
                    content = _content(shard, member)
                    yield described(key, path, read_array(io.BytesIO(content), len(content)), known)
    except (OSError, ValueError, EOFError, MemoryError, RecursionError, tarfile.TarError) as error:
        raise ContentError(
            f"{quoted(path)} is damaged or not a shard of features ({error})", "copy it again"
        ) from error


def _content(shard: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = shard.extractfile(member)
    return b"" if file is None else file.read()


def _json(shard: tarfile.TarFile, member: tarfile.TarInfo | None) -> dict[str, Any]:
    if member is None or member.size > _MAX_JSON_BYTES:
        return {}
    known = json.loads(_content(shard, member))
    return known if isinstance(known, dict) else {}
