"""Names of files and prompts, made fit for a line that people read."""

from __future__ import annotations

import os


def printable(name: str) -> str:
    """Return a name that UTF-8 can hold: bytes of a file name that are not UTF-8 become backslash escapes."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def one_line(name: str) -> str:
    """Return a name without line breaks, control characters and undecodable bytes, each as a backslash escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in name)


def first_line(error: Exception) -> str:
    """Return what another package's error says, or its class where it says nothing, short enough for a sentence."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return one_line(lines[0][:200])


def quoted(path: str | os.PathLike[str]) -> str:
    """Return a path for a sentence: on one line, between quotes."""
    return f"'{one_line(os.fspath(path))}'"
