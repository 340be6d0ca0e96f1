"""Files that people write for us: YAML and CSV, read strictly, with errors that name the line."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from ..cache.common.errors import UsageError
from ..cache.common.quoting import quoted


def read_yaml(path: Path) -> object:
    """The one document of a YAML file, made of dicts, lists, strings and numbers.

    Raises:
        UsageError: The file cannot be read, is not UTF-8, or is not YAML.
    """
    import yaml

    try:
        return yaml.safe_load(_read_text(path))
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that does not exist
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        reason = getattr(error, "problem", None) or "it cannot be parsed"
        raise UsageError(f"{quoted(path)} is not sound YAML{where}: {reason}") from error


def read_rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV file with a header; other columns than those named come along.

    Raises:
        UsageError: The file cannot be read, is not UTF-8, holds no rows, lacks a column or a value of one, or a row has
            more values than there are columns.
    """
    reader = csv.DictReader(io.StringIO(_read_text(path), newline=""), strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise UsageError(f"{quoted(path)} is not sound CSV, line {reader.line_num}: {error}") from error
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
    return [{name: value or "" for name, value in row.items()} for _, row in rows]


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # Windows editors put a byte order mark first
    except OSError as error:
        raise UsageError(f"Cannot read {quoted(path)}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{quoted(path)} is not UTF-8 text", "save it so") from error
