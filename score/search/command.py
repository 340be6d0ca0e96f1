"""`clipcache search`: finds the frames or moments that match queries; prints tables or edit lists, draws pictures."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import cloup

from ...cache.common.errors import UsageError
from ...cache.common.options import COSINE, COUNT, PATH, Number, warn
from ..options import Scoring, output_options, scoring_command

if TYPE_CHECKING:
    from ..compare import FrameSelection
    from .formats import Found
    from .frames import Limits
    from .query import Query
    from .run import Search

_WORDS = click.argument("words", metavar="[QUERY]", nargs=-1)
_QUESTION = cloup.option_group(
    "What to find, and where",
    click.option("--image", "images", multiple=True, type=PATH, help="Image to find, or to add to each query."),
    click.option("--queries", "query_file", type=PATH, help="More queries, one a line; # for comments."),
    click.option("--in", "targets", multiple=True, type=PATH, help="Search this video, folder or entry; may repeat."),
    click.option("--truncate", is_flag=True, help="Cut prompts of over 77 tokens instead of refusing them."),
)
_LIMITS = cloup.option_group(
    "How much to find",
    click.option("--top", type=COUNT, default=10, show_default=True, help="How many for each query."),
    click.option("--per-video", type=COUNT, help="At most K for each video and query."),
    click.option(
        "--min-gap",
        type=Number(0),
        default=1.0,
        show_default=True,
        help="Seconds between found frames of a video; moments nearer than that are one.",
    ),
    click.option("--threshold", type=COSINE, help="Least cosine of a result."),
    click.option("--moments", is_flag=True, help="Find stretches of time instead of frames."),
    click.option("--high", type=COSINE, help="A moment reaches this cosine; by default computed for each query."),
    click.option("--low", type=COSINE, help="A moment lasts while the cosine is at least this."),
)
_OUTPUT = output_options(
    click.option("--thumbnails", type=PATH, help="Write the found frames into this folder, as JPEG."),
    click.option("--contact-sheet", type=PATH, help="Draw the found frames on one picture, with captions."),
    click.option("--plot", type=PATH, help="Draw similarity over time: .png, .svg or .pdf."),
    click.option("--video-root", type=PATH, help="Where the videos are now, if they were moved; found by content."),
    formats=("table", "csv", "json", "jsonl", "edl", "ffmpeg"),
)


@scoring_command(
    _WORDS,
    _QUESTION,
    _LIMITS,
    output=_OUTPUT,
    short_help="Find the frames or moments that match a prompt or an image.",
)
def search(
    scoring: Scoring,
    words: tuple[str, ...],
    images: tuple[Path, ...],
    query_file: Path | None,
    targets: tuple[Path, ...],
    truncate: bool,
    top: int,
    per_video: int | None,
    min_gap: float,
    threshold: float | None,
    moments: bool,
    high: float | None,
    low: float | None,
    style: str,
    output: Path | None,
    thumbnails: Path | None,
    contact_sheet: Path | None,
    plot: Path | None,
    video_root: Path | None,
    selection: FrameSelection,
) -> None:
    """Find the frames, or with --moments the stretches of time, that are nearest to a QUERY in the whole cache.

    QUERY is a prompt, or a sum of prompts such as '"a dog" + 0.5*"snow" - "people"'. Scores are cosines, from -1 to 1.
    The formats edl (for editing programs) and ffmpeg (commands) are for moments.
    """
    from ...cache import DigestMemo
    from ...cache.common.render import write_text
    from .formats import Found, found_text
    from .frames import Limits
    from .locate import SourceFinder
    from .plot import plot_found
    from .run import prepare
    from .thumbnails import read_pictures, write_pictures

    _check_moments(moments, style, high, low)
    memo = DigestMemo()
    finder = SourceFinder(memo, video_root, scoring.tell)
    queries = _queries(words, query_file, images)
    asked = prepare(queries, targets, selection, scoring.context(), memo, truncate=truncate)
    limits = Limits(top, per_video, min_gap, threshold)
    found = _find(asked, limits, high, low) if moments else Found(asked.queries, asked.frames(limits))
    if not found.hits:
        warn("Nothing was found; lower --threshold or --high, or search more.")
    names: dict[int, str] = {}
    try:
        if thumbnails or contact_sheet:
            read = functools.partial(
                read_pictures, find=finder.find, frames_at=scoring.wiring.frames_at, on_missing=scoring.tell
            )
            names, problem = write_pictures(found, read, thumbnails, contact_sheet)
            if problem:
                warn(problem)
    finally:  # what was found is printed even if a picture of it cannot be written
        write_text(found_text(found, style, finder.find, names), output)
    if plot and found.hits:
        for sentence in plot_found(asked, found, plot):
            warn(sentence)


def _check_moments(moments: bool, style: str, high: float | None, low: float | None) -> None:
    """Refuse options that are for moments alone, before anything is searched."""
    from .formats import MOMENT_STYLES

    if moments:
        return
    if style in MOMENT_STYLES:
        raise UsageError(f"--format {style} is for moments, which have a start and an end", "add --moments")
    if high is not None or low is not None:
        raise UsageError("--high and --low are thresholds of moments", "add --moments, or use --threshold")


def _queries(words: Sequence[str], query_file: Path | None, images: Sequence[Path]) -> list[Query]:
    """Read the queries of the command line and of the file; images are added to each, or make one by themselves."""
    from ..references import read_prompts
    from .query import Query, parse_query, query_of_words

    queries = [query_of_words(words)] if words else []
    if query_file is not None:
        queries += [parse_query(line) for line in read_prompts(query_file)]
    if not queries and not images:
        raise UsageError("There is nothing to search for", "give a QUERY, --image or --queries")
    return [query.with_images(images) for query in queries or [Query("")]]


def _find(asked: Search, limits: Limits, high: float | None, low: float | None) -> Found:
    """Find moments; --threshold is the high one where no other is given, and the least of their peaks in any case."""
    from .formats import Found

    given = [value for value in (high, limits.threshold) if value is not None]
    hits, thresholds = asked.moments(limits, max(given, default=None), low)
    return Found(asked.queries, hits, thresholds)
