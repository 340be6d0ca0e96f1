"""Names of files and prompts, made fit for printing."""

from __future__ import annotations


def printable(name: str) -> str:
    """Return a name that UTF-8 can hold: bytes of a file name that are not UTF-8 become backslash escapes."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def one_line(name: str) -> str:
    """Return a name without line breaks and control characters, each as a backslash escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in name)
