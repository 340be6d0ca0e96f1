"""Names of files and prompts, made fit for a line that people read."""

from __future__ import annotations

import os


def printable(name: str) -> str:
    """Return a name that UTF-8 can hold: bytes of a file name that are not UTF-8 become backslash escapes."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def one_line(name: str) -> str:
    """Return a name without line breaks, control characters and undecodable bytes, each as a backslash escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii") for c in name)


def quoted(path: str | os.PathLike[str]) -> str:
    """Return a path for a sentence: on one line, between quotes."""
    return f"'{one_line(os.fspath(path))}'"
