"""Moments as edit lists, ffmpeg commands and concat scripts: the very frames, and names that no shell misreads."""

from __future__ import annotations

import os
import shlex
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import pytest
from clipcache.cache.common.errors import UsageError
from clipcache.score.search.formats import (
    clock,
    concat_list,
    edl,
    ffmpeg_commands,
    frame_rows,
    moment_rows,
    safe_stem,
    shell_word,
    timecode,
)
from clipcache.score.search.frames import Hit
from clipcache.score.search.moments import Thresholds
from clipcache.score.search.scan import Source
from media import make_video, read_barcode


def hit(
    start_ms: float = 1000.0,
    end_ms: float = 2000.0,
    name: str = "a.mp4",
    fps: float = 25.0,
    zero_ms: float = 0.0,
    query: int = 0,
) -> Hit:
    source = Source(Path("e.h5"), name, "ab" * 32, 1, "video", fps, zero_ms)
    return Hit(query, source, start_ms, 3, None, 0.31234, (start_ms, end_ms))


def test_an_edit_list_counts_frames_from_the_start_of_each_video() -> None:
    hits = [hit(1000, 2000), hit(11_480, 11_520, name="b.mp4", zero_ms=10_000), hit(3_600_000, 3_661_040)]
    assert "".join(edl(["a dog"], hits)) == (
        "TITLE: a dog\n"
        "FCM: NON-DROP FRAME\n"
        "\n"
        "* TIMECODES COUNT 25 FRAMES PER SECOND\n"
        "001  AX       V     C        00:00:01:00 00:00:02:00 00:00:00:00 00:00:01:00\n"
        "* FROM CLIP NAME: a.mp4\n"
        "* COMMENT: a dog, COSINE 0.3123\n"
        "\n"
        "002  AX       V     C        00:00:01:12 00:00:01:13 00:00:01:00 00:00:01:01\n"
        "* FROM CLIP NAME: b.mp4\n"
        "* COMMENT: a dog, COSINE 0.3123\n"
        "\n"
        "003  AX       V     C        01:00:00:00 01:01:01:01 00:00:01:01 00:01:02:02\n"
        "* FROM CLIP NAME: a.mp4\n"
        "* COMMENT: a dog, COSINE 0.3123\n"
        "\n"
    )


def test_the_frames_of_an_ntsc_video_count_as_thirty() -> None:
    fps = float(Fraction(30_000, 1001))
    start_ms, end_ms = 1000 * 300 / fps, 1000 * 331 / fps
    text = "".join(edl(["x"], [hit(start_ms, end_ms, fps=fps)]))
    assert "00:00:10:00 00:00:11:01" in text
    assert "COUNT 29.97 FRAMES" in text


@pytest.mark.parametrize(
    ("fps", "said"), [(24.0005, "24"), (23.9758, "23.976"), (29.9697, "29.97"), (24.3, "24.3"), (12.5, "12.5")]
)
def test_a_measured_rate_stands_for_a_usual_one(fps: float, said: str) -> None:
    assert f"COUNT {said} FRAMES" in "".join(edl(["x"], [hit(fps=fps)]))


def test_a_moment_has_one_frame_at_least_and_an_edit_list_an_end() -> None:
    assert "00:00:01:00 00:00:01:01" in "".join(edl(["x"], [hit(1000, 1001)]))
    assert "00:00:01:00 00:00:02:00" in "".join(edl(["x"], [hit(fps=0.0)]))  # 25 where the rate is unknown
    with pytest.raises(UsageError, match="999 moments at most, not 1000"):
        list(edl(["x"], [hit()] * 1000))


def test_a_name_cannot_break_out_of_its_line() -> None:
    text = "".join(edl(["x\ny"], [hit(name="a\n004  AX\x1b[2J.mp4")]))
    assert "\\n004" in text
    assert all(line == "" or line[0] in "TF*0" for line in text.split("\n"))
    assert "\x1b" not in text


