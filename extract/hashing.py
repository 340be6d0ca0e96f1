"""Hash the inputs of a run in threads, beside whatever else happens: work begins with the first checksum."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType

from ..cache.common.errors import UsageError
from ..cache.common.hashing import DigestMemo
from ..cache.common.progress import Bar
from .fetching import Fetcher
from .inputs import HashedItem, Item, hash_item, size_of
from .remote.scratch import Scratch
from .workers.sizing import usable_cores

AHEAD_BYTES = 4 << 30
"""How much is hashed that nobody decodes yet. A file that is decoded soon after is still in memory: it need not be read
a second time from a slow disk."""

START_AHEAD_BYTES = 64 << 20
"""The same until decoding begins: what loads the model needs the cores more."""

_MOST_THREADS = 8
_AT_ONCE = 1000
_END_S = 1.0


class HashStream:
    """Items of a run with their checksums, in whatever order these become known.

    What is remembered and unchanged comes first, without being read. Several threads hash the rest in order, but for
    the smallest file of the first thousand, with which work can begin soon.

    Items that are not on this disk are fetched, each to a copy in the scratch space, unless their checksum is
    remembered.

    Args:
        items: what to hash.
        memo: remembers checksums.
        scratch: where copies lie; None fetches nothing, so that some items stay without a checksum.

    Attributes:
        found: number of items that were looked at so far.
        found_bytes: size of these.
        known_bytes: size of those whose checksum is known.
    """

    def __init__(self, items: Sequence[Item], memo: DigestMemo, scratch: Scratch | None = None) -> None:
        self.found = self.found_bytes = self.known_bytes = 0
        self._bound = min(START_AHEAD_BYTES, AHEAD_BYTES)
        self._items = items
        self._memo = memo
        lock = threading.RLock()
        self._changed = threading.Condition(lock)  # something is known
        self._room = threading.Condition(lock)  # a thread that hashes can go on; only these wait for it
        self._to_hash: deque[tuple[Item, int]] = deque()
        self._known: deque[HashedItem] = deque()
        self._outstanding = len(items)
        self._ahead: dict[int, int] = {}  # by the identity of the item
        self._ahead_bytes = 0
        self._sizes: dict[int, list[int]] = {}  # found and counted bytes of what is not known yet, by identity too
        self._is_closed = False
        self._error: BaseException | None = None
        self._threads: list[threading.Thread] = []
        self._hash_threads = 0
        self._fetcher = Fetcher(scratch, self._give, self._find, self._count, self._start)

    def __enter__(self) -> HashStream:
        self._start(self._look_up)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._is_closed = True
            self._room.notify_all()
        self._fetcher.close()
        end = time.monotonic() + _END_S
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))  # one that waits for a dead disk ends with the program
        self._memo.flush()

    @property
    def is_over(self) -> bool:
        """Whether every item was taken."""
        with self._changed:
            return self._error is None and self._outstanding == 0 and not self._known

    def take(self) -> list[HashedItem]:
        """The items that became known since the last time; does not wait. One that cannot be read has a `problem`."""
        with self._changed:
            if self._error is not None:
                raise self._error
            taken = list(self._known)
            self._known.clear()
        return taken

    def wait(self, seconds: float) -> None:
        """Wait until `take` gives something or all is over, but no longer than `seconds`."""
        with self._changed:
            self._changed.wait_for(lambda: self._known or self._error or self._outstanding == 0, seconds)

    def look_ahead(self) -> None:
        """Decoding begins: hash far ahead of it from now on."""
        with self._room:
            self._bound = AHEAD_BYTES
            self._room.notify_all()

    def go_on(self, item: HashedItem) -> None:
        """An item that was taken is being decoded, or never will be: there is room to hash another."""
        with self._changed:
            if (size := self._ahead.pop(id(item.item), None)) is not None:
                self._ahead_bytes -= size
                self._room.notify_all()

    def fetch(self, item: HashedItem) -> None:
        """Fetch an item from elsewhere that was taken without a copy; it comes again with one."""
        with self._changed:
            self._outstanding += 1
        self._fetcher.fetch(item)

    def release(self, item: HashedItem) -> HashedItem:
        """Remove the copy of an item from elsewhere, if there is one, and return the item without."""
        return self._fetcher.release(item)

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=self._guarded, args=(work,), daemon=True, name="hash")
        thread.start()
        self._threads.append(thread)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except _ClosedError:
            return
        except BaseException as error:  # noqa: BLE001  it is raised again where items are taken
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _look_up(self) -> None:
        """Give out what is remembered and leave the rest to the threads that hash."""
        left = iter(self._items)
        while chunk := list(itertools.islice(left, _AT_ONCE)):
            unknown = [(item, size_of(item)) for item in chunk if not self._is_remembered(item)]
            if unknown and not self._hash_threads:
                unknown.insert(0, unknown.pop(min(range(len(unknown)), key=lambda row: unknown[row][1])))
                self._hash_threads = min(usable_cores(), _MOST_THREADS, len(self._items))
                for _ in range(self._hash_threads):
                    self._start(self._hash)
            for item, size in unknown:
                self._find(item, size)
            with self._changed:
                self._to_hash.extend(unknown)
                self._room.notify_all()

    def _is_remembered(self, item: Item) -> bool:
        """Give an item whose checksum is known; also one from elsewhere, which is not for the threads that hash."""
        self._check_open()
        if item.source is not None:
            self._fetcher.look(item, item.source)
            return True
        hashed = recall(item, self._memo)
        if hashed is None:
            return False
        self._find(item, hashed.size)
        self._give(hashed)
        return True

    def _find(self, item: Item, size: int) -> None:
        with self._changed:
            self.found += 1
            self.found_bytes += size
            self._sizes[id(item)] = [size, 0]

    def _hash(self) -> None:
        while True:
            with self._changed:
                self._room.wait_for(lambda: self._is_closed or self._outstanding == 0 or self._may_hash())
                if self._is_closed or not self._to_hash:
                    return
                item, size = self._to_hash.popleft()
                self._ahead[id(item)] = size
                self._ahead_bytes += size
            self._give(hash_item(item, _Counted(self._memo, partial(self._count, item))))

    def _may_hash(self) -> bool:
        if not self._to_hash:
            return False
        return self._ahead_bytes == 0 or self._ahead_bytes + self._to_hash[0][1] <= self._bound

    def _count(self, item: Item, count: int) -> None:
        """Bytes of an item are read; of one that is fetched after its checksum was known they say nothing new."""
        self._check_open()
        with self._changed:
            if (sizes := self._sizes.get(id(item))) is not None:
                sizes[1] += count
                self.known_bytes += count

    def _check_open(self) -> None:
        if self._is_closed:
            raise _ClosedError

    def _give(self, hashed: HashedItem) -> None:
        with self._changed:
            # It may be unreadable, may have grown since it was found, and what was remembered of it was not read.
            found, counted = self._sizes.pop(id(hashed.item), (hashed.size, hashed.size))
            self.found_bytes += hashed.size - found
            self.known_bytes += hashed.size - counted
            self._known.append(hashed)
            self._outstanding -= 1
            self._changed.notify_all()
            if self._outstanding == 0:
                self._room.notify_all()


class _ClosedError(BaseException):
    """Ends a thread in the middle of a file: nobody asks for its checksum any more."""


class _UnknownError(Exception):
    """The checksum of a file is not remembered."""


class _Remembered:
    """Remembers, and computes nothing."""

    def __init__(self, memo: DigestMemo) -> None:
        self._memo = memo

    def sha256(self, path: Path) -> str:
        digest = self._memo.known(path)
        if digest is None:
            raise _UnknownError
        return digest


def recall(item: Item, memo: DigestMemo) -> HashedItem | None:
    """An item of this disk whose checksum is remembered, or that cannot be read; None if it must be hashed."""
    try:
        return hash_item(item, _Remembered(memo))
    except _UnknownError:
        return None


class _Counted:
    """Computes, and says after each block how many bytes it was."""

    def __init__(self, memo: DigestMemo, on_bytes: Callable[[int], None]) -> None:
        self._memo = memo
        self._on_bytes = on_bytes

    def sha256(self, path: Path) -> str:
        return self._memo.sha256(path, self._on_bytes)


def hash_all(items: Sequence[Item], memo: DigestMemo) -> list[HashedItem]:
    """Hash items with a progress bar, and return them in their order.

    Raises:
        UsageError: if not one of them can be read.
    """
    hashed_items: dict[int, HashedItem] = {}
    shown = 0
    with HashStream(items, memo) as stream, Bar("Hashing", sum(map(size_of, items)), "B") as bar:
        while not stream.is_over:
            stream.wait(0.1)
            for hashed in stream.take():
                hashed_items[id(hashed.item)] = hashed
                stream.go_on(hashed)
            known_bytes = stream.known_bytes
            bar.advance(known_bytes - shown)
            shown = known_bytes
    ordered = [hashed_items[id(item)] for item in items]
    check_readable(ordered)
    return ordered


def check_readable(items: Sequence[HashedItem]) -> None:
    """Refuse a run of which nothing can be read.

    Raises:
        UsageError: if no item can be read, and there is one.
    """
    problems = [item.problem for item in items if item.problem is not None]
    if problems and len(problems) == len(items):
        first = problems[0]
        more = f" ({len(problems) - 1} more like it)" if problems[1:] else ""
        raise UsageError(f"{first.problem}{more}", first.remedy)
