"""A plot of similarity over time with the results marked: a panel for each video, a line for each query."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ...cache.common.errors import UsageError
from ..metrics import COSINE
from ..plot_style import finish_timeline, label, new_figure, save_figure, title
from ..plots import MAX_LINES, MAX_VIDEOS
from ..read_files import StrPath
from .formats import Found
from .frames import Hit
from .run import Search
from .scan import VideoScores

MAX_QUERIES = MAX_LINES


def plot_found(asked: Search, found: Found, path: StrPath) -> list[str]:
    """Draw the cosines (-1 to 1) of the videos in which something was found, frames as dots, moments shaded as well.

    Args:
        asked: gives the cosines of all frames, in a pass over the videos drawn.
        found: frames, or moments.
        path: .png, .svg or .pdf.

    Returns:
        Warnings about what the plot does not show: videos or queries beyond its limits, letters that the font lacks.

    Raises:
        UsageError: nothing was found, or the file cannot be written.
    """
    entries = list(dict.fromkeys(hit.source.entry for hit in found.hits if hit.query < MAX_QUERIES))
    if not entries:
        raise UsageError("There is nothing to plot: the search has no results")
    panels = list(asked.scores(entries[:MAX_VIDEOS], MAX_QUERIES))
    problem = save_figure(_draw(found, panels), path)
    said = []
    if len(entries) > MAX_VIDEOS or len(found.queries) > MAX_QUERIES:
        said.append(f"The plot shows {len(panels)} of {len(entries)} videos, and {MAX_QUERIES} queries at most.")
    return [*said, problem] if problem else said


def _draw(found: Found, panels: Sequence[VideoScores]) -> Any:
    figure = new_figure(11, 0.8 + 2.9 * len(panels))
    for axes, scores in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True):
        _draw_video(axes, found, scores)
    return figure


def _draw_video(axes: Any, found: Found, scores: VideoScores) -> None:
    video, has_clock = scores.video, scores.source.has_clock
    places = video.timestamps_ms / 1000.0 if has_clock else video.frame_index
    for query, cosines in enumerate(scores.cosines, scores.first_query):
        hits = [hit for hit in found.hits if hit.query == query and hit.source.entry == scores.source.entry]
        (line,) = axes.plot(places, cosines, linewidth=1.3, label=label(found.queries[query]))
        _mark(axes, hits, line.get_color(), has_clock=has_clock)
    title(axes, scores.source.name)
    heading = "● found frame" if found.thresholds is None else "● best frame of a moment (shaded)"
    finish_timeline(axes, COSINE.axis, heading, has_clock=has_clock)


def _mark(axes: Any, hits: Iterable[Hit], color: str, *, has_clock: bool) -> None:
    """Put a dot on each found frame, and shade the moments."""
    for hit in hits:
        axes.plot(hit.at_ms / 1000.0 if has_clock else hit.frame_index, hit.cosine, "o", color=color, markersize=6)
        if hit.span_ms is not None:
            axes.axvspan(hit.span_ms[0] / 1000.0, hit.span_ms[1] / 1000.0, color=color, alpha=0.15, linewidth=0)