@pytest.mark.parametrize(
    "name",
    [
        "plain.mp4",
        'it\'s $(touch pwned) `and` "more" & ; | > * ?.mp4',
        "-rf.mp4",
        "two\nlines\t.mp4",
        "犬の動画.mp4",
        os.fsdecode(b"caf\xe9 'q' \\ $.mp4"),
        "concat:a.mp4|b.mp4",
    ],
)
def test_a_shell_reads_a_command_as_it_was_meant(name: str, tmp_path: Path) -> None:
    (command,) = ffmpeg_commands([hit(4041.6667, 8083.3334, name=name)], lambda _: tmp_path / name)
    assert command.encode("utf-8").endswith(b".mp4\n")  # no byte that is not text
    said = subprocess.run(
        ["bash", "-c", f"ffmpeg() {{ printf '%s\\0' \"$@\"; }}\n{command}"], capture_output=True, check=True
    ).stdout
    words = [os.fsdecode(word) for word in said.split(b"\0")[:-1]]
    assert words[:5] == ["-n", "-seek_timestamp", "1", "-ss", "4.041"]
    assert words[5:-1] == ["-i", str(tmp_path / name), "-t", "4.042"]
    assert words[-1] == f"001-{safe_stem(name)}.mp4"


def test_text_is_quoted_as_shlex_does() -> None:
    for word in ("a b", "it's", "犬", "plain"):
        assert shell_word(word) == shlex.quote(word)


def test_what_cannot_be_found_is_left_out() -> None:
    assert list(ffmpeg_commands([hit()], lambda _: None)) == []
    assert list(concat_list([hit()], lambda _: None)) == ["ffconcat version 1.0\n"]


@pytest.mark.parametrize("name", ["two\nlines.mp4", os.fsdecode(b"caf\xe9.mp4")])
def test_a_concat_list_refuses_names_that_it_cannot_hold(name: str) -> None:
    with pytest.raises(UsageError, match="rename the file"):
        list(concat_list([hit()], lambda _: Path("/videos") / name))


def test_ffmpeg_plays_what_a_concat_list_says(tmp_path: Path) -> None:
    """Every frame is a keyframe and the video starts at two seconds, so in and out points are exact and absolute."""
    truth = make_video(
        tmp_path / "it's a \\ video.mkv", frames=50, start_offset_s=2, options={"x264-params": "keyint=1"}
    )
    times = truth.timestamps_ms
    hits = [hit(times[20], times[25]), hit(times[3], times[4])]
    path = tmp_path / "list.ffconcat"
    path.write_text("".join(concat_list(hits, lambda _: truth.path)), encoding="utf-8")
    with av.open(str(path), format="concat", options={"safe": "0"}) as container:
        numbers = [read_barcode(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    assert numbers == [20, 21, 22, 23, 24, 3]


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(0, "0:00:00.000"), (62_345.4, "0:01:02.345"), (36_000_000, "10:00:00.000"), (999.9, "0:00:01.000")],
)
def test_a_clock_reads_as_people_write_it(milliseconds: float, text: str) -> None:
    assert clock(milliseconds) == text
    assert clock(-62_345.4) == "-0:01:02.345"


def test_a_timecode_counts_frames() -> None:
    assert timecode(25 * 3600 + 24, 25) == "01:00:00:24"
    assert timecode(59, 59.94) == "00:00:00:59"
    assert timecode(60, 59.94) == "00:00:01:00"


def test_rows_are_ranked_within_their_query() -> None:
    hits = [hit(query=0), hit(query=0), hit(query=2)]
    frames = list(frame_rows(["a", "b", "c"], hits, {1: "t.jpg"}))
    assert [(row["query"], row["rank"], row["thumbnail"]) for row in frames] == [
        ("a", 1, None),
        ("a", 2, "t.jpg"),
        ("c", 1, None),
    ]
    thresholds = [Thresholds(0.3, 0.2), Thresholds(0.3, 0.2), Thresholds(0.5, 0.4)]
    moments = list(moment_rows(["a", "b", "c"], thresholds, hits, {}))
    assert [(row["rank"], row["high_cosine"], row["low_cosine"]) for row in moments] == [
        (1, 0.3, 0.2),
        (2, 0.3, 0.2),
        (1, 0.5, 0.4),
    ]
    assert (moments[0]["start"], moments[0]["end_ms"]) == ("0:00:01.000", 2000)
