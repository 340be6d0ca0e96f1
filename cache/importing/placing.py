"""The times and the positions of rows, and which frames of their video they are: as said, as found, as compared."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..common.errors import ContentError, UsageError
from ..common.quoting import quoted
from ..format.sampling import Sampling
from ..format.schema import timeline_problem
from .formats import Found
from .frames_of_video import (
    ANOTHER,
    Clock,
    VideoFrames,
    check_count,
    check_positions,
    check_range,
    check_span,
    infer_sampling,
    on_clock,
    positions,
)
from .provenance import Provenance

_COUNT_TOLERANCE = 0.02  # of the rows: other programs count to the end of a video otherwise


@dataclass(frozen=True)
class Timing:
    """The times of the rows, for files that do not hold them.

    Attributes:
        rate: rows a second, > 0; None: only features with timestamps are accepted.
        sampling: the frames of the video that the rows are; None: every frame, or those of `rate`.
    """

    rate: float | None = None
    sampling: Sampling | None = None

    def __post_init__(self) -> None:
        if self.rate is not None and not (math.isfinite(self.rate) and self.rate > 0):
            raise UsageError(f"The rate of the features must be above 0 a second, not {self.rate}")


@dataclass(frozen=True)
class Placed:
    """Where the rows of some features lie in their video.

    Attributes:
        timestamps_ms: (N,) times in milliseconds, not checked for order.
        frame_index: (N,) positions, not checked for order.
        sampling: the frames that they are.
        complete: whether they are all of these frames.
        rate: rows a second; 0.0 if they have one time.
        source: how the sampling is known: "" if the user said it.
        times_are_the_videos: whether the times were taken from the video.
    """

    timestamps_ms: npt.NDArray[np.float64]
    frame_index: npt.NDArray[np.int64]
    sampling: Sampling
    complete: bool
    rate: float
    source: str
    times_are_the_videos: bool = False


def place(found: Found, count: int, timing: Timing, known: Provenance | None, frames: VideoFrames | None) -> Placed:
    """Place the rows of some features.

    Args:
        found: the features.
        count: N, how many rows they have.
        timing: what the user says.
        known: what an export says; None if it is not from one.
        frames: of the video; None if it is not there.

    Raises:
        ContentError: if times or positions are missing or of another count, do not fit the video, or do not tell which
            frames the rows are.
    """
    times = None if found.timestamps_ms is None else _column(found, "timestamps_ms", found.timestamps_ms, count)
    index = None if found.frame_index is None else _column(found, "frame_index", found.frame_index, count)
    own = _Own(
        None if times is None else times.astype("<f8"),
        None if index is None else index.astype("<i8"),
    )
    if own.times is not None and (problem := timeline_problem(own.times, np.arange(count))):
        raise ContentError(f"{quoted(found.path)} cannot be imported: for {found.name!r}, {problem}", "correct it")
    if known is not None:
        return _as_exported(found, own, count, timing, known, Clock.of(frames))
    if frames is not None:
        check_count(found, frames, count)
    if own.times is None:
        return _at_rate(found, own, count, timing, Clock.of(frames))
    return _at_own_times(found, own, own.times, timing, Clock.of(frames))


@dataclass(frozen=True)
class _Own:
    """What a file itself says of its rows: (N,) milliseconds and (N,) positions, each of the right count or None."""

    times: npt.NDArray[np.float64] | None
    index: npt.NDArray[np.int64] | None


def _as_exported(found: Found, own: _Own, count: int, timing: Timing, known: Provenance, clock: Clock | None) -> Placed:
    """As an export says: only what its format cannot hold is taken from the video, or computed."""
    sampling = _exported_sampling(found, timing, known)
    whole = known.attributes.complete and not known.is_cut
    rows = clock.rows_of(sampling) if clock is not None and whole else np.empty(0, np.int64)
    times, index = own.times, own.index
    from_video = times is None and clock is not None and len(rows) == count
    if from_video and clock is not None:
        index = rows if index is None else index
        times = _times_at(found, clock, index, rows, 1 / (known.rows_per_second or math.inf))
    elif times is None:
        times = _grid(found, count, timing.rate or known.rows_per_second)
    if index is None and sampling.is_all and whole:
        index = np.arange(count)
    elif index is None and clock is not None:
        index = positions(found, clock, times)
    index = np.arange(count) * (sampling.every or 1) if index is None else index
    source = "" if timing.sampling else "as the export says"
    return Placed(times, index, sampling, whole, _rate_of(times), source, from_video)


def _exported_sampling(found: Found, timing: Timing, known: Provenance) -> Sampling:
    """The sampling of an export; the user must confirm one that describes it only nearly.

    Raises:
        ContentError: if the user says another, or must say one.
    """
    said, held = timing.sampling, known.sampling
    what = f"{quoted(found.path)} holds for {found.name!r}"
    if said is not None and held is not None and said != held:
        raise ContentError(
            f"{what} the frames of {held}, as its export says, and --sampling says {said}", "leave it out"
        )
    if said is not None:
        return said
    if held is None:
        raise ContentError(
            f"{what} one frame in {known.recipe['interval_s']} s, which no sampling says exactly",
            "say the nearest, such as --sampling fps=0.667",
        )
    if known.is_cut:
        raise ContentError(
            f"{what} a part of the video only",
            f"export it without --start and --end, or say --sampling {held} to import it as an incomplete entry",
        )
    return held


def _at_rate(found: Found, own: _Own, count: int, timing: Timing, clock: Clock | None) -> Placed:
    """Rows without times: the frames of a sampling where the video is there, else a grid of the rate given."""
    grid = _grid(found, count, timing.rate)
    rate = timing.rate or 0.0
    sampling = timing.sampling or Sampling(fps=rate)
    if clock is None:
        index = np.arange(count) * (sampling.every or 1) if own.index is None else own.index
        return Placed(grid, index, sampling, True, rate, "")
    rows = clock.rows_of(sampling, None if timing.sampling else rate)
    if not _is_about(count, len(rows)):
        raise ContentError(
            f"{quoted(found.path)} holds {count} rows for {found.name!r}, where {sampling} gives {len(rows)} of its "
            f"{len(clock.times_ms)} frames",
            "give the right --fps, " + ANOTHER,
        )
    if len(rows) == count:
        index = rows if own.index is None else own.index
        times = _times_at(found, clock, index, rows, 1 / (rate or math.inf))
        return Placed(times, index, sampling, True, rate, "", times_are_the_videos=True)
    times = clock.times_ms[0] + grid
    index = positions(found, clock, times) if own.index is None else own.index
    check_positions(found, clock, index, times, 1 / (rate or math.inf))
    return Placed(times, index, sampling, _is_complete(count, rows, sampling), rate, "")


def _at_own_times(
    found: Found, own: _Own, times: npt.NDArray[np.float64], timing: Timing, clock: Clock | None
) -> Placed:
    """Rows with times: the frames nearest to them where the video is there; which frames they are is inferred."""
    count = len(times)
    index = own.index
    if clock is not None:
        row_s = (times[-1] - times[0]) / 1000 / (count - 1) if count > 1 else 1 / (timing.rate or found.fps or math.inf)
        check_span(found, clock, times, row_s)
        times = on_clock(times, clock, row_s, 0 if index is None else int(index[0]))
        index = positions(found, clock, times) if index is None else index
    rows = np.arange(count) if index is None else index
    sampling = timing.sampling or infer_sampling(rows, times, clock)
    if sampling is None:
        raise ContentError(
            f"{quoted(found.path)} holds some frames of {found.name!r} only",
            "say which: --sampling fps=RATE or every=N, or all where the others could not be decoded",
        )
    if clock is not None and own.index is not None and not _are_those_of(own.index, clock.rows_of(sampling)):
        check_positions(found, clock, own.index, times, row_s)
    complete = clock is None or _is_complete(count, clock.rows_of(sampling), sampling)
    if index is None:
        index = rows * (sampling.every or 1)
    source = "" if timing.sampling else "by their times" if clock is None else "compared with the video"
    return Placed(times, index, sampling, complete, timing.rate or _rate_of(times), source)


def _times_at(
    found: Found, clock: Clock, index: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], row_s: float
) -> npt.NDArray[np.float64]:
    """The video's times at the positions `index` of rows, which must be about those of the frames `rows`."""
    check_range(found, len(clock.times_ms))
    check_positions(found, clock, index, clock.times_ms[rows], row_s)
    times: npt.NDArray[np.float64] = clock.times_ms[index]
    return times


