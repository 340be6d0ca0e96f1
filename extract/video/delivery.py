"""From decoder to sink: what all ways of decoding a video share.

`decode` has the ways. Here frames are decoded by PyAV with damage counted, held against what is wanted, turned upright
and handed on.
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

from .index import VideoIndex
from .proof import Cuts
from .segments import Segment
from .timeline import BoolArray

RgbFrame = npt.NDArray[np.uint8]

TELL_ERRORS_IN_SLICES = frozenset({"vp7", "vp8"})
"""Codecs of which FFmpeg passes errors on only where it decodes slices in threads; with one thread it hides them."""


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


class Decoding:
    """A video, or a span of one, being decoded: where from, where to, and how it went."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        index: VideoIndex,
        sink: FrameSink,
        wanted: BoolArray | None,
        threads: int,
    ) -> None:
        self.path = path
        self.index = index
        self.sink = sink
        self.wanted = wanted
        self.threads = threads
        self.report = DecodeReport()

    def wants(self, segment: Segment) -> bool:
        """Whether any frame of a segment is to be delivered."""
        first = segment.first_row - self.index.first_row
        return self.wanted is None or bool(self.wanted[first : first + segment.rows].any())

    def start_pts(self, segment: Segment) -> int | None:
        """The pts of the picture that a segment begins with; None where that of the file is not known."""
        if segment.first_packet:
            return segment.start_pts
        return self.index.first_picture.pts if self.index.first_picture else None

    def add_cuts(self, cuts: Cuts) -> None:
        """Report what a piece says of its borders."""
        self.report.cuts.alone |= cuts.alone
        self.report.cuts.continued |= cuts.continued

    def note_order(self, before: int | None, pts: int | None) -> None:
        """Report where the pts of frames fall, unless damage may be why."""
        is_sound = not self.report.errors and not self.report.corrupt
        if is_sound and before is not None and (pts is None or pts <= before):
            self.report.is_disordered = True

    def row_of(self, segments: Sequence[Segment]) -> dict[int, int]:
        """Row, counted from the index's first, by pts: of the frames that the segments show."""
        assert self.index.shown_pts is not None  # noqa: S101  segments imply an index
        first = segments[0].first_row - self.index.first_row
        end = segments[-1].first_row + segments[-1].rows - self.index.first_row
        return {int(pts): row for row, pts in enumerate(self.index.shown_pts[first:end], first)}

    def is_wanted(self, row: int | None) -> bool:
        """Whether a row, counted from the index's first, is to be delivered; None is of a frame that is not shown."""
        return row is not None and (self.wanted is None or bool(self.wanted[row]))

    def deliver_frame(self, row: int | None, frame: Any) -> None:
        """Hand on a frame of PyAV; count it where it is marked as corrupt."""
        if self.is_wanted(row):
            self.report.corrupt += bool(frame.is_corrupt)
        self.deliver(row, partial(rgb_of, frame))
        self.sink.commit()

    def deliver(self, row: int | None, pixels: Callable[[], RgbFrame]) -> None:
        """Hand a frame on, unless an edit list hides it or nobody wants it."""
        times_ms = self.index.times_ms
        if row is None or times_ms is None or not self.is_wanted(row):
            self.sink.beat()
            return
        self.sink.add(self.index.first_row + row, float(times_ms[row]), upright(pixels(), self.index.rotation))

    def open_decoder(self, stream: Any) -> Any:
        """The stream's decoder; more threads than one let FFmpeg conceal some damage that one turns into garbage."""
        context = stream.codec_context
        if context.is_open:
            return context
        if self.threads < 2 and self.index.codec in TELL_ERRORS_IN_SLICES:
            context.thread_count, context.thread_type = 2, "SLICE"
        else:
            context.thread_count, context.thread_type = self.threads, "AUTO"
        return context

    def pyav_frames(self, packets: Iterable[Any], stream: Any) -> Iterator[Any]:
        """All frames that decode; damage is counted and stepped over."""
        context = self.open_decoder(stream)
        for packet in self._until_damage(packets):
            self.sink.beat()
            yield from self.decode(context, packet)
        yield from self.decode(context, None)

    def _until_damage(self, packets: Iterable[Any]) -> Iterator[Any]:
        try:
            yield from packets
        except av.FFmpegError:
            self.report.errors += 1

    def decode(self, context: Any, packet: Any) -> list[Any]:
        """The frames that a packet brings, or that are left where it is None; none and an error counted if it fails."""
        try:
            frames: list[Any] = context.decode(packet)
        except av.FFmpegError:
            self.report.errors += 1
            return []
        return frames


def packets_of(container: Any, stream: Any) -> Iterator[Any]:
    """All packets of a stream from where its container stands, but for empty ones."""
    return (packet for packet in container.demux(stream) if packet.size)


def rgb_of(frame: Any) -> RgbFrame:
    """The pixels of a frame of PyAV, as coded: not turned upright."""
    rgb: RgbFrame = frame.to_ndarray(format="rgb24")
    return rgb


def upright(rgb: RgbFrame, rotation: int) -> RgbFrame:
    """Turn a frame counter-clockwise by its display rotation, in degrees."""
    return np.ascontiguousarray(np.rot90(rgb, rotation // 90)) if rotation else rgb
