"""Plots of scores: over time, as distributions, as a heat map of videos and references."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cache import Entry
from ..cache.common.errors import UsageError
from .compare import Comparison
from .consistency import scene_starts
from .metrics import METRICS
from .plot_style import finish_timeline, label, name_cells, new_figure, save_figure, shorten, tidy, title
from .read_files import StrPath
from .similarity import Floats

PeakFrames = Callable[[Entry, Sequence[float]], Iterable[tuple[int, NDArray[np.uint8]]]]
"""Frames of a video at given times, milliseconds: each time's position among them, and (H, W, 3) uint8 RGB. Frames
that cannot be decoded may be left out."""

MAX_VIDEOS = 12
MAX_LINES = 10
MAX_GROUPS = 40
MAX_CELLS_WITH_NUMBERS = 400
MAX_ROWS, MAX_COLUMNS = 150, 60  # of a heat map: what fits its largest figure legibly
_ROW_CHARS = 40
_GROUP_CHARS = 70
_STRIP = 1.1  # height of the best frames above a panel, inches
_PEAK_PIXELS = 320  # about the longer side of a best frame as drawn
_SAMPLES = 2000  # values of one group that are drawn as dots


def plot_comparisons(
    comparisons: Sequence[Comparison], path: StrPath, kind: str = "time", frames: PeakFrames | None = None
) -> str | None:
    """Draw the scores of `clipcache score`.

    Args:
        comparisons: all of one metric, those of a video in a row.
        path: .png, .svg or .pdf.
        kind: "time": scores over time, a panel a video; "distribution": of each video and reference; "heatmap": mean
            scores, videos down and references across.
        frames: for "time": shows the best frames, as `plot_similarity` does.

    Returns:
        A warning about letters that the font lacks and that are drawn as boxes; None if there are none.

    Raises:
        UsageError: nothing to draw, too much for one picture, or a file that cannot be written.
    """
    if not comparisons:
        raise UsageError("There is nothing to plot: no video could be scored")
    scale = METRICS[comparisons[0].metric].axis
    if kind == "time":
        return plot_similarity(comparisons, path, frames=frames)
    names = _distinct_names(comparisons)
    if kind == "distribution":
        groups = {f"{names[one.video.path]}: {one.reference}": one.scores for one in comparisons}
        return plot_distribution(groups, path, scale)
    videos = list(names)
    references = list(dict.fromkeys(one.reference for one in comparisons))
    means = np.full((len(videos), len(references)), np.nan)
    for one in comparisons:
        means[videos.index(one.video.path), references.index(one.reference)] = one.summary.mean
    return plot_heatmap(means, list(names.values()), references, path, f"mean {scale}")


def _distinct_names(comparisons: Sequence[Comparison]) -> dict[Path, str]:
    """Names of videos by entry, in order; further videos of the same name get a number."""
    seen: dict[str, int] = {}
    names: dict[Path, str] = {}
    for one in comparisons:
        if one.video.path not in names:
            name = one.video.video_name
            seen[name] = seen.get(name, 0) + 1
            names[one.video.path] = name if seen[name] == 1 else f"{name} ({seen[name]})"
    return names


def plot_similarity(
    comparisons: Sequence[Comparison], path: StrPath, *, marked: str = "best frame", frames: PeakFrames | None = None
) -> str | None:
    """Draw scores against the time of each frame in seconds, images against their number; the axis names the scale.

    Every other scene is shaded; scenes are found from the features (`consistency.scene_starts`).

    Args:
        comparisons: of at most MAX_VIDEOS videos with at most MAX_LINES references each.
        path: .png, .svg or .pdf.
        marked: name of the dot on the highest value of each line; empty for no dot.
        frames: gives the best frames of a video, which are then shown above its lines.

    Returns:
        As `plot_comparisons`.

    Raises:
        UsageError: as `plot_comparisons`.
    """
    videos: dict[Path, list[Comparison]] = {}
    for comparison in comparisons:
        videos.setdefault(comparison.video.path, []).append(comparison)
    if not videos:
        raise UsageError("There is nothing to plot: no video could be scored")
    if len(videos) > MAX_VIDEOS or any(len(lines) > MAX_LINES for lines in videos.values()):
        raise UsageError(f"A plot holds at most {MAX_VIDEOS} videos and {MAX_LINES} references each", "name fewer")
    strip = 0.0 if frames is None else _STRIP
    figure = new_figure(11, 0.8 + (2.9 + strip) * len(videos))
    heights = [2.9] if frames is None else [strip, 2.9]
    grid = figure.subplots(len(videos) * len(heights), squeeze=False, height_ratios=heights * len(videos))
    for panel, lines in zip(grid.reshape(len(videos), -1), videos.values(), strict=True):
        title(panel[0], lines[0].video.video_name)
        if frames is not None:
            _show_peaks(panel[0], lines, frames)
        _draw_video(panel[-1], lines, marked)
    return save_figure(figure, path)


def _show_peaks(axes: Any, lines: Sequence[Comparison], frames: PeakFrames) -> None:
    """The best frame of each line, in the order and the colours of the lines."""
    axes.set_axis_off()
    video = lines[0].video
    at_ms = [float(video.timestamps_ms[int(np.argmax(line.scores))]) for line in lines]
    for number, rgb in frames(video, at_ms):
        cell = axes.inset_axes((number / MAX_LINES, 0.0, 0.94 / MAX_LINES, 0.85))
        step = max(1, max(rgb.shape[:2]) // _PEAK_PIXELS)  # an SVG would hold all of a 4K frame
        cell.imshow(rgb[::step, ::step], interpolation="antialiased")
        cell.set_xticks([])
        cell.set_yticks([])
        cell.set_title(f"{at_ms[number] / 1000:.2f} s: {lines[number].scores.max():.3f}", fontsize=7)
        for side in cell.spines.values():
            side.set(edgecolor=f"C{number}", linewidth=2)


def _draw_video(axes: Any, lines: Sequence[Comparison], marked: str) -> None:
    video = lines[0].video
    has_clock = bool(np.ptp(video.timestamps_ms))
    for line in lines:
        places = (video.timestamps_ms / 1000.0 if has_clock else video.frame_index)[: len(line.scores)]
        best = int(np.argmax(line.scores))
        (drawn,) = axes.plot(places, line.scores, linewidth=1.4, label=label(line.reference))
        if marked:
            axes.plot(places[best], line.scores[best], "o", color=drawn.get_color(), markersize=6)
    if has_clock:
        _shade_scenes(axes, video)
    heading = f"● {marked}" if marked else ""
    finish_timeline(axes, METRICS[lines[0].metric].axis, heading, has_clock=has_clock)


def _shade_scenes(axes: Any, video: Entry) -> None:
    times = video.timestamps_ms / 1000.0
    edges = [*(times[start] for start in scene_starts(video)), times[-1]]
    for number, (start, end) in enumerate(pairwise(edges)):
        if number % 2:
            axes.axvspan(start, end, color="0.93", linewidth=0, zorder=0)


def plot_distribution(groups: Mapping[str, Floats], path: StrPath, scale: str) -> str | None:
    """Draw the values of each group as dots, with a box from quartile to quartile and a line at the median.

    Args:
        groups: at most MAX_GROUPS, by name, each of one value or more.
        path: .png, .svg or .pdf.
        scale: what the values are, with their range.

    Returns:
        As `plot_comparisons`.

    Raises:
        UsageError: as `plot_comparisons`.
    """
    if not groups or len(groups) > MAX_GROUPS:
        raise UsageError(f"A plot of distributions holds 1 to {MAX_GROUPS} groups, not {len(groups)}", "name fewer")
    figure = new_figure(11, 1.2 + 0.42 * len(groups))
    axes = figure.subplots()
    axes.use_sticky_edges = False  # dots at the end of a box are drawn whole
    rng = np.random.default_rng(0)  # the position of a dot across its row has no meaning
    for row, values in enumerate(groups.values()):
        dots = values if len(values) <= _SAMPLES else rng.choice(values, _SAMPLES, replace=False)
        axes.plot(dots, row + rng.uniform(-0.3, 0.3, len(dots)), ".", markersize=3, alpha=0.35, color="tab:blue")
        low, median, high = np.percentile(values, [25, 50, 75])
        axes.barh(row, high - low, left=low, height=0.5, color="none", edgecolor="black", linewidth=1)
        axes.plot([median, median], [row - 0.25, row + 0.25], color="tab:red", linewidth=2)
    axes.set_yticks(range(len(groups)), [shorten(name, _GROUP_CHARS) for name in groups], parse_math=False)
    axes.set_ylim(len(groups) - 0.4, -0.6)
    axes.set_xlabel(f"{scale}; box: quartiles, red: median")
    tidy(axes)
    return save_figure(figure, path)


def plot_heatmap(values: Floats, rows: Sequence[str], columns: Sequence[str], path: StrPath, scale: str) -> str | None:
    """Draw a matrix in colours, with its numbers while they can be read.

    Args:
        values: (R, C); NaN where there is none.
        rows: R names.
        columns: c names.
        path: .png, .svg or .pdf.
        scale: what the values are, with their range.

    Returns:
        As `plot_comparisons`.

    Raises:
        UsageError: as `plot_comparisons`.
    """
    if len(rows) > MAX_ROWS or len(columns) > MAX_COLUMNS:
        raise UsageError(f"A heat map holds at most {MAX_ROWS} videos and {MAX_COLUMNS} references", "name fewer")
    figure = new_figure(3.5 + 0.75 * len(columns), 2.6 + 0.34 * len(rows))
    axes = figure.subplots()
    image = axes.imshow(values, aspect="auto", cmap="viridis")
    name_cells(axes, rows, columns, _ROW_CHARS)
    figure.colorbar(image, label=scale, fraction=0.05)
    if values.size <= MAX_CELLS_WITH_NUMBERS:
        _write_numbers(axes, values)
    return save_figure(figure, path)


def _write_numbers(axes: Any, values: Floats) -> None:
    middle = (np.nanmax(values) + np.nanmin(values)) / 2
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            color = "black" if value > middle else "white"  # viridis is dark where values are low
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=color)
