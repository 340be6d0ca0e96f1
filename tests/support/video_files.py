"""Writing and reading video files whose frames say their number; see `barcode.py`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from barcode import draw_barcode, read_barcode

# SVT-AV1 prints a banner unless told not to, and listens to nothing but the environment.
os.environ.setdefault("SVT_LOG", "1")

QUIET: Mapping[str, Mapping[str, str]] = {"libx265": {"x265-params": "log-level=none:pools=1:frame-threads=1"}}
"""Options that keep an encoder silent and on one core; the caller's x265-params are appended."""


@dataclass(frozen=True)
class VideoTruth:
    """What a correct decoder must give for a video, in presentation order.

    Attributes:
        path: The file.
        numbers: Barcode of each shown frame.
        timestamps_ms: Presentation time of each shown frame in milliseconds, on the container's own clock.
        width: Pixels of a frame as shown, after rotation.
        height: Pixels of a frame as shown, after rotation.
        rotation: Degrees clockwise, 0, 90, 180 or 270, by which a player turns the coded picture.
    """

    path: Path
    numbers: tuple[int, ...]
    timestamps_ms: tuple[float, ...]
    width: int
    height: int
    rotation: int = 0


def has_encoder(codec: str) -> bool:
    """Whether the installed PyAV can write this codec."""
    try:
        av.Codec(codec, "w")
    except av.error.FFmpegError:
        return False
    return True


def _shown_numbers(frames: int, repeat: Mapping[int, int] | None) -> tuple[int, ...]:
    times = repeat or {}
    return tuple(number for number in range(frames) for _ in range(times.get(number, 1)))


def _encoder_options(codec: str, options: Mapping[str, str] | None) -> dict[str, str]:
    merged = dict(QUIET.get(codec, {}))
    for key, value in (options or {}).items():
        merged[key] = f"{merged[key]}:{value}" if key == "x265-params" and key in merged else value
    return merged


def _add_audio_track(output: Any) -> Any:
    stream = output.add_stream("aac", rate=48_000)
    stream.layout, stream.codec_context.time_base = "mono", Fraction(1, 48_000)
    return stream


def _write_silence(output: Any, stream: Any, seconds: float) -> None:
    size = 1024
    for start in range(0, int(seconds * 48_000), size):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, size), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, start, Fraction(1, 48_000)
        output.mux(stream.encode(frame))
    output.mux(stream.encode(None))


def make_silence(path: Path, seconds: float) -> Path:
    """Write a file with a silent audio track and nothing else."""
    with av.open(str(path), "w") as output:
        _write_silence(output, _add_audio_track(output), seconds)
    return path


