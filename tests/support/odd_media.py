"""The table `ODD`: undamaged and damaged videos in which a container, a cut or a clock is not what one expects.

As in `media.py`, each row says what it proves and states the truth. For the pictures and their order that truth is
what a plain forward decode gives, in the decoder's output order; `test_odd_media.py` holds each row against one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from odd_damage import DAMAGED, WHOLE
from odd_files import (
    FRAMES,
    VPX,
    X264,
    Odd,
    Part,
    hide_avi_index,
    odd_video,
    remux,
    rename_box,
    times_of,
    write_parts,
)
from odd_times import TIMES
from video_files import VideoTruth, make_video

LANDSCAPE, PORTRAIT, SMALL, LARGE = (160, 120), (120, 160), (160, 120), (320, 240)
# Presets above 8 are too lossy for the barcode.
AV1 = {"preset": "8", "crf": "20", "g": "24", "svtav1-params": "lp=1"}
# Without low delay the decoder holds a picture back, and loses it where the size changes.
MPEG2 = {"bf": "0", "g": "12", "flags": "low_delay"}
KEY = "76a6c65c5ea762046bd749a2e632ccbb"

# --- A2: the size changes ---------------------------------------------------------------------------------


def _resized(
    name: str,
    proves: str,
    suffix: str,
    codec: str,
    options: Mapping[str, str],
    parts: tuple[Part, ...],
    late_ms: float = 0.0,
) -> Odd:
    def build(folder: Path) -> VideoTruth:
        truth = write_parts(folder / f"{name}{suffix}", parts, codec, options)
        return replace(truth, timestamps_ms=times_of(len(truth.numbers), late_ms))

    sizes = tuple(part.size for part in parts for _ in range(part.frames))
    return Odd(name, proves, build, codec, sizes=sizes)


def _resized_by_svt(folder: Path) -> VideoTruth:
    """SVT-AV1 chooses a size for every group of frames; the sequence header names the largest."""
    options = {**AV1, "svtav1-params": "lp=1:resize-mode=2"}
    return make_video(folder / "resized_av1_frames.mkv", codec="libsvtav1", frames=FRAMES, size=LARGE, options=options)


ONCE = (Part(110, LANDSCAPE), Part(110, PORTRAIT))
BACK = (Part(48, LANDSCAPE), Part(24, PORTRAIT), Part(148, LANDSCAPE))
LATE = (Part(190, LANDSCAPE), Part(30, PORTRAIT))
SCALED = (Part(60, LARGE), Part(30, SMALL), Part(120, LARGE))
IN_TS = 80.0  # the muxer moves the first decode time to zero

RESIZED = [
    _resized("resized_h264_ts", "from landscape to portrait", ".ts", "libx264", X264, ONCE, IN_TS),
    _resized("resized_h264_ts_back", "there and back within 96 frames", ".ts", "libx264", X264, BACK, IN_TS),
    _resized("resized_h264_ts_late", "in the last 30 frames", ".ts", "libx264", X264, LATE, IN_TS),
    _resized("resized_mpeg2_ts", "the same with MPEG-2", ".ts", "mpeg2video", MPEG2, BACK),
    _resized("resized_vp8_mkv", "VP8 names its size in each keyframe", ".mkv", "libvpx", VPX, SCALED),
    _resized("resized_vp8_webm", "portrait, as WebRTC turns it", ".webm", "libvpx", VPX, ONCE),
    _resized("resized_vp9_mkv", "VP9 names its size in each frame", ".mkv", "libvpx-vp9", VPX, SCALED),
    _resized("resized_vp9_webm", "portrait, as WebRTC turns it", ".webm", "libvpx-vp9", VPX, ONCE),
    _resized("resized_av1_mkv", "a new AV1 sequence header", ".mkv", "libsvtav1", AV1, SCALED),
    Odd("resized_av1_frames", "AV1 changes its size between keyframes", _resized_by_svt, "libsvtav1"),
]

# --- A3: flags that call every frame a keyframe -----------------------------------------------------------


UNEVEN = {"g": "25", "bf": "0"}  # no true keyframe where 96 frames end
X264_UNEVEN = {**X264, "x264-params": X264["x264-params"].replace("24", "25")}


def _without_idx1(name: str, codec: str, pix_fmt: str = "yuv420p") -> Odd:
    build = odd_video(name, ".avi", hide_avi_index, codec=codec, pix_fmt=pix_fmt, options=UNEVEN)
    return Odd(name, "an AVI without index calls every frame a keyframe", build, codec)


def _without_stss(path: Path) -> None:
    rename_box(path, "moov", "trak", "mdia", "minf", "stbl", "stss")


LYING = [
    _without_idx1("unindexed_msmpeg4v2", "msmpeg4v2"),
    _without_idx1("unindexed_msmpeg4", "msmpeg4"),
    _without_idx1("unindexed_wmv1", "wmv1"),
    _without_idx1("unindexed_wmv2", "wmv2"),
    _without_idx1("unindexed_flv1", "flv"),
    _without_idx1("unindexed_cinepak", "cinepak", "rgb24"),
    _without_idx1("unindexed_mpeg4", "mpeg4"),
    Odd(
        "no_stss_mpeg4",
        "an MP4 without `stss` calls every sample a keyframe",
        odd_video("no_stss_mpeg4", ".mp4", _without_stss, codec="mpeg4", options=UNEVEN),
        "mpeg4",
    ),
    Odd("no_stss_h264", "the same with H.264", odd_video("no_stss_h264", ".mp4", _without_stss, options=X264_UNEVEN)),
]

# --- A4: presentation times in decode order ---------------------------------------------------------------


def _without_ctts(path: Path) -> None:
    rename_box(path, "moov", "trak", "mdia", "minf", "stbl", "ctts")
    rename_box(path, "moov", "trak", "edts")  # it would hide the first frames, which are no longer late


def _in_decode_order(name: str, suffix: str) -> Odd:
    """H.264 with B-frames, each packet's pts made equal to its dts."""

    def build(folder: Path) -> VideoTruth:
        path = folder / f"{name}{suffix}"
        source = make_video(folder / "source.mp4", frames=FRAMES, options=X264)
        remux(source.path, path, lambda number, packet: (number * 512, number * 512))
        return replace(source, path=path)

    return Odd(name, "times in decode order, pictures in presentation order", build)


