"""What is said beside the results: records of the logger "clipcache", which a command shows on stderr.

From Python nothing is shown: whoever wants to see it configures the logger, or uses `show_progress`.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from .errors import UsageError
from .quoting import quoted
from .reading import may_be_replaced

_PREFIX = "clipcache: "
_LOGGER = logging.getLogger("clipcache")
_LOGGER.addHandler(logging.NullHandler())  # else Python prints warnings of a logger that nobody configured


def say(line: str, level: int = logging.WARNING, *, by_itself: bool = False) -> None:
    """Say one line.

    Args:
        line: what is said; "clipcache: " at its start is left out of the log, and shown on stderr in any case.
        level: of `logging`.
        by_itself: show the line on stderr as it is, without "clipcache: ".
    """
    _LOGGER.log(level, "%s", line.removeprefix(_PREFIX), extra={"shown": line if by_itself else None})


def say_progress(line: str, *, log_only: bool = False) -> None:
    """Say how far the work is, where a command is at work: in its log file and, beside no bar, on stderr."""
    if is_shown():
        _LOGGER.info("%s", line, extra={"log_only": log_only or has_bars()})


def is_shown() -> bool:
    """Whether a command is at work, or `show_progress` is in use: bars and messages are for a person to see."""
    return _Shown.handlers is not None


def has_bars() -> bool:
    """Whether bars can be drawn: stderr is a terminal, or this is a notebook."""
    return is_shown() and (_is_notebook() or _is_terminal(sys.stderr))


def _is_terminal(stream: TextIO | None) -> bool:
    with contextlib.suppress(ValueError, AttributeError):  # closed, or missing
        return stream is not None and stream.isatty()
    return False


def _is_notebook() -> bool:
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module is not None else None
    return shell is not None and "IPKernelApp" in shell.config


@contextlib.contextmanager
def show_progress() -> Iterator[None]:
    """Show bars and messages on stderr while this lasts, as commands do; in a notebook as widgets."""
    if is_shown():  # a command that runs another
        yield
        return
    level, propagate = _LOGGER.level, _LOGGER.propagate
    _LOGGER.setLevel(logging.INFO)
    _LOGGER.propagate = False  # what other packages have put on the root logger would show it twice
    try:
        with contextlib.ExitStack() as handlers:
            _Shown.handlers = handlers
            handlers.enter_context(_handled_by(_Stderr()))
            yield
    finally:
        _Shown.handlers = None
        _LOGGER.setLevel(level)
        _LOGGER.propagate = propagate


def log_to(path: Path) -> None:
    """Write what is said to a file too, line by line, until the end of `show_progress`, within which this is called.

    Args:
        path: of the file, to which lines are added.

    Raises:
        UsageError: if the file cannot be written, or is there already and is not text.
    """
    try:
        if not may_be_replaced(path):
            raise UsageError(f"{quoted(path)} exists and is not a text file", "choose another --log-file")
        handler = _LogFile(path)
    except OSError as error:
        raise UsageError(
            f"Cannot write the log file {quoted(path)} ({error.strerror or error})", "choose another --log-file"
        ) from error
    if _Shown.handlers is None:
        raise RuntimeError("log_to is called within show_progress")
    _Shown.handlers.enter_context(_handled_by(handler))


@contextlib.contextmanager
def above_bars() -> Iterator[None]:
    """Write to the terminal meanwhile: bars on it are cleared, and drawn again below."""
    module = sys.modules.get("tqdm.std")
    if module is None or not has_bars():
        yield
        return
    with module.tqdm.external_write_mode(file=sys.stderr):
        yield
        if _is_terminal(sys.stdout):
            sys.stdout.flush()


def shares_terminal() -> bool:
    """Whether results go to a terminal on which there may be bars."""
    return has_bars() and _is_terminal(sys.stdout)


class _Shown:
    """What shows messages at present; None outside of `show_progress`."""

    handlers: contextlib.ExitStack | None = None


@contextlib.contextmanager
def _handled_by(handler: logging.Handler) -> Iterator[None]:
    _LOGGER.addHandler(handler)
    try:
        yield
    finally:
        _LOGGER.removeHandler(handler)
        handler.close()


class _Stderr(logging.Handler):
    """Shows messages on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "log_only", False):
            return
        line = getattr(record, "shown", None) or f"{_PREFIX}{record.getMessage()}"
        # stderr is full or gone: what is to be said cannot end the run
        with contextlib.suppress(OSError, ValueError), above_bars():
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()


class _LogFile(logging.Handler):
    """Adds a line with the time, in UTC, to a file; each is written at once."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._file = path.open("ab", buffering=0)
        self._has_failed = False

    def emit(self, record: logging.LogRecord) -> None:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        line = " ".join(record.getMessage().split("\n")).strip()
        try:
            self._file.write(f"{at} {record.levelname} {line}\n".encode(errors="backslashreplace"))
        except OSError as error:  # a full disk: the run is worth more than its log
            if not self._has_failed:
                self._has_failed = True
                say(f"The log file {quoted(self._path)} cannot be written any more ({error.strerror or error}).")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
        super().close()