def _leave_real_time() -> None:
    """SVT-AV1 gives the process that uses it real-time priority where it may (root): all others would wait for it."""
    if hasattr(os, "sched_setscheduler") and os.sched_getscheduler(0) != os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def make_video(
    path: Path,
    *,
    codec: str = "libx264",
    frames: int = 48,
    fps: int | Fraction = 25,
    size: tuple[int, int] = (160, 120),
    pix_fmt: str = "yuv420p",
    container: str | None = None,
    options: Mapping[str, str] | None = None,
    container_options: Mapping[str, str] | None = None,
    flags: int = 0,
    timestamps: Sequence[int] | None = None,
    rotation: int = 0,
    audio: bool = False,
    start_offset_s: Fraction | int = 0,
    repeat: Mapping[int, int] | None = None,
) -> VideoTruth:
    """Write a video whose frames say their number.

    Args:
        path: File to write; the suffix chooses the container unless `container` does.
        codec: FFmpeg's name of the encoder.
        frames: How many different numbers, 0 to frames - 1.
        fps: Frames per second, when `timestamps` is not given. 25 is exact in every container's ticks.
        size: Shown width and height in pixels, after rotation.
        pix_fmt: FFmpeg's name of the coded pixel format.
        container: FFmpeg's name of the muxer.
        options: Encoder options.
        container_options: Muxer options.
        flags: Encoder flags, or-ed in.
        timestamps: Presentation times in whole milliseconds, one for each shown frame: a variable frame rate.
        rotation: Degrees clockwise that a player must turn the coded picture (MP4 and MOV only).
        audio: Add a silent AAC track.
        start_offset_s: Seconds added to every timestamp, a whole number of ticks.
        repeat: How often a number is shown, by number; 1 where not named.

    Returns:
        The numbers and times as asked for. What a muxer adds of its own is for the caller to add.
    """
    width, height = size
    numbers = _shown_numbers(frames, repeat)
    tick = Fraction(1, 1000) if timestamps is not None else 1 / Fraction(fps)
    ticks = list(range(len(numbers))) if timestamps is None else list(timestamps)
    if len(ticks) != len(numbers):
        raise ValueError(f"{len(numbers)} frames need as many timestamps, not {len(ticks)}")
    ticks = [t + int(start_offset_s / tick) for t in ticks]
    turned = rotation in (90, 270)
    with av.open(str(path), "w", format=container, options=dict(container_options or {})) as output:
        stream: Any = output.add_stream(codec, rate=Fraction(fps), options=_encoder_options(codec, options))
        stream.width, stream.height = (height, width) if turned else (width, height)
        stream.pix_fmt, stream.time_base = pix_fmt, tick
        stream.codec_context.time_base = tick
        stream.codec_context.thread_count = 1
        stream.codec_context.flags |= flags
        track = _add_audio_track(output) if audio else None
        output.start_encoding()  # the header is written even when no frame follows
        for number, pts in zip(numbers, ticks, strict=True):
            # The coded picture is the upright one turned back, so that the player's turn undoes it.
            picture = np.ascontiguousarray(np.rot90(draw_barcode(number, width, height), rotation // 90))
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = pts, tick
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if track is not None:
            _write_silence(output, track, float(len(numbers) * tick))
    if rotation:
        set_rotation(path, rotation)
    _leave_real_time()
    return VideoTruth(path, numbers, tuple(float(t * tick * 1000) for t in ticks), width, height, rotation)


def read_video(path: Path) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Decode a video the plain way, with PyAV from start to end, rotation undone.

    Returns:
        The barcodes and the timestamps in milliseconds, in presentation order.
    """
    numbers: list[int] = []
    timestamps_ms: list[float] = []
    with av.open(str(path)) as source:
        for frame in source.decode(video=0):
            picture = np.rot90(frame.to_ndarray(format="rgb24"), getattr(frame, "rotation", 0) // 90)
            numbers.append(read_barcode(picture))
            timestamps_ms.append(float(frame.pts * frame.time_base * 1000))
    return tuple(numbers), tuple(timestamps_ms)


# --- boxes of an MP4 file --------------------------------------------------------------------------------


def find_box(data: bytes | bytearray, *names: str) -> tuple[int, int]:
    """Find a box of an MP4 file by its way from the root: `find_box(data, "moov", "trak", "tkhd")`.

    Returns:
        Offset of the body and offset of the end, in bytes. The first box of a name is taken.
    """
    start, end = 0, len(data)
    for name in names:
        while start < end:
            length = int.from_bytes(data[start : start + 4], "big")
            kind = bytes(data[start + 4 : start + 8]).decode("latin-1")
            header = 16 if length == 1 else 8
            if length == 1:
                length = int.from_bytes(data[start + 8 : start + 16], "big")
            if kind == name:
                start, end = start + header, start + length
                break
            if length < header:
                raise KeyError(name)
            start += length
        else:
            raise KeyError(name)
    return start, end


def set_rotation(path: Path, degrees: int) -> None:
    """Write the display matrix of the first track of an MP4 file: a player turns it clockwise by `degrees`.

    ISO/IEC 14496-12, 8.3.2: nine big-endian numbers, 16.16 but for the last column, 40 bytes into a `tkhd`.
    """
    cos, sin = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    data = bytearray(path.read_bytes())
    start, _ = find_box(data, "moov", "trak", "tkhd")
    place = start + (52 if data[start] == 1 else 40)
    for index, value in enumerate((cos, sin, 0, -sin, cos, 0)):
        data[place + 4 * index : place + 4 * index + 4] = (value << 16).to_bytes(4, "big", signed=True)
    path.write_bytes(data)


def skip_first(path: Path, skipped: int, shown: int, fps: int) -> None:
    """Let the edit list of an MP4 file hide the first `skipped` coded frames, so that `shown` remain.

    ISO/IEC 14496-12, 8.6.6: a version 0 `elst` entry has a duration in movie ticks, a media time in
    track ticks, and a rate.
    """
    data = bytearray(path.read_bytes())
    track_ticks = timescale(data, "moov", "trak", "mdia", "mdhd")
    movie_ticks = timescale(data, "moov", "mvhd")
    start, _ = find_box(data, "moov", "trak", "edts", "elst")
    if data[start] != 0 or int.from_bytes(data[start + 4 : start + 8], "big") != 1:
        raise ValueError(f"{path} has no edit list of one version 0 entry")
    media_time = int.from_bytes(data[start + 12 : start + 16], "big") + skipped * track_ticks // fps
    data[start + 8 : start + 12] = (shown * movie_ticks // fps).to_bytes(4, "big")
    data[start + 12 : start + 16] = media_time.to_bytes(4, "big")
    path.write_bytes(data)


def timescale(data: bytearray, *names: str) -> int:
    """Ticks per second of a version 0 `mvhd` or `mdhd`: after version, flags and two times of four bytes."""
    start, _ = find_box(data, *names)
    return int.from_bytes(data[start + 12 : start + 16], "big")
