"""A plain decode of a video by PyAV, from its start to its end, in the decoder's output order: what a player shows.

It shares none of the code that a run decodes with, but for the rotation and the resizing, so that the two can be
compared. It runs in a process of its own: a file that crashes or hangs the decoder ends only that.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..video.delivery import upright
from ..video.index import quarter_turns
from ..video.proof import checksum
from ..video.resize import Pixels, ResizeRule, make_resize
from ..workers.sizing import STALL_SECONDS

SIZE = 224
RULE = ResizeRule("squash", "bilinear")  # whole pictures: what is wrong at the edges counts too
_CELLS = 8
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop()); "
    "from clipcache.extract.machine.plain_decode import main; main()"
)


class Mark(NamedTuple):
    """What is kept of a picture: its checksum, and its brightness in 8 x 8 cells, row by row."""

    checksum: int
    cells: tuple[int, ...]


def mark_of(picture: Pixels) -> Mark:
    """The mark of a (size, size, 3) picture whose size is a multiple of 8."""
    cell = len(picture) // _CELLS
    brightness = picture.mean(axis=2).reshape(_CELLS, cell, _CELLS, cell).mean(axis=(1, 3))
    return Mark(checksum(picture), tuple(int(value) for value in brightness.ravel()))


@dataclass
class PlainVideo:
    """What a plain decode gave.

    Attributes:
        codec: FFmpeg's name; empty where the file cannot be opened.
        marks: of the frames, in the decoder's output order.
        times_ms: of the frames, in milliseconds; NaN where the decoder gives none.
        damage: packets that failed and frames that the decoder marked as corrupt.
        trouble: why the decode ended early; empty where it did not.
        is_lost: whether its process crashed or hung.
    """

    codec: str = ""
    marks: list[Mark] = field(default_factory=list)
    times_ms: list[float] = field(default_factory=list)
    damage: int = 0
    trouble: str = ""
    is_lost: bool = False

    @property
    def works(self) -> bool:
        """Whether most of what came out is sound."""
        return len(self.marks) > 2 * self.damage


@dataclass
class Damage:
    """Counts what a plain decode met: packets that failed, frames marked as corrupt."""

    count: int = 0


def plain_frames(
    path: Path, options: Mapping[str, str] | None = None, damage: Damage | None = None
) -> Iterator[tuple[str, Any, Pixels]]:
    """Decode a video from start to end; yields the codec, PyAV's frame, and its upright (H, W, 3) uint8 pixels.

    Args:
        path: the video.
        options: of FFmpeg's demuxer.
        damage: counts packets that fail, which are stepped over, and frames marked as corrupt.

    Raises:
        av.FFmpegError: the file cannot be opened, or not read to its end.
        ValueError: it has no video.
    """
    import av

    damage = damage or Damage()
    with av.open(str(path), options=dict(options or {})) as container:
        stream: Any = container.streams.best("video")
        if stream is None:
            raise ValueError("it has no video")
        codec = stream.codec_context.codec.canonical_name
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.FFmpegError:
                damage.count += 1
                continue
            for frame in frames:
                damage.count += bool(frame.is_corrupt)
                yield codec, frame, upright(frame.to_ndarray(format="rgb24"), quarter_turns(frame.rotation))


def decode_plainly(path: Path, stall_seconds: float = STALL_SECONDS) -> PlainVideo:
    """Decode a video in a process of its own; never raises for what the file does to it.

    Args:
        path: the video.
        stall_seconds: after so long without a frame the process is killed.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        words = [sys.executable, "-c", _BOOT, str(theirs.fileno()), os.fspath(path), json.dumps(sys.path)]
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
        )
        connection = Connection(ours.detach())
    try:
        return _listen(connection, stall_seconds)
    finally:
        process.kill()
        process.wait()
        connection.close()


def _listen(connection: Connection, stall_seconds: float) -> PlainVideo:
    video = PlainVideo()
    while True:
        if not connection.poll(stall_seconds):
            video.trouble, video.is_lost = f"the plain decode hung: no frame for {stall_seconds:.0f} s", True
            return video
        try:
            message = connection.recv()
        except (EOFError, ConnectionResetError):
            video.trouble, video.is_lost = "the plain decode crashed", True
            return video
        if len(message) == 2:
            video.damage, video.trouble = message
            return video
        video.codec, time_ms, mark = message
        video.marks.append(Mark(*mark))
        video.times_ms.append(time_ms)


def main() -> None:
    """Entry point of the process: sends (codec, time, mark) of each frame, and (damage, trouble) at the end."""
    connection, path = Connection(int(sys.argv[1])), Path(sys.argv[2])
    resize, damage, trouble = make_resize(SIZE, "pil", RULE), Damage(), ""
    try:
        for codec, frame, rgb in plain_frames(path, damage=damage):
            time_ms = float("nan") if frame.pts is None else float(frame.pts * frame.time_base * 1000)
            connection.send((codec, time_ms, tuple(mark_of(resize(rgb)))))
    except Exception as error:  # noqa: BLE001  FFmpeg and PyAV raise many kinds
        damage.count += 1
        trouble = str(error) or type(error).__name__
    connection.send((damage.count, trouble))


def brightness_of(marks: list[Mark]) -> npt.NDArray[np.float64]:
    """(N, 64) brightness of the cells of each picture."""
    return np.array([mark.cells for mark in marks], np.float64).reshape(len(marks), _CELLS * _CELLS)
