"""Moments: stretches of a video that match a query, by two thresholds (hysteresis): short dips do not divide them.

A moment starts where the cosine reaches `high`, and lasts in both directions while it stays at `low` or above: it is
a run of frames at `low` or above of which at least one is at `high` or above (Canny, 1986, tracks edges so).

CLIP's cosines lie in a narrow band that differs from query to query, so thresholds that are not given are taken from
each query's own scores over everything searched: `high` three quarters of the way from the median to the best, `low`
two thirds of the way from the median to `high`. They do not depend on how much of the cache matches, as long as it is
less than half, and there is always a best frame, good or not: the thresholds are printed so that it can be judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...cache.common.errors import UsageError
from .frames import Best, Hit, Limits
from .scan import VideoScores

HIGH_SHARE = 3 / 4
LOW_SHARE = 2 / 3
_BINS = 4000  # over [-1, 1]: a median known to 0.0005
_DEFAULT_FRAME_MS = 40.0


@dataclass(frozen=True)
class Thresholds:
    """The two thresholds of moments; cosines in [-1, 1]."""

    high: float  # a moment holds a frame with at least this cosine
    low: float  # all its frames have at least this one; <= high

    def __post_init__(self) -> None:
        if not self.low <= self.high:  # or one is NaN
            raise UsageError(f"The low threshold {self.low:g} is above the high one, {self.high:g}", "lower --low")


class Spread:
    """Median and best of each query's cosines over a scan, in bounded memory."""

    def __init__(self, queries: int) -> None:
        self._counts = np.zeros((queries, _BINS), np.int64)
        self._best = np.full(queries, -1.0)

    def add(self, scores: VideoScores) -> None:
        """Add the frames of one video."""
        for query, cosines in enumerate(scores.cosines, scores.first_query):
            self._counts[query] += np.histogram(cosines, _BINS, (-1.0, 1.0))[0]
            self._best[query] = max(self._best[query], float(cosines.max()))

    def thresholds(self, high: float | None, low: float | None) -> list[Thresholds]:
        """Return the thresholds of each query, with those that are given.

        Raises:
            UsageError: a given one does not fit the other.
        """
        found = zip(map(_median, self._counts), self._best, strict=True)
        return [_thresholds(median, float(best), high, low) for median, best in found]


def _median(counts: NDArray[np.int64]) -> float:
    """Return the middle of the bin in which the median of a histogram over [-1, 1] lies."""
    reached = np.searchsorted(counts.cumsum(), counts.sum() / 2)
    return float((reached + 0.5) * (2 / len(counts)) - 1)


def _thresholds(median: float, best: float, high: float | None, low: float | None) -> Thresholds:
    """Fill in the thresholds of one query that are not given."""
    typical = min(median, best)  # the median is that of a bin's middle, which may lie above the only value
    chosen_high = typical + HIGH_SHARE * (best - typical) if high is None else high
    if low is not None:
        return Thresholds(chosen_high, low)
    return Thresholds(chosen_high, min(chosen_high, typical + LOW_SHARE * (chosen_high - typical)))


class MomentFinder:
    """Collects the best moments of each query from a scan; images have no time and are left out.

    Moments of one video that are less than the minimal gap apart are one.
    """

    def __init__(self, thresholds: Sequence[Thresholds], limits: Limits) -> None:
        self._thresholds = thresholds
        self._limits = limits
        self._best: list[Best[Hit]] = [Best(limits.top) for _ in thresholds]

    def add(self, scores: VideoScores) -> None:
        """Add the frames of one video."""
        if not scores.source.has_clock:
            return
        ends = shown_until(scores.video.timestamps_ms, scores.source.fps)
        for query, cosines in enumerate(scores.cosines, scores.first_query):
            best = self._best[query]
            if not best.takes(float(cosines.max())):
                continue
            moments = self._moments_of(scores, cosines, query, ends)
            moments.sort(key=lambda moment: -moment.cosine)
            for moment in moments[: self._limits.of_one_video]:
                best.offer(moment.cosine, moment)

    def _moments_of(
        self, scores: VideoScores, cosines: NDArray[np.float32], query: int, ends: NDArray[np.float64]
    ) -> list[Hit]:
        """Return the moments of one video and query in the order of time."""
        times, index = scores.video.timestamps_ms, scores.video.frame_index
        moments = []
        for first, end in find_runs(cosines, times, ends, self._thresholds[query], self._limits.min_gap_s):
            peak = first + int(cosines[first:end].argmax())
            moments.append(
                Hit(
                    query=query,
                    source=scores.source,
                    at_ms=float(times[peak]),
                    frame_index=int(index[peak]),
                    frame_name=None,
                    cosine=float(cosines[peak]),
                    span_ms=(float(times[first]), float(ends[end - 1])),
                )
            )
        return moments

    def ranked(self) -> list[list[Hit]]:
        """Return the moments of each query, that of the highest cosine first."""
        return [best.ranked() for best in self._best]


def find_runs(
    cosines: NDArray[np.float32],
    timestamps_ms: NDArray[np.float64],
    ends_ms: NDArray[np.float64],
    thresholds: Thresholds,
    min_gap_s: float = 0.0,
) -> list[tuple[int, int]]:
    """Find the moments of one video.

    Args:
        cosines: (N,) in [-1, 1].
        timestamps_ms: (N,) the start of each frame, milliseconds, non-decreasing.
        ends_ms: (N,) the end of each frame, as `shown_until` gives it.
        thresholds: of the query.
        min_gap_s: runs that are less than this many seconds apart are joined.

    Returns:
        Rows [first, end) of each moment, in order.
    """
    is_in = np.concatenate([[False], cosines >= thresholds.low, [False]])
    edges = np.flatnonzero(is_in[1:] != is_in[:-1])
    firsts, ends = edges[::2], edges[1::2]
    if not len(firsts):
        return []
    # Every second stretch that `reduceat` sums up is a run; the rest lies between runs.
    is_high = np.maximum.reduceat(np.append(cosines, -np.inf), edges)[::2] >= thresholds.high
    runs: list[tuple[int, int]] = []
    for first, end in zip(firsts[is_high].tolist(), ends[is_high].tolist(), strict=True):
        if runs and timestamps_ms[first] - ends_ms[runs[-1][1] - 1] < min_gap_s * 1000:
            runs[-1] = runs[-1][0], end
        else:
            runs.append((first, end))
    return runs


def shown_until(timestamps_ms: NDArray[np.float64], fps: float) -> NDArray[np.float64]:
    """Return until when each frame is shown: until the next one; the last for the median duration.

    Args:
        timestamps_ms: (N,) milliseconds, non-decreasing.
        fps: of the video, for one that has a single frame; 0.0 where unknown.

    Returns:
        (N,) milliseconds.
    """
    steps = np.diff(timestamps_ms)
    last = float(np.median(steps)) if len(steps) else 1000.0 / fps if fps else _DEFAULT_FRAME_MS
    return np.append(timestamps_ms[1:], timestamps_ms[-1] + last)
