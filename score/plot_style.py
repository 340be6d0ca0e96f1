"""What all plots share: a figure without a display, plain axes, labels that fit, and writing the file."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..cache.common.atomic import replacing_output
from ..cache.common.errors import UsageError
from ..cache.common.quoting import one_line, quoted
from .read_files import StrPath

KINDS = ("time", "distribution", "heatmap")  # plots of scores; the default first
LABEL_CHARS = 60
_DPI = 150
_FIRST_BYTES = {
    ".png": b"\x89PNG",
    ".pdf": b"%PDF",
    ".svg": b"<?xml",
    ".jpg": b"\xff\xd8\xff",
    ".jpeg": b"\xff\xd8\xff",
}


def new_figure(width: float, height: float, *, constrained: bool = True) -> Any:
    """A matplotlib figure, `width` x `height` inches, without a window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained" if constrained else None)
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Any, path: StrPath) -> str | None:
    """Write a figure as .png, .svg, .pdf or .jpg; the file appears whole or not at all.

    Returns:
        A warning about letters that the font lacks and that are drawn as boxes; None if there are none.

    Raises:
        UsageError: the file cannot be written, or is there already and is not a picture of the kind that its name says.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _FIRST_BYTES:
        raise UsageError(f"Cannot write the picture {quoted(path)}", f"end its name in {', '.join(_FIRST_BYTES)}")
    if not _may_be_replaced(path, _FIRST_BYTES[suffix]):
        raise UsageError(f"{quoted(path)} exists and is not a picture of that kind", "choose another name")
    tight = {"bbox_inches": "tight"} if figure.get_layout_engine() else {}
    try:
        with warnings.catch_warnings(record=True) as caught, replacing_output(path) as temporary:
            warnings.simplefilter("always")
            figure.savefig(temporary, format=suffix[1:], dpi=_DPI, **tight)
    except ValueError as error:  # too large, for one
        raise UsageError(f"Cannot write the picture {quoted(path)}: {error}") from error
    if any("missing from font" in str(one.message) for one in caught):
        return f"The font of {quoted(path)} lacks some letters, which are drawn as boxes."
    return None


def _may_be_replaced(path: Path, first_bytes: bytes) -> bool:
    """Whether a picture may take the place of a file: there is none, or one of the same kind by its first bytes."""
    if not path.is_file() or not path.stat().st_size:
        return True
    with path.open("rb") as file:
        return file.read(len(first_bytes)) == first_bytes


def tidy(axes: Any) -> None:
    """A light grid, and no box around the plot."""
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def finish_timeline(axes: Any, scale: str, heading: str, *, has_clock: bool) -> None:
    """Label the axes of scores over time.

    Args:
        axes: with a line for each reference or query.
        scale: what the scores are, with their range.
        heading: stands above the names of the lines.
        has_clock: whether the horizontal axis is in seconds; of images it is their number.
    """
    axes.set_ylabel(scale)
    axes.set_xlabel("seconds" if has_clock else "image")
    axes.margins(x=0.01)
    tidy(axes)
    legend(axes, heading)


def name_cells(axes: Any, rows: Sequence[str], columns: Sequence[str], chars: int) -> None:
    """Write the names of a matrix's rows and columns beside it, each cut to `chars` characters."""
    axes.set_yticks(range(len(rows)), [shorten(name, chars) for name in rows], parse_math=False)
    names = [shorten(name, chars) for name in columns]
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor", parse_math=False)
    axes.tick_params(length=0)


def title(axes: Any, text: str) -> None:
    """A name above the plot, to the left; a dollar sign in it does not start a formula."""
    axes.set_title(shorten(text, 2 * LABEL_CHARS), loc="left", fontsize=11, parse_math=False)


def legend(axes: Any, heading: str) -> None:
    """The names of the lines, to the right of the plot."""
    drawn = axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, title=heading, alignment="left")
    for text in drawn.get_texts():
        text.set_parse_math(False)


def label(text: str) -> str:
    """A name for a legend; a leading underscore would hide it there, so a space comes first."""
    return f" {shorten(text, LABEL_CHARS)}"


def shorten(text: str, chars: int) -> str:
    """One line of at most `chars` characters: longer text loses its middle."""
    line = one_line(text)
    return line if len(line) <= chars else f"{line[: chars // 2 - 1]}…{line[len(line) - (chars - chars // 2) :]}"
