"""Comparisons as rows, and rows as text: a table for people, CSV, JSON and JSON lines for programs.

Rows are made and written one after the other, so a million frames pass through without being held. Column names
carry the scale: a `…_cosine` is a cosine in [-1, 1], a `…_ms` milliseconds. Numbers are written with seven
decimals, which is what float32 holds; the table for people has four.
"""

from __future__ import annotations

import csv
import json
import os
import secrets
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path

from ..cache.errors import UsageError
from ..cache.naming import one_line
from .ask import Answer
from .evaluate import Comparison

Cell = str | int | float | bool | None
Row = Mapping[str, Cell]

TABLE_COLUMNS = (
    "video",
    "comparison",
    "reference",
    "frames",
    "mean_cosine",
    "median_cosine",
    "min_cosine",
    "max_cosine",
    "max_at_ms",  # None for images
    "std_cosine",
    "pooled_cosine",
)
SUMMARY_COLUMNS = (
    *TABLE_COLUMNS,
    "frames_ignored",  # that only one of two videos has
    "video_sha256",
    "model",
    "weights_sha256",
    "precision",
    "sampling",  # of the entry; "all" is every frame
    "complete",  # False where part of the video could not be decoded
)
FRAME_TABLE_COLUMNS = (
    "video",
    "comparison",
    "reference",
    "frame_index",
    "timestamp_ms",
    "frame_name",
    "cosine",
)
FRAME_COLUMNS = (*FRAME_TABLE_COLUMNS, "video_sha256")

ROWS_MEASURED = 1000  # the rows of a table that its column widths are taken from
FRAME_FOOTNOTE = "cosine: -1 to 1\n"
FOOTNOTE = (
    "cosine: -1 to 1, per frame; max_at_ms: time of the frame with the highest cosine, milliseconds on the "
    "container's clock; std_cosine: of the population; "
    "pooled_cosine: of the reference with the mean of the normalised frames\n"
)


def answer_text(answer: Answer, style: str, *, per_frame: bool) -> Iterator[str]:
    """Write an answer as text in pieces; one video against one reference reads as a person would say it.

    Args:
        answer: what `ask` gave.
        style: table, csv, json (one array) or jsonl (one object a line).
        per_frame: one row a frame instead of one a comparison.
    """
    if style == "table" and not per_frame and answer.videos == answer.references == 1:
        return chain.from_iterable(describe(comparison) for comparison in answer.comparisons)
    rows = frame_rows(answer.comparisons) if per_frame else summary_rows(answer.comparisons)
    return render(rows, style, per_frame=per_frame)


def summary_rows(comparisons: Iterable[Comparison]) -> Iterator[Row]:
    """Yield one row per comparison, with the columns `SUMMARY_COLUMNS`."""
    for comparison in comparisons:
        attributes, summary = comparison.video.attributes, comparison.summary
        yield {
            "video": attributes.video_name,
            "comparison": comparison.name,
            "reference": comparison.reference,
            "frames": summary.frames,
            "mean_cosine": summary.mean,
            "median_cosine": summary.median,
            "min_cosine": summary.min,
            "max_cosine": summary.max,
            "max_at_ms": comparison.max_at_ms,
            "std_cosine": summary.std,
            "pooled_cosine": summary.pooled,
            "frames_ignored": comparison.frames_ignored,
            "video_sha256": one_line(attributes.video_sha256),
            "model": one_line(attributes.model),
            "weights_sha256": attributes.weights_sha256,
            "precision": one_line(attributes.precision),
            "sampling": one_line(attributes.sampling),
            "complete": attributes.complete,
        }


def frame_rows(comparisons: Iterable[Comparison]) -> Iterator[Row]:
    """Yield one row per frame of each comparison, with the columns `FRAME_COLUMNS`."""
    for comparison in comparisons:
        video = comparison.video
        constant = {
            "video": video.video_name,
            "comparison": comparison.name,
            "reference": comparison.reference,
            "video_sha256": one_line(video.video_sha256),
        }
        names: Sequence[str | None] = video.frame_names or [None] * len(video)
        frames = zip(video.frame_index, video.timestamps_ms, names, comparison.cosines, strict=True)
        for index, timestamp_ms, name, cosine in frames:
            yield {
                **constant,
                "frame_index": int(index),
                "timestamp_ms": float(timestamp_ms),
                "frame_name": name,
                "cosine": float(cosine),
            }


def render(rows: Iterable[Row], style: str, *, per_frame: bool) -> Iterator[str]:
    """Write rows, as `summary_rows`, or `frame_rows` when `per_frame`, gives them, as text in pieces."""
    if per_frame:
        return render_rows(rows, style, FRAME_COLUMNS, FRAME_TABLE_COLUMNS, FRAME_FOOTNOTE)
    return render_rows(rows, style, SUMMARY_COLUMNS, TABLE_COLUMNS, FOOTNOTE)


