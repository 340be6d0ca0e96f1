"""Entries as a pandas table. Apart from `dataset`, which cannot be imported without torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from .common.errors import UsageError
from .entry import Entry

if TYPE_CHECKING:
    from pandas import DataFrame


def frame_table(entries: Iterable[Entry]) -> DataFrame:
    """One row a frame; see `FeatureCache.to_dataframe`."""
    try:
        import pandas as pd
    except ImportError as error:
        raise UsageError("to_dataframe needs pandas", "install it with: pip install 'clipcache[parquet]'") from error
    parts = []
    for entry in entries:
        with entry.kept_open():
            columns: dict[str, Any] = {
                "video_name": np.repeat(entry.video_name, len(entry)),
                "video_sha256": np.repeat(entry.video_sha256, len(entry)),
                "frame_index": entry.frame_index,
                "timestamp_ms": entry.timestamps_ms,
            }
            parts.append(pd.DataFrame(columns | entry.quality))
    return pd.concat(parts, ignore_index=True)
