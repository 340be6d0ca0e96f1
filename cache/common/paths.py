"""Paths as callers give them, and questions about them that have an answer for every name.

`Path.is_file` and its kin raise for a name that is too long, and for what lies in a folder that may not be entered;
those of `os.path` say no.
"""

from __future__ import annotations

import os

StrPath = str | os.PathLike[str]


def is_file(path: StrPath) -> bool:
    """Whether there is a regular file at `path`, or a link to one."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: StrPath) -> bool:
    """Whether there is a folder at `path`, or a link to one."""
    return os.path.isdir(path)  # noqa: PTH112


def exists(path: StrPath) -> bool:
    """Whether there is anything at `path`."""
    return os.path.exists(path)  # noqa: PTH110
