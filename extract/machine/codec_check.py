"""Whether this machine decodes a codec: a tiny video is made of it, and decoded as extraction does."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..video.decode import Span, decode_span
from ..video.index import read_index
from ..video.resize import Pixels

_FRAMES = 12


@dataclass(frozen=True)
class Codec:
    """A video to make: the name of the codec, encoders of it by preference with their options, and a container."""

    name: str
    encoders: dict[str, dict[str, str]]
    container: str = "mp4"


CODECS = (
    Codec("h264", {"libx264": {"x264-params": "log-level=none"}, "libopenh264": {}, "h264_videotoolbox": {}}),
    Codec("hevc", {"libx265": {"x265-params": "log-level=none"}, "hevc_videotoolbox": {}}),
    Codec("vp8", {"libvpx": {}}, "webm"),
    Codec("vp9", {"libvpx-vp9": {}}, "webm"),
    Codec("av1", {"libaom-av1": {"cpu-used": "8"}, "libsvtav1": {"preset": "10"}}, "matroska"),
    Codec("mpeg4", {"mpeg4": {}}),
    Codec("mpeg2video", {"mpeg2video": {}}, "mpegts"),
)


def make_video(path: Path, codec: Codec) -> bool:
    """Write 12 frames of 64x64 that grow brighter; False where no encoder does."""
    import av

    os.environ.setdefault("SVT_LOG", "0")  # SVT-AV1 prints a banner unless told not to, and listens to nothing else
    for encoder, options in codec.encoders.items():
        try:
            with av.open(str(path), "w", format=codec.container) as output:
                stream: Any = output.add_stream(encoder, rate=Fraction(12), options=options)
                stream.width = stream.height = 64
                stream.pix_fmt = "yuv420p"
                for number in range(_FRAMES):
                    frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 20 * number, np.uint8), "rgb24")
                    output.mux(stream.encode(frame))
                output.mux(stream.encode())
        except (av.FFmpegError, ValueError):  # there is no such encoder, or its hardware is missing
            continue
        return True
    return False


def decodes(path: Path) -> bool:
    """Whether all 12 frames come back, in order."""
    sink = _Brightness()
    try:
        index = read_index(path)
        decode_span(path, index, Span(0, len(index.segments)), sink)
    except Exception:  # noqa: BLE001  any exception means that it does not decode
        return False
    return len(sink.values) == _FRAMES and bool((np.diff(sink.values) > 0).all())


class _Brightness:
    """A `FrameSink` that keeps the mean of each frame."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self._committed = 0

    def add(self, row: int, timestamp_ms: float, rgb: Pixels) -> None:  # noqa: ARG002  only brightness counts
        self.values.append(float(rgb.mean()))

    def commit(self) -> None:
        self._committed = len(self.values)

    def rollback(self) -> None:
        del self.values[self._committed :]

    def beat(self) -> None:
        """Do nothing: no process waits for a sign of life."""
