"""What a row of `ODD` is, and the byte patches and remuxes that turn sound videos into odd ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from barcode import draw_barcode
from video_files import VideoTruth, find_box, make_video, timescale

FPS = 25
FRAME_MS = 40.0

FRAMES = 200
"""Enough for several cuts where every 60 frames may begin a segment, as in `decoded_runs`."""

X264 = {"preset": "veryfast", "x264-params": "keyint=24:min-keyint=24:bframes=2:scenecut=0:open-gop=0"}
VPX = {"g": "24", "b": "500k", "deadline": "realtime", "cpu-used": "8"}

Retime = Callable[[int, Any], tuple[int | None, int | None]]
"""pts and dts for a packet, from its number in decode order and the packet."""


Build = Callable[[Path], VideoTruth]


@dataclass(frozen=True)
class Odd:
    """An odd video.

    Attributes:
        name: Unique, fit for a test id.
        proves: What a decoder that gets it right has shown.
        build: Writes it into a folder and gives the truth about it. `timestamps_ms` is empty where no answer is the
            right one; for "doubled times parted" it holds the container's times, doubles included. Width and height
            are those of the first frame, or of the stream where its encoder chooses the size of each frame.
        encoder: FFmpeg's name of the encoder that must be there; see `has_encoder`.
        expect: "exact": the pictures are those of the truth, in its order. "refused": one clear error, no entry.
            "damaged": bytes are wrong; what is shown cannot equal the truth, which is the video before the damage.
        complete: Whether an entry of it may say that it is complete.
        timeline: Where times come from: "container", "doubled times parted", "restarts joined" or "from frame rate".
        sizes: Width and height of each frame, where they change in a known way: a barcode stretched to another size
            would still be read.
        options: For `av.open`, without which a plain decode does not give the truth.
    """

    name: str
    proves: str
    build: Build
    encoder: str = "libx264"
    expect: str = "exact"
    complete: bool = True
    timeline: str = "container"
    sizes: tuple[tuple[int, int], ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)


def odd_video(name: str, suffix: str, patch: Callable[[Path], None] = lambda path: None, **how: Any) -> Build:
    """Give the builder of a video that `make_video` writes and `patch` then changes.

    `late_ms`, if given, is what the muxer adds to every timestamp.
    """
    late_ms = how.pop("late_ms", 0.0)

    def build(folder: Path) -> VideoTruth:
        truth = make_video(folder / f"{name}{suffix}", **{"frames": FRAMES, **how})
        patch(truth.path)
        return replace(truth, timestamps_ms=tuple(time + late_ms for time in truth.timestamps_ms))

    return build


@dataclass(frozen=True)
class Part:
    """A run of frames of one size: width and height in pixels."""

    frames: int
    size: tuple[int, int]


def times_of(count: int, late_ms: float = 0.0) -> tuple[float, ...]:
    """Presentation times in milliseconds of `count` frames at 25 per second, the first at `late_ms`."""
    return tuple(late_ms + FRAME_MS * n for n in range(count))


def make_part(path: Path, first: int, frames: int, **how: Any) -> VideoTruth:
    """Write a video whose numbers begin with `first`; its times begin with zero."""
    return make_video(path, frames=first + frames, repeat=dict.fromkeys(range(first), 0), **how)


def write_parts(
    path: Path,
    parts: Sequence[Part],
    codec: str,
    options: Mapping[str, str],
    container: str | None = None,
) -> VideoTruth:
    """Write one stream whose frames change size: a new encoder for each part, one clock for all.

    Returns:
        The truth; width and height are those of the first part.
    """
    number = 0
    with av.open(str(path), "w", format=container) as output:
        stream: Any = output.add_stream(codec, rate=FPS, options=dict(options))
        for index, part in enumerate(parts):
            encoder: Any = stream.codec_context if index == 0 else av.CodecContext.create(codec, "w")
            if index:
                encoder.options, encoder.framerate = dict(options), Fraction(FPS)
            encoder.width, encoder.height = part.size
            encoder.pix_fmt, encoder.time_base, encoder.thread_count = "yuv420p", Fraction(1, FPS), 1
            for _ in range(part.frames):
                frame = av.VideoFrame.from_ndarray(draw_barcode(number, *part.size), format="rgb24")
                frame = frame.reformat(format="yuv420p")
                frame.pts, frame.time_base = number, Fraction(1, FPS)
                number += 1
                _mux(output, stream, encoder.encode(frame))
            _mux(output, stream, encoder.encode(None))
    return VideoTruth(path, tuple(range(number)), times_of(number), *parts[0].size)


def _mux(output: Any, stream: Any, packets: Sequence[Any]) -> None:
    for packet in packets:
        packet.stream, packet.time_base = stream, Fraction(1, FPS)
        output.mux(packet)


class Pipe:
    """A file to write to that cannot be rewound."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes) -> int:
        self.data += data
        return len(data)


def remux(source: Path, target: Path | Pipe, retime: Retime, container: str | None = None) -> None:
    """Copy the video packets of a file into another container, at other times, in ticks of the source."""
    sink = target if isinstance(target, Pipe) else str(target)
    with av.open(str(source)) as reading, av.open(sink, "w", format=container) as output:
        stream = output.add_stream_from_template(reading.streams.video[0], opaque=True)
        for number, packet in enumerate(p for p in reading.demux(video=0) if p.size):
            packet.pts, packet.dts = retime(number, packet)
            packet.stream = stream
            output.mux(packet)


