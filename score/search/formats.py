"""Found frames and moments as rows; moments also as an edit list (CMX 3600) or ffmpeg commands.

Times are those of the container's clock; an edit list counts from each video's first frame, as editors do.
"""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...cache.common.errors import UsageError
from ...cache.common.quoting import one_line
from ...cache.common.render import Row, render_rows
from .frames import Hit
from .moments import Thresholds
from .scan import Source

FRAME_TABLE_COLUMNS = ("query", "rank", "video", "time", "frame_name", "cosine")
FRAME_COLUMNS = ("query", "rank", "video", "at_ms", "frame_index", "frame_name", "cosine", "thumbnail", "video_sha256")
MOMENT_TABLE_COLUMNS = ("query", "rank", "video", "start", "end", "peak", "peak_cosine")
MOMENT_COLUMNS = (
    "query",
    "rank",
    "video",
    "start_ms",
    "end_ms",  # exclusive: when the last frame goes
    "peak_ms",
    "peak_frame_index",
    "peak_cosine",
    "high_cosine",  # a moment holds a frame of at least this cosine
    "low_cosine",  # all its frames have at least this one
    "thumbnail",  # of the frame at the peak
    "video_sha256",
)
MOMENT_STYLES = frozenset({"edl", "ffmpeg"})  # that frames cannot be written in
FRAME_FOOTNOTE = "cosine: with the query, -1 to 1; time: h:mm:ss on the container's clock\n"

_MAX_EDL_EVENTS = 999  # an event's number has three digits
# Frames per second that timecodes count; of other rates, those of a video have times in the first that is not lower.
_TIMECODE_RATES = (24_000 / 1001, 24.0, 25.0, 30_000 / 1001, 30.0, 48.0, 50.0, 60_000 / 1001, 60.0)
_RATES_FOR_OTHERS = (25.0, 30.0, 50.0, 60.0)
_SAME_RATE = 2e-4  # relative: a rate is measured, as an average
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Found:
    """The result of a search."""

    queries: Sequence[str]  # names
    hits: Sequence[Hit]  # of all queries, those of one query in a row, best first
    thresholds: Sequence[Thresholds] | None = None  # of each query, where the hits are moments


def found_text(
    found: Found, style: str, find: Callable[[Source], Path | None], thumbnails: Mapping[int, str]
) -> Iterator[str]:
    """Write what was found as text in pieces.

    Args:
        found: frames, or moments.
        style: table, csv, json or jsonl; of moments edl or ffmpeg, too.
        find: gives the file of a source; None leaves it out of the styles that name files.
        thumbnails: file name of the picture of a hit, by the hit's number.

    Raises:
        UsageError: frames are to be written in a style for moments.
    """
    queries, hits, thresholds = found.queries, found.hits, found.thresholds
    if thresholds is None:
        if style in MOMENT_STYLES:
            raise UsageError(f"--format {style} is for moments, which have a start and an end", "add --moments")
        rows = frame_rows(queries, hits, thumbnails)
        return render_rows(rows, style, FRAME_COLUMNS, FRAME_TABLE_COLUMNS, FRAME_FOOTNOTE)
    if style == "edl":
        return edl(queries, hits)
    if style == "ffmpeg":
        return ffmpeg_commands(hits, find)
    footnote = moments_footnote(queries, thresholds)
    rows = moment_rows(queries, thresholds, hits, thumbnails)
    return render_rows(rows, style, MOMENT_COLUMNS, MOMENT_TABLE_COLUMNS, footnote)


