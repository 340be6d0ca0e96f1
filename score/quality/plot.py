"""Correlations as a plot."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..plot_style import name_cells, new_figure, save_figure
from ..read_files import StrPath
from .correlation import Matrix

_LABEL_CHARS = 30


def plot_correlations(matrix: Matrix, labels: Sequence[str], path: StrPath, title: str) -> str | None:
    """Draw a matrix of correlations: blue where positive, red where negative.

    Args:
        matrix: (M, M) in [-1, 1]; NaN, where a correlation is not defined, stays grey.
        labels: m names.
        path: .png, .svg or .pdf.
        title: what is correlated, and over what.

    Returns:
        A warning about letters that the font lacks and that are drawn as boxes; None if there are none.

    Raises:
        UsageError: the file cannot be written.
    """
    side = 2.6 + 0.62 * len(labels)
    figure = new_figure(side + 0.9, side)
    axes = figure.subplots()
    axes.set_facecolor("0.85")
    image = axes.imshow(np.ma.masked_invalid(matrix), vmin=-1, vmax=1, cmap="RdBu")
    name_cells(axes, labels, labels, _LABEL_CHARS)
    for (row, column), value in np.ndenumerate(matrix):
        shown = f"{round(value, 2) + 0.0:.2f}" if np.isfinite(value) else "–"  # never "-0.00"
        color = "white" if abs(value) > 0.6 else "black"
        axes.text(column, row, shown, ha="center", va="center", fontsize=8, color=color)
    axes.set_title(title, fontsize=11, pad=12, parse_math=False)
    figure.colorbar(image, label="correlation (-1 to 1)", fraction=0.04)
    return save_figure(figure, path)
