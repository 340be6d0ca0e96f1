"""Long videos for the benchmarks, made fast: a few seconds of moving texture, encoded once and repeated by remuxing."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

FPS = 30
LOOP_FRAMES = 250  # one GOP of x264's default length


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


def write_long_video(path: Path, minutes: float, width: int = 1920, height: int = 1080, noise: float = 4.0) -> None:
    """H.264 in MP4: a texture that drifts under fresh noise, LOOP_FRAMES of it, repeated for `minutes`."""
    loops = max(1, round(minutes * 60 * FPS / LOOP_FRAMES))
    with av.open(_encode_loop(width, height, noise)) as loop, av.open(str(path), "w") as container:
        source = loop.streams.video[0]
        packets = [packet for packet in loop.demux(source) if packet.size]
        ticks = round(LOOP_FRAMES / FPS / source.time_base)
        stream = container.add_stream_from_template(source, opaque=True)
        for repeat in range(loops):
            for packet in packets:
                copy = av.Packet(bytes(packet))
                copy.pts, copy.dts = packet.pts + repeat * ticks, packet.dts + repeat * ticks
                copy.time_base, copy.is_keyframe, copy.stream = source.time_base, packet.is_keyframe, stream
                container.mux(copy)


def _encode_loop(width: int, height: int, noise: float) -> io.BytesIO:
    """One closed GOP of LOOP_FRAMES frames, as MP4 in memory."""
    base = texture(height + LOOP_FRAMES, width + 2 * LOOP_FRAMES)
    rng = np.random.default_rng(1)
    grain = rng.normal(0, noise, (height + 64, width + 64, 1)).astype(np.int16)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": "26"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = LOOP_FRAMES
        for number in range(LOOP_FRAMES):
            view = base[number : number + height, 2 * number : 2 * number + width].astype(np.int16)
            y, x = rng.integers(0, 64, 2)
            picture = np.clip(view + grain[y : y + height, x : x + width], 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    buffer.seek(0)
    return buffer
