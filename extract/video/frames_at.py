"""Single frames of a video by their timestamps, exactly those that were encoded: only their segments are decoded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ...cache.common.errors import MediaError
from ...cache.common.media_types import is_image, still_format
from ...cache.common.quoting import quoted
from .decode import Span, decode_picked, decode_whole
from .delivery import RgbFrame
from .images import read_image
from .index import VideoIndex, read_index
from .proof import are_proved
from .spans import may_pick
from .timeline import FloatArray, IntArray

_FRAMES_AT_ONCE = 32  # 1080p: 200 MB


def frames_at(path: Path, timestamps_ms: Sequence[float]) -> Iterator[tuple[int, RgbFrame]]:
    """Decode the frames at given times; an image shows itself at any time.

    Args:
        path: a video, or an image.
        timestamps_ms: presentation times in milliseconds on the container's clock, as an entry's `timestamps_ms` has
            them, compared to the microsecond; in any order, and doubled ones too.

    Yields:
        For each time its position in `timestamps_ms` and the frame, (H, W, 3) uint8 RGB, upright; in the order of
        the video. A frame that cannot be decoded, as extraction found, is left out.

    Raises:
        MediaError: the file cannot be opened, or shows no frame at one of the times.
    """
    if is_image(path) or still_format(path):
        picture = read_image(path)
        yield from ((position, picture) for position in range(len(timestamps_ms)))
        return
    wanted = _micros(np.array(timestamps_ms, np.float64))
    index = read_index(path)
    known = None if index.times_ms is None else _micros(index.times_ms)
    if known is not None and len(missing := np.setdiff1d(wanted, known)):
        raise MediaError(f"{quoted(path)} shows no frame at {missing[0] / 1000:g} ms; it is not what was extracted")
    for span, times in _portions(path, index, known, np.unique(wanted)):
        for micros, rgb in sorted(_decode(path, index, span, known, times).items()):
            yield from ((int(position), rgb) for position in np.flatnonzero(wanted == micros))


def _decode(
    path: Path, index: VideoIndex, span: Span | None, known: IntArray | None, times: IntArray
) -> dict[int, RgbFrame]:
    """The frames at some times (microseconds); a span is entered where that is proved to be right."""
    mask = None if known is None else np.isin(known, times)
    if span is not None and mask is not None:
        sink = _Kept(times)
        report = decode_picked(path, index, span, sink, mask, probes=False)
        if are_proved([report.cuts], None):
            return sink.frames
    sink = _Kept(times)
    if decode_whole(path, index, sink, wanted=mask).is_disordered:
        sink = _Kept(times)
        decode_whole(path, index, sink, wanted=mask, by_count=True)
    return sink.frames


def _portions(
    path: Path, index: VideoIndex, known: IntArray | None, wanted: IntArray
) -> Iterator[tuple[Span | None, IntArray]]:
    """Yield what to decode in one go, segment by segment where that may be, and the times (microseconds) to keep."""
    if known is None or not may_pick(index) or not _may_cut(path, index, len(known)):
        yield from ((None, times) for times in _few(wanted))
        return
    for number, segment in enumerate(index.segments):
        shown = known[segment.first_row : segment.first_row + segment.rows]
        yield from ((Span(number, number + 1), times) for times in _few(wanted[np.isin(wanted, shown)]))


def _may_cut(path: Path, index: VideoIndex, frames: int) -> bool:
    """Whether the first cut of the video is proved."""
    report = decode_picked(path, index, Span(0, 0), _Kept(np.zeros(0, np.int64)), np.zeros(frames, bool))
    return are_proved([report.cuts], index.first_picture)


def _few(times: IntArray) -> Iterator[IntArray]:
    """Part times so that the frames of each part fit in memory."""
    for first in range(0, len(times), _FRAMES_AT_ONCE):
        yield times[first : first + _FRAMES_AT_ONCE]


class _Kept:
    """A `FrameSink` that keeps the frames at some times, by their microsecond."""

    def __init__(self, times: IntArray) -> None:
        self._wanted = set(times.tolist())
        self.frames: dict[int, RgbFrame] = {}

    def add(self, row: int, timestamp_ms: float, rgb: RgbFrame) -> None:  # noqa: ARG002 - times alone tell
        """Keep a frame that is wanted; of two at one time, the first."""
        micros = round(timestamp_ms * 1000)
        if micros in self._wanted:
            self.frames.setdefault(micros, rgb)

    def commit(self) -> None:
        """Nothing waits downstream."""

    def beat(self) -> None:
        """Nobody watches."""

    def rollback(self) -> None:
        """Frames come from PyAV, which never takes one back."""


def _micros(timestamps_ms: FloatArray) -> IntArray:
    """Whole microseconds: the same time is the same number."""
    return np.rint(timestamps_ms * 1000).astype(np.int64)
