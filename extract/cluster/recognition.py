"""Which content an item has, without reading it: a library is not hashed to see how far its runs are."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

from ...cache.common.errors import ClipcacheError, EntryError, UsageError
from ...cache.common.hashing import DigestMemo, content_sha256
from ...cache.common.quoting import quoted
from ...cache.format.names import entry_name, parse_entry_name
from ...cache.format.read import read_attributes_of
from ...cache.format.sampling import Sampling
from ...cache.format.schema import EntryAttributes, storable_path, storable_text
from ...cache.store import FeatureCache
from ..hashing import recall
from ..inputs import Item
from ..remote.memory import Memory
from ..remote.sources import Source

Bar = Callable[[Iterable[Any]], Iterable[Any]]
"""Passes things on, and shows the progress over them."""

_AT_ONCE = 8  # questions to servers

_Key = tuple[str, int]
_Contents = dict[_Key, dict[str, float]]  # sha256, and when its entry was written, in seconds since 1970


class Known(Enum):
    """What the content of an item is known by. The values are keys of the JSON of `cache status`."""

    CHECKSUM = "by_checksum"
    PATH = "by_path"
    NAME = "by_name"
    NOTHING = "not_recognised"


@dataclass(frozen=True)
class Recognised:
    """An item, and its content as far as it is known.

    Attributes:
        item: the input.
        known: what the content is known by.
        sha256: of the content, 64 hex digits; "" where it is not known.
        size: bytes on disk; 0 where it cannot be read.
        modified: when the newest of its files was modified, in seconds since 1970; 0 where it cannot be read.
        problem: why it cannot be read; "" where it can.
    """

    item: Item
    known: Known = Known.NOTHING
    sha256: str = ""
    size: int = 0
    modified: float = 0.0
    problem: str = ""

    @property
    def is_open(self) -> bool:
        """Whether its content may yet be found out."""
        return not self.sha256 and not self.problem

    @property
    def at(self) -> _Key:
        """Its path and size, as entries have them."""
        return storable_path(self.item.name), self.size

    @property
    def called(self) -> _Key:
        """Its name and size, as entries have them."""
        return storable_text(_name(self.item)), self.size


class Entries:
    """The entries of one model, by their names; each is opened at most once, and only when asked for.

    Args:
        cache: that holds them.
        model_dir: its folder for the model's weights.
    """

    def __init__(self, cache: FeatureCache, model_dir: str) -> None:
        self._cache = cache
        self._model_dir = model_dir
        self.paths = [entry.path for entry in cache.entries(model_dir)]
        self._attributes: dict[Path, EntryAttributes | EntryError] = {}
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        for path in self.paths:
            if (name := parse_entry_name(path.name)) is not None:
                self._by_stem[name.stem].append(path)

    def find(self, sha256: str, sampling: Sampling) -> Path | None:
        """The entry of a content that holds at least these frames; None if there is none."""
        return self._cache.find(self._model_dir, sha256, sampling)

    def attributes(self, path: Path) -> EntryAttributes:
        """The attributes of an entry.

        Raises:
            EntryError: if it is a bad one.
        """
        if path not in self._attributes:
            try:
                self._attributes[path] = read_attributes_of(path)
            except EntryError as error:
                self._attributes[path] = error
        found = self._attributes[path]
        if isinstance(found, EntryError):
            raise found
        return found

    def named_like(self, items: Sequence[Item], bar: Bar) -> Iterator[EntryAttributes]:
        """The attributes of good entries whose file names begin as those of the items' would."""
        stems = sorted({_stem(item) for item in items})
        for path in bar([path for stem in stems for path in self._by_stem.get(stem, ())]):
            with contextlib.suppress(EntryError):
                yield self.attributes(path)


