"""Decode a video, or a span of it: pixels from decord, from PyAV where decord cannot be trusted.

decord alone returns wrong frames on some MPEG-TS and edit-list files, can hang on seeks, and decodes ahead without
bound. It therefore sees one segment at a time, remuxed into memory, strictly forward, and must return exactly the
frames that the index promises, without a word of complaint; where it does not, PyAV decodes the rest of the span.
Frames are bit-identical either way. What no cut fits is decoded in one piece by PyAV.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import av
import numpy as np
import numpy.typing as npt

from ...cache.format.sampling import FramePicker, Sampling
from .container import open_video
from .decord_log import can_watch
from .decord_segments import DecordRefusedError, decord_frames, import_decord
from .index import VideoIndex
from .packets import SegmentReader
from .proof import Cuts, Picture, checksum
from .random_access import starts_alone
from .segments import Segment
from .timeline import DEFAULT_FPS, BoolArray, FrameClock

RgbFrame = npt.NDArray[np.uint8]

_DECORD_EXACT_FORMATS = frozenset(
    {"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "gray", "bgra", "rgb24"}
)


_TELL_ERRORS_IN_SLICES = frozenset({"vp7", "vp8"})
"""Codecs of which FFmpeg passes errors on only where it decodes slices in threads; with one thread it hides them."""


_SKIP_BY_PACKET = frozenset({"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4"})
"""Codecs of which FFmpeg leaves out pictures that no other refers to, packet by packet; dav1d decides once for all."""


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
    """How a video, or a span of it, was decoded.

    Attributes:
        decoders: "decord", "pyav" or both.
        errors: packets that PyAV could not decode.
        corrupt: frames shown that the decoder marked as corrupt: concealed damage, missing references.
        cuts: what is needed to prove that the pieces fit together.
        is_disordered: whether a sound piece gave frames whose pts fell: their order is the decoder's, not that of pts.
        timeline: where the times came from, if only decoding told; else empty.
    """

    decoders: set[str] = field(default_factory=set)
    errors: int = 0
    corrupt: int = 0
    cuts: Cuts = field(default_factory=Cuts)
    is_disordered: bool = False
    timeline: str = ""


def decord_is_exact(index: VideoIndex) -> bool:
    """Whether decord gives the very bytes that PyAV gives, as far as measured, and tells of damage.

    Their colour conversions differ beyond 8 bits, for interlaced frames, and for odd heights with 4:2:0 chroma.
    """
    if index.interlaced or index.pix_fmt not in _DECORD_EXACT_FORMATS:
        return False
    return (index.height % 2 == 0 or "420" not in index.pix_fmt) and can_watch(import_decord())


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
        path: the video.
        index: its index, from `read_index`, or a part of it; must have segments.
        span: the segments to decode, numbered as in `index`.
        sink: receives the frames.
        decoder: "decord" or "pyav"; "auto" takes decord where it is exact. What decord refuses goes to PyAV anyway.
        wanted: (N,) which of the index's rows to deliver; None for all.
        threads: threads for each decoder.

    Raises:
        MediaError: the file can no longer be opened.
    """
    decoding = _Decoding(path, index, sink, wanted, threads)
    numbers = [n for n in range(span.first, span.end) if decoding.wants(index.segments[n])]
    is_told_by_decord = index.codec not in _TELL_ERRORS_IN_SLICES
    use_decord = is_told_by_decord and (decoder == "decord" or (decoder == "auto" and decord_is_exact(index)))
    refused = decoding.with_decord(numbers) if use_decord else numbers
    if refused:
        decoding.with_pyav(refused)
    return decoding.report


