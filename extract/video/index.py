"""The frame index of a video: which frames are shown, when, and where the file can be cut.

Demuxing alone tells it, in milliseconds: the packets that are not marked "discard", sorted by presentation time, are
the frames shown (compared with full decodes of some 600 files). Everything here is arithmetic over packet times,
except `read_index`, which also decodes the first frame to learn what no header tells reliably.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from ...cache.common.errors import MediaError
from ...cache.common.quoting import quoted
from .container import open_video
from .truncation import is_cut_short

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

MIN_SEGMENT_FRAMES = 96
"""Neighbouring GOPs are joined up to this many frames: a reader per segment costs a few milliseconds."""

MAX_SEGMENT_FRAMES = 1000
MAX_SEGMENT_BYTES = 3 << 29
MAX_SEGMENT_SECONDS = 3600.0
"""A GOP of more frames, or of more bytes as RGB (1.5 GiB: 250 frames of 1080p), is not drained but streamed: decord
decodes ahead of whoever reads it, at worst to the end of what it was given. Where time jumps by days, decord aborts."""


@dataclass(frozen=True)
class Segment:
    """A run of packets that decodes on its own and shows the frames of one interval of time.

    Fed are the packets numbered `first_packet` to `end_packet` (exclusive, decode order) whose pts lies in
    [`start_pts`, `end_pts`), and `next_keyframe` as well when pictures of this interval lead it (open GOP): they
    follow the next keyframe in the file, are shown before it, and need both sides to decode.
    """

    first_packet: int
    end_packet: int
    start_pts: int
    end_pts: int
    next_keyframe: int | None
    first_row: int
    rows: int

    def feeds(self, packet_number: int, pts: int) -> bool:
        """Whether the decoder of this segment needs the packet."""
        return packet_number == self.next_keyframe or self.start_pts <= pts < self.end_pts


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
        width: Columns as coded, before rotation.
        height: Rows as coded, before rotation.
        rotation: Counter-clockwise degrees by which frames are turned for display: 0, 90, 180 or 270.
        interlaced: Whether the first frame is interlaced.
        fps: Average frames per second; 0.0 where the file does not tell.
        time_base: Seconds per tick of a pts.
        packets: Video packets in the file.
        frames_missing: Frames that the header announces beyond the last packet: the file was cut short.
        shown_pts: (N,) pts of the frames shown, strictly increasing; None where the packets do not tell (no pts, or
            doubled ones): such a video is decoded in one go and counted as it comes.
        segments: Where the video can be cut; empty when `shown_pts` is None.
        anchors: The first packet of each segment, by its four numbers.
        first_row: Row of `shown_pts[0]` in the whole video; not 0 only in a `part`.
    """

    codec: str
    pix_fmt: str
    width: int
    height: int
    rotation: int
    interlaced: bool
    fps: float
    time_base: Fraction
    packets: int
    frames_missing: int
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
        segments = self.segments[first:end]
        start, stop = segments[0].first_row, segments[-1].first_row + segments[-1].rows
        shown = self.shown_pts[start - self.first_row : stop - self.first_row]
        return replace(self, shown_pts=shown, segments=segments, anchors=self.anchors[first:end], first_row=start)

    @property
    def frames_expected(self) -> int:
        """Frames that a player would show."""
        return self.frames_missing + (self.packets if self.shown_pts is None else len(self.shown_pts))

    @property
    def timestamps_ms(self) -> npt.NDArray[np.float64] | None:
        """(N,) presentation times in milliseconds, as the container has them; None where unknown before decoding."""
        return None if self.shown_pts is None else pts_to_ms(self.shown_pts, self.time_base)


def quarter_turns(rotation: float) -> int:
    """The rotation that is applied, in degrees: pictures are turned by quarters, whatever a file asks for."""
    return round(rotation / 90) * 90 % 360


def pts_to_ms(pts: IntArray, time_base: Fraction) -> npt.NDArray[np.float64]:
    """Ticks to milliseconds, rounded once as long as pts * numerator * 1000 stays below 2**53."""
    factor = time_base.numerator * 1000
    largest = max((abs(int(p)) for p in (pts.min(), pts.max())), default=0) if len(pts) else 0
    ticks = pts * factor if largest * factor < 1 << 63 else pts.astype(np.float64) * factor
    return ticks.astype(np.float64) / time_base.denominator


@dataclass(frozen=True)
class _Packets:
    """The video packets of a file in decode order."""

    pts: list[int | None]
    dts: list[int | None]
    sizes: list[int]
    positions: list[int | None]
    keyframe: BoolArray
    discard: BoolArray

    def anchor(self, number: int) -> Anchor:
        return Anchor(self.pts[number], self.dts[number], self.sizes[number], self.positions[number])