def recognise(items: Sequence[Item], memo: DigestMemo, entries: Entries | None, bar: Bar) -> list[Recognised]:
    """Say which content each item has, without reading one.

    First by the checksum that is remembered for an unchanged file. Then by an entry that says that it was made of a
    file at this path with this size. Then by an entry of this name and size; since a library may hold several files of
    one name, only where there are as many contents of that name and size as items. A file that was modified after the
    entry was written is not recognised by it.

    Args:
        items: of the library.
        memo: remembers checksums.
        entries: of the cache; None where there are none.
        bar: shows the progress over the entries that are opened.
    """
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        asked = [threads.submit(_remembered_elsewhere, item, item.source) if item.source else None for item in items]
        first = [
            _remembered(item, memo) if answer is None else answer.result()
            for item, answer in zip(items, asked, strict=True)
        ]
    unknown = [one.item for one in first if one.is_open]
    if entries is None or not unknown:
        return first
    by_path, by_name = _said(entries.named_like(unknown, bar))
    second = [_by_path(one, by_path) if one.is_open else one for one in first]
    return _by_name(second, by_name)


def hash_unknown(one: Recognised, memo: DigestMemo) -> Recognised:
    """The item with its checksum; what was not recognised is read for it, if it is on this disk."""
    if not one.is_open or one.item.source is not None:
        return one
    try:
        return replace(one, sha256=content_sha256(one.item.path, memo), known=Known.CHECKSUM)
    except UsageError as error:
        return replace(one, problem=str(error))


def _by_path(one: Recognised, contents: _Contents) -> Recognised:
    found = [sha256 for sha256, written in contents.get(one.at, {}).items() if written >= one.modified]
    return replace(one, sha256=found[0], known=Known.PATH) if len(found) == 1 else one


def _by_name(items: list[Recognised], contents: _Contents) -> list[Recognised]:
    """Give the contents that no other item has to the items of their name, where they suffice."""
    taken = {one.sha256 for one in items}
    waiting: dict[_Key, list[Recognised]] = defaultdict(list)
    for one in items:
        if one.is_open:
            waiting[one.called].append(one)
    free: dict[_Key, list[str]] = {}
    for key, several in waiting.items():
        newest = max(one.modified for one in several)
        left = [sha256 for sha256, written in contents.get(key, {}).items() if written >= newest]
        left = sorted(set(left) - taken)
        free[key] = left if len(left) >= len(several) else []
    return [
        replace(one, sha256=free[one.called].pop(), known=Known.NAME) if one.is_open and free[one.called] else one
        for one in items
    ]


def _said(entries: Iterator[EntryAttributes]) -> tuple[_Contents, _Contents]:
    """What entries say of their videos: contents by path and size, and by name and size."""
    by_path: _Contents = defaultdict(dict)
    by_name: _Contents = defaultdict(dict)
    for one in entries:
        if one.video_bytes > 0:
            by_path[one.source_path, one.video_bytes][one.video_sha256] = _seconds(one.created)
            by_name[one.video_name, one.video_bytes][one.video_sha256] = _seconds(one.created)
    return by_path, by_name


def _seconds(time: str) -> float:
    """A time of an entry as seconds since 1970; 0 where it is not one."""
    try:
        return datetime.fromisoformat(time.replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError, OSError):
        return 0.0


def _remembered(item: Item, memo: DigestMemo) -> Recognised:
    try:
        status = [path.stat() for path in item.images or (item.path,)]
    except OSError as error:
        return Recognised(item, problem=f"Cannot read {quoted(item.path)}: {error.strerror}.")
    size, modified = sum(one.st_size for one in status), max(one.st_mtime for one in status)
    hashed = recall(item, memo)
    if hashed is None:
        return Recognised(item, size=size, modified=modified)
    if hashed.problem is not None:
        return Recognised(item, problem=str(hashed.problem))
    return Recognised(item, Known.CHECKSUM, hashed.sha256, size, modified)


def _remembered_elsewhere(item: Item, source: Source) -> Recognised:
    try:
        status = source.status()
    except ClipcacheError as error:
        return Recognised(item, problem=str(error))
    sha256 = Memory().sha256(source.key, status.stamp)
    return Recognised(item, Known.CHECKSUM if sha256 else Known.NOTHING, sha256 or "", status.size or 0)


def _name(item: Item) -> str:
    return os.path.basename(os.path.abspath(item.path))  # noqa: PTH100, PTH119  "." has no name


def _stem(item: Item) -> str:
    """What the name of the item's entry begins with."""
    name = _name(item)
    stem = name if item.kind == "image-folder" else Path(name).stem
    parsed = parse_entry_name(entry_name(stem, "0" * 64, Sampling()))
    return parsed.stem if parsed is not None else ""
