"""The cache as a whole: finding entries by content without opening them, and going through them."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

from .digest import DigestMemo, Digests, content_sha256, natural_key
from .entry import Entry
from .errors import CacheError, EntryError, NotCachedError, UsageError
from .key import EntryName, ModelDir, parse_entry_name, parse_model_dir_name
from .sampling import Sampling

_SHARD = re.compile(r"[0-9a-f]{2}")
_Listing = dict[str, list[tuple[Path, EntryName]]]


class FeatureCache:
    """A folder of entries.

    The names of the entries are listed once, when first needed; `refresh` lists them anew. Iterating gives every
    entry, sorted by path, and raises at the first bad one only when that one is read.
    """

    def __init__(self, directory: str | os.PathLike[str], memo: Digests | None = None) -> None:
        """Open the cache at `directory`.

        Args:
            directory: the cache folder.
            memo: gives the content hash of videos; the user's `DigestMemo` by default.

        Raises:
            CacheError: if there is no such folder.
        """
        self.directory = Path(directory)
        if not os.path.isdir(self.directory):  # noqa: PTH112 - Path.is_dir raises for a name that is too long
            raise CacheError(
                f"There is no feature cache at {self.directory}; "
                f"make it with: clipcache extract VIDEO --cache {shlex.quote(str(self.directory))}"
            )
        self._memo = memo
        self._listings: dict[str, _Listing] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.directory)!r})"

    def __iter__(self) -> Iterator[Entry]:
        return map(Entry, self._paths())

    def __len__(self) -> int:
        return len(self._paths())

    @property
    def memo(self) -> Digests:
        """Gives the content hash of videos."""
        if self._memo is None:
            self._memo = DigestMemo()
        return self._memo

    def refresh(self) -> None:
        """Forget the listing: entries written or removed since are seen again."""
        self._listings.clear()

    def models(self) -> list[ModelDir]:
        """Models that have an entry here, sorted by name."""
        found = [parse_model_dir_name(name) for name in _folders(self.directory)]
        return [model for model in found if model is not None and self._listing(model.name)]

    def model(self, model: str | None = None) -> ModelDir:
        """The one model that `model` names: "ViT-B/32", "ViT-B-32", a folder's name, or None if there is but one.

        Raises:
            NotCachedError: if no entry was made with it.
            UsageError: if several fit.
        """
        models = self.models()
        fitting = [one for one in models if model is None or one.matches(model)]
        if not fitting:
            known = _names(models) or "no entries at all"
            raise NotCachedError(
                f"The cache {self.directory} holds {known}, so nothing of {model or 'any model'}; "
                f"make an entry with: clipcache extract VIDEO --cache {shlex.quote(str(self.directory))}"
            )
        if len(fitting) > 1:
            raise UsageError(f"The cache {self.directory} holds {_names(fitting)}; choose one with --model.")
        return fitting[0]

    def entries(self, model: str | None = None) -> list[Entry]:
        """Every entry, or those of the models that `model` names, sorted by name; none is opened."""
        return [Entry(path) for path in self._paths(model)]

    def iter_entries(self, on_bad: Callable[[Path, EntryError], None], model: str | None = None) -> Iterator[Entry]:
        """Every entry that can be opened; `on_bad` is told of each that cannot, and the iteration goes on.

        Each is kept open until the next one is asked for.
        """
        for path in self._paths(model):
            with contextlib.ExitStack() as stack:
                entry = Entry(path)
                try:
                    stack.enter_context(entry.kept_open())
                except EntryError as error:
                    on_bad(path, error)
                else:
                    yield entry

    def get(self, video: str | os.PathLike[str], model: str | None = None) -> Entry:
        """The entry of a video, image or image folder, found by its content: name and place do not matter.

        Of several with different sampling, the one with most frames.

        Raises:
            NotCachedError: if it has none.
            UsageError: if `video` cannot be read, or `model` is None and the cache holds several.
        """
        chosen = self.model(model)
        sha256 = content_sha256(Path(video), self.memo)
        found = self._held(chosen.name, sha256)
        if not found:
            raise NotCachedError(
                f"{os.fspath(video)} has no entry of {chosen.slug} in the cache; make it with: clipcache extract "
                f"{shlex.quote(os.fspath(video))} --cache {shlex.quote(str(self.directory))} --model {chosen.slug}"
            )
        return Entry(found[0][0])

    def find(
        self, model_dir: str, sha256: str, sampling: Sampling | None = None, *, fresh: bool = False
    ) -> Path | None:
        """Path of an entry that holds at least the frames of `sampling` (default: every frame); None if none does.

        Looks at names only. Of several, the one with fewest frames that will do.

        Args:
            model_dir: name of the model's folder.
            sha256: of the video's content.
            sampling: the frames asked for.
            fresh: look into the folder again, where another run may have written since.
        """
        wanted = sampling or Sampling()
        if fresh:
            self._relist(model_dir, sha256[:2])
        fitting = [path for path, held in self._held(model_dir, sha256) if held.covers(wanted)]
        return fitting[-1] if fitting else None

    def files(self) -> list[Path]:
        """Every .h5 file in the place of an entry, whatever its name, sorted."""
        models = [name for name in _folders(self.directory) if parse_model_dir_name(name)]
        shards = [
            self.directory / model / shard
            for model in models
            for shard in _folders(self.directory / model)
            if _SHARD.fullmatch(shard)
        ]
        names = [(shard, entry.name) for shard in shards for entry in _listed(shard)]
        return sorted(shard / name for shard, name in names if name.endswith(".h5") and not name.startswith("."))

    def _paths(self, model: str | None = None) -> list[Path]:
        """Every entry, or those of the models that `model` names, sorted by name."""
        models = [one for one in self.models() if model is None or one.matches(model)]
        paths = [path for one in models for found in self._listing(one.name).values() for path, _ in found]
        return sorted(paths, key=lambda path: (natural_key(path.name), path))

    def _held(self, model_dir: str, sha256: str) -> list[tuple[Path, Sampling]]:
        """Entries of one video, most frames first; the same order on every machine."""
        found = self._listing(model_dir).get(sha256[:16], [])
        return [(path, name.sampling) for path, name in sorted(found, key=lambda one: _fullest_first(*one))]

    def _relist(self, model_dir: str, shard: str) -> None:
        """Read one folder again; the rest of the listing stays as it is."""
        listing = {sha16: found for sha16, found in self._listing(model_dir).items() if sha16[:2] != shard}
        _list_shard(self.directory / model_dir / shard, listing)
        self._listings[model_dir] = listing

    def _listing(self, model_dir: str) -> _Listing:
        """Names in the folder of one model, by the first 16 digits of the video's hash."""
        if model_dir not in self._listings:
            listing: _Listing = {}
            for shard in _folders(self.directory / model_dir):
                if _SHARD.fullmatch(shard):
                    _list_shard(self.directory / model_dir / shard, listing)
            self._listings[model_dir] = listing
        return self._listings[model_dir]