def _are_those_of(index: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]) -> bool:
    """Whether positions are those of the frames of a sampling; programs differ at the end of a video."""
    both = min(len(index), len(rows))
    return _is_about(len(index), len(rows)) and np.array_equal(index[:both], rows[:both])


def _is_about(count: int, expected: int) -> bool:
    return abs(expected - count) <= max(1, _COUNT_TOLERANCE * expected)


def _is_complete(count: int, rows: npt.NDArray[np.int64], sampling: Sampling) -> bool:
    """Whether so many rows are all frames of a sampling; at the end other programs may take one more or less."""
    return count >= len(rows) - (not sampling.is_all)


def _grid(found: Found, count: int, rate: float | None) -> npt.NDArray[np.float64]:
    """(N,) milliseconds from 0 on; images, whose rate is 0.0, have no times."""
    if rate is None:
        raise ContentError(
            f"{quoted(found.path)} does not hold times of the features of {found.name!r}", "give --fps or --interval"
        )
    return np.arange(count, dtype="<f8") * (1000.0 / rate if rate else 0.0)


def _column(found: Found, name: str, values: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    if values.shape != (count,) or values.dtype.kind not in "fiu":
        raise ContentError(
            f"{quoted(found.path)} holds for {found.name!r} {name} of shape {values.shape} and type {values.dtype} "
            f"where ({count},) numbers belong",
            "correct it",
        )
    if name == "frame_index" and not _are_whole(values):
        raise ContentError(
            f"{quoted(found.path)} holds for {found.name!r} a frame_index that is not a whole number", "correct it"
        )
    return values


def _are_whole(values: npt.NDArray[Any]) -> bool:
    """Whether all values are whole numbers that fit int64; NaN and infinity are not."""
    return bool((np.abs(values) < 2.0**62).all() and (np.trunc(values) == values).all())


def _rate_of(timestamps_ms: npt.NDArray[np.float64]) -> float:
    """Rows a second on average; 0.0 if all have one time."""
    span_s = (timestamps_ms[-1] - timestamps_ms[0]) / 1000
    return float((len(timestamps_ms) - 1) / span_s) if span_s > 0 else 0.0
