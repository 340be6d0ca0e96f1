"""Read the packets of a video segment by segment: in file order where possible, else by a checked seek."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any

import av

from .container import open_video
from .index import Anchor, VideoIndex
from .segments import Segment


class SegmentReader:
    """Gives each segment of an indexed video the packets that its decoder needs.

    Seeking is trusted only when it lands on the very packet that the index names; otherwise the file is read from its
    start, which costs time but never frames.
    """

    def __init__(
        self, path: str | os.PathLike[str], index: VideoIndex, beat: Callable[[], None] = lambda: None
    ) -> None:
        self._path = path
        self._beat = beat
        self._index = index
        self._files = ExitStack()
        self._held: list[tuple[int, Any]] = []  # packets read already that the next segment needs as well
        self._open()

    def __enter__(self) -> SegmentReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()

    def read(self, number: int) -> list[Any]:
        """The packets that segment `number` feeds to its decoder, in decode order."""
        segment = self._index.segments[number]
        self._go_to(number)
        found = self._held
        while self._next_number < segment.end_packet and (packet := next(self._packets, None)) is not None:
            found.append((self._next_number, packet))
            self._next_number += 1
        following = self._index.segments[number + 1 : number + 2]
        self._held = [(n, p) for n, p in found if following and n >= following[0].first_packet]
        return [p for n, p in found if n < segment.end_packet and segment.feeds(n, p.pts)]

    def read_through(self, first: int, end: int) -> Iterator[Any]:
        """Every packet from the start of segment `first` to the last that segment `end - 1` needs, in decode order."""
        self._go_to(first)
        for _, packet in self._held:
            yield packet
        self._held = []
        while self._next_number < self._index.segments[end - 1].end_packet:
            packet = next(self._packets, None)
            if packet is None:
                return
            self._next_number += 1
            yield packet

    @property
    def stream(self) -> Any:
        """PyAV's stream: the template for a remux, and the decoder of a plain reading."""
        return self._stream

    def _open(self) -> None:
        self._files.close()
        self._container, self._stream = self._files.enter_context(open_video(self._path))
        self._packets = self._demux()
        self._next_number = 0  # number of the packet that comes next, in decode order
        self._held = []

    def _demux(self) -> Iterator[Any]:
        with suppress(av.FFmpegError):  # damage at the end ends the packets here, as it ended the index
            for packet in self._container.demux(self._stream):
                self._beat()
                if packet.size:
                    yield packet

    def _go_to(self, number: int) -> None:
        """Make `_held` and what follows begin with the first packet of a segment."""
        segment = self._index.segments[number]
        oldest = self._held[0][0] if self._held else self._next_number
        if oldest <= segment.first_packet <= self._next_number:
            self._held = [(n, p) for n, p in self._held if n >= segment.first_packet]
        elif not self._seek(segment, self._index.anchors[number]):
            self._open()
            while self._next_number < segment.first_packet and next(self._packets, None) is not None:
                self._next_number += 1

    def _seek(self, segment: Segment, anchor: Anchor) -> bool:
        """Seek to the packet that the anchor describes; False where the container does not land there."""
        if segment.first_packet == 0:
            return False
        with suppress(av.FFmpegError):
            self._container.seek(segment.start_pts, stream=self._stream)
            self._packets = self._demux()
            for packet in self._packets:
                if Anchor(packet.pts, packet.dts, packet.size, packet.pos) == anchor:
                    self._held, self._next_number = [(segment.first_packet, packet)], segment.first_packet + 1
                    return True
                if packet.pts is None or packet.pts > segment.end_pts:
                    return False
        return False
