"""Text, YAML and CSV files that people write, read strictly, with errors that name the line."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

from ..cache.common.csv_cells import cell_text
from ..cache.common.errors import UsageError
from ..cache.common.quoting import quoted

StrPath = str | os.PathLike[str]


def read_yaml(path: StrPath) -> object:
    """The one document of a YAML file, made of dicts, lists, strings and numbers.

    Raises:
        UsageError: the file cannot be read, is not UTF-8, or is not YAML.
    """
    import yaml

    try:
        return yaml.safe_load(read_text(path))
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that does not exist
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        reason = getattr(error, "problem", None) or "it cannot be parsed"
        raise UsageError(f"{quoted(path)} is not valid YAML{where}: {reason}") from error


def read_rows(path: StrPath, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV file with a header; other columns than those named come along.

    Texts that clipcache wrote safe for spreadsheets come back as they were.

    Raises:
        UsageError: the file cannot be read, is not UTF-8, holds no rows, lacks a column or a value of one, or a row has
            more values than there are columns.
    """
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise UsageError(f"{quoted(path)} is not valid CSV, line {reader.line_num}: {error}") from error
    found = list(reader.fieldnames or ())
    if missing := [name for name in columns if name not in found]:
        names = ", ".join(map(repr, missing))
        raise UsageError(f"{quoted(path)} has no column {names}: its first line must name {', '.join(columns)}")
    if not rows:
        raise UsageError(f"{quoted(path)} has a header and no rows", "write one row for each video")
    for line, row in rows:
        if None in row:  # a prompt with a bare comma would be scored cut short
            raise UsageError(
                f"{quoted(path)}, line {line}: more values than columns", "quote a text that holds a comma"
            )
        if empty := [name for name in columns if not (row[name] or "").strip()]:
            raise UsageError(f"{quoted(path)}, line {line}: there is no {empty[0]}", "fill it in or remove the row")
    return [{cell_text(name): cell_text(value or "") for name, value in row.items()} for _, row in rows]


def read_text(path: StrPath, what: str = "") -> str:
    """The content of a UTF-8 file; the byte order mark that Windows editors put first is left out.

    Args:
        path: the file.
        what: words before its name in an error, such as "the prompts in ".

    Raises:
        UsageError: it cannot be read, or is not UTF-8.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"Cannot read {what}{quoted(path)}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"Cannot read {what}{quoted(path)}: it is not UTF-8 text", "save it as UTF-8") from error
