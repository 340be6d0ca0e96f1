"""A bar for work on many things, one after the other; shown while a command is at work, and by nothing else."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from .messages import has_bars, is_shown, say_progress

SHOW_AFTER_S = 2.0
LINE_EVERY_S = 30.0
"""Off a terminal, and in a log file, progress is a line every so many seconds."""
_Thing = TypeVar("_Thing")


class Bar:
    """Counts what is done; a bar appears when the work has taken over two seconds, and goes when it is over.

    Args:
        what: the work, such as "Scoring".
        total: how many things there are; None if that is not known.
        unit: their name in the plural; "B" for bytes.
    """

    def __init__(self, what: str, total: int | None, unit: str) -> None:
        self._what = what
        self._total = total
        self._unit = unit
        self._done = 0
        self._started = self._said = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def advance(self, count: int = 1) -> None:
        """Count so many more things as done."""
        self._done += count
        if not is_shown():
            return
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(count)
        elif now - self._started >= SHOW_AFTER_S and has_bars():
            unit = self._unit if self._unit == "B" else f" {self._unit}"
            self._bar = new_bar(
                now - self._started, desc=self._what, total=self._total, unit=unit, unit_scale=unit == "B"
            )
            self._bar.update(self._done)
            self._bar.refresh()
        if now - self._said >= LINE_EVERY_S:
            self._said = now
            say_progress(self._line(now - self._started))

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()

    def _line(self, seconds: float) -> str:
        if self._unit == "B":
            done = f"{self._done / 1e6:,.0f}" + (f" of {self._total / 1e6:,.0f} MB" if self._total else " MB")
        else:
            done = f"{self._done:,}" + (f" of {self._total:,} " if self._total else " ") + self._unit
        if not self._total or not self._done:
            return f"{self._what}: {done}"
        left = seconds * max(self._total - self._done, 0) / self._done
        return f"{self._what}: {done}, about {duration(left)} left"


def counted(things: Iterable[_Thing], what: str, total: int, unit: str = "entries") -> Iterator[_Thing]:
    """Pass things on, and show how many are done; arguments as of `Bar`."""
    with Bar(what, total, unit) as bar:
        for thing in things:
            yield thing
            bar.advance()


def new_bar(seconds: float, **settings: Any) -> Any:
    """A bar of tqdm on stderr for work begun `seconds` ago; it vanishes when it is closed. In a notebook a widget."""
    from tqdm.auto import tqdm

    # With a delay nothing is drawn before the bar has its right time.
    bar = tqdm(dynamic_ncols=True, leave=False, file=sys.stderr, delay=1e-3, **settings)
    bar.start_t -= seconds
    bar.last_print_t = bar.start_t + bar.delay
    return bar


def duration(seconds: float) -> str:
    """A length of time in words: "40 s", "4 min", "2 h 10 min", "3 d 4 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"
