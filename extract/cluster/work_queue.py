"""The items of a run, given out one by one: those that another run is at are left for later."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from ...cache.format.sampling import Sampling
from ..inputs import HashedItem
from .claims import Claims

_POLL_S = 2.0


class Feed(Protocol):
    """Items that become known while others are done already."""

    @property
    def is_over(self) -> bool:
        """Whether no more will come."""

    def take(self) -> Sequence[HashedItem]:
        """Those that are new since the last time; does not wait."""

    def wait(self, seconds: float) -> None:
        """Wait until there are new ones, or no more will come, but no longer than `seconds`."""

    def go_on(self, item: HashedItem) -> None:
        """An item is being done, here or by another run: one more may be prepared."""

    def fetch(self, item: HashedItem) -> None:
        """Prepare an item that lies elsewhere; it comes again."""

    def release(self, item: HashedItem) -> HashedItem:
        """An item is not opened any more, or not now; returns it as it can be kept."""


class WorkQueue:
    """Gives out each item once, and when nobody else is at it.

    Args:
        feed: gives the items, in the order in which they are to be done.
        sampling: which frames of an item; with its content it says what is claimed.
        claims: of this run; None claims nothing.
        is_done: asked of an item that is about to be given out, and told whether another run was at it; one that is
            done is left out.
    """

    def __init__(
        self,
        feed: Feed,
        sampling: Sampling,
        claims: Claims | None = None,
        is_done: Callable[[HashedItem, bool], bool] = lambda _, __: False,
    ) -> None:
        self._feed = feed
        self._items: deque[HashedItem] = deque()  # to be tried
        self._claimed: list[HashedItem] = []  # tried, and others were at them
        self._look_again = 0.0
        self._sampling = sampling
        self._claims = claims
        self._is_done = is_done
        self._met: set[str] = set()  # contents that others were at

    def __len__(self) -> int:
        """How many items are known and not given out."""
        return len(self._items) + len(self._claimed)

    @property
    def is_over(self) -> bool:
        """Whether every item was given out."""
        return not len(self) and self._feed.is_over

    @property
    def waits_for_others(self) -> bool:
        """Whether all that is left is claimed by other runs, as `take` has found."""
        return bool(len(self)) and self._feed.is_over

    def take(self) -> HashedItem | None:
        """The next item that nobody else is at; None if there is none at present."""
        self._items.extend(self._feed.take())
        self._take_up_claimed()
        while self._items:
            item = self._items.popleft()
            self._feed.go_on(item)
            if self._claims is not None and not self._claims.take(item, self._sampling):
                self._claimed.append(self._feed.release(item))
                if not self._met:
                    self._go_elsewhere()
                self._met.add(item.sha256)
            elif self._is_done(item, item.sha256 in self._met):  # while it is ours: nobody can finish it meanwhile
                self.release(item)
            elif item.is_elsewhere:
                self.release(item)  # it may fail to come, or take long
                self._feed.fetch(item)
            else:
                return item
        return None

    def release(self, item: HashedItem) -> None:
        """An item is over: written, or given up."""
        self._feed.release(item)
        if self._claims is not None:
            self._claims.release(item, self._sampling)

    def leave(self) -> list[HashedItem]:
        """Give up, and return, what is known and not given out."""
        items = [*self._items, *self._claimed]
        self._items.clear()
        self._claimed.clear()
        return items

    def wait(self) -> None:
        """Wait a little, where `take` gave nothing: for what comes next, or for other runs."""
        if self._feed.is_over:
            time.sleep(_POLL_S)
        else:
            self._feed.wait(_POLL_S)

    def _take_up_claimed(self) -> None:
        """Try again what others were at, after all else and now and then.

        `take` is called with every message of a worker, and a claim costs several requests to the cache's disk.
        """
        now = time.monotonic()
        if self._claimed and now >= self._look_again:
            self._look_again = now + _POLL_S
            self._items.extend(self._claimed)
            self._claimed.clear()

    def _go_elsewhere(self) -> None:
        """Runs that meet go on from different places, so that they do not meet at every item."""
        if self._items:
            self._items.rotate(random.randrange(len(self._items)))  # noqa: S311  nothing secret


class Known:
    """A feed of items that are known from the beginning."""

    def __init__(self, items: Iterable[HashedItem]) -> None:
        self._items = list(items)

    @property
    def is_over(self) -> bool:
        """See `Feed`."""
        return not self._items

    def take(self) -> Sequence[HashedItem]:
        """See `Feed`."""
        items, self._items = self._items, []
        return items

    def wait(self, seconds: float) -> None:
        """Nothing more comes."""

    def go_on(self, item: HashedItem) -> None:
        """Nothing waits."""

    def fetch(self, item: HashedItem) -> None:
        """Nothing lies elsewhere."""

    def release(self, item: HashedItem) -> HashedItem:
        """See `Feed`."""
        return item
