"""Moments as edit lists and ffmpeg commands: the very frames, and names that no shell misreads."""

from __future__ import annotations

import math
import os
import re
import shlex
import subprocess
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest
from clipcache.cache.common.errors import UsageError
from clipcache.score.search.formats import (
    clock,
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


@dataclass(frozen=True)
class Event:
    """An event of an edit list; times are counts of frames, ends exclusive."""

    source: tuple[int, int]
    record: tuple[int, int]
    comments: list[str]


_EVENT = re.compile(r"(\d{3})  AX       V     C       " + r" (\d\d):(\d\d):(\d\d):(\d\d)" * 4)


def read_edl(text: str, nominal: int) -> list[Event]:
    """Read an edit list as strictly as editing programs do: a comment belongs to an event, and follows it."""
    head, *lines = text.removesuffix("\n").split("\n")
    assert head.startswith("TITLE: ")
    assert lines[:2] == ["FCM: NON-DROP FRAME", ""]
    events: list[Event] = []
    for line in lines[2:]:
        if line.startswith("* "):
            events[-1].comments.append(line[2:])
        elif line:
            match = _EVENT.fullmatch(line)
            assert match, line
            assert int(match[1]) == len(events) + 1
            digits = [int(part) for part in match.groups()[1:]]
            counts = [
                (hours * 3600 + minutes * 60 + seconds) * nominal + frames
                for hours, minutes, seconds, frames in zip(*[iter(digits)] * 4, strict=True)
            ]
            assert all(frames < nominal for frames in digits[3::4])
            events.append(Event((counts[0], counts[1]), (counts[2], counts[3]), []))
    return events


def test_an_edit_list_counts_frames_from_the_start_of_each_video() -> None:
    hits = [hit(1000, 2000), hit(11_480, 11_520, name="b.mp4", zero_ms=10_000), hit(3_600_000, 3_661_040)]
    assert "".join(edl(["a dog"], hits)) == (
        "TITLE: a dog\n"
        "FCM: NON-DROP FRAME\n"
        "\n"
        "001  AX       V     C        00:00:01:00 00:00:02:00 00:00:00:00 00:00:01:00\n"
        "* FROM CLIP NAME: a.mp4\n"
        "* COMMENT: a dog, COSINE 0.3123\n"
        "* COMMENT: TIMECODES COUNT 25 FRAMES PER SECOND\n"
        "\n"
        "002  AX       V     C        00:00:01:12 00:00:01:13 00:00:01:00 00:00:01:01\n"
        "* FROM CLIP NAME: b.mp4\n"
        "* COMMENT: a dog, COSINE 0.3123\n"
        "* COMMENT: TIMECODES COUNT 25 FRAMES PER SECOND\n"
        "\n"
        "003  AX       V     C        01:00:00:00 01:01:01:01 00:00:01:01 00:01:02:02\n"
        "* FROM CLIP NAME: a.mp4\n"
        "* COMMENT: a dog, COSINE 0.3123\n"
        "* COMMENT: TIMECODES COUNT 25 FRAMES PER SECOND\n"
        "\n"
    )


# Rate of the video, rate that the timecodes count, and what its comment says.
RATES = [
    (Fraction(25), Fraction(25), "COUNT 25 FRAMES PER SECOND"),
    (Fraction(24_000, 1001), Fraction(24_000, 1001), "COUNT 23.976 FRAMES PER SECOND"),
    (Fraction(30_000, 1001), Fraction(30_000, 1001), "COUNT 29.97 FRAMES PER SECOND"),
    (Fraction(60), Fraction(60), "COUNT 60 FRAMES PER SECOND"),
    (Fraction(1962, 100), Fraction(25), "COUNT 25 FRAMES PER SECOND, THE VIDEO HAS 19.62"),
    (Fraction(25, 2), Fraction(25), "COUNT 25 FRAMES PER SECOND, THE VIDEO HAS 12.5"),
    (Fraction(27), Fraction(30), "COUNT 30 FRAMES PER SECOND, THE VIDEO HAS 27"),
]
SPANS = [(0, 1), (7, 8), (50, 55), (1799, 1801), (17_982, 18_020), (107_892, 108_000)]  # drops would show at minutes


@pytest.mark.parametrize(("fps", "rate", "said"), RATES, ids=lambda value: str(value)[:6])
def test_an_edit_list_names_the_counts_at_which_a_moment_is_shown(fps: Fraction, rate: Fraction, said: str) -> None:
    hits = [hit(float(1000 * a / fps), float(1000 * b / fps), fps=float(fps)) for a, b in SPANS]
    events = read_edl("".join(edl(["x"], hits)), math.ceil(rate))
    record = 0
    for (a, b), event in zip(SPANS, events, strict=True):
        first, end = event.source
        assert [count * fps // rate for count in (first, end - 1)] == [a, b - 1]  # the frames shown then
        assert [count * fps // rate for count in (first - 1, end)] == [a - 1, b]
        assert event.record == (record, record + end - first)
        record += end - first
        assert any(comment.endswith(said) for comment in event.comments)


def test_times_that_a_container_rounds_stand_for_their_frames() -> None:
    for fps in (Fraction(24_000, 1001), Fraction(60), Fraction(30_000, 1001)):
        hits = [hit(round(1000 * a / fps), round(1000 * b / fps), fps=float(fps)) for a, b in SPANS]
        events = read_edl("".join(edl(["x"], hits)), math.ceil(fps))
        assert [event.source for event in events] == SPANS


def test_a_second_video_of_another_rate_is_counted_by_its_times() -> None:
    hits = [hit(1000, 2000), hit(1000 * 101 / 30, 1000 * 131 / 30, fps=30.0)]
    _, second = read_edl("".join(edl(["x"], hits)), 25)
    assert second.source == (85, 110)  # 3.4 and 4.4 s: the first counts at which frames 101 and 131 are shown
    assert "COMMENT: TIMECODES COUNT 25 FRAMES PER SECOND, THE VIDEO HAS 30" in second.comments


@pytest.mark.parametrize(("fps", "rate", "said"), RATES, ids=lambda value: str(value)[:6])
def test_opentimelineio_reads_the_edit_list(fps: Fraction, rate: Fraction, said: str) -> None:
    otio = pytest.importorskip("opentimelineio")
    pytest.importorskip("otio_cmx3600_adapter")
    hits = [hit(float(1000 * a / fps), float(1000 * b / fps), fps=float(fps)) for a, b in SPANS]
    text = "".join(edl(["a dog"], hits))
    timeline = otio.adapters.read_from_string(text, "cmx_3600", rate=float(rate))
    ranges = [clip.source_range for clip in timeline.find_clips()]
    found = [(span.start_time.to_frames(), span.end_time_exclusive().to_frames()) for span in ranges]
    assert found == [event.source for event in read_edl(text, math.ceil(rate))]
    first = next(iter(timeline.find_clips()))
    assert first.name == "a.mp4"
    assert any(comment.endswith(said) for comment in first.metadata["cmx_3600"]["comments"])


@pytest.mark.parametrize(
    ("fps", "said"), [(24.0005, "24"), (23.9758, "23.976"), (29.9697, "29.97"), (24.3, "25"), (119.9, "60")]
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
