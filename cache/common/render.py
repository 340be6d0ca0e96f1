"""Rows as text: an aligned table for people; CSV, JSON and JSON lines for programs.

Rows are made and written one after the other, so a million of them pass through without being held. Numbers are written
for programs with seven decimals, which is what float32 holds; for people with four.
"""

from __future__ import annotations

import csv
import json
import math
import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path

from .atomic import replacing_output
from .csv_cells import safe_cell
from .errors import UsageError
from .messages import above_bars, shares_terminal
from .quoting import one_line, quoted
from .reading import may_be_replaced

Cell = str | int | float | bool | None
Row = Mapping[str, Cell]
ROWS_MEASURED = 1000  # the rows of a table that its column widths are taken from


def table_lines(
    lines: Iterable[Sequence[str]], right_aligned: Collection[int] = (), measured: int | None = None
) -> Iterator[str]:
    """Align the columns of a table, two spaces between them.

    Args:
        lines: the cells of each line, as they are shown; the names of the columns, where there are any, come first.
        right_aligned: numbers of the columns that are aligned to the right, from 0.
        measured: how many lines the widths are taken from; None for all, which are then held in memory.

    Yields:
        Each line, with a line break at its end.
    """
    lines = iter(lines)
    first = list(islice(lines, measured))
    widths = [max(map(len, column)) for column in zip(*first, strict=True)]
    for line in chain(first, lines):
        cells = (
            cell.rjust(width) if column in right_aligned else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        yield "  ".join(cells).rstrip() + "\n"


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
        columns: the columns for programs.
        table_columns: the columns of a table; None for all.
        footnote: explains the columns below a table.
    """
    writers: dict[str, Callable[[], Iterator[str]]] = {
        "table": lambda: _table(rows, columns if table_columns is None else table_columns, footnote),
        "csv": lambda: _csv(rows, columns),
        "json": lambda: _json(rows, columns),
        "jsonl": lambda: _json_lines(rows, columns),
    }
    return writers[style]()


def write_text(pieces: Iterable[str], output: str | os.PathLike[str] | None) -> None:
    """Write text to stdout, or to a file that appears whole or not at all.

    Raises:
        UsageError: the path cannot be written, or is there already and is not text.
        CacheError: the disk is full or damaged.
    """
    if output is None:
        if shares_terminal():
            _write_above_bars(pieces)
        else:
            sys.stdout.writelines(pieces)
        return
    if not may_be_replaced(Path(output)):
        raise UsageError(f"{quoted(output)} exists and is not a text file", "choose another name")
    with (
        replacing_output(Path(output)) as temporary,
        temporary.open("x", encoding="utf-8", newline="") as file,
    ):
        file.writelines(pieces)


def _write_above_bars(pieces: Iterable[str]) -> None:
    """Write whole lines to the terminal: a bar is drawn over a line that is not at its end."""
    pending = ""
    for piece in pieces:
        whole, end, pending = (pending + piece).rpartition("\n")
        if end:
            with above_bars():
                sys.stdout.write(whole + end)
    sys.stdout.write(pending)


def _csv(rows: Iterable[Row], columns: Sequence[str]) -> Iterator[str]:
    """Write a header and one record a row; texts as `csv_cells` has them."""
    lines = _Lines()
    writer = csv.writer(lines, lineterminator="\n")
    for record in chain([columns], ([_rounded(row[column]) for column in columns] for row in rows)):
        writer.writerow([safe_cell(cell) if isinstance(cell, str) else cell for cell in record])
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
        values = {column: _rounded(row[column]) for column in columns}
        yield json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n"


def _table(rows: Iterable[Row], columns: Sequence[str], footnote: str) -> Iterator[str]:
    """Write aligned columns, names to the left and numbers to the right."""
    rows = iter(rows)
    first = list(islice(rows, ROWS_MEASURED))
    if not first:
        return
    kept = [name for name in columns if any(_shown(row[name]) for row in first)]  # no frame_name: no such column
    numeric = {i for i, name in enumerate(kept) if not any(isinstance(row[name], str) for row in first)}
    lines = ([_shown(row[name]) for name in kept] for row in chain(first, rows))
    yield from table_lines(chain([kept], lines), numeric, ROWS_MEASURED + 1)
    yield footnote


def _shown(cell: Cell) -> str:
    """Return a cell as a table shows it."""
    if isinstance(cell, float):
        return f"{cell:.4f}" if math.isfinite(cell) else ""
    return "" if cell is None else one_line(str(cell))


def _rounded(cell: Cell) -> Cell:
    """Round off the digits that float32 does not hold; what is not a number is not there: JSON has no word for it."""
    if isinstance(cell, float):
        return round(cell, 7) if math.isfinite(cell) else None
    return cell


class _Lines:
    """The file that `csv.writer` wants, holding the line it has just written."""

    def __init__(self) -> None:
        self._line = ""

    def write(self, line: str) -> None:
        self._line = line

    def take(self) -> str:
        return self._line
