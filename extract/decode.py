"""Decode spans of a video: pixels from decord, from PyAV where decord cannot be trusted.

decord alone returns wrong frames on some MPEG-TS and edit-list files, can hang on seeks, and decodes ahead without
bound. It therefore sees one segment at a time, remuxed into memory, strictly forward, and must return exactly the
frames that the index promises; where it does not, PyAV decodes the rest of the span. Frames are bit-identical either
way.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import av
import numpy as np
import numpy.typing as npt

from .container import open_video
from .index import BoolArray, VideoIndex, pts_to_ms
from .packets import SegmentReader

RgbFrame = npt.NDArray[np.uint8]

_DECORD_EXACT_FORMATS = frozenset(
    {"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "gray", "bgra", "rgb24"}
)
_DEFAULT_FPS = 25.0  # what FFmpeg assumes for a raw stream that names no rate


class DecordRefusedError(Exception):
    """decord failed on a segment, or returned another number of frames than the index promises."""


class FrameSink(Protocol):
    """Where decoded frames go."""

    def add(self, row: int, timestamp_ms: float, rgb: RgbFrame) -> None:
        """Take a frame: its position in presentation order, its time, its (H, W, 3) uint8 pixels, upright."""

    def commit(self) -> None:
        """Everything added so far is final; this is the moment to wait for room downstream."""

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
    """Decode a span of a video into `sink`, in presentation order.

    Args:
        path: The video.
        index: Its index, from `read_index`.
        span: The segments to decode; ignored where the index has none.
        sink: Receives the frames.
        decoder: "decord" or "pyav"; "auto" takes decord where it is exact. What decord refuses goes to PyAV anyway.
        wanted: (N,) which rows to deliver; None for all.
        threads: Threads for each decoder.

    Raises:
        MediaError: The file can no longer be opened.
    """
    report = DecodeReport()
    if index.shown_pts is None:
        _decode_unindexed(path, sink, report, index.fps or _DEFAULT_FPS, threads)
        return report
    wanted = np.ones(len(index.shown_pts), bool) if wanted is None else wanted
    use_decord = decoder == "decord" or (decoder == "auto" and decord_is_exact(index))
    numbers = [n for n in range(span.first, span.end) if wanted[_rows(index, n)].any()]
    refused = _decode_with_decord(path, index, numbers, sink, report, wanted, threads) if use_decord else numbers
    if refused:
        _decode_with_pyav(path, index, refused, sink, report, wanted, threads)
    return report


def _rows(index: VideoIndex, number: int) -> slice:
    segment = index.segments[number]
    return slice(segment.first_row, segment.first_row + segment.rows)


def _decode_with_decord(
    path: str | os.PathLike[str],
    index: VideoIndex,
    numbers: Sequence[int],
    sink: FrameSink,
    report: DecodeReport,
    wanted: BoolArray,
    threads: int,
) -> Sequence[int]:
    """Decode segments one by one; returns those left over from the first that decord refuses."""
    with SegmentReader(path, index) as reader:
        for position, number in enumerate(numbers):
            if not index.segments[number].fits_in_memory(index.width * index.height * 3):
                return numbers[position:]
            try:
                _drain_segment(reader, index, number, sink, wanted, threads)
            except DecordRefusedError:
                sink.rollback()
                return numbers[position:]
            report.decoders.add("decord")
            sink.commit()
    return []


def _drain_segment(
    reader: SegmentReader, index: VideoIndex, number: int, sink: FrameSink, wanted: BoolArray, threads: int
) -> None:
    """Read one segment to its end without a pause, so that decord's decode-ahead stays a few frames long."""
    packets = reader.read(number)
    order = np.sort(np.array([packet.pts for packet in packets], np.int64))
    row_of = {int(pts): row for row, pts in enumerate(_shown(index)[_rows(index, number)], _rows(index, number).start)}
    times = _timestamps(index)
    frames = 0
    for frame in _decord_frames(remux(packets, reader.stream, index.rotation), threads):
        if frames == len(order):
            raise DecordRefusedError("more frames than packets")
        if tuple(frame.shape) != (index.height, index.width, 3):  # decord2 3.4: (H, 144, 4)
            raise DecordRefusedError("frames of another shape")
        row = row_of.get(int(order[frames]))
        frames += 1
        if row is not None and wanted[row]:
            sink.add(row, float(times[row]), upright(frame.asnumpy(), index.rotation))
    if frames != len(order):
        raise DecordRefusedError("fewer frames than packets")


def _shown(index: VideoIndex) -> npt.NDArray[np.int64]:
    assert index.shown_pts is not None  # noqa: S101  callers have checked
    return index.shown_pts


def _timestamps(index: VideoIndex) -> npt.NDArray[np.float64]:
    return pts_to_ms(_shown(index), index.time_base)


def remux(packets: Sequence[Any], stream: Any, rotation: int) -> io.BytesIO:
    """Write packets into a container in memory, unchanged but for a clock that starts at zero.

    Matroska holds most codecs, NUT the rest; NUT carries no rotation, which decord would apply on its own.

    Raises:
        DecordRefusedError: Neither container can hold the stream.
    """
    for name in ("nut",) if rotation else ("matroska", "nut"):
        buffer = io.BytesIO()
        try:
            _mux(packets, stream, buffer, name)
        except (av.FFmpegError, ValueError):
            continue
        buffer.seek(0)
        return buffer
    raise DecordRefusedError("no container in memory holds this codec")


