"""What exports write down and imports read: where the metadata of features are, and the lines of a manifest."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

METADATA = "metadata"
"""The name under which a file holds what is known of one video: JSON."""
VIDEOS_METADATA = "clipcache_videos"
"""The key of a Parquet file's own metadata under which it holds that of each video by its name: JSON."""
MANIFEST = "manifest.jsonl"

Record = dict[str, Any]


def parse_record(line: str) -> Record | None:
    """The record on a line of a manifest; None if it is cut short, foreign, or leads out of the folder."""
    with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
        record = json.loads(line)
        files = record["files"]
        if isinstance(record["video"], str) and files and all(_is_description(one) for one in files):
            return dict(record)
    return None


def _is_description(one: Mapping[str, Any]) -> bool:
    path = Path(one["name"])
    described = isinstance(one["bytes"], int) and isinstance(one["sha256"], str)
    return described and not path.is_absolute() and ".." not in path.parts