def decode_picked(
    path: str | os.PathLike[str],
    index: VideoIndex,
    span: Span,
    sink: FrameSink,
    wanted: BoolArray,
    *,
    probes: bool = True,
    threads: int = 1,
) -> DecodeReport:
    """Decode frames that lie far apart: of each segment only what they need, by PyAV.

    A segment is entered only where its own bytes say that decoding may begin there; the first cut of the video is
    proved by decoding on, for what only the start of a stream carries. Arguments and errors as of `decode_span`;
    `probes` is whether to prove that first cut, if it lies in the index given.
    """
    decoding = _Decoding(path, index, sink, wanted, threads)
    decoding.picked([n for n in range(span.first, span.end) if decoding.wants(index.segments[n])], probes=probes)
    return decoding.report


def decode_whole(
    path: str | os.PathLike[str],
    index: VideoIndex,
    sink: FrameSink,
    *,
    wanted: BoolArray | FramePicker | None = None,
    by_count: bool = False,
    threads: int = 1,
) -> DecodeReport:
    """Decode a video by PyAV in one piece, from its start to its end: what a player shows.

    Args:
        path: the video.
        index: its index, whole.
        sink: receives the frames, in the decoder's output order.
        wanted: (N,) which of the index's rows to deliver; a picker where the index has no times; None for all.
        by_count: number frames as they come, whatever their pts.
        threads: threads of the decoder.

    Raises:
        MediaError: the file can no longer be opened.
    """
    decoding = _Decoding(path, index, sink, None if isinstance(wanted, FramePicker) else wanted, threads)
    if index.times_ms is None:
        decoding.whole_by_clock(wanted if isinstance(wanted, FramePicker) else FramePicker(Sampling()))
    else:
        decoding.whole(by_count or index.shown_pts is None or not index.order_is_told)
    return decoding.report


