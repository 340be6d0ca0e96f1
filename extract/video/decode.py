"""Decode a video, or a span of it: pixels from decord, from PyAV where decord cannot be trusted.

decord alone returns wrong frames on some MPEG-TS and edit-list files, can hang on seeks, and decodes ahead without
bound. It therefore sees one segment at a time, remuxed into memory, strictly forward, and must return exactly the
frames that the index promises, without a word of complaint; where it does not, PyAV decodes the rest of the span.
Frames are bit-identical either way. What no cut fits is decoded in one piece by PyAV.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache.format.sampling import FramePicker, Sampling
from .container import open_video
from .decord_log import can_watch
from .decord_segments import DecordRefusedError, decord_frames, import_decord
from .delivery import TELL_ERRORS_IN_SLICES, DecodeReport, Decoding, FrameSink, packets_of, rgb_of, upright
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


_SKIP_BY_PACKET = frozenset({"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4"})
"""Codecs of which FFmpeg leaves out pictures that no other refers to, packet by packet; dav1d decides once for all."""


@dataclass(frozen=True)
class Span:
    """Consecutive segments `first` to `end` (exclusive) of a video: what one worker decodes in one go."""

    first: int
    end: int


def decord_is_exact(index: VideoIndex) -> bool:
    """Whether decord gives the very bytes that PyAV gives, as far as measured, and tells of damage.

    Their colour conversions differ beyond 8 bits, for interlaced frames, and for odd heights with 4:2:0 chroma.
    """
    if index.interlaced or index.pix_fmt not in _DECORD_EXACT_FORMATS:
        return False
    has_exact_chroma = index.height % 2 == 0 or "420" not in index.pix_fmt
    return has_exact_chroma and can_watch(import_decord())


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
    decoding = _Ways(path, index, sink, wanted, threads)
    numbers = range(span.first, span.end)  # those that show nothing wanted too: they prove the next cut
    is_told_by_decord = index.codec not in TELL_ERRORS_IN_SLICES
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
    decoding = _Ways(path, index, sink, wanted, threads)
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
    decoding = _Ways(path, index, sink, None if isinstance(wanted, FramePicker) else wanted, threads)
    if index.times_ms is None:
        decoding.whole_by_clock(wanted if isinstance(wanted, FramePicker) else FramePicker(Sampling()))
    else:
        decoding.whole(by_count or index.shown_pts is None or not index.order_is_told)
    return decoding.report


class _Ways(Decoding):
    """The ways to decode."""

    # In segments, by decord.

    def with_decord(self, numbers: Sequence[int]) -> Sequence[int]:
        """Decode segments one by one; returns those left over from the first that decord refuses."""
        index = self.index
        with SegmentReader(self.path, index, self.sink.beat) as reader:
            for position, number in enumerate(numbers):
                if not index.is_drainable(index.segments[number]):
                    return numbers[position:]
                try:
                    self._drain(reader, number)
                except DecordRefusedError:
                    self.sink.rollback()
                    return numbers[position:]
                self.report.decoders.add("decord")
                self.sink.commit()
        return []

    def _drain(self, reader: SegmentReader, number: int) -> None:
        """Read one segment to its end without a pause, so that decord's decode-ahead stays a few frames long."""
        index, segment = self.index, self.index.segments[number]
        packets = reader.read(number)
        order = sorted(packet.pts for packet in packets)
        row_of = self.row_of([segment])
        start = self.start_pts(segment)
        cuts = Cuts()
        frames = 0
        for frame in decord_frames(packets, reader.stream, index.rotation, self.threads):
            if frames == len(order):
                raise DecordRefusedError("more frames than packets")
            if tuple(frame.shape) != (index.height, index.width, 3):  # decord2 3.4: (H, 144, 4)
                raise DecordRefusedError("frames of another shape")
            pts = order[frames]
            if pts == start:
                cuts.alone.add(Picture(pts, checksum(frame.asnumpy())))
            elif segment.next_keyframe is not None and pts == segment.end_pts:
                cuts.continued.add(Picture(pts, checksum(frame.asnumpy())))
            self.deliver(row_of.get(pts), frame.asnumpy)
            frames += 1
        if frames != len(order):
            raise DecordRefusedError("fewer frames than packets")
        if segment.first_packet == 0 and index.first_picture and cuts.alone != {index.first_picture}:
            raise DecordRefusedError("another first picture than the file's")
        self.add_cuts(cuts)

    # In segments, by PyAV.

    def with_pyav(self, numbers: Sequence[int]) -> None:
        """Decode plainly from one segment earlier, so that a segment that leans on its neighbour comes out right."""
        segments = self.index.segments
        before = max(0, numbers[0] - 1)
        row_of = self.row_of(segments[numbers[0] : numbers[-1] + 1])
        start = self.start_pts(segments[before])
        borders = {segment.end_pts for segment in segments[before : numbers[-1] + 1]}
        cuts, last_pts = Cuts(), None
        self.report.is_disordered |= not self.index.order_is_told
        with SegmentReader(self.path, self.index, self.sink.beat) as reader:
            packets = reader.read_through(before, numbers[-1] + 1)
            for frame in self.pyav_frames(packets, reader.stream):
                if frame.pts is not None and (frame.pts == start or frame.pts in borders):
                    found = cuts.alone if frame.pts == start else cuts.continued
                    found.add(Picture(frame.pts, checksum(rgb_of(frame))))
                self.note_order(last_pts, frame.pts)
                last_pts = frame.pts
                self.deliver_frame(row_of.get(frame.pts), frame)
        if start is not None and not cuts.alone:
            cuts.alone.add(Picture(start, _NEVER_SHOWN))
        self.add_cuts(cuts)
        self.report.decoders.add("pyav")

    # Picked frames.

    def picked(self, numbers: Sequence[int], *, probes: bool) -> None:
        """Of each segment decode up to the last frame that is wanted, without those that no other needs."""
        with SegmentReader(self.path, self.index, self.sink.beat) as reader:
            if probes:
                self._probe(reader)
            for number in numbers:
                segment = self.index.segments[number]
                row_of = {pts: row for pts, row in self.row_of([segment]).items() if self.is_wanted(row)}
                packets = reader.read(number)  # which may open the file anew, and with it the decoder
                self._check_start(segment, packets, reader.stream)
                for frame in self._decode_for(self.open_decoder(reader.stream), packets, row_of):
                    self.deliver_frame(row_of.get(frame.pts), frame)
        self.report.decoders.add("pyav")

    def _probe(self, reader: SegmentReader) -> None:
        """Prove the first cut of the video, if it lies in this part of its index."""
        segments = self.index.segments
        if segments[0].first_packet != 0 or len(segments) < 2:
            return
        for number, found in ((0, self.report.cuts.continued), (1, self.report.cuts.alone)):
            packets = reader.read(number)
            context = self.open_decoder(reader.stream)
            for frame in self._decode_for(context, packets, {segments[1].start_pts: 0}):
                if frame.pts == segments[1].start_pts:
                    found.add(Picture(frame.pts, checksum(rgb_of(frame))))

    def _check_start(self, segment: Segment, packets: Sequence[Any], stream: Any) -> None:
        if segment.first_packet == 0 or self.index.intra_only:
            return
        extradata = stream.codec_context.extradata or b""
        if not packets or not starts_alone(self.index.codec, bytes(packets[0]), extradata):
            self.report.cuts.alone.add(Picture(segment.start_pts, _NEVER_SHOWN))

    def _decode_for(self, context: Any, packets: Sequence[Any], wanted: Iterable[int]) -> Iterator[Any]:
        """Decode as few of a segment's packets as the frames at some pts need."""
        chosen = set(wanted)
        last = max((n for n, packet in enumerate(packets) if packet.pts in chosen), default=-1)
        for packet in packets[: last + 1]:
            is_wanted = packet.pts in chosen
            if is_wanted or not self.index.intra_only:
                if self.index.codec in _SKIP_BY_PACKET:
                    context.skip_frame = "DEFAULT" if is_wanted else "NONREF"
                yield from self.decode(context, packet)
            self.sink.beat()
        yield from self.decode(context, None)
        context.flush_buffers()

    # In one piece.

    def whole(self, by_count: bool) -> None:
        """Decode from start to end; frames are those at their pts, or numbered as they come."""
        shown_pts = self.index.shown_pts
        row_of = {} if shown_pts is None else {int(pts): row for row, pts in enumerate(shown_pts)}
        expected = self.index.frames_expected - self.index.frames_missing
        last_pts = None
        with open_video(self.path) as (container, stream):
            for number, frame in enumerate(self.pyav_frames(packets_of(container, stream), stream)):
                if not by_count:
                    self.note_order(last_pts, frame.pts)
                    last_pts = frame.pts
                row = number if by_count else row_of.get(frame.pts)
                self.deliver_frame(row if row is not None and row < expected else None, frame)
        self.report.decoders.add("pyav")

    def whole_by_clock(self, picker: FramePicker) -> None:
        """Decode a video whose packets do not tell their times; frames without one follow at the stream's rate."""
        clock = FrameClock(1000.0 / (self.index.fps or DEFAULT_FPS), self.index.time_base)
        with open_video(self.path) as (container, stream):
            for row, frame in enumerate(self.pyav_frames(packets_of(container, stream), stream)):
                time_ms = clock.next_ms(frame.pts)
                if picker.takes(row, time_ms):
                    self.report.corrupt += bool(frame.is_corrupt)
                    self.sink.add(row, time_ms, upright(rgb_of(frame), self.index.rotation))
                    self.sink.commit()
                self.sink.beat()
        self.report.timeline = clock.kind
        self.report.decoders.add("pyav")


_NEVER_SHOWN = -1  # no checksum: a picture that should have come and did not
