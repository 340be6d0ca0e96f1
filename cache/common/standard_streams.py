"""Stdin, stdout and stderr: closed ones are filled in, and what they refuse is said as what it is."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, Any, TextIO

from .errors import ClipcacheError
from .options import warn

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_STDIN, _STDOUT, _STDERR = range(3)


class OutputError(ClipcacheError):
    """The standard output takes no more: its disk is full, or it is closed."""


class _Stdout(io.FileIO):
    """The standard output, whose errors are told from those of other files. A reader that has gone is not one."""

    def write(self, data: ReadableBuffer) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(
                f"The standard output cannot be written ({error.strerror or error})",
                "free space where it goes to, or send it elsewhere",
            ) from error


def open_standard_streams() -> None:
    """Make sure that each of the three is open, and let errors of stdout be an `OutputError`.

    A program may be started with some of them closed; the next file that it opens would take the place of one, and get
    what is printed. A closed stdout takes nothing, as an error; a closed stderr takes everything.
    """
    for descriptor in (_STDIN, _STDOUT, _STDERR):
        try:
            os.fstat(descriptor)
        except OSError:  # the lowest number that is free is this one
            os.set_inheritable(os.open(os.devnull, os.O_WRONLY if descriptor == _STDERR else os.O_RDONLY), True)
    if sys.stdin is None:
        sys.stdin = open(_STDIN, encoding="utf-8", closefd=False)  # noqa: SIM115 - a descriptor
    if sys.stderr is None:
        sys.stderr = open(_STDERR, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    if sys.stdout is None or _is_file(sys.stdout, _STDOUT):
        old: Any = sys.stdout
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(_Stdout(_STDOUT, "w", closefd=False)),
            encoding=old.encoding if old else "utf-8",
            errors=old.errors if old else "strict",
            line_buffering=bool(old and old.line_buffering),
        )


def close_standard_streams(code: int) -> int:
    """Write what is still buffered.

    Returns:
        The exit code of the program: `code`, or 1 where something could not be written. Of a reader that has gone, as
        `head` does, nothing is said.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, OutputError) as error:
            code = code or 1
            if isinstance(error, OutputError):
                warn(str(error))
            give_up(stream)
    return code


def give_up(stream: TextIO) -> None:
    """Let what is still buffered go nowhere: Python would try it again at the end, and print a traceback."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _is_file(stream: Any, descriptor: int) -> bool:
    try:
        return bool(stream.fileno() == descriptor)
    except (OSError, ValueError):  # a test has put something else there
        return False
