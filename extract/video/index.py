"""The frame index of a video: which frames are shown, when, and where the file can be cut.

Demuxing alone tells it, in milliseconds: the packets that are not marked "discard", sorted by presentation time, are
the frames shown. `timeline` and `segments` are the arithmetic; here the file is read, and its first frame decoded,
which alone tells reliably how the pictures are coded.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np

from ...cache.common.errors import MediaError
from ...cache.common.quoting import quoted
from .container import open_video
from .file_checks.truncation import believable_frames, is_cut_short
from .proof import Picture, checksum
from .random_access import shows_picture
from .segments import Segment, cut, join
from .timeline import CONTAINER, BoolArray, FloatArray, IntArray, timeline_of

MAX_SEGMENT_FRAMES = 1000
MAX_SEGMENT_BYTES = 3 << 29
MAX_SEGMENT_SECONDS = 3600.0
"""A GOP of more frames, or of more bytes as RGB (1.5 GiB: 250 frames of 1080p), is not drained but streamed: decord
decodes ahead of whoever reads it, at worst to the end of what it was given. Where time jumps by days, decord aborts."""


@dataclass(frozen=True)
class Anchor:
    """What identifies a packet after a seek: the same packet has the same four numbers."""

    pts: int | None
    dts: int | None
    size: int
    position: int | None


@dataclass(frozen=True)
class VideoIndex:
    """What demuxing tells of a video.

    Attributes:
        codec: FFmpeg's name of the codec, e.g. "h264".
        pix_fmt: FFmpeg's name of the pixel format of the first frame.
        width: columns as coded, before rotation.
        height: rows as coded, before rotation.
        rotation: counter-clockwise degrees by which frames are turned for display: 0, 90, 180 or 270.
        interlaced: whether the first frame is interlaced.
        intra_only: whether each picture of this codec decodes on its own.
        fps: average frames per second; 0.0 where the file does not tell.
        time_base: seconds per tick of a pts.
        packets: video packets in the file that show a frame, were they sound.
        packets_corrupt: packets that the container marks as damaged: lost pieces of a transport stream.
        frames_missing: frames that the header announces beyond the last packet: the file was cut short.
        first_picture: the first that a plain reading of the file gives; None where it has no pts.
        order_is_told: whether the pts of packets say in which order frames are shown. They do not where the decoder
            reorders and pts rise in decode order all the same; there the decoder's output is the order.
        timeline: where the times come from; see `timeline`. Empty where only decoding tells.
        times_ms: (N,) strictly increasing presentation times of the frames shown; None where only decoding tells.
        shown_pts: (N,) pts of the frames shown, strictly increasing; None where pts do not part the frames (missing,
            doubled, or counted from zero again): such a video is decoded in one go.
        segments: where the video can be cut; empty when `shown_pts` is None.
        anchors: the first packet of each segment, by its four numbers.
        first_row: row of `times_ms[0]` in the whole video; not 0 only in a `part`.
    """

    codec: str
    pix_fmt: str
    width: int
    height: int
    rotation: int
    interlaced: bool
    intra_only: bool
    fps: float
    time_base: Fraction
    packets: int
    packets_corrupt: int
    frames_missing: int
    first_picture: Picture | None
    order_is_told: bool
    timeline: str
    times_ms: FloatArray | None = field(repr=False)
    shown_pts: IntArray | None = field(repr=False)
    segments: tuple[Segment, ...] = field(repr=False)
    anchors: tuple[Anchor, ...] = field(repr=False)
    first_row: int = 0

    def is_drainable(self, segment: Segment) -> bool:
        """Whether a segment may be handed to decord, which decodes ahead of whoever reads it."""
        seconds = float((segment.end_pts - segment.start_pts) * self.time_base)
        size = segment.rows * self.width * self.height * 3
        return segment.rows <= MAX_SEGMENT_FRAMES and size <= MAX_SEGMENT_BYTES and seconds <= MAX_SEGMENT_SECONDS

    def part(self, first: int, end: int) -> VideoIndex:
        """The index of segments `first` to `end` (exclusive) alone, as it crosses to a worker."""
        assert self.shown_pts is not None  # noqa: S101  segments imply an index
        assert self.times_ms is not None  # noqa: S101  and times
        segments = self.segments[first:end]
        start, stop = segments[0].first_row, segments[-1].first_row + segments[-1].rows
        rows = slice(start - self.first_row, stop - self.first_row)
        return replace(
            self,
            times_ms=self.times_ms[rows],
            shown_pts=self.shown_pts[rows],
            segments=segments,
            anchors=self.anchors[first:end],
            first_row=start,
        )

    def joined(self) -> VideoIndex:
        """The same with segments joined to a length that is worth a reader of its own."""
        max_frames = min(MAX_SEGMENT_FRAMES, MAX_SEGMENT_BYTES // max(1, self.width * self.height * 3))
        segments, firsts = join(self.segments, max_frames)
        return replace(self, segments=tuple(segments), anchors=tuple(self.anchors[n] for n in firsts))

    def in_one_piece(self) -> VideoIndex:
        """The same without segments."""
        return replace(self, segments=(), anchors=())

    @property
    def frames_expected(self) -> int:
        """Frames that a player would show."""
        return self.frames_missing + (self.packets if self.times_ms is None else len(self.times_ms))


def quarter_turns(rotation: float) -> int:
    """The rotation that is applied, in degrees: pictures are turned by quarters, whatever a file asks for."""
    return round(rotation / 90) * 90 % 360


@dataclass(frozen=True)
class _Packets:
    """The video packets of a file in decode order; those that show nothing; numbers of those marked as damaged."""

    pts: list[int | None]
    dts: list[int | None]
    sizes: list[int]
    positions: list[int | None]
    keyframe: BoolArray
    discard: BoolArray
    corrupt: list[int]

    def are_reordered(self) -> bool:
        """Whether presentation times ever fall in decode order, as they do where frames are reordered."""
        times = [pts for pts in self.pts if pts is not None]
        return any(after < before for before, after in pairwise(times))

    def count_corrupt(self, borders: Sequence[int]) -> int:
        """Packets that the container marks as damaged; where files were joined, counters break and nothing is lost."""
        beside_a_border = {border + side for border in borders for side in (-3, -2, -1, 0)}
        return len(set(self.corrupt) - beside_a_border)

    def anchor(self, number: int) -> Anchor:
        return Anchor(self.pts[number], self.dts[number], self.sizes[number], self.positions[number])


def read_index(path: str | os.PathLike[str], beat: Callable[[], None] = lambda: None) -> VideoIndex:
    """Demux a video once and decode its first frame; `beat` is called for every packet.

    Raises:
        MediaError: not a video, no video stream, no packets, or not one frame that decodes.
    """
    with open_video(path) as (container, stream):
        packets = _demux(container, stream, path, beat)
        codec, time_base, fps = stream.codec_context.codec, stream.time_base, _fps(stream)
        missing = _frames_missing(path, stream, packets)
    frame, reorders = _first_frame(path)
    timeline = timeline_of(packets.pts, packets.keyframe, ~packets.discard, time_base, fps)
    shown_pts, segments = cut(packets.pts, packets.keyframe, packets.discard)
    if timeline is None or timeline.kind != CONTAINER:
        shown_pts, segments = None, ()
    return VideoIndex(
        codec=codec.canonical_name,
        pix_fmt=frame.format.name,
        width=frame.width,
        height=frame.height,
        rotation=quarter_turns(frame.rotation),
        interlaced=bool(frame.interlaced_frame),
        intra_only=bool(codec.intra_only),
        fps=fps,
        time_base=time_base,
        packets=int((~packets.discard).sum()),
        packets_corrupt=packets.count_corrupt(timeline.borders if timeline else ()),
        frames_missing=missing,
        first_picture=None if frame.pts is None else Picture(frame.pts, checksum(frame.to_ndarray(format="rgb24"))),
        order_is_told=not reorders or packets.are_reordered(),
        timeline=timeline.kind if timeline else "",
        times_ms=timeline.times_ms if timeline else None,
        shown_pts=shown_pts,
        segments=segments,
        anchors=tuple(packets.anchor(segment.first_packet) for segment in segments),
    )


def _fps(stream: Any) -> float:
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    return float(rate) if rate else 0.0


def _frames_missing(path: str | os.PathLike[str], stream: Any, packets: _Packets) -> int:
    """Frames lost at the end of a file that was cut short, as far as its header tells; at least 1 where it was cut."""
    if not is_cut_short(path):
        return 0
    frames = believable_frames(int(stream.frames), Path(path).stat().st_size)  # MP4 and AVI count theirs
    promised = frames - len(packets.pts)
    times = [pts for pts in packets.pts if pts is not None]
    if promised <= 0 and times:
        end_s = max(times) * float(stream.time_base)
        promised = round((_tagged_duration_s(stream.metadata.get("DURATION", "")) - end_s) * _fps(stream)) - 1
    return max(1, promised)


def _tagged_duration_s(tag: str) -> float:
    """Seconds of "00:01:02.500000000", as Matroska writers tag the end of a stream; 0.0 for anything else."""
    match = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", tag.strip())
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]) if match else 0.0


def _demux(container: Any, stream: Any, path: str | os.PathLike[str], beat: Callable[[], None]) -> _Packets:
    """All packets of the stream; damage at the end of a file ends the list, as it ends playback."""
    found: list[tuple[int | None, int | None, int, int | None, bool, bool]] = []
    codec = stream.codec_context.codec.canonical_name
    corrupt: list[int] = []
    try:
        for packet in container.demux(stream):
            beat()
            if packet.size:
                hidden = packet.is_discard or not shows_picture(codec, packet)
                corrupt += [len(found)] if packet.is_corrupt else []
                found.append((packet.pts, packet.dts, packet.size, packet.pos, packet.is_keyframe, hidden))
    except av.FFmpegError as error:
        if not found:
            raise MediaError(f"{quoted(path)} has no readable video packet ({error.strerror})") from error
    if not found:
        raise MediaError(f"{quoted(path)} holds no video frame; it may be an unfinished recording")
    pts, dts, sizes, positions, keyframe, discard = zip(*found, strict=True)
    return _Packets(list(pts), list(dts), list(sizes), list(positions), np.array(keyframe), np.array(discard), corrupt)


def _first_frame(path: str | os.PathLike[str]) -> tuple[Any, bool]:
    """The first frame that decodes, and whether the decoder may show frames in another order than they are coded in.

    Only a frame tells pixel format, interlacing and rotation for certain.
    """
    with open_video(path) as (container, stream):
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.FFmpegError:
                continue  # damage before the first good frame: later frames may still decode
            if frames:
                return frames[0], bool(stream.codec_context.has_b_frames)
    raise MediaError(f"No frame of {quoted(path)} can be decoded; the file is damaged or its codec is unknown")
