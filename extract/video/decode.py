"""Decode spans of a video: pixels from decord, from PyAV where decord cannot be trusted.

decord alone returns wrong frames on some MPEG-TS and edit-list files, can hang on seeks, and decodes ahead without
bound. It therefore sees one segment at a time, remuxed into memory, strictly forward, and must return exactly the
frames that the index promises; where it does not, PyAV decodes the rest of the span. Frames are bit-identical either
way.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import av
import numpy as np
import numpy.typing as npt

from .container import open_video
from .decord_segments import DecordRefusedError, decord_frames
from .index import BoolArray, Segment, VideoIndex, quarter_turns
from .packets import SegmentReader

RgbFrame = npt.NDArray[np.uint8]

_DECORD_EXACT_FORMATS = frozenset(
    {"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "gray", "bgra", "rgb24"}
)
_DEFAULT_FPS = 25.0  # what FFmpeg assumes for a raw stream that names no rate


class FrameSink(Protocol):
    """Where decoded frames go."""

    def add(self, row: int, timestamp_ms: float, rgb: RgbFrame) -> None:
        """Take a frame: its position in presentation order, its time, its (H, W, 3) uint8 pixels, upright."""

    def commit(self) -> None:
        """Everything added so far is final; this is the moment to wait for room downstream."""

    def beat(self) -> None:
        """Work goes on, though there is no frame to show for it."""

    def rollback(self) -> None:
        """Forget what was added since the last commit."""


@dataclass(frozen=True)
class Span:
    """Consecutive segments `first` to `end` (exclusive) of a video: what one worker decodes in one go."""

    first: int
    end: int


@dataclass
class DecodeReport:
    """How a span was decoded.

    Attributes:
        decoders: "decord", "pyav" or both.
        errors: Packets that PyAV could not decode.
    """

    decoders: set[str] = field(default_factory=set)
    errors: int = 0


def decord_is_exact(index: VideoIndex) -> bool:
    """Whether decord gives the very bytes that PyAV gives, as far as measured.

    Their colour conversions differ beyond 8 bits, for interlaced frames, and for odd heights with 4:2:0 chroma.
    """
    if index.interlaced or index.pix_fmt not in _DECORD_EXACT_FORMATS:
        return False
    return index.height % 2 == 0 or "420" not in index.pix_fmt


def decode_span(
    path: str | os.PathLike[str],
    index: VideoIndex,
    span: Span,
    sink: FrameSink,
    *,
    decoder: str = "auto",
    wanted: BoolArray | None = None,
    threads: int = 1,
) -> DecodeReport:
    """Decode a span of a video into `sink`, in presentation order as far as the file is sound.

    Args:
        path: The video.
        index: Its index, from `read_index`, or a part of it.
        span: The segments to decode, numbered as in `index`; ignored where the index has none.
        sink: Receives the frames.
        decoder: "decord" or "pyav"; "auto" takes decord where it is exact. What decord refuses goes to PyAV anyway.
        wanted: (N,) which of the index's rows to deliver; None for all.
        threads: Threads for each decoder.

    Raises:
        MediaError: The file can no longer be opened.
    """
    decoding = _Decoding(path, index, sink, wanted, threads)
    if index.shown_pts is None:
        decoding.without_index()
        return decoding.report
    numbers = [n for n in range(span.first, span.end) if decoding.wants(index.segments[n])]
    use_decord = decoder == "decord" or (decoder == "auto" and decord_is_exact(index))
    refused = decoding.with_decord(numbers) if use_decord else numbers
    if refused:
        decoding.with_pyav(refused)
    return decoding.report


class _Decoding:
    """One span being decoded: where from, where to, and how it went."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        index: VideoIndex,
        sink: FrameSink,
        wanted: BoolArray | None,
        threads: int,
    ) -> None:
        self._path = path
        self._index = index
        self._sink = sink
        self._wanted = wanted
        self._threads = threads
        self._times = index.timestamps_ms
        self.report = DecodeReport()

    def wants(self, segment: Segment) -> bool:
        """Whether any frame of a segment is to be delivered."""
        first = segment.first_row - self._index.first_row
        return self._wanted is None or bool(self._wanted[first : first + segment.rows].any())

    def with_decord(self, numbers: Sequence[int]) -> Sequence[int]:
        """Decode segments one by one; returns those left over from the first that decord refuses."""
        index = self._index
        with SegmentReader(self._path, index, self._sink.beat) as reader:
            for position, number in enumerate(numbers):
                if not index.is_drainable(index.segments[number]):
                    return numbers[position:]
                try:
                    self._drain(reader, number)
                except DecordRefusedError:
                    self._sink.rollback()
                    return numbers[position:]
                self.report.decoders.add("decord")
                self._sink.commit()
        return []

    def _drain(self, reader: SegmentReader, number: int) -> None:
        """Read one segment to its end without a pause, so that decord's decode-ahead stays a few frames long."""
        index = self._index
        packets = reader.read(number)
        order = sorted(packet.pts for packet in packets)
        row_of = self._row_of([index.segments[number]])
        frames = 0
        for frame in decord_frames(packets, reader.stream, index.rotation, self._threads):
            if frames == len(order):
                raise DecordRefusedError("more frames than packets")
            if tuple(frame.shape) != (index.height, index.width, 3):  # decord2 3.4: (H, 144, 4)
                raise DecordRefusedError("frames of another shape")
            self._deliver(row_of.get(order[frames]), frame.asnumpy)
            frames += 1
        if frames != len(order):
            raise DecordRefusedError("fewer frames than packets")

    def with_pyav(self, numbers: Sequence[int]) -> None:
        """Decode plainly from one segment earlier, so that a segment that leans on its neighbour comes out right."""
        row_of = self._row_of(self._index.segments[numbers[0] : numbers[-1] + 1])
        with SegmentReader(self._path, self._index, self._sink.beat) as reader:
            packets = reader.read_through(max(0, numbers[0] - 1), numbers[-1] + 1)
            for frame in self._pyav_frames(packets, reader.stream):
                self._deliver(row_of.get(frame.pts), partial(frame.to_ndarray, format="rgb24"))
                self._sink.commit()
        self.report.decoders.add("pyav")

    def without_index(self) -> None:
        """Decode a video whose packets do not tell their times; frames without one follow at the stream's rate."""
        frame_ms = 1000.0 / (self._index.fps or _DEFAULT_FPS)
        last_ms = -frame_ms
        with open_video(self._path) as (container, stream):
            packets = (packet for packet in container.demux(stream) if packet.size)
            for row, frame in enumerate(self._pyav_frames(packets, stream)):
                last_ms = max(last_ms, frame.time * 1000.0) if frame.time is not None else last_ms + frame_ms
                self._sink.add(row, last_ms, upright(frame.to_ndarray(format="rgb24"), quarter_turns(frame.rotation)))
                self._sink.commit()
        self.report.decoders.add("pyav")

    def _row_of(self, segments: Sequence[Segment]) -> dict[int, int]:
        """Row, counted from the index's first, by pts: of the frames that the segments show."""
        assert self._index.shown_pts is not None  # noqa: S101  segments imply an index
        first = segments[0].first_row - self._index.first_row
        end = segments[-1].first_row + segments[-1].rows - self._index.first_row
        return {int(pts): row for row, pts in enumerate(self._index.shown_pts[first:end], first)}

    def _deliver(self, row: int | None, pixels: Callable[[], RgbFrame]) -> None:
        """Hand a frame on, unless an edit list hides it or nobody wants it."""
        if row is None or self._times is None or (self._wanted is not None and not self._wanted[row]):
            self._sink.beat()
            return
        self._sink.add(self._index.first_row + row, float(self._times[row]), upright(pixels(), self._index.rotation))

    def _pyav_frames(self, packets: Iterator[Any], stream: Any) -> Iterator[Any]:
        """All frames that decode; damage is counted and stepped over."""
        context = stream.codec_context
        context.thread_count = self._threads
        for packet in self._until_damage(packets):
            yield from self._decode(context, packet)
        yield from self._decode(context, None)

    def _until_damage(self, packets: Iterator[Any]) -> Iterator[Any]:
        try:
            yield from packets
        except av.FFmpegError:
            self.report.errors += 1

    def _decode(self, context: Any, packet: Any) -> list[Any]:
        try:
            frames: list[Any] = context.decode(packet)
        except av.FFmpegError:
            self.report.errors += 1
            return []
        return frames


def upright(rgb: RgbFrame, rotation: int) -> RgbFrame:
    """Turn a frame counter-clockwise by its display rotation, in degrees."""
    return np.ascontiguousarray(np.rot90(rgb, rotation // 90)) if rotation else rgb
