"""Videos for the benchmarks: a few seconds of moving texture, encoded once and repeated by remuxing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

FPS = 30
_NOISE = 5.0  # levels, standard deviation: with x264 at crf 23 about 0.5, 4 and 9 Mbit/s at 240p, 720p and 1080p


@dataclass(frozen=True)
class Kind:
    """A loop of video: its size, its length, and whether every other frame repeats the one before, bit for bit."""

    width: int
    height: int
    frames: int = 250  # one GOP of x264's default length
    repeats: bool = False


KINDS = {
    "240p": Kind(426, 240),
    "720p": Kind(1280, 720),
    "1080p": Kind(1920, 1080),
    "720p, half of the frames repeated": Kind(1280, 720, repeats=True),
    "clip": Kind(426, 240, frames=5 * FPS),
    "toy": Kind(64, 48, frames=30),
}


@dataclass(frozen=True)
class Coding:
    """How a video is encoded.

    Attributes:
        codec: what people call it.
        encoder: FFmpeg's name.
        options: of the encoder; fast ones.
        gop: frames from keyframe to keyframe; None leaves that to the encoder.
    """

    codec: str
    encoder: str
    options: tuple[tuple[str, str], ...]
    gop: int | None = None

    def __str__(self) -> str:
        return f"{self.codec}, {f'GOP of {self.gop}' if self.gop else 'default GOP'}"


CODINGS = {
    "H.264": Coding("H.264", "libx264", (("preset", "veryfast"), ("crf", "23"))),
    "HEVC": Coding("HEVC", "libx265", (("preset", "veryfast"), ("crf", "25"), ("x265-params", "log-level=none"))),
    "VP9": Coding("VP9", "libvpx-vp9", (("deadline", "realtime"), ("cpu-used", "8"), ("b", "4M"))),
    "AV1": Coding("AV1", "libsvtav1", (("preset", "11"), ("crf", "35"))),
}


def make_coded(folder: Path, kind: Kind, coding: Coding) -> Path:
    """The frames of a kind as MP4, made unless they are there already."""
    name = f"{coding.codec}-{coding.gop or 'default'}-{kind.width}x{kind.height}-{kind.frames}.mp4"
    path = folder / name
    if not path.exists():
        os.environ.setdefault("SVT_LOG", "1")  # errors only
        _whole(path, lambda part: _write_coded(part, kind, coding))
    return path


def _write_coded(path: Path, kind: Kind, coding: Coding) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        stream: Any = container.add_stream(coding.encoder, rate=FPS, options=dict(coding.options))
        stream.width, stream.height, stream.pix_fmt = kind.width, kind.height, "yuv420p"
        if coding.gop:
            stream.codec_context.gop_size = coding.gop
        for packet in _encode(stream, kind):
            container.mux(packet)


def make_video(folder: Path, kind: str, loops: int, label: str = "") -> Path:
    """A video of `loops` times the frames of a kind in `folder`, made unless it is there already.

    Args:
        folder: Where videos are kept.
        kind: A key of `KINDS`.
        loops: How often its loop is shown.
        label: Makes the file differ from one of the same frames with another label.
    """
    name = "-".join(part for part in (kind.replace(",", "").replace(" ", "-"), f"x{loops}", label) if part)
    path = folder / f"{name}.mp4"
    if not path.exists():
        loop = folder / f"loop-{kind.replace(',', '').replace(' ', '-')}.mp4"
        if not loop.exists():
            _whole(loop, lambda part: _write_loop(part, KINDS[kind]))
        _whole(path, lambda part: _repeat(loop, part, KINDS[kind], loops, label))
    return path


def make_clips(folder: Path, kind: str, count: int) -> list[Path]:
    """`count` files of one loop each, all of different bytes."""
    below = folder / f"{kind}s"
    below.mkdir(exist_ok=True)
    return [make_video(below, kind, 1, f"{number:04d}") for number in range(count)]


def _whole(path: Path, write: Any) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        write(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def texture(height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """(height, width, 3) uint8 texture with the falling spectrum of natural pictures (amplitude about 1/frequency)."""
    rng = np.random.default_rng(seed)
    fy, fx = np.meshgrid(np.fft.fftfreq(height), np.fft.rfftfreq(width), indexing="ij")
    amplitude = 1.0 / np.maximum(np.hypot(fy, fx), 1.0 / max(height, width))
    planes = []
    for _ in range(3):
        phase = np.exp(2j * np.pi * rng.random(amplitude.shape))
        plane = np.fft.irfft2(amplitude * phase, (height, width))
        planes.append((plane - plane.min()) / np.ptp(plane) * 255)
    return np.stack(planes, -1).astype(np.uint8)


def _pictures(kind: Kind) -> Iterator[npt.NDArray[np.uint8]]:
    """A texture that drifts under fresh noise, (height, width, 3) uint8 each."""
    width, height = kind.width, kind.height
    base = texture(height + kind.frames, width + 2 * kind.frames)
    rng = np.random.default_rng(1)
    grain = rng.normal(0, _NOISE, (height + 64, width + 64, 1)).astype(np.int16)
    for number in range(kind.frames):
        view = base[number : number + height, 2 * number : 2 * number + width].astype(np.int16)
        y, x = rng.integers(0, 64, 2)
        yield np.clip(view + grain[y : y + height, x : x + width], 0, 255).astype(np.uint8)


def _write_loop(path: Path, kind: Kind) -> None:
    """One closed GOP in MP4."""
    options = {"preset": "veryfast", "crf": "23"}
    if kind.repeats:  # no delay, and no prediction that changes brightness: a repeat is then skipped block by block
        options |= {"tune": "zerolatency", "x264-params": "weightp=0"}
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = kind.width, kind.height, "yuv420p"
        stream.codec_context.gop_size = kind.frames
        encode = _encode_with_repeats if kind.repeats else _encode
        for packet in encode(stream, kind):
            container.mux(packet)


def _encode(stream: Any, kind: Kind) -> Iterator[Any]:
    for picture in _pictures(kind):
        yield from stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24"))
    yield from stream.encode()


def _encode_with_repeats(stream: Any, kind: Kind) -> Iterator[Any]:
    """Every other frame is what a decoder makes of the one before, so that the encoder finds nothing to add."""
    decoder: Any = None
    shown: Any = None
    for number, picture in enumerate(_pictures(kind)):
        is_repeat = bool(number % 2)
        source = shown if is_repeat else picture
        frame = av.VideoFrame.from_ndarray(source, format="yuv420p" if is_repeat else "rgb24")
        frame.pts = number
        (packet,) = stream.encode(frame)
        if decoder is None:
            decoder = av.CodecContext.create("h264", "r")
            decoder.extradata, decoder.thread_count = stream.codec_context.extradata, 1
        (decoded,) = decoder.decode(av.Packet(bytes(packet)))
        shown = decoded.to_ndarray(format="yuv420p")
        yield packet
    yield from stream.encode()


def _repeat(loop: Path, path: Path, kind: Kind, loops: int, label: str) -> None:
    """The loop's packets again and again, in MP4."""
    with av.open(str(loop)) as source_file, av.open(str(path), "w", format="mp4") as container:
        source = source_file.streams.video[0]
        packets = [packet for packet in source_file.demux(source) if packet.size]
        ticks = round(kind.frames / FPS / source.time_base)
        container.metadata["comment"] = label
        stream = container.add_stream_from_template(source, opaque=True)
        for repeat in range(loops):
            for packet in packets:
                copy = av.Packet(bytes(packet))
                copy.pts, copy.dts = packet.pts + repeat * ticks, packet.dts + repeat * ticks
                copy.time_base, copy.is_keyframe, copy.stream = source.time_base, packet.is_keyframe, stream
                container.mux(copy)