def _mux(packets: Sequence[Any], stream: Any, buffer: io.BytesIO, container_format: str) -> None:
    start = min(p.pts if p.dts is None else min(p.pts, p.dts) for p in packets)
    with av.open(buffer, "w", format=container_format) as container:
        out = container.add_stream_from_template(stream, opaque=True)
        for packet in packets:
            if packet.has_sidedata("new_extradata") or packet.has_sidedata("palette"):
                raise ValueError("a copied packet loses its side data")
            copy = av.Packet(bytes(packet))
            copy.pts = packet.pts - start
            copy.dts = None if packet.dts is None else packet.dts - start
            copy.time_base, copy.is_keyframe, copy.stream = packet.time_base, packet.is_keyframe, out
            container.mux(copy)


def _decord_frames(container: io.BytesIO, threads: int) -> Iterator[Any]:
    decord = import_decord()
    try:
        # fault_tol=0 is ignored; any tiny fraction makes decord raise instead of repeating frames it could not decode.
        reader = decord.VideoReader(container, num_threads=threads, fault_tol=1e-9)
        while True:
            try:
                frame = reader.next()
            except StopIteration:
                return
            yield frame
    except (decord.DECORDError, decord.DECORDLimitReachedError, AssertionError, RuntimeError) as error:
        raise DecordRefusedError(str(error)) from error


def import_decord() -> Any:
    """Import decord without the CUDA libraries that it would load.

    decord2 opens every library below the `nvidia` namespace package, 600 MB resident in each worker, for a GPU decoder
    that is not used here. It looks for the package with `find_spec`, which answers None for a blocked name.
    """
    if "decord" in sys.modules:
        return sys.modules["decord"]
    missing = object()
    before: Any = sys.modules.get("nvidia", missing)
    sys.modules["nvidia"] = None  # type: ignore[assignment]
    try:
        decord = importlib.import_module("decord")
    finally:
        if before is missing:
            del sys.modules["nvidia"]
        else:
            sys.modules["nvidia"] = before
    decord.logging.set_level(decord.logging.QUIET)
    return decord


def _decode_with_pyav(
    path: str | os.PathLike[str],
    index: VideoIndex,
    numbers: Sequence[int],
    sink: FrameSink,
    report: DecodeReport,
    wanted: BoolArray,
    threads: int,
) -> None:
    """Decode plainly from one segment earlier, so that even a segment that leans on its neighbour comes out right."""
    times = _timestamps(index)
    row_of = {int(pts): row for row, pts in enumerate(_shown(index))}
    first_row, end_row = _rows(index, numbers[0]).start, _rows(index, numbers[-1]).stop
    with SegmentReader(path, index) as reader:
        packets = reader.read_through(max(0, numbers[0] - 1), numbers[-1] + 1)
        for frame in _pyav_frames(packets, reader.stream, threads, report):
            row = row_of.get(frame.pts, -1)
            if first_row <= row < end_row and wanted[row]:
                sink.add(row, float(times[row]), upright(frame.to_ndarray(format="rgb24"), index.rotation))
            sink.commit()  # for frames that nobody wants too: it shows that work goes on
    report.decoders.add("pyav")


def _decode_unindexed(
    path: str | os.PathLike[str], sink: FrameSink, report: DecodeReport, fps: float, threads: int
) -> None:
    """Decode a video whose packets do not tell their times; frames without a time follow at the stream's rate."""
    last_ms = -1000.0 / fps
    with open_video(path) as (container, stream):
        packets = (packet for packet in container.demux(stream) if packet.size)
        for row, frame in enumerate(_pyav_frames(packets, stream, threads, report)):
            last_ms = max(last_ms, frame.time * 1000.0) if frame.time is not None else last_ms + 1000.0 / fps
            sink.add(row, last_ms, upright(frame.to_ndarray(format="rgb24"), int(round(frame.rotation)) % 360))
            sink.commit()
    report.decoders.add("pyav")


def _pyav_frames(packets: Iterator[Any], stream: Any, threads: int, report: DecodeReport) -> Iterator[Any]:
    """All frames that decode; damage is counted and stepped over."""
    context = stream.codec_context
    context.thread_count = threads
    for packet in _until_damage(packets, report):
        yield from _decode(lambda packet=packet: context.decode(packet), report)  # type: ignore[misc]
    yield from _decode(lambda: context.decode(None), report)


def _until_damage(packets: Iterator[Any], report: DecodeReport) -> Iterator[Any]:
    try:
        yield from packets
    except av.FFmpegError:
        report.errors += 1


def _decode(call: Callable[[], list[Any]], report: DecodeReport) -> list[Any]:
    try:
        return call()
    except av.FFmpegError:
        report.errors += 1
        return []


def upright(rgb: RgbFrame, rotation: int) -> RgbFrame:
    """Turn a frame counter-clockwise by its display rotation, in degrees."""
    return np.ascontiguousarray(np.rot90(rgb, rotation // 90)) if rotation else rgb
