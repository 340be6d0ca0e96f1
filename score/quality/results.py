"""The results of a benchmark as tables and plots."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...cache.common.errors import UsageError
from ...cache.common.quoting import quoted
from ...cache.common.render import Row, render_rows, write_text
from ..plots import plot_distribution
from ..read_files import StrPath
from .benchmark import Results
from .correlation import finite_or_none, kendall, pearson, spearman
from .plot import plot_correlations

CORRELATION_COLUMNS = ("method", "with_method", "items", "pearson", "spearman", "kendall_tau_b")
CORRELATION_FOOTNOTE = "correlations over items, -1 to 1; empty: not defined\n"
RATING_COLUMNS = ("method", "items", "srcc", "plcc", "krcc")
RATING_FOOTNOTE = (
    "correlations with the ratings over items, -1 to 1; srcc: Spearman; plcc: Pearson, of the scores as they are, "
    "without a fitted curve; krcc: Kendall's tau-b\n"
)
_LINE_BYTES = 10_000


def write_results(results: Results, folder: StrPath) -> tuple[list[Path], list[str]]:
    """Write all tables, as CSV, and plots into a folder, which is made if it does not exist.

    Returns:
        The files written, and warnings about what the plots do not show.

    Raises:
        UsageError: a file cannot be written, or is there already and is not of a benchmark.
    """
    folder = Path(folder)
    tables: dict[str, tuple[Sequence[str], Iterator[Row]]] = {
        "scores.csv": (("item", "frames", *(method.name for method in results.methods)), score_rows(results)),
        "methods.csv": (("method", "scale"), _scale_rows(results)),
        "correlations.csv": (CORRELATION_COLUMNS, correlation_rows(results)),
    }
    if results.ratings is not None:
        tables["ratings.csv"] = (RATING_COLUMNS, rating_rows(results, results.ratings))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"Cannot make the folder {quoted(folder)}: {error.strerror}") from error
    for name, (columns, _) in tables.items():
        if not _may_be_replaced(folder / name, columns):
            raise UsageError(
                f"{quoted(folder / name)} exists and is not of a benchmark", "choose another output folder"
            )
    for name, (columns, rows) in tables.items():
        write_text(render_rows(rows, "csv", columns), folder / name)
    pictures = {"correlations.png": _draw_correlations, "distribution.png": _draw_distribution}
    said = [draw(results, folder / name) for name, draw in pictures.items()]
    return [folder / name for name in (*tables, *pictures)], [sentence for sentence in said if sentence]


def _may_be_replaced(path: Path, columns: Sequence[str]) -> bool:
    """Whether a table may take the place of a file: there is none, or one that begins with the same two columns.

    A file of ratings by people may lie in the same folder under the same name.
    """
    if not path.is_file():
        return True
    with path.open("rb") as file:
        return file.readline(_LINE_BYTES).rstrip().split(b",")[:2] == [name.encode() for name in columns[:2]]


def printed(results: Results) -> Iterator[str]:
    """Tables of correlations: with the ratings where there are any, and of the methods with each other."""
    if results.ratings is not None:
        yield from render_rows(
            rating_rows(results, results.ratings), "table", RATING_COLUMNS, footnote=f"{RATING_FOOTNOTE}\n"
        )
    yield from render_rows(correlation_rows(results), "table", CORRELATION_COLUMNS, footnote=CORRELATION_FOOTNOTE)


def score_rows(results: Results) -> Iterator[Row]:
    """One row an item, with a column for each method."""
    for item, frames, scores in zip(results.items, results.frames, results.scores, strict=True):
        cells = {method.name: finite_or_none(score) for method, score in zip(results.methods, scores, strict=True)}
        yield {"item": item, "frames": frames, **cells}


def correlation_rows(results: Results) -> Iterator[Row]:
    """Correlate each two methods over the items that both have scored; None where that is not defined."""
    for a, b in combinations(range(len(results.methods)), 2):
        both = results.scores[:, [a, b]]
        both = both[np.isfinite(both).all(axis=1)]
        yield {
            "method": results.methods[a].name,
            "with_method": results.methods[b].name,
            **_correlations(both, ("pearson", "spearman", "kendall_tau_b")),
        }


def rating_rows(results: Results, ratings: Mapping[str, float]) -> Iterator[Row]:
    """Correlate each method with the ratings of people, over the items that have both."""
    human = np.array([ratings.get(item, np.nan) for item in results.items])
    for column, method in enumerate(results.methods):
        both = np.column_stack([results.scores[:, column], human])
        both = both[np.isfinite(both).all(axis=1)]
        yield {"method": method.name, **_correlations(both, ("plcc", "srcc", "krcc"))}


def _correlations(both: NDArray[np.float64], names: Sequence[str]) -> Row:
    """Pearson, Spearman and Kendall of the two columns of (N, 2), under the names given."""
    values = (pearson(both)[0, 1], spearman(both)[0, 1], kendall(both[:, 0], both[:, 1]))
    return {"items": len(both), **dict(zip(names, map(finite_or_none, values), strict=True))}


def _scale_rows(results: Results) -> Iterator[Row]:
    return ({"method": method.name, "scale": method.scale} for method in results.methods)


def _draw_correlations(results: Results, path: Path) -> str | None:
    complete = results.scores[np.isfinite(results.scores).all(axis=1)]
    names = [method.name for method in results.methods]
    return plot_correlations(spearman(complete), names, path, f"Spearman correlation over {len(complete)} items")


def _draw_distribution(results: Results, path: Path) -> str | None:
    """Draw the distribution of the items' scores by each method, standardised."""
    groups = {}
    for method, scores in zip(results.methods, results.scores.T, strict=True):
        given = scores[np.isfinite(scores)]
        spread = given.std() if len(given) else 0.0
        if spread > 0:
            groups[method.name] = (given - given.mean()) / spread
    if not groups:
        return "There is no plot of the distribution: every method gives all items the same score."
    return plot_distribution(groups, path, "items by method: deviation from the mean in standard deviations")