class _Decoding:
    """A video, or a span of one, being decoded: where from, where to, and how it went."""

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
        self.report = DecodeReport()

    def wants(self, segment: Segment) -> bool:
        """Whether any frame of a segment is to be delivered."""
        first = segment.first_row - self._index.first_row
        return self._wanted is None or bool(self._wanted[first : first + segment.rows].any())

    # In segments, by decord.

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
        index, segment = self._index, self._index.segments[number]
        packets = reader.read(number)
        order = sorted(packet.pts for packet in packets)
        row_of = self._row_of([segment])
        start = self._start_pts(segment)
        cuts = Cuts()
        frames = 0
        for frame in decord_frames(packets, reader.stream, index.rotation, self._threads):
            if frames == len(order):
                raise DecordRefusedError("more frames than packets")
            if tuple(frame.shape) != (index.height, index.width, 3):  # decord2 3.4: (H, 144, 4)
                raise DecordRefusedError("frames of another shape")
            pts = order[frames]
            if pts == start:
                cuts.alone.add(Picture(pts, checksum(frame.asnumpy())))
            elif segment.next_keyframe is not None and pts == segment.end_pts:
                cuts.continued.add(Picture(pts, checksum(frame.asnumpy())))
            self._deliver(row_of.get(pts), frame.asnumpy)
            frames += 1
        if frames != len(order):
            raise DecordRefusedError("fewer frames than packets")
        if segment.first_packet == 0 and index.first_picture and cuts.alone != {index.first_picture}:
            raise DecordRefusedError("another first picture than the file's")
        self._add_cuts(cuts)

    # In segments, by PyAV.

    def with_pyav(self, numbers: Sequence[int]) -> None:
        """Decode plainly from one segment earlier, so that a segment that leans on its neighbour comes out right."""
        segments = self._index.segments
        before = max(0, numbers[0] - 1)
        row_of = self._row_of(segments[numbers[0] : numbers[-1] + 1])
        start = self._start_pts(segments[before])
        borders = {segment.end_pts for segment in segments[before : numbers[-1] + 1]}
        cuts, last_pts = Cuts(), None
        self.report.is_disordered |= not self._index.order_is_told
        with SegmentReader(self._path, self._index, self._sink.beat) as reader:
            packets = reader.read_through(before, numbers[-1] + 1)
            for frame in self._pyav_frames(packets, reader.stream):
                if frame.pts is not None and (frame.pts == start or frame.pts in borders):
                    found = cuts.alone if frame.pts == start else cuts.continued
                    found.add(Picture(frame.pts, checksum(_rgb(frame))))
                self._note_order(last_pts, frame.pts)
                last_pts = frame.pts
                self._deliver_frame(row_of.get(frame.pts), frame)
        if start is not None and not cuts.alone:
            cuts.alone.add(Picture(start, _NEVER_SHOWN))
        self._add_cuts(cuts)
        self.report.decoders.add("pyav")

    # Picked frames.

    def picked(self, numbers: Sequence[int], *, probes: bool) -> None:
        """Of each segment decode up to the last frame that is wanted, without those that no other needs."""
        with SegmentReader(self._path, self._index, self._sink.beat) as reader:
            if probes:
                self._probe(reader)
            context = self._open_decoder(reader.stream)
            for number in numbers:
                segment = self._index.segments[number]
                row_of = {pts: row for pts, row in self._row_of([segment]).items() if self._is_wanted(row)}
                packets = reader.read(number)
                self._check_start(segment, packets, reader.stream)
                for frame in self._decode_for(context, packets, row_of):
                    self._deliver_frame(row_of.get(frame.pts), frame)
        self.report.decoders.add("pyav")

    def _probe(self, reader: SegmentReader) -> None:
        """Prove the first cut of the video, if it lies in this part of its index."""
        segments = self._index.segments
        if segments[0].first_packet != 0 or len(segments) < 2:
            return
        for number, found in ((0, self.report.cuts.continued), (1, self.report.cuts.alone)):
            packets = reader.read(number)
            context = self._open_decoder(reader.stream)
            for frame in self._decode_for(context, packets, {segments[1].start_pts: 0}):
                if frame.pts == segments[1].start_pts:
                    found.add(Picture(frame.pts, checksum(_rgb(frame))))

    def _check_start(self, segment: Segment, packets: Sequence[Any], stream: Any) -> None:
        if segment.first_packet == 0 or self._index.intra_only:
            return
        extradata = stream.codec_context.extradata or b""
        if not packets or not starts_alone(self._index.codec, bytes(packets[0]), extradata):
            self.report.cuts.alone.add(Picture(segment.start_pts, _NEVER_SHOWN))

    def _decode_for(self, context: Any, packets: Sequence[Any], wanted: Iterable[int]) -> Iterator[Any]:
        """Decode as few of a segment's packets as the frames at some pts need."""
        chosen = set(wanted)
        last = max((n for n, packet in enumerate(packets) if packet.pts in chosen), default=-1)
        for packet in packets[: last + 1]:
            is_wanted = packet.pts in chosen
            if is_wanted or not self._index.intra_only:
                if self._index.codec in _SKIP_BY_PACKET:
                    context.skip_frame = "DEFAULT" if is_wanted else "NONREF"
                yield from self._decode(context, packet)
            self._sink.beat()
        yield from self._decode(context, None)
        context.flush_buffers()

    # In one piece.

    def whole(self, by_count: bool) -> None:
        """Decode from start to end; frames are those at their pts, or numbered as they come."""
        shown_pts = self._index.shown_pts
        row_of = {} if shown_pts is None else {int(pts): row for row, pts in enumerate(shown_pts)}
        expected = self._index.frames_expected - self._index.frames_missing
        last_pts = None
        with open_video(self._path) as (container, stream):
            for number, frame in enumerate(self._pyav_frames(_packets_of(container, stream), stream)):
                if not by_count:
                    self._note_order(last_pts, frame.pts)
                    last_pts = frame.pts
                row = number if by_count else row_of.get(frame.pts)
                self._deliver_frame(row if row is not None and row < expected else None, frame)
        self.report.decoders.add("pyav")

    def whole_by_clock(self, picker: FramePicker) -> None:
        """Decode a video whose packets do not tell their times; frames without one follow at the stream's rate."""
        clock = FrameClock(1000.0 / (self._index.fps or DEFAULT_FPS), self._index.time_base)
        with open_video(self._path) as (container, stream):
            for row, frame in enumerate(self._pyav_frames(_packets_of(container, stream), stream)):
                time_ms = clock.next_ms(frame.pts)
                if picker.takes(row, time_ms):
                    self.report.corrupt += bool(frame.is_corrupt)
                    self._sink.add(row, time_ms, upright(_rgb(frame), self._index.rotation))
                    self._sink.commit()
                self._sink.beat()
        self.report.timeline = clock.kind
        self.report.decoders.add("pyav")

    # Shared.

    def _start_pts(self, segment: Segment) -> int | None:
        """The pts of the picture that a segment begins with; None where that of the file is not known."""
        if segment.first_packet:
            return segment.start_pts
        return self._index.first_picture.pts if self._index.first_picture else None

    def _add_cuts(self, cuts: Cuts) -> None:
        self.report.cuts.alone |= cuts.alone
        self.report.cuts.continued |= cuts.continued

    def _note_order(self, before: int | None, pts: int | None) -> None:
        is_sound = not self.report.errors and not self.report.corrupt
        if is_sound and before is not None and (pts is None or pts <= before):
            self.report.is_disordered = True

    def _row_of(self, segments: Sequence[Segment]) -> dict[int, int]:
        """Row, counted from the index's first, by pts: of the frames that the segments show."""
        assert self._index.shown_pts is not None  # noqa: S101  segments imply an index
        first = segments[0].first_row - self._index.first_row
        end = segments[-1].first_row + segments[-1].rows - self._index.first_row
        return {int(pts): row for row, pts in enumerate(self._index.shown_pts[first:end], first)}

    def _is_wanted(self, row: int | None) -> bool:
        return row is not None and (self._wanted is None or bool(self._wanted[row]))

    def _deliver_frame(self, row: int | None, frame: Any) -> None:
        if self._is_wanted(row):
            self.report.corrupt += bool(frame.is_corrupt)
        self._deliver(row, partial(_rgb, frame))
        self._sink.commit()

    def _deliver(self, row: int | None, pixels: Callable[[], RgbFrame]) -> None:
        """Hand a frame on, unless an edit list hides it or nobody wants it."""
        times_ms = self._index.times_ms
        if row is None or times_ms is None or not self._is_wanted(row):
            self._sink.beat()
            return
        self._sink.add(self._index.first_row + row, float(times_ms[row]), upright(pixels(), self._index.rotation))

    def _open_decoder(self, stream: Any) -> Any:
        """The stream's decoder; more threads than one let FFmpeg conceal some damage that one turns into garbage."""
        context = stream.codec_context
        if context.is_open:
            return context
        if self._threads < 2 and self._index.codec in _TELL_ERRORS_IN_SLICES:
            context.thread_count, context.thread_type = 2, "SLICE"
        else:
            context.thread_count, context.thread_type = self._threads, "AUTO"
        return context

    def _pyav_frames(self, packets: Iterable[Any], stream: Any) -> Iterator[Any]:
        """All frames that decode; damage is counted and stepped over."""
        context = self._open_decoder(stream)
        for packet in self._until_damage(packets):
            yield from self._decode(context, packet)
        yield from self._decode(context, None)

    def _until_damage(self, packets: Iterable[Any]) -> Iterator[Any]:
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


_NEVER_SHOWN = -1  # no checksum: a picture that should have come and did not


def _packets_of(container: Any, stream: Any) -> Iterator[Any]:
    return (packet for packet in container.demux(stream) if packet.size)


def _rgb(frame: Any) -> RgbFrame:
    rgb: RgbFrame = frame.to_ndarray(format="rgb24")
    return rgb


def upright(rgb: RgbFrame, rotation: int) -> RgbFrame:
    """Turn a frame counter-clockwise by its display rotation, in degrees."""
    return np.ascontiguousarray(np.rot90(rgb, rotation // 90)) if rotation else rgb
