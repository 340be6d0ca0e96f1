"""Names of files and prompts as text that can be printed on one line."""

from __future__ import annotations

import os


def printable(name: str) -> str:
    """Return a name that UTF-8 can hold: bytes of a file name that are not UTF-8 become backslash escapes."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def one_line(text: object) -> str:
    r"""Return text on one line that a terminal can show: control characters and undecodable bytes become escapes.

    A byte of a file name that is not UTF-8, a lone surrogate in Python, is shown as that byte: `caf\xe9.mp4`.
    """
    return "".join(char if char.isprintable() else _escape(char) for char in str(text))


def first_line(error: Exception) -> str:
    """Return the first line of another package's error, at most 200 characters, or its class if it has no text."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return one_line(lines[0][:200])


def quoted(path: str | os.PathLike[str]) -> str:
    """Return a path as it stands in a message: on one line, between quotes."""
    return f"'{one_line(os.fspath(path))}'"


def _escape(char: str) -> str:
    if "\udc80" <= char <= "\udcff":  # what os.fsdecode makes of a byte
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode("ascii")