def render_rows(
    rows: Iterable[Row],
    style: str,
    columns: Sequence[str],
    table_columns: Sequence[str] | None = None,
    footnote: str = "",
) -> Iterator[str]:
    """Write any rows as text in pieces.

    Args:
        rows: each with a value for every column.
        style: table, csv, json (one array) or jsonl (one object a line).
        columns: what programs get.
        table_columns: what people get; None for all columns.
        footnote: explains the columns below a table.
    """
    writers: dict[str, Callable[[], Iterator[str]]] = {
        "table": lambda: _table(rows, columns if table_columns is None else table_columns, footnote),
        "csv": lambda: _csv(rows, columns),
        "json": lambda: _json(rows, columns),
        "jsonl": lambda: _json_lines(rows, columns),
    }
    return writers[style]()


def describe(comparison: Comparison) -> Iterator[str]:
    """Write one comparison as a person would read it."""
    summary, attributes = comparison.summary, comparison.video.attributes
    yield f"Frames analyzed: {summary.frames}\n"
    score, scale = f"CLIP score ({comparison.name})", "(cosine, -1 to 1)"
    yield f"Mean {score}: {summary.mean:.4f} {scale}\n"
    yield f"Median {score}: {summary.median:.4f} {scale}\n"
    yield f"Min {score}: {summary.min:.4f} {scale}\n"
    at = "" if comparison.max_at_ms is None else f", at {comparison.max_at_ms / 1000:.3f} s"
    yield f"Max {score}: {summary.max:.4f} {scale}{at}\n"
    yield f"Std {score}: {summary.std:.4f} (cosine, of the population)\n"
    yield f"Pooled {score}: {summary.pooled:.4f} (cosine with the mean of the normalised frames, -1 to 1)\n"
    if comparison.frames_ignored:
        yield f"Frames ignored: {comparison.frames_ignored} (only one of the videos has them: frame i meets frame i)\n"
    model, precision = one_line(attributes.model), one_line(attributes.precision)
    yield f"Model: {model} (weights {attributes.weights_sha256[:8]}, {precision})\n"


def write_text(pieces: Iterable[str], output: Path | None) -> None:
    """Write text to stdout, or to a file that appears whole or not at all.

    Raises:
        UsageError: the file cannot be written.
    """
    if output is None:
        sys.stdout.writelines(pieces)
        return
    temporary = output.parent / f".clipcache-{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        with temporary.open("x", encoding="utf-8", newline="") as file:
            file.writelines(pieces)
        temporary.replace(output)
    except OSError as error:
        raise UsageError(f"Cannot write {str(output)!r}: {error.strerror}.") from error
    finally:
        with suppress(OSError):  # gone already, or never made
            temporary.unlink()


def _csv(rows: Iterable[Row], columns: Sequence[str]) -> Iterator[str]:
    """Write a header and one record a row."""
    lines = _Lines()
    writer = csv.writer(lines, lineterminator="\n")
    for record in chain([columns], ([_rounded(row[column]) for column in columns] for row in rows)):
        writer.writerow(record)
        yield lines.take()


def _json(rows: Iterable[Row], columns: Sequence[str]) -> Iterator[str]:
    """Write one array with an object a line."""
    yield "["
    separator = "\n"
    for line in _json_lines(rows, columns):
        yield separator + line.rstrip("\n")
        separator = ",\n"
    yield "\n]\n"


def _json_lines(rows: Iterable[Row], columns: Sequence[str]) -> Iterator[str]:
    """Write one object a line."""
    for row in rows:
        yield json.dumps({column: _rounded(row[column]) for column in columns}, ensure_ascii=False) + "\n"


def _table(rows: Iterable[Row], columns: Sequence[str], footnote: str) -> Iterator[str]:
    """Write aligned columns, names to the left and numbers to the right."""
    lines = ([_shown(row[column]) for column in columns] for row in rows)
    first = list(islice(lines, ROWS_MEASURED))
    if not first:
        return
    kept = [i for i in range(len(columns)) if any(line[i] for line in first)]  # no frame_name: no such column
    widths = {i: max(len(line[i]) for line in [list(columns), *first]) for i in kept}
    numeric = {i for i in kept if columns[i].endswith(("cosine", "frames", "_ms", "_index"))}
    for line in chain([list(columns)], first, lines):
        cells = (line[i].rjust(widths[i]) if i in numeric else line[i].ljust(widths[i]) for i in kept)
        yield "  ".join(cells).rstrip() + "\n"
    yield footnote


def _shown(cell: Cell) -> str:
    """Return a cell as people read it."""
    if cell is None:
        return ""
    return f"{cell:.4f}" if isinstance(cell, float) else one_line(str(cell))


def _rounded(cell: Cell) -> Cell:
    """Cut the digits that float32 does not hold."""
    return round(cell, 7) if isinstance(cell, float) else cell


class _Lines:
    """The file that `csv.writer` wants, holding the line it has just written."""

    def __init__(self) -> None:
        self._line = ""

    def write(self, line: str) -> None:
        self._line = line

    def take(self) -> str:
        return self._line
