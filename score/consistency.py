"""Consistency of a video in time: its frames compared with each other, from cached features alone.

Definitions, with c(a, b) the cosine of frames a and b:

- frame consistency: mean over t >= 1 of c(t, t-1), as text-to-video papers report it ("temporal consistency").
- first-frame consistency: mean over t >= 1 of c(t, 0).
- background consistency (VBench): mean over t >= 1 of (max(c(t, t-1), 0) + max(c(t, 0), 0)) / 2 (Huang et al. 2024,
  VBench, vbench/background_consistency.py). VBench takes every frame and ViT-B/32; with another rate or model the
  formula is the same and the number another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..cache import Entry
from ..cache.common.errors import CacheError, UsageError
from ..cache.select import OnSkip
from .compare import FrameSelection, check_finite, check_frames
from .similarity import Floats, unit_rows

SCENE_CHANGE = 0.1
SCENE_FACTOR = 8.0


@dataclass(frozen=True)
class Consistency:
    """The frames of one video compared with each other; for a video of one frame the statistics are None."""

    video: Entry  # the frames that counted
    to_previous: NDArray[np.float32] = field(repr=False)  # (n - 1,), c(t, t-1) for t = 1..n-1, in [-1, 1]
    to_first: NDArray[np.float32] = field(repr=False)  # (n - 1,), c(t, 0), in [-1, 1]

    @property
    def frame(self) -> float | None:
        """Frame consistency, -1 to 1."""
        return _mean(self.to_previous)

    @property
    def first_frame(self) -> float | None:
        """First-frame consistency, -1 to 1."""
        return _mean(self.to_first)

    @property
    def background(self) -> float | None:
        """VBench's background consistency, 0 to 1."""
        return _mean((np.maximum(self.to_previous, 0) + np.maximum(self.to_first, 0)) / 2)


@dataclass(frozen=True)
class Jump:
    """Two consecutive frames with a low cosine: often a cut between shots."""

    at_ms: float  # time of the later frame
    frame_index: int  # of the later frame
    cosine: float  # with the frame before, -1 to 1


@dataclass(frozen=True)
class Run:
    """Consecutive frames with high cosines."""

    start_ms: float  # time of the first frame
    end_ms: float  # time of the last frame
    first_frame: int  # frame_index of the first
    frames: int  # two or more
    min_cosine: float  # lowest of consecutive frames in the run, -1 to 1


def measure(entries: Iterable[Entry], selection: FrameSelection, on_skip: OnSkip) -> Iterator[Consistency]:
    """Measure each entry, a block of features at a time.

    Args:
        entries: of videos or image folders.
        selection: which frames count; consecutive means consecutive among these.
        on_skip: called with each entry that cannot be measured, and the reason.
    """
    for entry in entries:
        try:
            with entry.kept_open():
                video = selection.of(entry)
                to_previous, to_first = consecutive_cosines(video.iter_features())
                check_finite(to_previous, video)
                check_frames(video, np.append(True, to_previous == 0))
                found = Consistency(video, to_previous, to_first)
                video.timestamps_ms  # noqa: B018  read while the file is open
        except (CacheError, UsageError) as error:
            on_skip(entry.path, error)
            continue
        yield found


def consecutive_cosines(blocks: Iterable[Floats]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cosines of each frame but the first with the frame before and with the first.

    Args:
        blocks: consecutive (n, D) blocks of one video's features, of any lengths.

    Returns:
        Two (N - 1,) float32 arrays in [-1, 1].
    """
    first = last = np.zeros((0, 0), np.float32)
    to_previous, to_first = [np.empty(0, np.float32)], [np.empty(0, np.float32)]
    for block in blocks:
        frames = unit_rows(block)
        if not len(first):
            first, before, after = frames[:1], frames[:-1], frames[1:]
        else:
            before, after = np.concatenate([last, frames[:-1]]), frames
        to_previous.append(np.clip(np.einsum("nd,nd->n", before, after), -1, 1))
        to_first.append(np.clip(after @ first[0], -1, 1))
        last = frames[-1:]
    return np.concatenate(to_previous), np.concatenate(to_first)


def jumps(found: Consistency, count: int) -> list[Jump]:
    """The `count` pairs of consecutive frames with the lowest cosines, lowest first; equal ones by time."""
    times, index = found.video.timestamps_ms, found.video.frame_index
    order = np.argsort(found.to_previous, kind="stable")[:count]
    return [Jump(float(times[t + 1]), int(index[t + 1]), float(found.to_previous[t])) for t in order]


def duplicate_runs(found: Consistency, threshold: float) -> list[Run]:
    """Stretches in which every frame has a cosine of at least `threshold` with the one before, in order."""
    alike = np.concatenate([[False], found.to_previous >= threshold, [False]])
    edges = np.flatnonzero(np.diff(alike.astype(np.int8)))
    times, index = found.video.timestamps_ms, found.video.frame_index
    return [
        Run(
            start_ms=float(times[start]),
            end_ms=float(times[end]),
            first_frame=int(index[start]),
            frames=int(end - start + 1),
            min_cosine=float(found.to_previous[start:end].min()),
        )
        for start, end in zip(edges[::2], edges[1::2], strict=True)
    ]


def scene_starts(video: Entry) -> list[int]:
    """Rows at which a scene starts, the first always among them: a simple shot detector, for shading plots.

    A cut is a change, 1 - c(t, t-1), of at least SCENE_CHANGE that is also SCENE_FACTOR times the typical (median) one.
    """
    changes = 1 - consecutive_cosines(video.iter_features())[0]
    if not len(changes):
        return [0]
    least = max(SCENE_CHANGE, SCENE_FACTOR * float(np.median(changes)))
    return [0, *(int(row) + 1 for row in np.flatnonzero(changes >= least))]


def _mean(values: Floats) -> float | None:
    return float(values.mean(dtype=np.float64)) if len(values) else None
