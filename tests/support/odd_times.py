"""Rows of `ODD` whose clock is odd: edits, restarts, doubled times and none at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

from odd_files import (
    FRAMES,
    VPX,
    X264,
    Odd,
    hide_pes_times,
    joined,
    jump_in_flv,
    make_part,
    odd_video,
    remux,
    set_edits,
    stop_ivf_clock,
    times_of,
)
from video_files import VideoTruth, make_video

NO_B_FRAMES = {"preset": "veryfast", "x264-params": "keyint=24:min-keyint=24:bframes=0:scenecut=0"}
X265 = {"x265-params": "keyint=24:min-keyint=24:bframes=2:scenecut=0:open-gop=0"}
MPEG2 = {"bf": "2", "g": "12"}
FLV1 = {"g": "24"}

# --- B1: several edits ------------------------------------------------------------------------------------


def _edited(name: str, proves: str, edits: Sequence[tuple[int, int]], options: Mapping[str, str] = X264) -> Odd:
    """An MP4 whose edit list shows parts of it, each (first frame, frames), one after the other."""

    def build(folder: Path) -> VideoTruth:
        truth = make_video(folder / f"{name}.mp4", frames=FRAMES, options=options)
        set_edits(truth.path, edits)
        numbers = tuple(number for first, frames in edits for number in range(first, first + frames))
        return replace(truth, numbers=numbers, timestamps_ms=times_of(len(numbers)))

    return Odd(name, proves, build)


EDITED = [
    _edited("edits_two", "two parts, the middle left out", [(0, 72), (120, 72)]),
    _edited("edits_two_mid", "two parts that begin within a group of pictures", [(5, 60), (100, 70)]),
    _edited("edits_twice", "frames 48 to 95 are shown twice", [(0, 96), (48, 96)]),
    _edited("edits_swapped", "the second half is shown first", [(96, 96), (0, 96)]),
    _edited("edits_three", "three parts, one shown twice", [(96, 60), (10, 60), (96, 60)]),
    _edited("edits_two_no_b", "two parts without reordering", [(5, 60), (100, 70)], NO_B_FRAMES),
    _edited("edits_three_no_b", "three parts without reordering", [(96, 60), (10, 60), (96, 60)], NO_B_FRAMES),
]

# --- B2: the clock starts again ---------------------------------------------------------------------------


def _joined(name: str, suffix: str, skip: int = 0, late_ms: float = 0.0, **how: Any) -> Odd:
    """Two files of 100 frames, joined byte by byte."""

    def build(folder: Path) -> VideoTruth:
        first = make_part(folder / f"first{suffix}", 0, 100, **how)
        second = make_part(folder / f"second{suffix}", 100, 100, **how)
        truth = joined(folder / f"{name}{suffix}", first, second, skip=skip)
        return replace(truth, timestamps_ms=times_of(FRAMES, late_ms))

    proves = "the second half keeps times of its own"
    return Odd(name, proves, build, how.get("codec", "libx264"), timeline="restarts joined")


RESTARTED = [
    _joined("restart_ts", ".ts", late_ms=80.0, options=X264),
    _joined("restart_mpeg2_ts", ".ts", late_ms=40.0, codec="mpeg2video", options=MPEG2),
    _joined("restart_mpg", ".mpg", late_ms=540.0, codec="mpeg2video", container="vob", options=MPEG2),
    _joined("restart_mpeg1_mpg", ".mpg", late_ms=540.0, codec="mpeg1video", container="mpeg", options=MPEG2),
    _joined("restart_flv", ".flv", skip=13, late_ms=80.0, options=X264),
    _joined("restart_flv1", ".flv", skip=13, codec="flv", options=FLV1),
    _joined("restart_mkv", ".mkv", options=X264),
    _joined("restart_webm", ".webm", codec="libvpx", options=VPX),
    Odd(
        "jump_flv",
        "one tag lies 2**31 ms ahead, and the next does not",
        odd_video("jump_flv", ".flv", partial(jump_in_flv, number=100), codec="flv", options=FLV1),
        "flv",
        timeline="restarts joined",
    ),
]

# --- B3: doubled times, and none --------------------------------------------------------------------------


def _fast(name: str, suffix: str, **how: Any) -> Odd:
    """2000 frames a second in a container that counts milliseconds: times are rounded, halves upwards."""

    def build(folder: Path) -> VideoTruth:
        truth = make_video(folder / f"{name}{suffix}", frames=FRAMES, fps=2000, **how)
        return replace(truth, timestamps_ms=tuple(float((n + 1) // 2) for n in range(FRAMES)))

    codec = how.get("codec", "libx264")
    return Odd(name, "two frames share each millisecond", build, codec, timeline="doubled times parted")


def _retimed(name: str, proves: str, suffix: str, frame_of: Callable[[int], int], timeline: str) -> Odd:
    """H.264 without B-frames, shown at the times of the frames that `frame_of` names."""

    def build(folder: Path) -> VideoTruth:
        path = folder / f"{name}{suffix}"
        source = make_video(folder / "source.mp4", frames=FRAMES, options=NO_B_FRAMES)
        remux(source.path, path, lambda number, packet: (frame_of(number) * 512, frame_of(number) * 512))
        times = tuple(40.0 * frame_of(number) for number in range(FRAMES))
        return replace(source, path=path, timestamps_ms=times if timeline == "doubled times parted" else ())

    return Odd(name, proves, build, timeline=timeline)


def _untimed(name: str, suffix: str, patch: Callable[[Path], None] = lambda path: None, **how: Any) -> Odd:
    build = odd_video(name, suffix, patch, **how)
    codec = how.get("codec", "libx264")
    return Odd(name, "no packet has a time", build, codec, timeline="from frame rate")


def _timed_later(name: str, suffix: str, patch: Callable[[Path], None] = lambda path: None, **how: Any) -> Odd:
    def build(folder: Path) -> VideoTruth:
        return replace(odd_video(name, suffix, patch, **how)(folder), timestamps_ms=())

    return Odd(name, "the first packets have no time, the others have", build, timeline="from frame rate")


def _stopped_ivf(folder: Path) -> VideoTruth:
    build = odd_video("stopped_ivf", ".ivf", stop_ivf_clock, codec="libvpx", options=VPX)
    return replace(build(folder), timestamps_ms=())


def _all_pes(path: Path) -> None:
    hide_pes_times(path, FRAMES)


def _first_pes(path: Path) -> None:
    hide_pes_times(path, 3)


EARLY = {"start_offset_s": Fraction(-2, 25), "container_options": {"avoid_negative_ts": "disabled"}}
UNUSUAL = [
    _fast("doubled_flv", ".flv", codec="flv", options=FLV1),
    _fast("doubled_mkv", ".mkv", options=NO_B_FRAMES),
    _fast("doubled_mkv_bframes", ".mkv", options=X264),
    _fast("doubled_webm", ".webm", codec="libvpx", options=VPX),
    _retimed(
        "doubled_once_mkv",
        "two frames of 200 share a time",
        ".mkv",
        lambda number: number - (number == 63),
        "doubled times parted",
    ),
    _retimed("stopped_mkv", "every frame has the time zero", ".mkv", lambda number: 0, "from frame rate"),
    _retimed("stopped_flv", "every frame has the time zero", ".flv", lambda number: 0, "from frame rate"),
    Odd("stopped_ivf", "every frame has the time zero", _stopped_ivf, "libvpx", timeline="from frame rate"),
    _untimed("untimed_h264", ".h264", options=X264),
    _untimed("untimed_hevc", ".hevc", codec="libx265", options=X265),
    _untimed("untimed_ts", ".ts", _all_pes, options=X264),
    _untimed("untimed_mpeg2_ts", ".ts", _all_pes, codec="mpeg2video", options=MPEG2),
    _timed_later("timed_later_ts", ".ts", _first_pes, options=X264),
    _timed_later("timed_later_mkv", ".mkv", options=X264, **EARLY),
    Odd(
        "parsed_m2v",
        "FFmpeg counts the times of raw MPEG-2",
        odd_video("parsed_m2v", ".m2v", late_ms=40.0, codec="mpeg2video", options=MPEG2),
        "mpeg2video",
    ),
    Odd(
        "parsed_m4v",
        "FFmpeg counts the times of raw MPEG-4",
        odd_video("parsed_m4v", ".m4v", codec="mpeg4", container="m4v", options=MPEG2),
        "mpeg4",
    ),
    Odd(
        "negative_webm",
        "the first times are below zero",
        odd_video("negative_webm", ".webm", codec="libvpx", options=VPX, **EARLY),
        "libvpx",
    ),
]

TIMES: list[Odd] = [*EDITED, *RESTARTED, *UNUSUAL]
