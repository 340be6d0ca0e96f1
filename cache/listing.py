"""The names of the entries of a cache: of a folder of model folders, or of a packed file, which is listed like one."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Protocol

from .common.errors import CacheError
from .common.quoting import quoted
from .format.names import ENTRY_SUFFIX, EntryName, parse_entry_name, parse_model_dir_name

_SHARD = re.compile(r"[0-9a-f]{2}")
Listing = dict[str, list[tuple[Path, EntryName]]]
"""Entries of one model, by the first 16 digits of their video's hash."""


class EntryIndex(Protocol):
    """Lists entries by name; opens none."""

    def model_dirs(self) -> list[str]:
        """Names of folders that may belong to a model, sorted."""

    def listing(self, model_dir: str) -> Listing:
        """Every entry of one model."""

    def list_shard(self, model_dir: str, shard: str, listing: Listing) -> None:
        """Add the entries of one model whose hash begins with two hex digits."""

    def files(self) -> list[Path]:
        """Every .h5 file in a folder of entries, whatever its name, sorted."""


class FolderIndex:
    """The entries below a folder; it is listed anew at each call."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def model_dirs(self) -> list[str]:
        """See `EntryIndex`."""
        return _folders(self._directory)

    def listing(self, model_dir: str) -> Listing:
        """See `EntryIndex`."""
        listing: Listing = {}
        for shard in _folders(self._directory / model_dir):
            if _SHARD.fullmatch(shard):
                self.list_shard(model_dir, shard, listing)
        return listing

    def list_shard(self, model_dir: str, shard: str, listing: Listing) -> None:
        """See `EntryIndex`."""
        folder = self._directory / model_dir / shard
        for entry in _listed(folder):
            _add(folder / entry.name, listing)

    def files(self) -> list[Path]:
        """See `EntryIndex`."""
        shards = [
            self._directory / model / shard
            for model in _folders(self._directory)
            if parse_model_dir_name(model)
            for shard in _folders(self._directory / model)
            if _SHARD.fullmatch(shard)
        ]
        names = [(shard, entry.name) for shard in shards for entry in _listed(shard)]
        return sorted(shard / name for shard, name in names if name.endswith(ENTRY_SUFFIX) and not name.startswith("."))


class PackedIndex:
    """The entries of a packed file, by the paths that they would have if it were a folder."""

    def __init__(self, file: Path) -> None:
        from .format.packed import entry_paths

        if file.suffix != ENTRY_SUFFIX:  # paths into it are told by this
            raise CacheError(f"{quoted(file)} is not a packed library, whose name ends in {ENTRY_SUFFIX}", "rename it")
        self._paths = entry_paths(file)

    def model_dirs(self) -> list[str]:
        """See `EntryIndex`."""
        return sorted({path.parent.parent.name for path in self._paths})

    def listing(self, model_dir: str) -> Listing:
        """See `EntryIndex`."""
        listing: Listing = {}
        for path in self._paths:
            if path.parent.parent.name == model_dir:
                _add(path, listing)
        return listing

    def list_shard(self, model_dir: str, shard: str, listing: Listing) -> None:
        """See `EntryIndex`."""
        for path in self._paths:
            if (path.parent.parent.name, path.parent.name) == (model_dir, shard):
                _add(path, listing)

    def files(self) -> list[Path]:
        """See `EntryIndex`."""
        return sorted(self._paths)


def _add(path: Path, listing: Listing) -> None:
    name = parse_entry_name(path.name)
    if name is not None and name.sha16[:2] == path.parent.name:
        listing.setdefault(name.sha16, []).append((path, name))


def _folders(folder: Path) -> list[str]:
    """Names of the folders in `folder`, sorted."""
    return sorted(entry.name for entry in _listed(folder) if entry.is_dir())


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    """What is in `folder`; nothing if it is not there.

    Raises:
        CacheError: if it cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CacheError(
            f"Cannot list the cache folder {quoted(folder)} ({error.strerror})", "fix its permissions"
        ) from error
