"""`clipcache consistency`: how consistent videos are in time, where they jump, and which frames repeat."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
import cloup

from ..cache.common.errors import UsageError
from ..cache.common.options import COSINE, COUNT, PATH, warn
from .options import TARGETS, Scoring, output_options, scoring_command

if TYPE_CHECKING:
    from ..cache.common.render import Row
    from .compare import FrameSelection
    from .consistency import Consistency

_SUMMARY = (
    "video",
    "frames",
    "frame_consistency_cosine",
    "first_frame_consistency_cosine",
    "background_consistency_vbench",
    "min_cosine",
    "min_at_ms",
)
_SUMMARY_NOTE = (
    "frame_consistency: mean cosine of consecutive frames, -1 to 1; first_frame_consistency: of each frame with "
    "the first, -1 to 1; background_consistency_vbench: VBench's formula, 0 to 1; min_cosine: lowest of consecutive "
    "frames; min_at_ms: when, milliseconds on the container's clock\n"
)
_JUMPS = ("video", "rank", "at_ms", "frame_index", "cosine")
_JUMPS_NOTE = "cosine: with the frame before, -1 to 1; at_ms: milliseconds on the container's clock\n"
_RUNS = ("video", "start_ms", "end_ms", "frame_index", "frames", "min_cosine")
_RUNS_NOTE = (
    "min_cosine: lowest of consecutive frames in the run, -1 to 1; start_ms, end_ms: on the container's clock\n"
)


@scoring_command(
    TARGETS,
    cloup.option_group(
        "Lists, instead of the consistency",
        click.option("--jumps", "jump_count", type=COUNT, help="The K largest jumps of each video."),
        click.option("--duplicates", type=COSINE, help="Runs of frames whose cosines reach this."),
    ),
    output=output_options(
        click.option("--plot", type=PATH, help="Draw consecutive cosines over time: .png, .svg or .pdf.")
    ),
    short_help="Measure the consistency of videos in time; find cuts and repeated frames.",
)
def consistency(
    scoring: Scoring,
    targets: tuple[Path, ...],
    jump_count: int | None,
    duplicates: float | None,
    style: str,
    output: Path | None,
    plot: Path | None,
    selection: FrameSelection,
) -> None:
    """Measure the consistency of cached videos in time: the cosines of their frames with each other.

    TARGETS are as in `score`; none means the whole cache. Consecutive means consecutive among the frames that --fps,
    --every, --start and --end leave.
    """
    from ..cache import DigestMemo, Entry
    from ..cache.common.progress import counted
    from ..cache.common.render import render_rows, write_text
    from .consistency import measure
    from .question import choose

    if jump_count is not None and duplicates is not None:
        raise UsageError("--jumps and --duplicates give different lists", "ask for one at a time")
    context = scoring.context()
    chosen = choose(targets, context, DigestMemo())
    entries = (Entry(one.path) for one in counted(chosen, "Measuring", len(chosen)))
    found: Iterable[Consistency] = _warning_of_single_frames(measure(entries, selection, context.on_skip))
    if plot:
        found = list(found)
    if jump_count is not None:
        pieces = render_rows(_jump_rows(found, jump_count), style, _JUMPS, footnote=_JUMPS_NOTE)
    elif duplicates is not None:
        pieces = render_rows(_run_rows(found, duplicates), style, _RUNS, footnote=_RUNS_NOTE)
    else:
        pieces = render_rows(_summary_rows(found), style, (*_SUMMARY, "video_sha256"), _SUMMARY, _SUMMARY_NOTE)
    write_text(pieces, output)
    if plot and (problem := _plot(found, plot)):
        warn(problem)


def _warning_of_single_frames(found: Iterator[Consistency]) -> Iterator[Consistency]:
    """Pass them on, with a warning for each video of which one frame counts: its columns and lists are empty."""
    for one in found:
        if len(one.video) == 1:
            warn(f"{one.video.video_name!r} has one frame here, so there is nothing to compare.")
        yield one


def _summary_rows(found: Iterable[Consistency]) -> Iterator[Row]:
    from .compare import has_clock
    from .consistency import jumps

    for one in found:
        lowest = next(iter(jumps(one, 1)), None)
        yield {
            "video": one.video.video_name,
            "frames": len(one.video),
            "frame_consistency_cosine": one.frame,
            "first_frame_consistency_cosine": one.first_frame,
            "background_consistency_vbench": one.background,
            "min_cosine": lowest.cosine if lowest else None,
            "min_at_ms": lowest.at_ms if lowest and has_clock(one.video) else None,
            "video_sha256": one.video.video_sha256,
        }


def _jump_rows(found: Iterable[Consistency], count: int) -> Iterator[Row]:
    from .compare import has_clock
    from .consistency import jumps

    for one in found:
        for rank, jump in enumerate(jumps(one, count), 1):
            at_ms = jump.at_ms if has_clock(one.video) else None  # images have no time
            at = {"at_ms": at_ms, "frame_index": jump.frame_index, "cosine": jump.cosine}
            yield {"video": one.video.video_name, "rank": rank, **at}


def _run_rows(found: Iterable[Consistency], threshold: float) -> Iterator[Row]:
    from .consistency import duplicate_runs

    for one in found:
        for run in duplicate_runs(one, threshold):
            yield {
                "video": one.video.video_name,
                "start_ms": run.start_ms,
                "end_ms": run.end_ms,
                "frame_index": run.first_frame,
                "frames": run.frames,
                "min_cosine": run.min_cosine,
            }


def _plot(found: Iterable[Consistency], path: Path) -> str | None:
    import numpy as np

    from .compare import Comparison
    from .plots import plot_similarity

    lines = []
    for one in found:
        if len(one.video) < 2:  # nothing to compare
            continue
        later = one.video.take(np.arange(1, len(one.video)))
        for name, cosines in (("with the frame before", one.to_previous), ("with the first frame", one.to_first)):
            lines.append(Comparison(later, "video", name, cosines, pooled=float(cosines.mean())))
    return plot_similarity(lines, path, marked="")