def open_target(target: Path, cache_dir: Path, model: str | None = None) -> Entry:
    """The entry that `target` means: itself if it is named .h5, else the one of that video in the cache.

    Raises:
        CacheError: if there is no such cache, or it has no entry of the video.
        UsageError: if `target` cannot be read, or `model` is None and the cache holds several.
    """
    return Entry(target) if target.suffix == ".h5" else FeatureCache(cache_dir).get(target, model)


def _list_shard(folder: Path, listing: _Listing) -> None:
    for entry in _listed(folder):
        name = parse_entry_name(entry.name)
        if name is not None and name.sha16[:2] == folder.name:
            listing.setdefault(name.sha16, []).append((folder / entry.name, name))


def _fullest_first(path: Path, name: EntryName) -> tuple[int, float, Path]:
    """Every frame, then by rate, then by distance: a rate says nothing of a distance without the video."""
    sampling = name.sampling
    if sampling.is_all:
        return 0, 0.0, path
    if sampling.fps is not None:
        return 1, -sampling.fps, path
    if sampling.every is not None:
        return 2, float(sampling.every), path
    return 3, sampling.hop_s or 0.0, path


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
        raise CacheError(f"Cannot list the cache folder {folder} ({error.strerror}); fix its permissions.") from error


def _names(models: list[ModelDir]) -> str:
    return ", ".join(model.name for model in models)