def frame_rows(queries: Sequence[str], hits: Sequence[Hit], thumbnails: Mapping[int, str]) -> Iterator[Row]:
    """Yield one row per found frame, with the columns `FRAME_COLUMNS` and `FRAME_TABLE_COLUMNS`.

    Args:
        queries: their names.
        hits: the hits of all queries, those of one query in a row, best first.
        thumbnails: file name of the picture of a hit, by the hit's number in `hits`.
    """
    for number, (rank, hit) in enumerate(ranks(hits)):
        yield {
            "query": queries[hit.query],
            "rank": rank,
            "video": hit.source.name,
            "time": clock(hit.at_ms) if hit.source.has_clock else None,
            "at_ms": hit.at_ms if hit.source.has_clock else None,
            "frame_index": hit.frame_index,
            "frame_name": hit.frame_name,
            "cosine": hit.cosine,
            "thumbnail": thumbnails.get(number),
            "video_sha256": one_line(hit.source.sha256),
        }


def moment_rows(
    queries: Sequence[str], thresholds: Sequence[Thresholds], hits: Sequence[Hit], thumbnails: Mapping[int, str]
) -> Iterator[Row]:
    """Yield one row per moment, with the columns `MOMENT_COLUMNS` and `MOMENT_TABLE_COLUMNS`; see `frame_rows`."""
    for number, (rank, hit) in enumerate(ranks(hits)):
        start_ms, end_ms = span(hit)
        yield {
            "query": queries[hit.query],
            "rank": rank,
            "video": hit.source.name,
            "start": clock(start_ms),
            "end": clock(end_ms),
            "peak": clock(hit.at_ms),
            "start_ms": start_ms,
            "end_ms": end_ms,
            "peak_ms": hit.at_ms,
            "peak_frame_index": hit.frame_index,
            "peak_cosine": hit.cosine,
            "high_cosine": thresholds[hit.query].high,
            "low_cosine": thresholds[hit.query].low,
            "thumbnail": thumbnails.get(number),
            "video_sha256": one_line(hit.source.sha256),
        }


def moments_footnote(queries: Sequence[str], thresholds: Sequence[Thresholds]) -> str:
    """Explain the numbers of the table, and state the thresholds of each query."""
    lines = ["peak_cosine: with the query, -1 to 1; times: h:mm:ss on the container's clock, the end exclusive\n"]
    for query, one in zip(queries, thresholds, strict=True):
        meaning = f"moments reach a cosine of {one.high:.4f} and last while it is {one.low:.4f} or more"
        lines.append(f"{one_line(query)}: {meaning}\n")
    return "".join(lines)


def edl(queries: Sequence[str], hits: Sequence[Hit]) -> Iterator[str]:
    """Write moments one after the other as an edit list in the format of CMX 3600.

    All timecodes count frames of one rate without drops: that of the first moment's video, or a usual one near it.
    Source times count from the first frame of each video; they name the counts at which the moment is shown.

    Raises:
        UsageError: there are more moments than the format can number.
    """
    if len(hits) > _MAX_EDL_EVENTS:
        raise UsageError(f"An EDL holds {_MAX_EDL_EVENTS} moments at most, not {len(hits)}", "lower --top")
    rate = timecode_rate(next((hit.source.fps for hit in hits if hit.source.fps > 0), 0.0))
    yield f"TITLE: {one_line(', '.join(queries))[:70]}\nFCM: NON-DROP FRAME\n\n"  # no comment before the first event
    record = 0
    for number, hit in enumerate(hits, 1):
        fps = hit.source.fps
        first, end = (_counts(time - hit.source.zero_ms, fps, rate) for time in span(hit))
        end = max(first + 1, end)
        times = (first, end, record, record + end - first)
        record += end - first
        own = "" if abs(fps - rate) < rate * _SAME_RATE else f", THE VIDEO HAS {fps:.6g}" if fps else ""
        yield f"{number:03d}  AX       V     C        {' '.join(timecode(time, rate) for time in times)}\n"
        yield f"* FROM CLIP NAME: {one_line(hit.source.name)}\n"
        yield f"* COMMENT: {one_line(queries[hit.query])}, COSINE {hit.cosine:.4f}\n"
        yield f"* COMMENT: TIMECODES COUNT {rate:.6g} FRAMES PER SECOND{own}\n\n"


