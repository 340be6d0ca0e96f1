"""Ctrl-C and SIGTERM, none of which is ever lost.

Python raises KeyboardInterrupt wherever the program happens to be. In a callback of a finaliser it is printed and
forgotten, and the run goes on. So the handler also keeps what came, and the run looks for it.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import NoReturn

_received: list[int] = []


@contextlib.contextmanager
def noticed() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise KeyboardInterrupt, with the number of the signal, here or at the next `check`."""

    def interrupt(number: int, frame: object) -> NoReturn:  # noqa: ARG001  the signature of a handler
        _received.append(number)
        raise KeyboardInterrupt(number)

    _received.clear()
    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
        check()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        _received.clear()


def check() -> None:
    """Raise KeyboardInterrupt if a signal came and its exception was lost.

    Raises:
        KeyboardInterrupt: with the number of the signal.
    """
    if _received:
        raise KeyboardInterrupt(_received[0])
