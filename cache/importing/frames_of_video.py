"""The rows of features against the frames of their video: do they fit, and which frames are they of?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..common.errors import ContentError
from ..common.quoting import quoted
from ..format.sampling import MAX_FPS, TICK_TOLERANCE_US, Sampling
from .formats import Found

_LEAST_COVER = 0.9
_SLACK = 1.01  # clocks of other programs: 30 for 29.97 frames a second
_NEARLY = 0.02
_VIDEO_RATE = 10  # frames a second: fewer are hardly those of a video
_ALL_BUT_LOST = 0.95  # of the frames: the rest may be lost at the end, or by another decoder
ANOTHER = "name the right video by --videos, or import the rows without looking at it: --unchecked"


class VideoFrames(Protocol):
    """What demuxing tells of a video."""

    @property
    def times_ms(self) -> npt.NDArray[np.float64] | None:
        """(N,) strictly increasing presentation times of its frames in milliseconds; None if only decoding tells."""

    @property
    def frames_expected(self) -> int:
        """Frames that a player shows."""

    @property
    def fps(self) -> float:
        """Average frames a second; 0.0 if the file does not tell."""

    @property
    def codec(self) -> str:
        """Name of the codec."""

    @property
    def width(self) -> int:
        """Columns as coded, before rotation."""

    @property
    def height(self) -> int:
        """Rows as coded, before rotation."""

    @property
    def rotation(self) -> int:
        """Degrees by which frames are turned for display."""

    @property
    def timeline(self) -> str:
        """Where the times come from."""


ReadFrames = Callable[[Path], VideoFrames]
"""Demuxes a video; raises `MediaError` if that cannot be done."""


@dataclass(frozen=True)
class Clock:
    """The times of all frames of a video.

    Attributes:
        times_ms: (M,) strictly increasing, milliseconds; M >= 1.
        fps: average frames a second, > 0.
    """

    times_ms: npt.NDArray[np.float64]
    fps: float

    @classmethod
    def of(cls, frames: VideoFrames | None) -> Clock | None:
        """The clock of a video; None if its frames or their times are not known."""
        if frames is None or frames.times_ms is None or not len(frames.times_ms):
            return None
        times = frames.times_ms
        span_s = (times[-1] - times[0]) / 1000
        return cls(times, frames.fps or (float((len(times) - 1) / span_s) if span_s > 0 else 1.0))

    @property
    def length_s(self) -> float:
        """From the first frame to the end of the last."""
        return float(self.times_ms[-1] - self.times_ms[0]) / 1000 + 1 / self.fps

    def rows_of(self, sampling: Sampling, rate: float | None = None) -> npt.NDArray[np.int64]:
        """(K,) positions of the frames of a sampling; of `rate` a second where thousandths cannot express it."""
        if rate is None or sampling.fps is None or sampling.fps == rate:
            return sampling.indices(self.times_ms)
        micros = np.rint(self.times_ms * 1000)
        ticks = (micros - micros[0] + TICK_TOLERANCE_US) * rate // 1e6
        return np.unique(ticks, return_index=True)[1].astype(np.int64)

    def nearest(self, times_ms: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """(N,) the frame that is nearest to each time."""
        between = (self.times_ms[1:] + self.times_ms[:-1]) / 2
        return np.searchsorted(between, times_ms).astype(np.int64)


def check_count(found: Found, frames: VideoFrames, count: int) -> None:
    """Refuse more rows than the video has frames, and positions that it does not have.

    Raises:
        ContentError: naming both numbers.
    """
    total = frames.frames_expected
    limit = total if frames.times_ms is None else min(total, len(frames.times_ms))
    if count > total:
        raise ContentError(
            f"{quoted(found.path)} holds {count} rows for {found.name!r}, which has {total} frames", ANOTHER
        )
    check_range(found, limit)


def check_range(found: Found, limit: int) -> None:
    """Refuse positions that a video of `limit` frames does not have.

    Raises:
        ContentError: naming the first or the last.
    """
    index = found.frame_index
    if index is None or not index.size or index.dtype.kind not in "fiu":
        return
    for position in (index.min(), index.max()):
        if not 0 <= position < limit:
            raise ContentError(
                f"{quoted(found.path)} holds for {found.name!r} a frame {position}, and the video has {limit}", ANOTHER
            )


def check_positions(
    found: Found, clock: Clock, index: npt.NDArray[np.int64], times_ms: npt.NDArray[np.float64], row_s: float
) -> None:
    """Refuse rows that the file puts to other frames than those of their times.

    Args:
        found: the rows.
        clock: of the video.
        index: (N,) positions in the video that the file says, 0 <= index < M.
        times_ms: (N,) times of the rows on that clock, as they are known without the positions.
        row_s: seconds from one row to the next.

    Raises:
        ContentError: naming the position and both times of the first such row.
    """
    own = clock.times_ms[index]
    apart = np.flatnonzero(np.abs(own - times_ms) > 1000 * max(row_s, 1 / clock.fps))
    if len(apart):
        row = apart[0]
        raise ContentError(
            f"{quoted(found.path)} says for {found.name!r} that row {row} is frame {index[row]}, which is shown at "
            f"{own[row] / 1000:.2f} s, where its time is {times_ms[row] / 1000:.2f} s",
            "correct frame_index, give the right --fps or --sampling, " + ANOTHER,
        )


def check_span(found: Found, clock: Clock, times_ms: npt.NDArray[np.float64], row_s: float) -> None:
    """Refuse rows that last longer than the video, or cover only a part of it.

    Args:
        found: the rows.
        clock: of the video.
        times_ms: (N,) non-decreasing times of the rows in milliseconds, on any clock.
        row_s: seconds from one row to the next.

    Raises:
        ContentError: naming both lengths.
    """
    first_to_last = float(times_ms[-1] - times_ms[0]) / 1000
    covered = first_to_last + row_s
    if first_to_last > clock.length_s * _SLACK + row_s or covered < clock.length_s * _LEAST_COVER - row_s:
        raise ContentError(
            f"{quoted(found.path)} holds for {found.name!r} rows that cover {covered:.2f} s, and the video lasts "
            f"{clock.length_s:.2f} s",
            "give the right --fps, " + ANOTHER,
        )


def on_clock(times_ms: npt.NDArray[np.float64], clock: Clock, row_s: float, first: int = 0) -> npt.NDArray[np.float64]:
    """The times of rows on the container's clock: moved there if they begin before its frames, or end after them.

    The first row is then at the time of the video's frame `first`.
    """
    begins_before = times_ms[0] < clock.times_ms[0] - 500 / clock.fps
    ends_after = times_ms[-1] > clock.times_ms[-1] + 1000 * max(row_s, 1 / clock.fps)
    return times_ms + (clock.times_ms[first] - times_ms[0]) if begins_before or ends_after else times_ms


def positions(found: Found, clock: Clock, times_ms: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """(N,) the frames that rows are of, by their times.

    Raises:
        ContentError: if two rows are of one frame.
    """
    if len(times_ms) == len(clock.times_ms):
        return np.arange(len(times_ms), dtype=np.int64)
    nearest = clock.nearest(times_ms)
    if (np.diff(nearest) <= 0).any():
        raise ContentError(
            f"{quoted(found.path)} holds for {found.name!r} rows closer to each other than frames", ANOTHER
        )
    return nearest


def infer_sampling(
    rows: npt.NDArray[np.int64], times_ms: npt.NDArray[np.float64], clock: Clock | None
) -> Sampling | None:
    """The sampling that rows at some positions and times are, as far as that can be told.

    Args:
        rows: (N,) positions in the video.
        times_ms: (N,) their times in milliseconds.
        clock: of the video; None if it is not known. Rows that follow each other are then all frames, unless they are
            fewer than 10 a second and evenly apart.

    Returns:
        The sampling; None if no sampling gives these rows.
    """
    span_s = float(times_ms[-1] - times_ms[0]) / 1000
    rate = (len(rows) - 1) / span_s if span_s > 0 else 0.0
    follow = bool((np.diff(rows) == 1).all())
    if clock is None:
        is_slow = 0 < rate < _VIDEO_RATE and _is_even(times_ms, _plain(rate))
        if follow:
            return Sampling(fps=_plain(rate)) if is_slow else Sampling()
    elif len(rows) >= len(clock.times_ms) * _ALL_BUT_LOST:
        return Sampling()
    whole, exact = _plain(rate), round(rate, 3)
    if _is_whole(whole) and (_is_even(times_ms, whole) or _gives(Sampling(fps=whole), rows, clock)):
        return Sampling(fps=whole)
    if len(rows) > 1 and _gives(Sampling(every=int(rows[1] - rows[0])), rows, clock):
        return Sampling(every=int(rows[1] - rows[0]))
    return Sampling(fps=exact) if _is_even(times_ms, exact) else None


def _gives(sampling: Sampling, rows: npt.NDArray[np.int64], clock: Clock | None) -> bool:
    """Whether a sampling gives these positions; the last may be missing: programs differ at the end of a video."""
    if clock is None:
        return sampling.every is not None and np.array_equal(rows, np.arange(len(rows)) * sampling.every)
    given = clock.rows_of(sampling)
    return len(given) - len(rows) in (0, 1) and np.array_equal(rows, given[: len(rows)])


def _plain(rate: float) -> float:
    """A whole number of rows a second, or of seconds a row, where the rate is nearly one; else to a thousandth."""
    for plain in (float(round(rate)), 1 / round(1 / rate) if 0 < rate < 1 else 0.0):
        if plain > 0 and abs(rate / plain - 1) < _NEARLY:
            return plain
    return round(rate, 3)


def _is_whole(rate: float) -> bool:
    return 0.001 <= rate <= MAX_FPS and (rate.is_integer() or (1 / rate).is_integer())


def _is_even(times_ms: npt.NDArray[np.float64], rate: float) -> bool:
    """Whether there is one row in each tick of a rate, give or take half a tick."""
    if not 0.001 <= rate <= MAX_FPS:
        return False
    ticks = (times_ms - times_ms[0]) / 1000 * rate
    return bool((np.abs(ticks - np.arange(len(ticks))) <= 0.5).all())