def read_index(path: str | os.PathLike[str], beat: Callable[[], None] = lambda: None) -> VideoIndex:
    """Demux a video once and decode its first frame; `beat` is called for every packet.

    Raises:
        MediaError: Not a video, no video stream, no packets, or not one frame that decodes.
    """
    with open_video(path) as (container, stream):
        packets = _demux(container, stream, path, beat)
        codec, time_base, fps = stream.codec_context.codec.canonical_name, stream.time_base, _fps(stream)
        missing = _frames_missing(path, stream, packets)
    frame = _first_frame(path)
    shown_pts, segments = cut(packets.pts, packets.keyframe, packets.discard)
    return VideoIndex(
        codec=codec,
        pix_fmt=frame.format.name,
        width=frame.width,
        height=frame.height,
        rotation=quarter_turns(frame.rotation),
        interlaced=bool(frame.interlaced_frame),
        fps=fps,
        time_base=time_base,
        packets=len(packets.pts),
        frames_missing=missing,
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
    promised = int(stream.frames) - len(packets.pts)  # MP4 and AVI count their frames
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
    try:
        for packet in container.demux(stream):
            beat()
            if packet.size:
                found.append((packet.pts, packet.dts, packet.size, packet.pos, packet.is_keyframe, packet.is_discard))
    except av.FFmpegError as error:
        if not found:
            raise MediaError(f"{quoted(path)} has no readable video packet ({error.strerror})") from error
    if not found:
        raise MediaError(f"{quoted(path)} holds no video frame; it may be an unfinished recording")
    pts, dts, sizes, positions, keyframe, discard = zip(*found, strict=True)
    return _Packets(list(pts), list(dts), list(sizes), list(positions), np.array(keyframe), np.array(discard))


def _first_frame(path: str | os.PathLike[str]) -> Any:
    """The first frame that decodes: only it tells pixel format, interlacing and rotation for certain."""
    with open_video(path) as (container, stream):
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.FFmpegError:
                continue  # damage before the first good frame: later frames may still decode
            if frames:
                return frames[0]
    raise MediaError(f"No frame of {quoted(path)} can be decoded; the file is damaged or its codec is unknown")


def cut(pts: list[int | None], keyframe: BoolArray, discard: BoolArray) -> tuple[IntArray | None, tuple[Segment, ...]]:
    """Cut a stream at its keyframes.

    Args:
        pts: (P,) presentation times of the packets in decode order; None where the container has none.
        keyframe: (P,) whether decoding can start at the packet.
        discard: (P,) whether an edit list hides the packet's frame.

    Returns:
        The pts of the frames shown, in order, and the segments that together show each of them exactly once. `(None,
        ())` where pts are missing or doubled; one segment where the keyframes do not part the frames cleanly.
    """
    if not pts or any(p is None for p in pts):
        return None, ()
    times = np.array(pts, np.int64)
    if len(np.unique(times)) != len(times) or not keyframe.any():
        return None, ()
    shown = np.sort(times[~discard])
    cuts = _choose_cuts(times, np.flatnonzero(keyframe))
    segments = tuple(_segment(times, shown, cuts, i) for i in range(len(cuts)))
    if _partition(times, segments) and sum(s.rows for s in segments) == len(shown):
        return shown, tuple(s for s in segments if s.rows)
    return shown, (Segment(0, len(times), int(times.min()), int(times.max()) + 1, None, 0, len(shown)),)


def _choose_cuts(times: IntArray, keys: IntArray) -> list[int]:
    """Keyframes at which to cut: each at least MIN_SEGMENT_FRAMES after the one before, the first always."""
    cuts = [int(keys[0])]
    for key in keys[1:]:
        if key - cuts[-1] >= MIN_SEGMENT_FRAMES and times[key] > times[cuts[-1]]:
            cuts.append(int(key))
    return cuts


def _segment(times: IntArray, shown: IntArray, cuts: list[int], i: int) -> Segment:
    first, start = cuts[i], int(times[cuts[i]])
    if i + 1 == len(cuts):
        end_packet, end, next_keyframe = len(times), int(times.max()) + 1, None
    else:
        following = cuts[i + 1]
        end = int(times[following])
        after = times[following + 1 : cuts[i + 2] if i + 2 < len(cuts) else len(times)]
        leading = np.flatnonzero(after < end)
        end_packet = following + 2 + int(leading[-1]) if len(leading) else following
        next_keyframe = following if len(leading) else None
    if i == 0:  # pictures before the first keyframe cannot be placed better than here
        first, start = 0, int(times.min())
    first_row, end_row = np.searchsorted(shown, [start, end])
    return Segment(first, end_packet, start, end, next_keyframe, int(first_row), int(end_row - first_row))


def _partition(times: IntArray, segments: tuple[Segment, ...]) -> bool:
    """Whether every packet's frame comes out of exactly one segment."""
    outputs = np.zeros(len(times), np.int64)
    for s in segments:
        window = times[s.first_packet : s.end_packet]
        outputs[s.first_packet : s.end_packet] += (window >= s.start_pts) & (window < s.end_pts)
    return bool((outputs == 1).all())