def joined(target: Path, *sources: VideoTruth, skip: int = 0) -> VideoTruth:
    """Join files byte by byte, without the first `skip` bytes of each but the first.

    Returns:
        The numbers of all; the times of the first, continued at its rate.
    """
    data = [truth.path.read_bytes()[skip if index else 0 :] for index, truth in enumerate(sources)]
    target.write_bytes(b"".join(data))
    numbers = tuple(number for truth in sources for number in truth.numbers)
    times = times_of(len(numbers), sources[0].timestamps_ms[0])
    return replace(sources[0], path=target, numbers=numbers, timestamps_ms=times)


# --- patches ---------------------------------------------------------------------------------------------


def rename_box(path: Path, *names: str) -> None:
    """Hide a box of an MP4 file, found by its way from the root, by calling it `free`."""
    data = bytearray(path.read_bytes())
    start, _ = find_box(data, *names)
    data[start - 4 : start] = b"free"
    path.write_bytes(data)


def hide_avi_index(path: Path) -> None:
    """Take the index from an AVI file: the chunk becomes JUNK, and AVIF_HASINDEX in the header is cleared."""
    data = bytearray(path.read_bytes())
    index, header = data.rindex(b"idx1"), data.index(b"avih")
    data[index : index + 4] = b"JUNK"
    data[header + 8 + 12] &= ~0x10  # dwFlags is the fourth number of the header
    path.write_bytes(data)


def set_edits(path: Path, edits: Sequence[tuple[int, int]]) -> None:
    """Replace the edit list of an MP4 file whose `moov` is at its end by edits of (first frame, frames).

    ISO/IEC 14496-12, 8.6.6: a version 0 `elst` entry has a duration in movie ticks, a media time in track ticks, and
    a rate in 16.16.
    """
    data = bytearray(path.read_bytes())
    media, movie = timescale(data, "moov", "trak", "mdia", "mdhd"), timescale(data, "moov", "mvhd")
    start, end = find_box(data, "moov", "trak", "edts", "elst")
    delay = int.from_bytes(data[start + 12 : start + 16], "big")
    body = bytes(4) + len(edits).to_bytes(4, "big")
    for first, frames in edits:
        numbers = (frames * movie // FPS, first * media // FPS + delay, 1 << 16)
        body += b"".join(number.to_bytes(4, "big") for number in numbers)
    data[start:end] = body
    for names in (("moov",), ("moov", "trak"), ("moov", "trak", "edts"), ("moov", "trak", "edts", "elst")):
        place = find_box(data, *names)[0] - 8
        length = int.from_bytes(data[place : place + 4], "big") + len(body) - (end - start)
        data[place : place + 4] = length.to_bytes(4, "big")
    path.write_bytes(data)


def change_packets(path: Path, numbers: Sequence[int], change: Callable[[bytes], bytes]) -> None:
    """Change the bytes of some packets, numbered in decode order, where they lie in the file."""
    with av.open(str(path)) as source:
        packets = [bytes(packet) for packet in source.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    place = 0
    for number, packet in enumerate(packets):
        place = data.index(packet, place)
        if number in numbers:
            data[place : place + len(packet)] = change(packet)
        place += len(packet)
    path.write_bytes(data)


def hide_frames(path: Path, numbers: Sequence[int]) -> None:
    """Clear the bit `show_frame` of some VP8 packets, numbered in decode order: they decode and show nothing."""

    def hide(packet: bytes) -> bytes:
        return bytes([packet[0] & ~0x10]) + packet[1:]

    change_packets(path, numbers, hide)


def invert(packet: bytes, start: float, end: float) -> bytes:
    """Invert the bytes of a packet from `start` to `end`, parts of its length."""
    first, last = int(len(packet) * start), int(len(packet) * end)
    return packet[:first] + bytes(255 - byte for byte in packet[first:last]) + packet[last:]


def jump_in_flv(path: Path, number: int) -> None:
    """Add 2**31 ms to the time of one video tag of an FLV file: its uppermost bit is set."""
    data = bytearray(path.read_bytes())
    place, seen = 13, 0
    while place + 11 < len(data):
        if data[place] == 9:
            if seen == number:
                data[place + 7] |= 0x80
            seen += 1
        place += 11 + int.from_bytes(data[place + 1 : place + 4], "big") + 4
    path.write_bytes(data)


def hide_pes_times(path: Path, first: int) -> None:
    """Take pts and dts from the first PES packets of an MPEG-TS file; stuffing takes their place."""
    data = bytearray(path.read_bytes())
    place = -1
    for _ in range(first):
        place = data.find(b"\0\0\1\xe0", place + 1)
        if place < 0:
            break
        data[place + 7] &= 0x3F
        data[place + 9 : place + 9 + data[place + 8]] = b"\xff" * data[place + 8]
    path.write_bytes(data)


def stop_ivf_clock(path: Path) -> None:
    """Set every time in an IVF file to zero."""
    data = bytearray(path.read_bytes())
    place = 32
    while place < len(data):
        data[place + 4 : place + 12] = bytes(8)
        place += 12 + int.from_bytes(data[place : place + 4], "little")
    path.write_bytes(data)


def drop_ts_packets(path: Path, every: int) -> None:
    """Leave out every n-th of the 188-byte packets of an MPEG-TS file, after the first tenth of the file."""
    data = path.read_bytes()
    packets = [data[n : n + 188] for n in range(0, len(data), 188)]
    kept = [packet for n, packet in enumerate(packets) if n < len(packets) // 10 or n % every]
    path.write_bytes(b"".join(kept))
