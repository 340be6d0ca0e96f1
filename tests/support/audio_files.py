"""Known signals, written to audio and video files through PyAV."""

from __future__ import annotations

from collections.abc import Collection
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

Signal = npt.NDArray[np.float32]
"""(channels, n), 1.0 is full scale."""

_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}


def click(at_s: float, seconds: float, rate: int) -> Signal:
    """Silence but for a burst of 2 ms around `at_s`, of a pitch that every codec keeps; (1, n)."""
    time = np.arange(round(seconds * rate)) / rate - at_s
    burst = 0.9 * np.cos(2 * np.pi * 1500 * time) * np.exp(-((time / 0.0008) ** 2))
    return burst.astype(np.float32)[None]


def tone(seconds: float, rate: int, *, pitch_hz: float = 440.0, amplitude: float = 0.5) -> Signal:
    """A sine; (1, n)."""
    time = np.arange(round(seconds * rate)) / rate
    return (amplitude * np.sin(2 * np.pi * pitch_hz * time)).astype(np.float32)[None]


def on_channels(signal: Signal, channels: int) -> Signal:
    """The same signal on each of several channels."""
    return np.repeat(signal, channels, axis=0)


def found_at_s(samples: npt.NDArray[np.float32], rate: int = 48_000) -> float:
    """Where the energy of a click lies, in seconds: the middle of the loudest 2 ms."""
    width = round(0.002 * rate)
    energy = np.convolve(samples.astype(np.float64) ** 2, np.ones(width), "valid")
    return float(np.flatnonzero(energy >= energy.max() * (1 - 1e-9)).mean() + (width - 1) / 2) / rate


def write_sound(
    path: Path,
    signal: Signal,
    rate: int,
    codec: str,
    *,
    container: str | None = None,
    start_s: Fraction | int = 0,
    picture: bool = False,
    lost: Collection[int] = (),
) -> Path:
    """Write a signal to a file.

    Args:
        path: File to write; the suffix chooses the container unless `container` does.
        signal: (channels, n).
        rate: Samples a second.
        codec: FFmpeg's name of the encoder, "pcm_s16le".
        container: FFmpeg's name of the muxer.
        start_s: Seconds added to every timestamp.
        picture: Add a video track of as many seconds, one picture a second, that starts with the sound.
        lost: Numbers of audio packets that never reach the file.
    """
    with av.open(str(path), "w", format=container) as output:
        stream: Any = output.add_stream(codec, rate=rate)
        stream.layout, stream.bit_rate = _LAYOUTS[len(signal)], 256_000  # LAME takes 0.4 dB off below
        stream.codec_context.time_base = Fraction(1, rate)
        if picture:
            _write_pictures(output, int(signal.shape[1] / rate), int(start_s))
        packets = list(_encoded(stream, signal, rate, int(start_s * rate)))
        for number, packet in enumerate(packets):
            if number not in lost:
                output.mux(packet)
    return path


def _encoded(stream: Any, signal: Signal, rate: int, start: int) -> Any:
    size = stream.codec_context.frame_size or 1024
    wanted = stream.codec_context.format
    resampler = av.AudioResampler(format=wanted.name, layout=stream.codec_context.layout.name, rate=rate)
    for first in range(0, signal.shape[1], size):
        planes = np.ascontiguousarray(signal[:, first : first + size])
        frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=_LAYOUTS[len(signal)])
        frame.sample_rate, frame.pts, frame.time_base = rate, start + first, Fraction(1, rate)
        for converted in resampler.resample(frame):
            yield from stream.encode(converted)
    yield from stream.encode(None)


def _write_pictures(output: Any, seconds: int, start_s: int) -> None:
    stream = output.add_stream("libx264", rate=1)
    stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
    stream.codec_context.thread_count = 1
    for number in range(seconds):
        picture = np.full((64, 64, 3), 10 * number % 256, np.uint8)
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = start_s + number, Fraction(1)
        output.mux(stream.encode(frame))
    output.mux(stream.encode(None))
