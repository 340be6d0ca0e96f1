"""The tables of videos: `SYNTHETIC`, each saying what it proves, and `BAD`, each saying what is wrong.

Builders write into the folder they are given and state the truth: which frame numbers (drawn as barcodes, see
`barcode.py`) a correct decoder shows, and when. `test_media.py` holds each against a plain PyAV decode.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from barcode import BarcodeError, draw_barcode, read_barcode
from video_files import VideoTruth, has_encoder, make_video, read_video, skip_first

__all__ = [
    "BAD",
    "SYNTHETIC",
    "BadFile",
    "BadInput",
    "BarcodeError",
    "Synthetic",
    "VideoTruth",
    "draw_barcode",
    "has_encoder",
    "make_video",
    "read_barcode",
    "read_video",
]

FRAME_MS = 40.0  # at 25 frames per second, `make_video`'s default
CLOSED_GOP = {"x264-params": "keyint=12:min-keyint=12:bframes=2:scenecut=0:open-gop=0"}
OPEN_GOP = {"x264-params": "keyint=12:min-keyint=12:bframes=3:b-adapt=0:scenecut=0:open-gop=1"}
ONE_GOP = {"preset": "veryfast", "x264-params": "keyint=1200:min-keyint=1200:scenecut=0"}
# Not 12: x265 would end the group before each keyframe with a P-frame and leave nothing open.
HEVC_OPEN_GOP = {"x265-params": "keyint=15:min-keyint=15:bframes=3:b-adapt=0:scenecut=0:open-gop=1"}


@dataclass(frozen=True)
class Synthetic:
    """A healthy video.

    Attributes:
        name: Unique, fit for a test id.
        proves: What a decoder that gets it right has shown.
        build: Writes it into a folder and gives the truth about it.
        encoder: FFmpeg's name of the encoder that must be there; see `has_encoder`.
    """

    name: str
    proves: str
    build: Callable[[Path], VideoTruth]
    encoder: str = "libx264"


def _video(name: str, proves: str, suffix: str, late_ms: float = 0.0, **how: Any) -> Synthetic:
    """A case made by `make_video` alone; `late_ms` is what the muxer adds to every timestamp."""

    def build(folder: Path) -> VideoTruth:
        truth = make_video(folder / f"{name}{suffix}", **how)
        return replace(truth, timestamps_ms=tuple(time + late_ms for time in truth.timestamps_ms))

    return Synthetic(name, proves, build, how.get("codec", "libx264"))


def _edited(name: str, proves: str, options: dict[str, str], shown: int = 43) -> Synthetic:
    """48 coded frames of which the edit list hides the first 5; 5 is in the middle of a group of pictures."""

    def build(folder: Path) -> VideoTruth:
        path = folder / f"{name}.mp4"
        make_video(path, options=options)
        skip_first(path, skipped=5, shown=shown, fps=25)
        return VideoTruth(path, tuple(range(5, 5 + shown)), tuple(FRAME_MS * n for n in range(shown)), 160, 120)

    return Synthetic(name, proves, build)


SYNTHETIC: list[Synthetic] = [
    _video(
        "h264_closed_gop",
        "B-frames within closed GOPs come out in presentation order",
        ".mp4",
        options=CLOSED_GOP,
    ),
    _video(
        "h264_open_gop",
        "the leading pictures of an open GOP are neither lost nor grey",
        ".mp4",
        options=OPEN_GOP,
    ),
    _video("h264_open_gop_mkv", "the same without MP4's tables", ".mkv", options=OPEN_GOP),
    _video("h264_audio", "an audio track changes nothing", ".mp4", audio=True, options=CLOSED_GOP),
    _video("hevc_open_gop", "RASL pictures are kept", ".mp4", codec="libx265", options=HEVC_OPEN_GOP),
    _video(
        "hevc_10bit",
        "10 bit becomes 8 bit, not noise",
        ".mp4",
        codec="libx265",
        pix_fmt="yuv420p10le",
        options={"x265-params": "keyint=12"},
    ),
    _video(
        "vp8",
        "WebM, hidden reference frames are not counted",
        ".webm",
        codec="libvpx",
        frames=60,
        options={"auto-alt-ref": "1", "lag-in-frames": "16", "g": "30", "b": "300k"},
    ),
    _video(
        "vp9_odd_size",
        "odd width and height",
        ".webm",
        codec="libvpx-vp9",
        size=(321, 241),
        options={"g": "20", "b": "500k", "cpu-used": "8"},
    ),
    _video(
        "av1",
        "AV1 survives the remux of its sequence header",
        ".mp4",
        codec="libsvtav1",
        # Presets above 8 are too lossy for the barcode.
        options={"preset": "8", "crf": "20", "g": "20", "svtav1-params": "lp=1"},
    ),
    _video("mpeg4_avi", "AVI, no B-frames", ".avi", codec="mpeg4", options={"bf": "0", "g": "12"}),
    _video(
        "mpeg4_avi_bframes",
        "AVI holds decode times only: the first picture is shown one frame later",
        ".avi",
        late_ms=FRAME_MS,
        codec="mpeg4",
        options={"bf": "2", "g": "12"},
    ),
    _video(
        "mpeg2_ts",
        "MPEG-TS with B-frames; the muxer moves the first decode time to zero",
        ".ts",
        late_ms=FRAME_MS,
        codec="mpeg2video",
        options={"bf": "2", "g": "12"},
    ),
    _video(
        "mpeg2_ps",
        "MPEG-PS with B-frames and its half second of preload",
        ".mpg",
        late_ms=500 + FRAME_MS,
        codec="mpeg2video",
        container="vob",
        options={"bf": "2", "g": "12"},
    ),
    _video("ts_offset", "MPEG-TS that starts at ten seconds", ".ts", start_offset_s=10, options=CLOSED_GOP),
    _video("mp4_late_start", "an empty edit: the first frame is at two seconds", ".mp4", start_offset_s=2),
    _video("mjpeg", "intra-only, full range", ".avi", codec="mjpeg", pix_fmt="yuvj420p"),
    _video("prores", "MOV, 10 bit 4:2:2", ".mov", codec="prores_ks", pix_fmt="yuv422p10le"),
    _video("gif", "palette video in centiseconds", ".gif", codec="gif", pix_fmt="rgb8", frames=12),
    _video(
        "vfr",
        "a variable frame rate keeps its timestamps, pauses and bursts alike",
        ".mkv",
        frames=16,
        timestamps=[0, 40, 80, 500, 510, 523, 1000, 1001, 3000, 3300, 3301, 3400, 4000, 4040, 4080, 9000],
        options=CLOSED_GOP,
    ),
    _video("rotated_90", "a display matrix of 90 degrees clockwise", ".mp4", rotation=90),
    _video("rotated_180", "a display matrix of 180 degrees", ".mp4", rotation=180),
    _video("rotated_270", "a display matrix of 270 degrees clockwise", ".mp4", rotation=270),
    _edited("edit_list", "frames hidden by an edit list are decoded but not shown", CLOSED_GOP),
    _edited("edit_list_no_b", "the same without reordering", {"x264-params": "keyint=12:bframes=0:scenecut=0"}),
    _edited("trimmed", "an edit list hides the end as well, and the video is whole all the same", CLOSED_GOP, shown=20),
    _video("interlaced", "H.264 fields", ".mp4", options={"x264-params": "tff=1:keyint=12:bframes=2"}),
    _video("one_frame", "one frame", ".mp4", frames=1),
    _video("two_frames", "two frames", ".mp4", frames=2),
    _video("long_gop", "a GOP of 1100 frames", ".mp4", frames=1100, size=(64, 48), options=ONE_GOP),
    _video(
        "repeated",
        "frames shown again, bit for bit: lossless coding",
        ".mp4",
        frames=30,
        repeat={3: 4, 10: 2, 29: 3},
        options={"qp": "0", "x264-params": "bframes=0"},
    ),
    _video("full_range", "full-range colour", ".mp4", pix_fmt="yuvj420p"),
    _video("yuv444", "no chroma subsampling", ".mp4", pix_fmt="yuv444p"),
    _video("gray_ffv1", "no chroma at all, lossless", ".mkv", codec="ffv1", pix_fmt="gray"),
]


# --- bad input ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BadFile:
    """A file that something is wrong with.

    Attributes:
        path: As the program gets it.
        truth: The video before it was damaged or named badly; None where there never was one to show.
    """

    path: Path
    truth: VideoTruth | None = None


@dataclass(frozen=True)
class BadInput:
    """Something a program is given that it must survive.

    Attributes:
        name: Unique, fit for a test id.
        what: What is wrong.
        expect: "refused": one clear error, no frame. "partial": the container says more frames than can be
            decoded; those before the damage are right. "prefix": cut off, and the container does not know it;
            the frames up to the cut are right. "whole": only the name is odd, every frame is there.
        build: Writes it into an empty folder. OSError where the file system refuses such a name.
    """

    name: str
    what: str
    expect: str
    build: Callable[[Path], BadFile]


def _bytes(name: str, what: str, data: bytes) -> BadInput:
    def build(folder: Path) -> BadFile:
        path = folder / f"{name}.mp4"
        path.write_bytes(data)
        return BadFile(path)

    return BadInput(name, what, "refused", build)


def _damaged(
    name: str, what: str, expect: str, suffix: str, damage: Callable[[bytes], bytes], movflags: str = ""
) -> BadInput:
    """A video of 96 frames in eight closed GOPs, its bytes then damaged."""

    def build(folder: Path) -> BadFile:
        path = folder / f"{name}{suffix}"
        muxing = {"movflags": movflags} if movflags else {}
        truth = make_video(path, frames=96, size=(320, 240), options=CLOSED_GOP, container_options=muxing)
        path.write_bytes(damage(path.read_bytes()))
        return BadFile(path, truth)

    return BadInput(name, what, expect, build)


def _cut(part: float) -> Callable[[bytes], bytes]:
    return lambda data: data[: int(len(data) * part)]


def _flip_middle(data: bytes) -> bytes:
    """Invert a twentieth of the file in its middle, headers of several frames among it."""
    start, end = len(data) // 2, len(data) // 2 + len(data) // 20
    return data[:start] + bytes(255 - byte for byte in data[start:end]) + data[end:]


def _named(name: str, what: str, file_name: str | bytes) -> BadInput:
    def build(folder: Path) -> BadFile:
        plain = make_video(folder / "plain.mp4", frames=3)
        path = folder / os.fsdecode(file_name)
        plain.path.rename(path)
        return BadFile(path, replace(plain, path=path))

    return BadInput(name, what, "whole", build)


def _audio_only(folder: Path) -> BadFile:
    from video_files import make_silence

    return BadFile(make_silence(folder / "audio_only.mp4", seconds=1.0))


def _no_frames(suffix: str) -> Callable[[Path], BadFile]:
    return lambda folder: BadFile(make_video(folder / f"no_frames{suffix}", frames=0).path)


def _playlist(text: str, neighbour: str) -> Callable[[Path], BadFile]:
    """A text that names a video beside it, disguised as a video: opening it must not open the other."""

    def build(folder: Path) -> BadFile:
        make_video(folder / neighbour, frames=3, options=CLOSED_GOP)
        path = folder / "playlist.mp4"
        path.write_text(text.format(neighbour=neighbour))
        return BadFile(path)

    return build


def _traversal(folder: Path) -> BadFile:
    (folder / "inner").mkdir()
    plain = make_video(folder / "plain.mp4", frames=3)
    path = folder / "inner" / ".." / "plain.mp4"
    return BadFile(path, replace(plain, path=path))


HLS = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.12,\n{neighbour}\n#EXT-X-ENDLIST\n"

BAD: list[BadInput] = [
    _bytes("empty", "a file of no bytes", b""),
    _bytes("text", "a text named .mp4", b"This is not a video.\n" * 50),
    BadInput("audio_only", "sound without a picture", "refused", _audio_only),
    _damaged("no_moov", "cut before the index at its end", "refused", ".mp4", _cut(0.5)),
    _damaged("cut_faststart", "cut in the middle, index in front", "partial", ".mp4", _cut(0.6), "faststart"),
    _damaged("cut_mkv", "cut in the middle, no index needed", "partial", ".mkv", _cut(0.6)),
    _damaged("cut_fragmented", "cut in a fragment", "partial", ".mp4", _cut(0.6), "frag_keyframe+empty_moov"),
    _damaged("cut_avi", "cut in the middle, index at the lost end", "partial", ".avi", _cut(0.6)),
    _damaged("cut_ts", "cut in the middle, and the container cannot tell", "prefix", ".ts", _cut(0.6)),
    _damaged("flipped", "inverted bytes in the middle", "partial", ".mp4", _flip_middle),
    BadInput("no_frames_mp4", "a track without frames", "refused", _no_frames(".mp4")),
    BadInput("no_frames_mkv", "a track without frames", "refused", _no_frames(".mkv")),
    BadInput("hls", "a playlist named .mp4", "refused", _playlist(HLS, "neighbour.ts")),
    BadInput(
        "ffconcat",
        "an ffconcat script",
        "refused",
        _playlist("ffconcat version 1.0\nfile '{neighbour}'\n", "n.mp4"),
    ),
    _named("spaces", "spaces in the name", "  two  words .mp4"),
    _named("quotes", "quotes in the name", 'it\'s "quoted" $(here) `and` here.mp4'),
    _named("newline", "a newline in the name", "two\nlines.mp4"),
    _named("not_utf8", "bytes that are not UTF-8 in the name", b"caf\xe9.mp4"),
    _named("long", "a name of 255 bytes", "x" * 251 + ".mp4"),
    _named("dash", "a name that looks like an option", "-rf.mp4"),
    _named("dots", "a name that looks like a parent folder", "..sneaky...mp4"),
    _named("percent", "a name that looks like a pattern", "frame-%03d[0-9]*?.mp4"),
    _named("protocol", "a name that looks like FFmpeg's concat protocol", "concat:a.mp4|b.mp4"),
    BadInput("traversal", "a path that goes up with ../", "whole", _traversal),
]
