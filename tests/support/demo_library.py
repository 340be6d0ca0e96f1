"""The demo library and its cache: what tests of meaning ask about."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from clipcache.cache import Entry, FeatureCache
from clipcache.demo.library import Interval


@dataclass(frozen=True)
class DemoLibrary:
    """Synthetic videos, what they show when, and their features by the bundled demo model."""

    folder: Path
    cache_dir: Path
    truth: tuple[Interval, ...]

    @property
    def captions(self) -> list[str]:
        """Everything that is shown somewhere, each once."""
        return list(dict.fromkeys(interval.caption for interval in self.truth))

    def entry(self, video: str) -> Entry:
        return FeatureCache(self.cache_dir).get(self.folder / video)

    def rows(self, interval: Interval) -> np.ndarray:
        """Rows of the entry's frames that show the interval."""
        seconds = self.entry(interval.video).timestamps_ms / 1000.0
        return np.flatnonzero((seconds >= interval.start_s - 1e-6) & (seconds < interval.end_s - 1e-6))
