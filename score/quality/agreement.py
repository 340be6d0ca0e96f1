"""Methods compared with each other: correlations of their scores, and whether they agree on the best item."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ...cache.common.errors import UsageError
from ...cache.common.render import Cell, Row, render_rows
from ..similarity import Floats
from .aesthetic import Column
from .correlation import Matrix, finite_or_none, pearson, spearman
from .methods import ScoredVideo
from .rows import scale_lines

TIDY_COLUMNS = ("what", "video", "method", "with_method", "value", "scale")
_BEST = ("method", "best")
_CORRELATION_SCALE = "correlation, -1 to 1"


@dataclass(frozen=True)
class MethodComparison:
    """V videos rated by M methods; all frames have the same weight in the correlations."""

    methods: tuple[Column, ...]
    videos: tuple[str, ...]
    means: NDArray[np.float64] = field(repr=False)  # (V, M), over the frames of each video; NaN: not measured
    frames: int  # frames that all methods have scored: those that are correlated
    pearson: Matrix = field(repr=False)  # (M, M), NaN where it is not defined
    spearman: Matrix = field(repr=False)  # (M, M), NaN where it is not defined
    best: dict[str, str]  # by method that ranks: the best video, or of a single video the best frame
    agree: bool  # whether all these are the same
    unmeasured: int  # videos without the measures that others have

    @property
    def ranks(self) -> NDArray[np.float64]:
        """(V, M), 1 for the best video of a method, the same for equal ones; NaN where it was not measured."""
        better = [np.searchsorted(np.sort(-column), -column) for column in self.means.T]  # NaN is sorted last
        return np.where(np.isnan(self.means), np.nan, np.stack(better, axis=1) + 1.0)


def compare_methods(scored: Iterable[ScoredVideo], methods: Sequence[Column]) -> MethodComparison:
    """Correlate methods over all frames and rank the videos by each; measures that no video has are left out.

    Args:
        scored: with a column for each method; one float32 a frame and method is held.
        methods: two or more.

    Raises:
        UsageError: nothing could be scored.
    """
    videos: list[ScoredVideo] = []
    tables = []
    for one in scored:
        videos.append(replace(one, values={}))
        tables.append(np.column_stack([one.values[method.name] for method in methods]))
    if not tables:
        raise UsageError("There is nothing to compare: no video could be scored")
    means = np.array([table.mean(axis=0, dtype=np.float64) for table in tables])
    kept = [column for column in range(len(methods)) if not np.isnan(means[:, column]).all()]
    complete = np.isfinite(means[:, kept]).all(axis=1)
    sound = [table[:, kept] for table, whole in zip(tables, complete, strict=True) if whole]
    frames = np.concatenate([np.empty((0, len(kept)), np.float32), *sound])
    picked = _best_rows(tables[0] if len(videos) == 1 else means)
    ranking = [column for column in kept if methods[column].ranks]
    return MethodComparison(
        methods=tuple(methods[column] for column in kept),
        videos=tuple(one.video.video_name for one in videos),
        means=means[:, kept],
        frames=len(frames),
        pearson=pearson(frames),
        spearman=spearman(frames),
        best={methods[column].name: _label(videos, picked[column]) for column in ranking},
        agree=len({picked[column] for column in ranking}) == 1,
        unmeasured=int((~complete).sum()),
    )


def comparison_text(compared: MethodComparison, style: str) -> Iterator[str]:
    """Write a comparison in pieces: several tables for people; for programs one, a value in each row."""
    if style != "table":
        yield from render_rows(_facts(compared), style, TIDY_COLUMNS)
        return
    names = [method.name for method in compared.methods]
    ranking = [method.name for method in compared.methods if method.ranks]
    scales = "\n".join(scale_lines(compared.methods)) + "\n"
    yield "Scores, mean over the frames\n"
    yield from _matrix(compared.means, "video", compared.videos, names, scales)
    if len(compared.videos) > 1:
        yield "\nRanks, 1 is the best\n"
        ranks = [dict(zip(names, row, strict=True)) for row in compared.ranks]
        rows = ({"video": v, **{n: _whole(r[n]) for n in ranking}} for v, r in zip(compared.videos, ranks, strict=True))
        yield from render_rows(rows, "table", ["video", *ranking])
    for kind, matrix in (("Pearson", compared.pearson), ("Spearman", compared.spearman)):
        yield f"\n{kind} correlation over {compared.frames} frames, -1 to 1; empty: not defined\n"
        yield from _matrix(matrix, "method", names, names)
    yield "\nBest by each\n"
    yield from render_rows(({"method": name, "best": best} for name, best in compared.best.items()), "table", _BEST)
    yield f"methods agree: {'yes' if compared.agree else 'no'}\n"


def _facts(compared: MethodComparison) -> Iterator[Row]:
    """All values as rows of the columns `TIDY_COLUMNS`."""
    methods = compared.methods
    for video, means, ranks in zip(compared.videos, compared.means, compared.ranks, strict=True):
        for method, mean, rank in zip(methods, means, ranks, strict=True):
            yield _fact("mean", method.scale, video=video, method=method.name, value=finite_or_none(mean))
            if method.ranks:
                yield _fact("rank", "1 is the best", video=video, method=method.name, value=_whole(rank))
    for kind, matrix in (("pearson", compared.pearson), ("spearman", compared.spearman)):
        for (row, column), value in np.ndenumerate(matrix):
            if row < column:
                pair = {"method": methods[row].name, "with_method": methods[column].name}
                yield _fact(kind, _CORRELATION_SCALE, **pair, value=finite_or_none(value))
    yield _fact("frames_correlated", "number", value=compared.frames)
    for name, best in compared.best.items():
        yield _fact("best", "video, or frame of a single one", method=name, value=best)
    yield _fact("methods_agree", "true or false", value=compared.agree)


def _fact(what: str, scale: str, **cells: Cell) -> Row:
    return {**dict.fromkeys(TIDY_COLUMNS), "what": what, "scale": scale, **cells}


def _matrix(
    values: NDArray[np.float64], corner: str, rows: Sequence[str], columns: Sequence[str], footnote: str = ""
) -> Iterator[str]:
    """Write a matrix with the names of its rows and columns."""
    cells = (
        {corner: name, **dict(zip(columns, map(finite_or_none, line), strict=True))}
        for name, line in zip(rows, values, strict=True)
    )
    return render_rows(cells, "table", [corner, *columns], footnote=footnote)


def _best_rows(table: Floats) -> list[int]:
    """Row of the (first) highest value of each column; NaN is never the highest."""
    return [int(row) for row in np.where(np.isnan(table), -np.inf, table).argmax(axis=0)]


def _label(videos: Sequence[ScoredVideo], row: int) -> str:
    """Name one of several videos; or a frame of the only one by its time, or an image by its file."""
    if len(videos) > 1:
        return videos[row].video.video_name
    at_ms = videos[0].at_ms(row)
    return f"{at_ms / 1000:.3f} s" if at_ms is not None else videos[0].frame_name(row) or videos[0].video.video_name


def _whole(value: float) -> int | None:
    return None if math.isnan(value) else int(value)
