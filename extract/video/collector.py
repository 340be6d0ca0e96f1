"""Collect the frames of one span in the worker: measure, resize, drop repeats, hand over in pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .pixel_measures import NAMES, Measures, measure
from .resize import Pixels, Resize

Ship = Callable[[Sequence[Pixels]], None]


@dataclass(frozen=True)
class CollectedRows:
    """What a span showed.

    Attributes:
        rows: (n,) int64 positions in presentation order, increasing.
        timestamps_ms: (n,) float64 presentation times.
        source: (n,) int64; row i shows the `source[i]`-th picture shipped for this span.
        shipped: pictures shipped or skipped; fewer than n where neighbours were identical after resizing.
        quality: (n, Q) float32 measures of each frame as decoded, repeats too, in the order of `quality.NAMES`; Q is 0
            where none were asked for.
    """

    rows: npt.NDArray[np.int64]
    timestamps_ms: npt.NDArray[np.float64]
    source: npt.NDArray[np.int64]
    shipped: int
    quality: Measures


class FrameCollector:
    """A `FrameSink`: keeps a frame only when its resized bytes differ from its predecessor's, ships committed pages.

    Args:
        resize: from (H, W, 3) to (size, size, 3), uint8.
        ship: takes up to `page_frames` pictures; may block until there is room.
        page_frames: pictures per page.
        beat: called for every frame, delivered or not, to show that work goes on.
        measured: take the measures of each frame too.
        skip: pictures at the beginning that are not shipped: they are encoded already.
    """

    def __init__(
        self,
        resize: Resize,
        ship: Ship,
        page_frames: int,
        beat: Callable[[], None],
        *,
        measured: bool = False,
        skip: int = 0,
    ) -> None:
        self._resize = resize
        self._ship = ship
        self._page_frames = page_frames
        self._beat = beat
        self._skip = skip
        self._names = NAMES if measured else ()
        self._rows: list[int] = []
        self._timestamps_ms: list[float] = []
        self._source: list[int] = []
        self._quality: list[Measures] = []
        self._waiting: list[Pixels] = []
        self._last: Pixels | None = None
        self._unique = 0
        self._committed = (0, 0)  # rows, unique pictures

    def add(self, row: int, timestamp_ms: float, rgb: Pixels) -> None:
        """Take a frame as (H, W, 3) uint8."""
        picture = self._resize(rgb)
        if self._last is None or not np.array_equal(picture, self._last):
            self._waiting.append(picture)
            self._last = picture
            self._unique += 1
        self._rows.append(row)
        self._timestamps_ms.append(timestamp_ms)
        self._source.append(self._unique - 1)
        if self._names:
            self._quality.append(measure(rgb).as_row())
        self._beat()

    def beat(self) -> None:
        """Show that work goes on."""
        self._beat()

    def commit(self) -> None:
        """Make what was added final and ship all full pages."""
        self._committed = len(self._rows), self._unique
        while len(self._waiting) >= self._page_frames:
            self._ship_page()

    def rollback(self) -> None:
        """Forget everything since the last commit."""
        rows, unique = self._committed
        forgotten = self._unique - unique
        del self._rows[rows:], self._timestamps_ms[rows:], self._source[rows:], self._quality[rows:]
        del self._waiting[len(self._waiting) - forgotten :]
        self._unique = unique
        self._last = None

    def finish(self) -> CollectedRows:
        """Ship what is left and say what was shown."""
        self.commit()
        if self._waiting:
            self._ship_page()
        # After damage a decoder may give frames out of order, or one twice: they are put in order, the first counts.
        rows, first = np.unique(np.array(self._rows, np.int64), return_index=True)
        timestamps_ms, source = np.array(self._timestamps_ms, np.float64), np.array(self._source, np.int64)
        quality = np.array(self._quality, np.float32).reshape(len(self._rows), len(self._names))
        return CollectedRows(rows, timestamps_ms[first], source[first], self._unique, quality[first])

    def _ship_page(self) -> None:
        page = self._waiting[: self._page_frames]
        del self._waiting[: self._page_frames]
        new = page[self._skip :]
        self._skip -= len(page) - len(new)
        if new:
            self._ship(new)