DECODE_ORDER = [
    Odd(
        "no_ctts",
        "an MP4 without `ctts`: decode times are all there is",
        odd_video("no_ctts", ".mp4", _without_ctts, options=X264),
    ),
    Odd(
        "xvid_bframes",
        "MPEG-4 with B-frames in AVI, which holds decode times",
        odd_video("xvid_bframes", ".avi", late_ms=40.0, codec="mpeg4", options={"bf": "2", "g": "24"}),
        "mpeg4",
    ),
    _in_decode_order("decode_order_flv", ".flv"),
    _in_decode_order("decode_order_mkv", ".mkv"),
    _in_decode_order("decode_order_ts", ".ts"),
]

# --- A5: what a tag alone tells; A6: encryption -----------------------------------------------------------


def _tagged(name: str, suffix: str, pix_fmt: str, codec: str = "rawvideo", **how: Any) -> Odd:
    build = odd_video(name, suffix, codec=codec, pix_fmt=pix_fmt, size=(64, 48), **how)
    return Odd(name, "the codec's tag alone tells the layout of a picture", build, codec)


TAGGED = [
    _tagged("rgb24_mkv", ".mkv", "rgb24", container_options={"allow_raw_vfw": "1"}),
    _tagged("rgb24_nut", ".nut", "rgb24"),
    _tagged("rgb24_mov", ".mov", "rgb24"),
    _tagged("bgra_avi", ".avi", "bgra"),
    _tagged("bgra_nut", ".nut", "bgra"),
    _tagged("yuv420p_avi", ".avi", "yuv420p"),
    _tagged("yuv420p_mkv", ".mkv", "yuv420p"),
    _tagged("uyvy422_avi", ".avi", "uyvy422"),
    _tagged("uyvy422_mov", ".mov", "uyvy422"),
    _tagged("speedhq_nut", ".nut", "yuv420p", "speedhq"),
    _tagged("speedhq_avi", ".avi", "yuv420p", "speedhq"),
]

CENC = {
    "encryption_scheme": "cenc-aes-ctr",
    "encryption_key": KEY,
    "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
}
ENCRYPTED = [
    Odd(
        "encrypted_mp4",
        "encrypted video without its key is no video",
        odd_video("encrypted_mp4", ".mp4", options=X264, container_options=CENC),
        expect="refused",
        complete=False,
        options={"decryption_key": KEY},
    )
]

ODD: list[Odd] = [*RESIZED, *LYING, *DECODE_ORDER, *TAGGED, *ENCRYPTED, *TIMES, *WHOLE, *DAMAGED]