def ffmpeg_commands(hits: Sequence[Hit], find: Callable[[Source], Path | None]) -> Iterator[str]:
    """Write one shell command per moment, which cuts it out exactly by encoding it again.

    Args:
        hits: the moments.
        find: gives the file of a source; None leaves its moments out.
    """
    for number, hit in enumerate(hits, 1):
        path = find(hit.source)
        if path is None:
            continue
        start_ms, end_ms = whole_milliseconds(hit)
        # `-seek_timestamp 1`: -ss is a time on the container's clock, wherever that starts.
        words = ["ffmpeg", "-n", "-seek_timestamp", "1", "-ss", _seconds(start_ms), "-i", str(path.absolute())]
        words += ["-t", _seconds(end_ms - start_ms), f"{number:03d}-{safe_stem(hit.source.name)}.mp4"]
        yield " ".join(shell_word(word) for word in words) + "\n"


def ranks(hits: Sequence[Hit]) -> Iterator[tuple[int, Hit]]:
    """Yield each hit with its rank within its query, from 1."""
    rank, query = 0, -1
    for hit in hits:
        rank = rank + 1 if hit.query == query else 1
        query = hit.query
        yield rank, hit


def span(hit: Hit) -> tuple[float, float]:
    """Return start and end of a moment in milliseconds."""
    assert hit.span_ms is not None  # noqa: S101 - a moment has one
    return hit.span_ms


def whole_milliseconds(hit: Hit) -> tuple[int, int]:
    """Return start and end of a moment, each rounded down: not after the first frame, and not after the end."""
    start_ms, end_ms = span(hit)
    return math.floor(start_ms), math.floor(end_ms)


def clock(milliseconds: float) -> str:
    """Write a time as h:mm:ss, to the millisecond: `0:01:02.345`."""
    whole = round(abs(milliseconds))
    sign = "-" if milliseconds < 0 and whole else ""
    return f"{sign}{whole // 3_600_000}:{whole // 60_000 % 60:02d}:{whole // 1000 % 60:02d}.{whole % 1000:03d}"


def timecode(frame: int, fps: float) -> str:
    """Write a frame's number as `hh:mm:ss:ff`, without drops: 29.97 frames per second count as 30."""
    nominal = max(1, round(fps))
    seconds, frames = divmod(frame, nominal)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}:{frames:02d}"


def safe_stem(name: str) -> str:
    """Reduce a video's name to letters, digits, "_" and "-", for the name of a file made from it."""
    return _UNSAFE.sub("-", Path(name).stem).strip("-")[:80] or "video"


def shell_word(word: str) -> str:
    """Quote a word for a POSIX shell; one with bytes that are not text needs `$'...'`, as bash and zsh have it."""
    if word.isprintable():
        return shlex.quote(word)
    escaped = (chr(b) if 32 <= b < 127 and b not in b"\\'" else f"\\x{b:02x}" for b in os.fsencode(word))
    return "$'" + "".join(escaped) + "'"


def timecode_rate(fps: float) -> float:
    """Return the rate of timecodes for a video's measured rate: its own if it is a usual one; 25 if it is unknown."""
    nearest = min(_TIMECODE_RATES, key=lambda rate: abs(rate - fps))
    if abs(nearest - fps) < nearest * _SAME_RATE:
        return nearest
    return next((rate for rate in _RATES_FOR_OTHERS if rate >= fps), _RATES_FOR_OTHERS[-1])


def _counts(milliseconds: float, fps: float, rate: float) -> int:
    """Return the first count of a rate at which what a video shows from a time on can be seen."""
    counts = max(0.0, milliseconds / 1000.0 * rate)
    times = rate / fps if fps else 0.0
    if round(times) and abs(times - round(times)) < _SAME_RATE:
        return round(counts)  # frames begin with a count; containers round their times
    return math.ceil(counts - 1e-6)


def _seconds(milliseconds: int) -> str:
    """Write whole milliseconds as seconds."""
    return f"{milliseconds // 1000}.{milliseconds % 1000:03d}" if milliseconds >= 0 else f"-{_seconds(-milliseconds)}"
