"""Rows of `ODD` that ask whether a file is whole: whole ones that look cut short, and damage that decoders conceal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from odd_files import (
    FRAME_MS,
    FRAMES,
    VPX,
    X264,
    Odd,
    Pipe,
    change_packets,
    drop_ts_packets,
    hide_frames,
    invert,
    odd_video,
    remux,
)
from video_files import VideoTruth, make_video

X265 = {"x265-params": "keyint=24:min-keyint=24:bframes=2:scenecut=0:open-gop=0"}

# --- C1: whole, though it does not look so ----------------------------------------------------------------


def _append(path: Path, data: bytes) -> None:
    path.write_bytes(path.read_bytes() + data)


def _followed(name: str, proves: str, suffix: str, data: bytes, **how: Any) -> Odd:
    build = odd_video(name, suffix, partial(_append, data=data), options=X264, **how)
    return Odd(name, proves, build)


def _with_gif_comment(path: Path) -> None:
    """A comment extension before the trailer, a semicolon."""
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"\x21\xfe\x05hello\0" + data[-1:])


def _gif(name: str, proves: str, patch: Callable[[Path], None]) -> Odd:
    return Odd(name, proves, odd_video(name, ".gif", patch, codec="gif", pix_fmt="rgb8", frames=24), "gif")


def _piped(name: str, codec: str, pix_fmt: str, options: Mapping[str, str]) -> Odd:
    """An AVI that was written to a pipe: nobody could go back and fill in the number of frames."""

    def build(folder: Path) -> VideoTruth:
        path, pipe = folder / f"{name}.avi", Pipe()
        source = make_video(folder / "source.avi", codec=codec, pix_fmt=pix_fmt, frames=FRAMES, options=options)
        remux(source.path, pipe, lambda number, packet: (number, number), "avi")
        path.write_bytes(pipe.data)
        return replace(source, path=path)

    return Odd(name, "an AVI written to a pipe does not know how many frames it has", build, codec)


HIDDEN = range(30, FRAMES, 17)  # none of them a keyframe


def _hidden(name: str, suffix: str) -> Odd:
    def build(folder: Path) -> VideoTruth:
        truth = make_video(folder / f"{name}{suffix}", codec="libvpx", frames=FRAMES, options=VPX)
        hide_frames(truth.path, HIDDEN)
        shown = tuple(number for number in range(FRAMES) if number not in HIDDEN)
        return replace(truth, numbers=shown, timestamps_ms=tuple(FRAME_MS * number for number in shown))

    return Odd(name, "VP8 packets that show nothing are not lost frames", build, "libvpx")


def _with_gaps(name: str, codec: str, options: Mapping[str, str]) -> Odd:
    """An AVI with two pauses, of three and of five frames: its writer fills them with empty chunks."""
    times = [40 * (n + 3 * (n > 50) + 5 * (n > 120)) for n in range(FRAMES)]

    def build(folder: Path) -> VideoTruth:
        source = make_video(folder / "source.mkv", codec=codec, frames=FRAMES, timestamps=times, options=options)
        remux(source.path, path := folder / f"{name}.avi", lambda number, packet: (times[number], times[number]))
        return replace(source, path=path)

    return Odd(name, "the empty chunks of an AVI are not lost frames", build, codec)


BOX = (40).to_bytes(4, "big") + b"priv" + bytes(32)
NOTE = b"made by a phone\n" * 3
FASTSTART = {"movflags": "faststart"}
WHOLE: list[Odd] = [
    _followed("followed_by_bytes_mp4", "four stray bytes at the end", ".mp4", b"\0\1\2\3"),
    _followed("followed_by_bytes_mov", "four stray bytes at the end", ".mov", b"\0\1\2\3"),
    _followed("followed_by_text_mp4", "a text at the end", ".mp4", NOTE),
    _followed("followed_by_text_mov", "a text at the end", ".mov", NOTE),
    _followed("followed_by_box_mp4", "a private box at the end", ".mp4", BOX),
    _followed("followed_by_box_mov", "a private box at the end", ".mov", BOX),
    _followed("followed_by_text_faststart", "a text after the pictures", ".mp4", NOTE, container_options=FASTSTART),
    _gif("gif_comment", "a comment after the last picture", _with_gif_comment),
    _gif("gif_followed", "a text after the trailer", partial(_append, data=NOTE)),
    _piped("piped_mpeg4", "mpeg4", "yuv420p", {"g": "24", "bf": "0"}),
    _piped("piped_mjpeg", "mjpeg", "yuvj420p", {}),
    _hidden("hidden_vp8_webm", ".webm"),
    _hidden("hidden_vp8_ivf", ".ivf"),
    _with_gaps("gaps_mpeg4_avi", "mpeg4", {"g": "24", "bf": "0"}),
    _with_gaps("gaps_vp8_avi", "libvpx", VPX),
    Odd(
        "altref_vp8",
        "VP8 with hidden reference frames",
        odd_video(
            "altref_vp8",
            ".webm",
            codec="libvpx",
            options={"auto-alt-ref": "1", "lag-in-frames": "16", "g": "30", "b": "300k"},
        ),
        "libvpx",
    ),
]

# --- C2, C4: damage that is concealed ---------------------------------------------------------------------


def _damaged(name: str, proves: str, suffix: str, patch: Callable[[Path], None], **how: Any) -> Odd:
    build = odd_video(name, suffix, patch, **how)
    return Odd(name, proves, build, how.get("codec", "libx264"), expect="damaged", complete=False)


def _flipped(start: float, end: float) -> Callable[[Path], None]:
    """Invert a part of each of four packets."""
    return partial(change_packets, numbers=(30, 77, 120, 150), change=partial(invert, start=start, end=end))


DAMAGED: list[Odd] = [
    _damaged(
        "flipped_vp8",
        "failing VP8 packets are counted",
        ".webm",
        _flipped(0.1, 0.3),
        codec="libvpx",
        options=VPX,
    ),
    _damaged(
        "flipped_vp8_starts",
        "VP8 packets whose header fails are counted",
        ".webm",
        _flipped(0.0, 0.02),
        codec="libvpx",
        options=VPX,
    ),
    _damaged(
        "concealed_h264",
        "H.264 that conceals its damage flags the frames",
        ".mp4",
        _flipped(0.5, 1.0),
        options=X264,
    ),
    _damaged(
        "flipped_hevc",
        "HEVC packets whose header fails are counted",
        ".mp4",
        _flipped(0.0, 0.02),
        codec="libx265",
        options=X265,
    ),
    _damaged(
        "lossy_h264_ts",
        "packets lost on the way flag the frames",
        ".ts",
        partial(drop_ts_packets, every=40),
        options=X264,
    ),
    _damaged(
        "flipped_hevc_quietly",
        "HEVC leaves out what it cannot decode, and only the count tells",
        ".mp4",
        _flipped(0.1, 0.3),
        codec="libx265",
        options=X265,
    ),
    replace(
        _damaged(
            "lossy_hevc_ts",
            "the same with HEVC, where only the packets are flagged; some lose their time with their first piece",
            ".ts",
            partial(drop_ts_packets, every=40),
            codec="libx265",
            options=X265,
        ),
        timeline="from frame rate",
    ),
    _damaged(
        "lossy_mpeg2_ts",
        "the same with MPEG-2",
        ".ts",
        partial(drop_ts_packets, every=40),
        codec="mpeg2video",
        options={"bf": "2", "g": "12"},
    ),
]
