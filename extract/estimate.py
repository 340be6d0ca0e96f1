"""How much work of a run is left, and how long it takes: arithmetic alone, times are given."""

from __future__ import annotations

import math
from dataclasses import dataclass

SPEED_OVER_S = 30.0
"""The speed is that of about the last so many seconds: what was earlier counts less and less."""
LEAST_S = 5.0
"""Before so many seconds of encoding no time is estimated."""
_FEW_ITEMS = 3


class RecentSpeed:
    """Frames a second in the recent past; the weight of each moment falls by 1/e in `SPEED_OVER_S`."""

    def __init__(self) -> None:
        self._started: float | None = None
        self._at = 0.0
        self._frames = 0.0  # weighted
        self._seconds = 0.0  # weighted alike

    def start(self, now: float) -> None:
        """Let the time count from `now` on, in seconds of a steady clock, if it does not yet."""
        if self._started is None:
            self._started = self._at = now

    def add(self, frames: int, now: float) -> None:
        """Count frames that were encoded until `now`."""
        self.start(now)
        self._frames, self._seconds = self._weighted(now)
        self._frames += frames
        self._at = now

    def seconds(self, now: float) -> float:
        """How long the time counts already."""
        return 0.0 if self._started is None else now - self._started

    def at(self, now: float) -> float:
        """Frames a second."""
        frames, seconds = self._weighted(now)
        return frames / seconds if seconds > 0 else 0.0

    def _weighted(self, now: float) -> tuple[float, float]:
        kept = math.exp((self._at - now) / SPEED_OVER_S)
        return self._frames * kept, self._seconds * kept + SPEED_OVER_S * (1 - kept)


@dataclass
class _Open:
    """An item that is begun and not over."""

    size: int
    frames: int | None = None  # in all; None where that is not known before its end
    done: int = 0


class _Known:
    """The frames of items by their bytes; foretells those of others.

    A line is fitted, so many frames an item and so many more a byte: of long films in small files and short clips in
    large ones, frames per byte alone say nothing.
    """

    def __init__(self) -> None:
        self.items = 0
        self.bytes = 0
        self._frames = self._squares = self._products = 0.0

    def add(self, size: int, frames: int, sign: int = 1) -> None:
        """Take in an item, or with -1 take it out again."""
        self.items += sign
        self.bytes += sign * size
        self._frames += sign * frames
        self._squares += sign * float(size) ** 2
        self._products += sign * float(size) * frames

    def foretell(self, items: int, size: int) -> float | None:
        """The frames of so many more items of so many bytes together; None where nothing is known of any."""
        if items <= 0 or size <= 0:
            return 0.0
        if not self.bytes or not self._frames:
            return None
        if self.items >= _FEW_ITEMS:
            spread = self._squares - float(self.bytes) ** 2 / self.items
            if spread > 1e-6 * self._squares:
                per_byte = (self._products - self.bytes * self._frames / self.items) / spread
                per_item = (self._frames - per_byte * self.bytes) / self.items
                if (foretold := per_item * items + per_byte * size) > 0:
                    return foretold
        return self._frames / self.bytes * size


class Estimate:
    """What is done of a run and what is left. Items are named by their content; times are seconds of a steady clock."""

    def __init__(self) -> None:
        self.items = 0  # to do: found, without those that need no work
        self.items_done = 0
        self.bytes_found = 0
        self.bytes_hashed = 0
        self.frames = 0
        self.encoded = 0  # frames of this run, without those of an interrupted one; lost ones are counted
        self.speed = RecentSpeed()
        self._skipped_bytes = 0
        self._finished_bytes = 0
        self._open: dict[str, _Open] = {}
        self._known = _Known()

    def found(self, items: int, size: int) -> None:
        """More items are found."""
        self.items += items
        self.bytes_found += size

    def skip(self, size: int) -> None:
        """An item that was found needs no work."""
        self.items -= 1
        self._skipped_bytes += size

    def begin(self, key: str, size: int, now: float) -> None:
        """An item is begun."""
        self.speed.start(now)
        self._open.setdefault(key, _Open(size))

    def expect(self, key: str, size: int, frames: int, now: float) -> None:
        """The number of frames of an item is known; said again, it replaces what was said before."""
        self.begin(key, size, now)
        one = self._open[key]
        if one.frames is not None:
            self._known.add(size, one.frames, -1)
        one.frames = frames
        self._known.add(size, frames)

    def advance(self, key: str, frames: int, now: float) -> None:
        """Frames of an item are done; negative where some are lost, and are done again."""
        self.frames += frames
        if key in self._open:
            self._open[key].done += frames
        if frames > 0:  # lost ones were encoded none the less
            self.encoded += frames
            self.speed.add(frames, now)

    def resume(self, key: str, frames: int) -> None:
        """Frames of an item are there from an interrupted run."""
        self.frames += frames
        if key in self._open:
            self._open[key].done += frames

    def finish(self, key: str, size: int) -> None:
        """An item is over: done, or given up."""
        self.items_done += 1
        self._finished_bytes += size
        one = self._open.pop(key, None)
        if one is not None and one.frames is None and one.done > 0:
            self._known.add(size, one.done)

    @property
    def is_hashing(self) -> bool:
        """Whether some of what was found is not hashed yet, so that it may turn out to need no work."""
        return self.bytes_hashed < self.bytes_found

    @property
    def bytes(self) -> int:
        """Bytes of the items to do."""
        return max(self.bytes_found - self._skipped_bytes, 0)

    @property
    def bytes_done(self) -> int:
        """Bytes of the items that are over, and of those that are begun in proportion to their frames."""
        done = self._finished_bytes + sum(one.size * self._share(one) for one in self._open.values())
        return min(round(done), self.bytes)

    def seconds_left(self, now: float) -> float | None:
        """How long the rest takes at the recent speed; at most so long while hashing is not over. None: not known."""
        frames, speed = self.frames_left(), self.speed.at(now)
        if frames == 0:
            return 0.0
        if frames is None or speed <= 0 or self.speed.seconds(now) < LEAST_S:
            return None
        return frames / speed

    def frames_left(self) -> float | None:
        """Frames left: exactly those of items whose number is known, of others by their bytes. None: not known."""
        exact = [one for one in self._open.values() if one.frames is not None]
        others = [one for one in self._open.values() if one.frames is None]
        left = sum(max((one.frames or 0) - one.done, 0) for one in exact)
        items = self.items - self.items_done - len(exact)
        size = self.bytes - self._finished_bytes - sum(one.size for one in exact)
        foretold = self._known.foretell(items, size)
        if foretold is None and self._finished_bytes and self.frames:  # of no item it is known how many frames it has
            foretold = self.frames / self._finished_bytes * size
        return None if foretold is None else left + max(foretold - sum(one.done for one in others), 0)

    def _share(self, one: _Open) -> float:
        """How much of an item is done, 0 to 1."""
        frames = self._known.foretell(1, one.size) if one.frames is None else one.frames
        return min(one.done / frames, 1.0) if frames else 0.0
