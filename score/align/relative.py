"""Two encoders with unrelated spaces, compared through the similarities that both give to the same words.

CLIP's picture features and CLAP's sound features have the same length, and nothing else in common: a rotation of one
space leaves every score within it as it is and moves the cosine between the two anywhere. So that cosine is never
taken. Instead each window of a video is described by its cosines with K anchors, words for things seen and heard, in
its own space ("a photo of {}" with CLIP, "This is a sound of {}" with CLAP), and the two descriptions are compared
(relative representations: Moschella et al. 2022).

- s_v[t, k]: mean over the frames in window t of cos(frame, CLIP anchor k); s_a[t, k] = cos(sound t, CLAP anchor k).
- z = (s - mean_k) / (std_k + EPSILON), with mean and standard deviation of each anchor over a bank of windows, one for
  pictures and one for sound: an anchor that fits everything, or nothing, does not count.
- r = z minus its mean over the anchors.
- align_t = cos(r_v[t], r_a[t]), -1 to 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..similarity import unit_rows

EPSILON = 1e-6
Scores = NDArray[np.float32]  # (windows, K), cosines in [-1, 1]; NaN in windows without a frame, or silent


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation of each anchor over the windows of a bank."""

    mean: NDArray[np.float64]  # (K,)
    std: NDArray[np.float64]  # (K,), of the population


class RunningMoments:
    """Mean and standard deviation over windows, added a video at a time, so that memory does not grow with the bank."""

    def __init__(self) -> None:
        self._count = 0
        self._sum: NDArray[np.float64] = np.zeros(1)
        self._squares: NDArray[np.float64] = np.zeros(1)

    def add(self, scores: Scores) -> None:
        """Add the (windows, K) scores of one video; windows without a frame or with silence do not count."""
        held = scores[np.isfinite(scores).all(axis=1)].astype(np.float64)
        self._count += len(held)
        self._sum = self._sum + held.sum(axis=0)
        self._squares = self._squares + (held**2).sum(axis=0)

    def result(self) -> Moments:
        """Over all windows taken, at least one."""
        mean = self._sum / self._count
        return Moments(mean, np.sqrt(np.maximum(self._squares / self._count - mean**2, 0)))


def window_means(
    blocks: Iterable[NDArray[np.float32]],
    times_ms: NDArray[np.float64],
    starts_ms: NDArray[np.float64],
    durations_ms: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Mean of the rows whose times lie in each window, start inclusive, end exclusive.

    Args:
        blocks: consecutive (n, C) blocks with a row for each frame, of any lengths; at least one.
        times_ms: (N,) non-decreasing times of the frames.
        starts_ms: (M,) starts of the windows, increasing.
        durations_ms: (M,) lengths.

    Returns:
        (M, C) float32; NaN where a window holds no frame.
    """
    first = np.searchsorted(times_ms, starts_ms, side="left")
    last = np.searchsorted(times_ms, starts_ms + durations_ms, side="left")
    total: NDArray[np.float64] = np.zeros((len(starts_ms), 1))
    offset = 0
    for block in blocks:
        total = total + np.zeros((1, block.shape[1]))
        for window in np.flatnonzero((first < offset + len(block)) & (last > offset)):
            rows = block[max(first[window] - offset, 0) : last[window] - offset]
            total[window] += rows.sum(axis=0, dtype=np.float64)
        offset += len(block)
    with np.errstate(invalid="ignore"):
        means: NDArray[np.float32] = (total / (last - first)[:, None]).astype(np.float32)
    return means


def representations(scores: Scores, moments: Moments) -> NDArray[np.float32]:
    """(windows, K) rows of length one: how each window differs from the bank, anchor by anchor; NaN stays NaN."""
    z = (scores.astype(np.float64) - moments.mean) / (moments.std + EPSILON)
    return unit_rows(z - z.mean(axis=1, keepdims=True))


def pair_scores(pictures: list[NDArray[np.float32]], sounds: list[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Align score of every picture with every sound: mean over the windows that both have of cos(r_v[t], r_a[t]).

    Args:
        pictures: V arrays (windows, K) as `representations` gives them.
        sounds: V arrays, those of silent windows NaN.

    Returns:
        (V, V) float64 in [-1, 1]: row of the picture, column of the sound; NaN where no window has both.
    """
    count = len(pictures)
    total, windows = np.zeros((count, count)), np.zeros((count, count))
    for t in range(max((len(one) for one in [*pictures, *sounds]), default=0)):
        seen, seen_rows = _at(pictures, t)
        heard, heard_rows = _at(sounds, t)
        if len(seen) and len(heard):
            total[np.ix_(seen, heard)] += seen_rows @ heard_rows.T
            windows[np.ix_(seen, heard)] += 1
    with np.errstate(invalid="ignore"):
        return np.clip(total / windows, -1, 1)


def _at(videos: list[NDArray[np.float32]], window: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The videos that have a row in a window, and these rows."""
    numbers = [i for i, rows in enumerate(videos) if window < len(rows) and np.isfinite(rows[window]).all()]
    rows = np.stack([videos[i][window] for i in numbers]) if numbers else np.zeros((0, 1), np.float32)
    return np.array(numbers, np.int64), rows


@dataclass(frozen=True)
class Retrieval:
    """How far the scores of matched pairs exceed those of mismatched ones over a set."""

    matched: float  # mean score of pictures with their own sound, -1 to 1
    mismatched: float  # mean score of pictures with other sounds, -1 to 1
    auc: float  # chance that a matched pair scores above a mismatched one, 0 to 1; 0.5 is chance
    recall: dict[int, float]  # k -> share of pictures whose own sound is among the k best, 0 to 1


def retrieval(scores: NDArray[np.float64], ks: tuple[int, ...] = (1, 5, 10)) -> Retrieval | None:
    """Evaluate (V, V) scores, own sounds on the diagonal; None where there are fewer than two pairs."""
    held = np.flatnonzero(np.isfinite(np.diag(scores)))
    square = scores[np.ix_(held, held)]
    others = ~np.eye(len(held), dtype=bool) & np.isfinite(square)
    own = np.diag(square)
    if len(held) < 2 or not others.any():
        return None
    rank = [int((row[np.isfinite(row)] > value).sum()) for row, value in zip(square, own, strict=True)]
    return Retrieval(
        matched=float(own.mean()),
        mismatched=float(square[others].mean()),
        auc=area_under_curve(own, square[others]),
        recall={k: float(np.mean([place < k for place in rank])) for k in ks},
    )


def area_under_curve(above: NDArray[np.float64], below: NDArray[np.float64]) -> float:
    """Share of pairs in which a value of `above` exceeds one of `below`, equal ones counted half (Mann-Whitney)."""
    ordered = np.sort(below)
    lower, upper = np.searchsorted(ordered, above, "left"), np.searchsorted(ordered, above, "right")
    return float((lower + upper).sum() / (2 * len(above) * len(below)))
