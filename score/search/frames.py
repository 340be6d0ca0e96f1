"""The best frames of each query, with a least distance in time between those of one video; the result is exact.

The result is the same as sorting all frames by score and taking them greedily, except each frame that is too near
a better one of its video (temporal non-maximum suppression). Frames suppress only within their own video, so each
video's greedy choice can be made alone, and the best of all videos are merged in a heap of bounded size.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...cache.common.errors import UsageError
from .scan import Source, VideoScores

T = TypeVar("T")
_LONGEST_GAP_S = 1e9


@dataclass(frozen=True)
class Hit:
    """A found frame, or a found moment by its best frame."""

    query: int  # number of the query, counted from 0
    source: Source
    at_ms: float  # of the frame, milliseconds on the container's clock; 0.0 for images
    frame_index: int  # position in presentation order
    frame_name: str | None  # file name of an image of a folder
    cosine: float  # with the query, in [-1, 1]
    span_ms: tuple[float, float] | None = None  # start and end (exclusive) of a moment; None for a frame


@dataclass(frozen=True)
class Limits:
    """How many results a search gives."""

    top: int = 10  # of each query, >= 1
    per_video: int | None = None  # of each query and video, >= 1
    min_gap_s: float = 1.0  # between two of one video, >= 0
    threshold: float | None = None  # least cosine, in [-1, 1]

    def __post_init__(self) -> None:
        if not (0 <= self.min_gap_s < _LONGEST_GAP_S):
            raise UsageError(f"--min-gap takes seconds, 0 or more, not {self.min_gap_s}")
        if self.threshold is not None and math.isnan(self.threshold):
            raise UsageError("--threshold takes a cosine, from -1 to 1, not nan")

    @property
    def of_one_video(self) -> int:
        """How many results of one query a single video can have."""
        return self.top if self.per_video is None else min(self.top, self.per_video)


class Best(Generic[T]):
    """Keeps the `size` items of highest score; of equal ones, those that came first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._heap: list[tuple[float, int, T]] = []
        self._offered = 0

    def takes(self, score: float) -> bool:
        """Whether an item of this score would be kept."""
        return len(self._heap) < self._size or score > self._heap[0][0]

    def offer(self, score: float, item: T) -> None:
        """Keep `item` if it is among the best so far."""
        self._offered += 1  # it also keeps two items from ever being compared
        push = heapq.heappush if len(self._heap) < self._size else heapq.heappushpop
        push(self._heap, (score, -self._offered, item))

    def ranked(self) -> list[T]:
        """Return what was kept, best first."""
        return [item for _, _, item in sorted(self._heap, key=lambda kept: kept[:2], reverse=True)]


class FrameFinder:
    """Collects the best frames of each query from a scan."""

    def __init__(self, queries: int, limits: Limits) -> None:
        self._limits = limits
        self._best: list[Best[Hit]] = [Best(limits.top) for _ in range(queries)]

    def add(self, scores: VideoScores) -> None:
        """Add the frames of one video."""
        video, source = scores.video, scores.source
        times, index = video.timestamps_ms, video.frame_index
        names = None if source.has_clock else video.frame_names
        limits = self._limits
        gap_s = limits.min_gap_s if source.has_clock else 0.0
        for query, cosines in enumerate(scores.cosines, scores.first_query):
            best = self._best[query]
            if not best.takes(float(cosines.max())):
                continue
            for row in pick_peaks(cosines, times, limits.of_one_video, gap_s, limits.threshold):
                name = names[row] if names is not None else None
                cosine = float(cosines[row])
                best.offer(cosine, Hit(query, source, float(times[row]), int(index[row]), name, cosine))

    def ranked(self) -> list[list[Hit]]:
        """Return the hits of each query, best first."""
        return [best.ranked() for best in self._best]


def pick_peaks(
    cosines: NDArray[np.float32],
    timestamps_ms: NDArray[np.float64],
    limit: int,
    min_gap_s: float = 0.0,
    threshold: float | None = None,
) -> list[int]:
    """Choose the best frames of one video greedily, each at least a gap away from every better one chosen.

    Args:
        cosines: (N,) in [-1, 1].
        timestamps_ms: (N,) milliseconds, non-decreasing.
        limit: how many frames at most, >= 1.
        min_gap_s: seconds between two chosen frames, >= 0, compared to the microsecond.
        threshold: least cosine; None: any.

    Returns:
        Rows, best first; of equal frames the earlier comes first.
    """
    if min_gap_s <= 0:
        order = np.argsort(-cosines, kind="stable")[:limit]
        return [int(row) for row in order if threshold is None or cosines[row] >= threshold]
    micros = np.rint(timestamps_ms * 1000).astype(np.int64)
    gap = round(min_gap_s * 1e6)
    left = cosines.copy()
    chosen: list[int] = []
    while len(chosen) < limit:
        row = int(left.argmax())
        if left[row] < (-1 if threshold is None else threshold):  # all that is left was suppressed, or is too low
            break
        chosen.append(row)
        first = np.searchsorted(micros, micros[row] - gap, side="right")
        end = np.searchsorted(micros, micros[row] + gap, side="left")
        left[first:end] = -np.inf
    return chosen
