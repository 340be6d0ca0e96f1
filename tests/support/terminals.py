"""A terminal that a test is in: what is written to stderr, or to both streams, is read back as it is shown."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import sys
import termios
import threading
from types import TracebackType

import pytest


class Terminal:
    """A pseudo-terminal in the place of standard streams, in a `with`."""

    def __init__(self, *streams: str) -> None:
        self._streams = streams or ("stderr",)
        self._parts: list[bytes] = []
        self._patch = pytest.MonkeyPatch()

    def __enter__(self) -> Terminal:
        self._outside, inside = pty.openpty()
        fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))  # of no columns nothing is drawn
        self._reader = threading.Thread(target=self._read)  # a terminal that nobody reads stands still
        self._reader.start()
        self._inside = os.fdopen(inside, "w", encoding="utf-8", buffering=1)
        for name in self._streams:
            self._patch.setattr(sys, name, self._inside)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self._patch.undo()
        self._inside.close()
        self._reader.join()
        os.close(self._outside)

    def _read(self) -> None:
        try:
            while part := os.read(self._outside, 1 << 16):
                self._parts.append(part)
        except OSError:  # the other end is closed
            pass

    @property
    def text(self) -> str:
        """All that was written."""
        return b"".join(self._parts).decode()

    @property
    def lines(self) -> list[str]:
        """What stands there in the end, without empty lines."""
        rows: list[list[str]] = [[]]
        row = column = 0
        for mark in re.findall(r"\x1b\[A|.", self.text, re.DOTALL):
            if mark == "\x1b[A":
                row -= 1
            elif mark == "\r":
                column = 0
            elif mark == "\n":
                row += 1
                rows += [[]] * (row == len(rows))
            else:
                rows[row] = [*rows[row], *" " * (column - len(rows[row]))]
                rows[row][column : column + 1] = mark
                column += 1
        return [line for line in ("".join(cells).rstrip() for cells in rows) if line]
