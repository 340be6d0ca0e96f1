"""`clipcache doctor --videos`: sound videos are exact, and each fault that is put into a decoder is found and named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from clipcache.cache.common.errors import MediaError, UsageError
from clipcache.extract.encoded import EncodedItem
from clipcache.extract.machine import exactness, plain_decode
from clipcache.extract.machine.command import doctor
from clipcache.extract.machine.exactness import MEANINGS, Report, examine_videos, summary_lines
from clipcache.extract.workers import worker
from media import SYNTHETIC
from odd_media import ODD
from video_files import has_encoder, make_video

CASES = {case.name: case for case in [*SYNTHETIC, *ODD]}
SOUND = ("resized_h264_ts", "unindexed_mpeg4", "no_ctts", "rgb24_mkv", "doubled_mkv", "restart_ts", "untimed_h264")
FRAMES = 120


def build(name: str, folder: Path) -> Path:
    case = CASES[name]
    if not has_encoder(case.encoder):
        pytest.skip(f"this PyAV has no encoder {case.encoder}")
    folder.mkdir(parents=True, exist_ok=True)
    return case.build(folder).path


def examine(path: Path) -> Report:
    """In this process, so that what is patched here counts."""
    (report,) = examine_videos([path], lambda report: None, workers=0)
    return report


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("video") / "a.mp4", frames=FRAMES).path


def test_sound_videos_are_exact(tmp_path: Path) -> None:
    paths = [build(name, tmp_path / name) for name in SOUND]
    result = CliRunner().invoke(doctor, ["--videos", str(tmp_path), "--json"])
    assert result.exit_code == 0, result.output
    reports = {report["path"]: report for report in json.loads(result.stdout)}
    assert set(map(str, paths)) <= set(reports)
    for path in map(str, paths):
        assert (reports[path]["verdict"], reports[path]["detail"]) == ("exact", "")
        assert reports[path]["complete"]
        assert reports[path]["frames"] == reports[path]["frames_plain"] > 0
    timelines = {name: reports[str(path)]["timeline"] for name, path in zip(SOUND, paths, strict=True)}
    assert timelines == {name: getattr(CASES[name], "timeline", "container") for name in SOUND}


def test_a_line_for_each_video_and_a_summary(video: Path, tmp_path: Path) -> None:
    nothing = tmp_path / "nothing.mp4"
    nothing.write_bytes(b"no video")
    result = CliRunner().invoke(doctor, ["--videos", str(video), "--videos", str(nothing)])
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert f"{video}: h264, {FRAMES} frames, decord, times: container, complete, exact" in lines
    assert any(line.startswith(f"{nothing}: 0 frames, refused, refused by both (") for line in lines)
    assert [line.split("  ")[0] for line in lines[-3:]] == ["VERDICT", "exact", "refused by both"]


Frame = tuple[int, float, Any]


class Faulty:
    """A sink behind a decoder with a fault; the fault makes any number of frames of each one."""

    def __init__(self, sink: Any, fault: Callable[[Frame], list[Frame]]) -> None:
        self._sink = sink
        self._fault = fault

    def add(self, row: int, timestamp_ms: float, rgb: Any) -> None:
        for frame in self._fault((row, timestamp_ms, rgb)):
            self._sink.add(*frame)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sink, name)


def swapping() -> Callable[[Frame], list[Frame]]:
    held: list[Frame] = []

    def swap(frame: Frame) -> list[Frame]:
        held.append(frame)
        if frame[0] == 60:
            return []
        (*before, (row, time, rgb)) = held[-2:]
        if row != 61:
            return [frame]
        return [(*before[0][:2], rgb), (row, time, before[0][2])]

    return swap


def drop(frame: Frame) -> list[Frame]:
    return [] if frame[0] == 60 else [frame]


def shift(frame: Frame) -> list[Frame]:
    return [(frame[0], frame[1] + (5.0 if frame[0] >= 60 else 0.0), frame[2])]


def stop_the_clock(frame: Frame) -> list[Frame]:
    return [(frame[0], min(frame[1], 1000.0), frame[2])]


def distort(frame: Frame) -> list[Frame]:
    return [(*frame[:2], np.ascontiguousarray(frame[2][:, :-2]) if frame[0] >= 60 else frame[2])]


def spoil(frame: Frame) -> list[Frame]:
    return [(*frame[:2], np.full_like(frame[2], (0, 255, 0)) if frame[0] == 60 else frame[2])]


def repeat(frame: Frame) -> list[Frame]:
    """Show one right picture in place of all that follow it."""
    return [(*frame[:2], _SHOWN.setdefault("rgb", frame[2]) if frame[0] >= 60 else frame[2])]


_SHOWN: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("fault", "verdict", "detail"),
    [
        (swapping(), "order", "2 of 120 frames, the first is frame 60"),
        (drop, "count", "119 frames instead of 120"),
        (shift, "times", "60 of 120 frames, up to 5.000 ms off"),
        (stop_the_clock, "times", "frames are not later than the one before"),
        (distort, "size or distortion", "60 of 120 frames, the first is frame 60"),
        (spoil, "wrong pictures", "1 of 120 frames, the first is frame 60"),
        (repeat, "wrong pictures", "59 of 120 frames, the first is frame 61"),
    ],
)
def test_a_fault_is_found_and_named(
    video: Path, monkeypatch: pytest.MonkeyPatch, fault: Any, verdict: str, detail: str
) -> None:
    for name in ("decode_span", "decode_whole"):
        right = getattr(worker, name)

        def wrong(*arguments: Any, right: Any = right, **how: Any) -> Any:
            changed = [Faulty(one, fault) if hasattr(one, "rollback") else one for one in arguments]
            return right(*changed, **how)

        monkeypatch.setattr(worker, name, wrong)
    report = examine(video)
    assert report.verdict == verdict
    assert detail in report.detail
    assert report.frames_plain == FRAMES


@pytest.mark.parametrize("name", ["flipped_vp8", "concealed_h264", "flipped_hevc_quietly"])
def test_damage_that_the_entry_tells_is_no_fault(tmp_path: Path, name: str) -> None:
    report = examine(build(name, tmp_path))
    assert (report.verdict, report.complete) == ("damaged", False)


def test_damage_that_the_entry_does_not_tell_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = build("concealed_h264", tmp_path)
    monkeypatch.setattr(EncodedItem, "complete", True)
    assert examine(damaged).verdict == "complete though damaged"


def test_a_refusal_is_held_against_a_plain_decode(video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encrypted = examine(build("encrypted_mp4", tmp_path))
    assert (encrypted.verdict, encrypted.complete) == ("refused by both", None)
    assert "encrypted" in encrypted.detail

    def refuse(*_: Any) -> Any:
        raise MediaError("No")

    monkeypatch.setattr(worker, "read_index", refuse)
    report = examine(video)
    assert (report.verdict, report.frames, report.frames_plain) == ("refused though a plain decode works", 0, FRAMES)


@pytest.mark.parametrize(
    ("program", "trouble"), [("import os; os._exit(3)", "crashed"), ("import time; time.sleep(60)", "hung")]
)
def test_a_plain_decode_that_is_lost_is_no_verdict(
    video: Path, monkeypatch: pytest.MonkeyPatch, program: str, trouble: str
) -> None:
    monkeypatch.setattr(plain_decode, "_BOOT", program)
    monkeypatch.setattr(exactness, "decode_plainly", lambda path: plain_decode.decode_plainly(path, 3.0))
    report = examine(video)
    assert report.verdict == "not compared"
    assert trouble in report.detail


def test_the_summary_counts_verdicts_and_says_what_they_mean() -> None:
    reports = [Report("a", "", 1, 1, "", "", True, verdict, "") for verdict in ["exact", *MEANINGS]]
    lines = summary_lines(reports).splitlines()
    assert len(lines) == 1 + len(MEANINGS)
    assert lines[1].split()[:2] == ["exact", "2"]


def test_a_folder_without_videos_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        examine_videos([tmp_path], lambda report: None)
