"""Fetch the inputs of a run that are not on this disk, in threads, as far as the scratch space reaches."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ..cache.common.errors import ClipcacheError
from .inputs import HashedItem, Item, stamp_of
from .remote.blobs import Status
from .remote.memory import Memory
from .remote.scratch import Scratch
from .remote.sources import Source

_THREADS = 8  # they wait for the network, not for a core


@dataclass(frozen=True)
class _Wanted:
    """An item to fetch, what is known of it, and the checksum that it had, if that is known."""

    item: Item
    source: Source
    status: Status
    sha256: str = ""

    def failed(self, problem: ClipcacheError) -> HashedItem:
        """What becomes of it where it does not come; of the size that it was found with."""
        return HashedItem(self.item, self.sha256, self.status.size or 0, problem)


class Fetcher:
    """Finds out the checksums of items elsewhere, and fetches what is needed.

    What is remembered is given without a copy. The rest is fetched as soon as there is room for it, each with its copy,
    which stays until `release`.

    Args:
        scratch: where copies lie; None fetches nothing, and gives what is not remembered without a checksum.
        give: called in a thread with each item when it is known.
        on_found: called with each item and its size when that is known.
        on_bytes: called with an item and the length of each block of it that comes; what it raises ends the thread.
        start: starts a thread.
    """

    def __init__(
        self,
        scratch: Scratch | None,
        give: Callable[[HashedItem], None],
        on_found: Callable[[Item, int], None],
        on_bytes: Callable[[Item, int], None],
        start: Callable[[Callable[[], None]], None],
    ) -> None:
        self._scratch = scratch
        self._give = give
        self._on_found = on_found
        self._on_bytes = on_bytes
        self._start = start
        self._memory = Memory()
        self._changed = threading.Condition()
        self._to_look: deque[tuple[Item, Source]] = deque()
        self._to_fetch: deque[_Wanted] = deque()
        self._lanes: set[object] = set()
        self._threads = 0
        self._is_closed = False

    def look(self, item: Item, source: Source) -> None:
        """Find out the checksum of an item. Those of one lane are fetched in the order in which they are named here."""
        with self._changed:
            self._to_look.extend([(item, source)] if source.lane is None else [])
            self._go()
        if source.lane is not None:
            self._look(item, source)

    def fetch(self, item: HashedItem) -> None:
        """Fetch an item whose checksum is remembered."""
        assert item.item.source is not None  # noqa: S101  it is elsewhere
        wanted = _Wanted(item.item, item.item.source, Status(item.size, None), item.sha256)
        with self._changed:
            self._to_fetch.append(wanted)
            self._go()

    def release(self, item: HashedItem) -> HashedItem:
        """Remove the copy of an item, if it has one, and return it without."""
        if item.copy is None or self._scratch is None:
            return item
        self._scratch.remove(item.copy)
        with self._changed:
            self._changed.notify_all()
        return replace(item, copy=None, stamps=())

    def close(self) -> None:
        """Let the threads end, and remove all copies."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._scratch is not None:
            self._scratch.close()

    def _go(self) -> None:
        if self._is_closed:
            return
        if self._threads == 0 and self._scratch is not None:
            self._scratch.open()
        if self._threads < _THREADS:
            self._threads += 1
            self._start(self._work)
        self._changed.notify_all()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            job()

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            while not self._is_closed:
                if (job := self._possible()) is not None:
                    return job
                self._changed.wait()
        return None

    def _possible(self) -> Callable[[], None] | None:
        """Fetching first: work waits for it. What has no room yet lets nothing overtake it."""
        wanted = next((one for one in self._to_fetch if one.source.lane not in self._lanes), None)
        if wanted is not None and self._scratch is not None:
            try:
                path = self._scratch.reserve(wanted.source, wanted.status.size)
            except ClipcacheError as error:
                self._to_fetch.remove(wanted)
                return partial(self._give, wanted.failed(error))
            if path is not None:
                self._to_fetch.remove(wanted)
                if wanted.source.lane is not None:
                    self._lanes.add(wanted.source.lane)
                return partial(self._fetch, wanted, self._scratch, path)
        if self._to_look:
            item, source = self._to_look.popleft()
            return partial(self._look, item, source)
        return None

    def _look(self, item: Item, source: Source) -> None:
        try:
            status = source.status()
        except ClipcacheError as error:
            self._on_found(item, 0)
            self._give(HashedItem(item, "", 0, error))
            return
        size = status.size or 0
        self._on_found(item, size)
        sha256 = self._memory.sha256(source.key, status.stamp)
        if sha256 is not None or self._scratch is None:
            self._give(HashedItem(item, sha256 or "", size))
            return
        with self._changed:
            self._to_fetch.append(_Wanted(item, source, status))
            self._changed.notify_all()

    def _fetch(self, wanted: _Wanted, scratch: Scratch, path: Path) -> None:
        source = wanted.source
        try:
            sha256, size = scratch.fetch(source, path, partial(self._on_bytes, wanted.item))
            self._memory.remember_sha256(source.key, source.status().stamp, sha256)
            hashed = HashedItem(wanted.item, sha256, size, stamps=(stamp_of(path),), copy=path)
        except ClipcacheError as error:
            hashed = wanted.failed(error)
        finally:
            with self._changed:
                self._lanes.discard(source.lane)
                self._changed.notify_all()
        self._give(hashed)
