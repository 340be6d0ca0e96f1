"""Text, YAML and CSV files that people write, read strictly, with errors that name the line."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from ..cache.common.csv_cells import cell_text
from ..cache.common.errors import UsageError
from ..cache.common.paths import StrPath
from ..cache.common.quoting import quoted
from ..cache.common.reading import MAX_TEXT_BYTES, read_bounded

__all__ = ["StrPath", "read_rows", "read_text", "read_yaml"]

_MAX_YAML_BYTES = 4 << 20  # PyYAML takes a hundred times as much memory


def read_yaml(path: StrPath) -> object:
    """The one document of a YAML file, made of dicts, lists, strings and numbers.

    An alias (`*name`) of a list or mapping is refused: a few dozen of them, each of others, are a billion items.

    Raises:
        UsageError: the file cannot be read, is too large, is not UTF-8, or is not YAML.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                event = self.peek_event()  # type: ignore[no-untyped-call]
                if isinstance(self.anchors.get(event.anchor), yaml.CollectionNode):
                    raise yaml.MarkedYAMLError(
                        problem="an alias of a list or mapping, which must be written out",
                        problem_mark=event.start_mark,
                    )
            return super().compose_node(parent, index)

    try:
        return yaml.load(read_text(path, limit=_MAX_YAML_BYTES), Loader)  # noqa: S506  a SafeLoader
    except RecursionError as error:
        raise UsageError(f"{quoted(path)} is not valid YAML: its lists are nested too deeply") from error
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


def read_text(path: StrPath, what: str = "", limit: int = MAX_TEXT_BYTES) -> str:
    """The content of a UTF-8 file; the byte order mark that Windows editors put first is left out.

    Args:
        path: the file; `-` is the standard input.
        what: words before its name in an error, such as "the prompts in ".
        limit: bytes that it may have.

    Raises:
        UsageError: it cannot be read, is too large, or is not UTF-8.
    """
    try:
        data = read_bounded(path, limit, dash_is_stdin=True)
        return io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig").read()  # every line ends in a plain line break
    except OSError as error:
        raise UsageError(f"Cannot read {what}{quoted(path)}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"Cannot read {what}{quoted(path)}: it is not UTF-8 text", "save it as UTF-8") from error
