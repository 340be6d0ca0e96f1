"""Which frames of a video: sampling as index arithmetic on timestamps."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..common.errors import UsageError

# Matroska and others round timestamps to the millisecond, so a frame meant for a tick may sit just under it; the
# difference of two such timestamps is off by less than this. In microseconds.
TICK_TOLERANCE_US = 1000
MAX_FPS = 1000.0
MIN_WINDOW_S = 0.1
MAX_WINDOW_S = 86_400.0
_NUMBER = r"\d+(?:\.\d+)?"
_TEXT = re.compile(rf"(?P<unit>fps|every)=(?P<value>{_NUMBER})|window=(?P<window>{_NUMBER}),hop=(?P<hop>{_NUMBER})")


@dataclass(frozen=True)
class Sampling:
    """Which frames of a video to take: all, so many a second, or every n-th; or which windows of a sound.

    The fps rule: time since the first frame is cut into ticks of 1/fps seconds and the first frame of each tick is
    taken; a tick without a frame gives none. So an fps above the video's own gives every frame once. The first
    frame of a long tick is also the first of the short tick it lies in, so a rate can be taken from any integer
    multiple of it: it gives exactly the frames that the whole video gives, constant frame rate or not.

    Of a sound, "all" is every window of 10 s. Windows of another length, or another distance, are another sampling:
    their features cannot be computed from others.

    Attributes:
        fps: frames a second, in (0, 1000], rounded to a thousandth; None unless sampling by time.
        every: frame distance, >= 1 (1 is every frame, stored as None); None unless sampling by count.
        window_s: seconds of a window of sound, rounded to a thousandth; None unless it is not 10, or `hop_s` is not.
        hop_s: seconds from the start of a window to that of the next, at least 0.1, rounded to a thousandth; given
            with `window_s`.

    Raises:
        UsageError: if several kinds are given or a value is out of range.
    """

    fps: float | None = None
    every: int | None = None
    window_s: float | None = None
    hop_s: float | None = None

    def __post_init__(self) -> None:
        if self.fps is not None and self.every is not None:
            raise UsageError("Choose frames by fps or by every, not by both")
        if self.fps is not None:
            if not 0.001 <= self.fps <= MAX_FPS:
                raise UsageError(f"fps must lie between 0.001 and {MAX_FPS:g} frames a second, not {self.fps}")
            object.__setattr__(self, "fps", round(float(self.fps), 3))
        if self.every is not None:
            if self.every < 1:
                raise UsageError(f"every must be 1 or more frames, not {self.every}")
            object.__setattr__(self, "every", int(self.every) if self.every > 1 else None)
        if self.window_s is not None or self.hop_s is not None:
            self._check_windows()

    def _check_windows(self) -> None:
        if self.window_s is None or self.hop_s is None or self.fps is not None or self.every is not None:
            raise UsageError("Windows of sound have a window and a hop, and neither fps nor every")
        for name, value in (("window", self.window_s), ("hop", self.hop_s)):
            if not MIN_WINDOW_S <= value <= MAX_WINDOW_S:
                raise UsageError(
                    f"The {name} of sound must lie between {MIN_WINDOW_S} and {MAX_WINDOW_S:g} seconds, not {value}"
                )
        object.__setattr__(self, "window_s", round(float(self.window_s), 3))
        object.__setattr__(self, "hop_s", round(float(self.hop_s), 3))

    @classmethod
    def parse(cls, text: str) -> Sampling:
        """Read what `str` gives: "all", "fps=2", "fps=0.5", "every=16" or "window=5,hop=2.5".

        Raises:
            UsageError: if `text` is none of these.
        """
        if text == "all":
            return cls()
        match = _TEXT.fullmatch(text)
        if match and match["window"]:
            return cls(window_s=float(match["window"]), hop_s=float(match["hop"]))
        if match and match["unit"] == "fps":
            return cls(fps=float(match["value"]))
        if match and match["value"].isdigit():
            return cls(every=int(match["value"]))
        raise UsageError(f"Sampling {text!r} is not one of: all, fps=RATE, every=N, window=SECONDS,hop=SECONDS")

    def __str__(self) -> str:
        if self.fps is not None:
            return f"fps={_thousandths(self.fps)}"
        if self.window_s is not None and self.hop_s is not None:
            return f"window={_thousandths(self.window_s)},hop={_thousandths(self.hop_s)}"
        return "all" if self.every is None else f"every={self.every}"

    @property
    def is_all(self) -> bool:
        """Whether every frame is taken."""
        return self.fps is None and self.every is None and self.window_s is None

    def covers(self, other: Sampling) -> bool:
        """Whether the frames of `self` include all frames of `other`, for any video."""
        if self == other:
            return True
        if self.window_s is not None or other.window_s is not None:
            return False
        if self.is_all:
            return True
        if self.fps is not None and other.fps is not None:
            return _millihertz(self.fps) % _millihertz(other.fps) == 0
        if self.every is not None and other.every is not None:
            return other.every % self.every == 0
        return False

    def indices(self, timestamps_ms: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Positions of the frames to take, in a list of all frames.

        Args:
            timestamps_ms: (N,) float64, non-decreasing presentation times in milliseconds of every frame.

        Returns:
            (K,) int64, strictly increasing, in 0..N-1.
        """
        return self.rows(timestamps_ms, np.arange(len(timestamps_ms), dtype=np.int64))

    def rows(self, timestamps_ms: npt.NDArray[np.float64], frame_index: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Positions of the frames to take, in a list of frames whose own sampling covers this one.

        Args:
            timestamps_ms: (N,) float64, non-decreasing presentation times in milliseconds.
            frame_index: (N,) int64, position of each in the video, in presentation order.

        Returns:
            (K,) int64, strictly increasing, in 0..N-1.
        """
        if self.fps is not None and len(timestamps_ms):
            ticks = self.ticks(timestamps_ms, timestamps_ms[0])
            return np.unique(ticks, return_index=True)[1].astype(np.int64)
        if self.every is not None:
            return np.flatnonzero(frame_index % self.every == 0).astype(np.int64)
        return np.arange(len(timestamps_ms), dtype=np.int64)

    def ticks(self, timestamps_ms: npt.NDArray[np.float64], zero_ms: float) -> npt.NDArray[np.int64]:
        """Number of the tick that each frame lies in; `fps` must be given.

        Args:
            timestamps_ms: (N,) float64, presentation times in milliseconds, none before `zero_ms`.
            zero_ms: time of the first frame, where tick 0 begins.

        Returns:
            (N,) int64, in the order of the times.

        Raises:
            UsageError: if `fps` is None.
        """
        if self.fps is None:
            raise UsageError(f"Sampling {self} has no ticks", "give frames a second")
        zero_us = _micros(np.array(zero_ms))
        return (_micros(timestamps_ms) - zero_us + TICK_TOLERANCE_US) * _millihertz(self.fps) // 10**9


class FramePicker:
    """Picks frames one by one as they come, in presentation order: the same that `Sampling.indices` picks of all.

    Args:
        sampling: which frames.
    """

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._zero_ms: float | None = None
        self._last_tick = -1

    def takes(self, row: int, time_ms: float) -> bool:
        """Whether the next frame is meant: its position in the video, and its time, above that of the one before."""
        if self._sampling.every is not None:
            return row % self._sampling.every == 0
        if self._sampling.fps is None:
            return True
        self._zero_ms = time_ms if self._zero_ms is None else self._zero_ms
        tick = int(self._sampling.ticks(np.array([time_ms]), self._zero_ms)[0])
        is_first = tick > self._last_tick
        self._last_tick = max(tick, self._last_tick)
        return is_first


def time_range(
    timestamps_ms: npt.NDArray[np.float64], start_s: float | None = None, end_s: float | None = None
) -> slice:
    """Rows whose timestamp lies in [start, end), compared to the microsecond with the timestamps as they are stored.

    Args:
        timestamps_ms: (N,) float64, non-decreasing, milliseconds.
        start_s: first second, inclusive; None = from the start.
        end_s: last second, exclusive; None = to the end.

    Raises:
        UsageError: if `end_s` lies before `start_s`.
    """
    if start_s is not None and end_s is not None and end_s < start_s:
        raise UsageError(f"The end ({end_s} s) lies before the start ({start_s} s)")
    micros = _micros(timestamps_ms)
    first = 0 if start_s is None else int(np.searchsorted(micros, start_s * 1e6 - 0.5))
    last = len(micros) if end_s is None else int(np.searchsorted(micros, end_s * 1e6 - 0.5))
    return slice(first, last)


def _micros(timestamps_ms: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Whole microseconds: integers keep the tick arithmetic exact."""
    return np.rint(timestamps_ms * 1000).astype(np.int64)


def _thousandths(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")


def _millihertz(fps: float) -> int:
    return round(fps * 1000)
