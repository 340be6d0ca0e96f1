"""Similarity over time as a picture: one panel per video, one line per reference, the best frame of each marked."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..cache.errors import UsageError
from ..cache.naming import one_line
from .evaluate import Comparison

MAX_VIDEOS = 12
MAX_LINES = 10
_LEGEND_CHARS = 60
_AXES = {
    "cosine": "cosine (-1 to 1)",
    "logit": "logit",
    "probability": "probability (0 to 1)",
    "clipscore": "CLIPScore (0 to 2.5)",
}


def plot_similarity(comparisons: Sequence[Comparison], path: Path) -> str | None:
    """Draw scores against the time of each frame in seconds, images against their number; the axis names the scale.

    Args:
        comparisons: Of at most MAX_VIDEOS videos with at most MAX_LINES references each.
        path: .png, .svg or .pdf.

    Returns:
        A sentence on letters that the font lacks, where there are any: they are drawn as boxes.

    Raises:
        UsageError: Nothing to draw, too much for one picture, or a file that cannot be written.
    """
    videos: dict[Path, list[Comparison]] = {}
    for comparison in comparisons:
        videos.setdefault(comparison.video.path, []).append(comparison)
    if not videos:
        raise UsageError("There is nothing to plot: no video could be scored.")
    if len(videos) > MAX_VIDEOS or any(len(lines) > MAX_LINES for lines in videos.values()):
        raise UsageError(f"A plot holds at most {MAX_VIDEOS} videos and {MAX_LINES} references each; name fewer.")
    figure = _draw(list(videos.values()))
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            figure.savefig(path, dpi=150, bbox_inches="tight")
    except (OSError, ValueError) as error:
        raise UsageError(f"Cannot write the plot {str(path)!r}: {error}.") from error
    if any("missing from font" in str(one.message) for one in caught):
        return f"The font of {str(path)!r} lacks letters of the prompts, which are drawn as boxes."
    return None


def _draw(videos: Sequence[Sequence[Comparison]]) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 0.8 + 2.9 * len(videos)), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, lines in zip(figure.subplots(len(videos), squeeze=False)[:, 0], videos, strict=True):
        _draw_video(axes, lines)
    return figure


def _draw_video(axes: Any, lines: Sequence[Comparison]) -> None:
    video = lines[0].video
    has_clock = bool(np.ptp(video.timestamps_ms))
    for line in lines:
        places = (video.timestamps_ms / 1000.0 if has_clock else video.frame_index)[: len(line.scores)]
        best = int(np.argmax(line.scores))
        (drawn,) = axes.plot(places, line.scores, linewidth=1.4, label=_label(line.reference))
        axes.plot(places[best], line.scores[best], "o", color=drawn.get_color(), markersize=6)
    axes.set_title(_label(video.video_name), loc="left", fontsize=11, parse_math=False)
    axes.set_ylabel(_AXES[lines[0].metric])
    axes.set_xlabel("seconds" if has_clock else "image")
    axes.margins(x=0.01)
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    legend = axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, title="● best frame")
    for text in legend.get_texts():
        text.set_parse_math(False)


def _label(text: str) -> str:
    """One line that fits; a leading underscore would hide it from the legend."""
    line = one_line(text)
    line = line if len(line) <= _LEGEND_CHARS else line[: _LEGEND_CHARS - 1] + "…"
    return f" {line}" if line.startswith("_") else line
