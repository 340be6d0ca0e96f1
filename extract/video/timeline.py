"""When frames are shown: presentation times from the times of packets, as arithmetic.

Most containers give every packet a presentation time of its own, and sorted they are the times of the frames. Some do
not: files that were joined start their clock again, some muxers write one time twice, raw streams have no times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

CONTAINER = "container"
PARTED = "doubled times parted"
JOINED = "restarts joined"
FROM_RATE = "from frame rate"
"""Where the times of a video come from; the entry's attribute `timeline`.

- container: the container's own, each frame at a time of its own.
- doubled times parted: the container's own, but frames that share one time follow it 0.001 ms apart.
- restarts joined: the container's clock starts again or jumps by more than a day; each part follows the one before it
  at the distance of one frame.
- from frame rate: the container gives no usable times, or not to every frame; a frame without one follows the one
  before it by 1 / fps.
"""

DEFAULT_FPS = 25.0  # what FFmpeg assumes for a raw stream that names no rate
_PARTED_MS = 0.001  # as fine as times are compared
_RESTART_S = 1.0
_JUMP_S = 86_400.0


@dataclass(frozen=True)
class Timeline:
    """The times of the frames shown.

    Attributes:
        kind: one of CONTAINER, PARTED, JOINED, FROM_RATE.
        times_ms: (N,) strictly increasing presentation times in milliseconds.
        borders: numbers of the packets at which the container's clock starts again.
    """

    kind: str
    times_ms: FloatArray
    borders: tuple[int, ...] = ()


def pts_to_ms(pts: IntArray, time_base: Fraction) -> FloatArray:
    """Ticks to milliseconds, rounded once as long as pts * numerator * 1000 stays below 2**53."""
    factor = time_base.numerator * 1000
    largest = max((abs(int(p)) for p in (pts.min(), pts.max())), default=0) if len(pts) else 0
    ticks = pts * factor if largest * factor < 1 << 63 else pts.astype(np.float64) * factor
    milliseconds: FloatArray = ticks.astype(np.float64) / time_base.denominator
    return milliseconds


def timeline_of(
    pts: Sequence[int | None], keyframe: BoolArray, shown: BoolArray, time_base: Fraction, fps: float
) -> Timeline | None:
    """The presentation times of a video from those of its packets.

    Args:
        pts: (P,) presentation times of the packets in decode order, in ticks; None where the container has none.
        keyframe: (P,) whether decoding can start at the packet.
        shown: (P,) whether a player shows the packet's frame.
        time_base: seconds a tick.
        fps: frames a second, as far as the container tells; 0.0 where it does not.

    Returns:
        The timeline; None where some packets have a time and some do not, so that only decoding tells.
    """
    frame_ms = 1000.0 / (fps or DEFAULT_FPS)
    if all(p is None for p in pts):
        return _from_rate(int(shown.sum()), frame_ms)
    if any(p is None for p in pts):
        return None
    times = np.array(pts, np.int64)[shown]
    if not len(times):
        return _from_rate(0, frame_ms)
    borders = _restarts(pts_to_ms(times, time_base) / 1000, keyframe[shown])
    parts = [pts_to_ms(np.sort(part), time_base) for part in np.split(times, borders)]
    if sum(len(np.unique(part)) for part in parts) * 2 < sum(map(len, parts)):
        return _from_rate(sum(map(len, parts)), frame_ms)
    if len(parts) > 1:
        return Timeline(
            JOINED,
            part_doubled(np.concatenate(_joined(parts, frame_ms))),
            tuple(np.flatnonzero(shown)[borders].tolist()),
        )
    parted = part_doubled(parts[0])
    return Timeline(CONTAINER if np.array_equal(parted, parts[0]) else PARTED, parted)


def part_doubled(times_ms: FloatArray) -> FloatArray:
    """Move each time that does not lie above the one before it to 0.001 ms after that."""
    parted: FloatArray = times_ms.copy()
    for i in np.flatnonzero(np.diff(parted) <= 0) + 1:
        while i < len(parted) and parted[i] <= parted[i - 1]:
            parted[i] = parted[i - 1] + _PARTED_MS
            i += 1
    return parted


class FrameClock:
    """Times of frames as they come out of the decoder, where only decoding tells them.

    Args:
        frame_ms: distance of a frame without a time from the one before it, in milliseconds.
        time_base: seconds a tick.
    """

    def __init__(self, frame_ms: float, time_base: Fraction) -> None:
        self._frame_ms = frame_ms
        self._tick_ms = float(time_base * 1000)
        self._container_ms: float | None = None
        self._shift_ms = 0.0
        self._last_ms = -frame_ms
        self.kind = CONTAINER

    def next_ms(self, pts: int | None) -> float:
        """The time of the next frame, in milliseconds, above the one before it; updates `kind`."""
        following_ms = self._last_ms + self._frame_ms
        if pts is None:
            self.kind = FROM_RATE
            self._last_ms = following_ms
            return following_ms
        now_ms = pts * self._tick_ms
        if self._container_ms is None:
            if self.kind == FROM_RATE:  # frames without a time came first
                self._shift_ms = max(0.0, following_ms - now_ms)
            else:
                self._last_ms = now_ms - self._frame_ms
        elif not -_RESTART_S * 1000 <= now_ms - self._container_ms <= _JUMP_S * 1000:
            self._shift_ms = following_ms - now_ms
            self.kind = JOINED if self.kind != FROM_RATE else FROM_RATE
        self._container_ms = now_ms
        shifted_ms = now_ms + self._shift_ms
        if shifted_ms <= self._last_ms and self.kind == CONTAINER:
            self.kind = PARTED
        self._last_ms = max(shifted_ms, self._last_ms + _PARTED_MS)
        return self._last_ms


def _from_rate(count: int, frame_ms: float) -> Timeline:
    return Timeline(FROM_RATE, np.arange(count, dtype=np.float64) * frame_ms)


def _restarts(seconds: FloatArray, keyframe: BoolArray) -> list[int]:
    """Numbers of the packets at which a clock starts again.

    It jumps by more than a day, or goes back at a keyframe. Where frames are reordered it goes back too, but a keyframe
    is shown after all that come before it in the file.

    Args:
        seconds: (P,) presentation times in decode order.
        keyframe: (P,) whether decoding can start at the packet.
    """
    steps = np.diff(seconds)
    borders = [0]
    for i in (np.flatnonzero((steps < -_RESTART_S) | (steps > _JUMP_S)) + 1).tolist():
        back = seconds[borders[-1] : i].max() - seconds[i]
        if abs(back) > _JUMP_S or (keyframe[i] and back > _RESTART_S):
            borders.append(i)
    return borders[1:]


def _joined(parts: list[FloatArray], frame_ms: float) -> list[FloatArray]:
    """Let each part follow the one before it, one frame later."""
    joined = [parts[0]]
    for part in parts[1:]:
        joined.append(part - part[0] + joined[-1][-1] + frame_ms)
    return joined
