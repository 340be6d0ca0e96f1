"""The cache as a whole: find entries by the content of their videos, and iterate over them."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .common.errors import CacheError, EntryError, NotCachedError, UsageError
from .common.hashing import DigestMemo, Digests, content_sha256, natural_key
from .common.paths import StrPath, is_file, is_folder
from .common.progress import counted
from .common.quoting import quoted
from .entry import Entry
from .format.names import ENTRY_SUFFIX, EntryName, ModelDir, parse_model_dir_name
from .format.sampling import Sampling
from .listing import EntryIndex, FolderIndex, Listing, PackedIndex

if TYPE_CHECKING:
    from pandas import DataFrame  # the type that users see; pandas is optional

    from .dataset import ClipDataset


OnBad = Callable[[Path, EntryError], None]
"""Called with each entry that cannot be read, and why."""


class FeatureCache:
    """A folder of entries, or a packed file of them.

    The names of the entries are listed once, when first needed; `refresh` lists them again. Iterating gives every
    entry, sorted by path; a bad entry raises when it is read.
    """

    def __init__(self, directory: StrPath, memo: Digests | None = None) -> None:
        """Open the cache at `directory`.

        Args:
            directory: the cache folder, or a packed file as `clipcache cache pack` makes it.
            memo: computes or remembers the content hash of videos; the user's `DigestMemo` by default.

        Raises:
            CacheError: if there is no such folder, or the file is not a packed one.
        """
        self.directory = Path(directory)
        if is_file(self.directory):
            self._index: EntryIndex = PackedIndex(self.directory)
        elif is_folder(self.directory):
            self._index = FolderIndex(self.directory)
        else:
            raise CacheError(
                f"There is no feature cache at {quoted(self.directory)}",
                f"make it with: clipcache extract VIDEO --cache {shlex.quote(str(self.directory))}",
            )
        self._memo = memo
        self._listings: dict[str, Listing] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.directory)!r})"

    def __iter__(self) -> Iterator[Entry]:
        return map(Entry, self._paths())

    def __len__(self) -> int:
        return len(self._paths())

    @property
    def memo(self) -> Digests:
        """Computes or remembers the content hash of videos."""
        if self._memo is None:
            self._memo = DigestMemo()
        return self._memo

    def refresh(self) -> None:
        """Forget the listing: entries written or removed since are seen again."""
        self._listings.clear()

    def models(self) -> list[ModelDir]:
        """Models that have an entry here, sorted by name."""
        found = [parse_model_dir_name(name) for name in self._index.model_dirs()]
        return [model for model in found if model is not None and self._listing(model.name)]

    def model(self, model: str | None = None) -> ModelDir:
        """The one model that `model` names: "ViT-B/32", "ViT-B-32", a folder's name, or None if there is only one.

        Raises:
            NotCachedError: if no entry was made with it.
            UsageError: if several fit.
        """
        models = self.models()
        fitting = [one for one in models if model is None or one.matches(model)]
        if not fitting:
            known = _names(models) or "no entries at all"
            raise NotCachedError(
                f"The cache {quoted(self.directory)} holds {known}, so nothing of {model or 'any model'}",
                f"make an entry with: clipcache extract VIDEO --cache {shlex.quote(str(self.directory))}",
            )
        if len(fitting) > 1:
            raise UsageError(f"The cache {quoted(self.directory)} holds {_names(fitting)}", "choose one with --model")
        return fitting[0]

    def entries(self, model: str | None = None) -> list[Entry]:
        """Every entry, or those of the models that `model` names, sorted by name; none is opened."""
        return [Entry(path) for path in self._paths(model)]

    def iter_entries(self, on_bad: OnBad, model: str | None = None) -> Iterator[Entry]:
        """Every entry that can be opened; `on_bad` is called with each that cannot, and the iteration goes on.

        Each is kept open until the next one is asked for.
        """
        paths = self._paths(model)
        for path in counted(paths, "Reading", len(paths)):
            with contextlib.ExitStack() as stack:
                entry = Entry(path)
                try:
                    stack.enter_context(entry.kept_open())
                except EntryError as error:
                    on_bad(path, error)
                else:
                    yield entry

    def get(self, video: StrPath, model: str | None = None) -> Entry:
        """The entry of a video, image or image folder, found by its content: its name and folder do not matter.

        Of several with different sampling, the one with most frames.

        Raises:
            NotCachedError: if it has none.
            UsageError: if `video` cannot be read, or `model` is None and the cache holds several.
        """
        chosen = self.model(model)
        sha256 = content_sha256(video, self.memo)
        found = self._held(chosen.name, sha256)
        if not found:
            raise NotCachedError(
                f"{quoted(video)} has no entry of {chosen.slug} in the cache",
                f"make it with: clipcache extract "
                f"{shlex.quote(os.fspath(video))} --cache {shlex.quote(str(self.directory))} --model {chosen.slug}",
            )
        return Entry(found[0][0])

    def find(
        self, model_dir: str, sha256: str, sampling: Sampling | None = None, *, fresh: bool = False
    ) -> Path | None:
        """Path of an entry that holds at least the frames of `sampling` (default: every frame); None if none does.

        Only names are compared, no file is opened. Of several, the one with the fewest frames that suffices.

        Args:
            model_dir: name of the model's folder.
            sha256: of the video's content.
            sampling: the frames asked for.
            fresh: list the video's folder again, as another run may have written to it since.
        """
        wanted = sampling or Sampling()
        if fresh:
            self._relist(model_dir, sha256)
        fitting = [path for path, held in self._held(model_dir, sha256) if held.covers(wanted)]
        return fitting[-1] if fitting else None

    def to_dataset(
        self,
        window: int,
        stride: int | None = None,
        *,
        fps: float | None = None,
        transform: Callable[[Any], Any] | None = None,
        model: str | None = None,
    ) -> ClipDataset:
        """A `torch.utils.data.Dataset` of clips: windows of consecutive frames, each a `dataset.Clip`.

        Args:
            window: frames of a clip.
            stride: frames from the start of one clip to the next; the window by default.
            fps: frames a second to take of each video; None for all.
            transform: makes an item of a clip, such as a pair of features and label.
            model: of the entries; None for the cache's only one.

        Raises:
            NotCachedError: if the cache has no entry of the model.
            UsageError: if several models fit, a number is below 1, or an entry holds other frames than asked for.
            EntryError: if an entry is bad.
        """
        from .dataset import ClipDataset

        entries = self.entries(self.model(model).name)
        return ClipDataset(entries, window, window if stride is None else stride, fps, transform)

    def frames(self, model: str | None = None) -> tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.int64]]:
        """All features of one model in one array, and where each entry of `entries(model)` begins.

        Returns:
            (total, D) features, mapped and not read where the cache is a packed file; (V + 1,) int64 offsets.

        Raises:
            NotCachedError: if the cache has no entry of the model.
            UsageError: if several models fit.
            EntryError: if an entry is bad.
        """
        from .format.packed import feature_memmap, video_offsets

        chosen = self.model(model).name
        if isinstance(self._index, PackedIndex):
            return feature_memmap(self.directory), video_offsets(self.directory)
        parts = [entry.features for entry in self.entries(chosen)]
        return np.concatenate(parts), np.cumsum([0, *map(len, parts)], dtype=np.int64)

    def to_dataframe(self, model: str | None = None) -> DataFrame:
        """A `pandas.DataFrame` with one row a frame: video, position, time, and quality where it was measured.

        Columns: `video_name`, `video_sha256`, `frame_index`, `timestamp_ms`, and one per measure. The rows are those of
        `frames`, which gives the features.

        Raises:
            NotCachedError: if the cache has no entry of the model.
            UsageError: if several models fit, or pandas is not installed.
            EntryError: if an entry is bad.
        """
        from .tables import frame_table

        return frame_table(self.entries(self.model(model).name))

    def files(self) -> list[Path]:
        """Every .h5 file in a folder of entries, whatever its name, sorted."""
        return self._index.files()

    def _paths(self, model: str | None = None) -> list[Path]:
        """Every entry, or those of the models that `model` names, sorted by name."""
        models = [one for one in self.models() if model is None or one.matches(model)]
        paths = [path for one in models for found in self._listing(one.name).values() for path, _ in found]
        return sorted(paths, key=lambda path: (natural_key(path.name), path))

    def _held(self, model_dir: str, sha256: str) -> list[tuple[Path, Sampling]]:
        """Entries of one video, most frames first; the same order on every machine."""
        found = self._listing(model_dir).get(sha256[:16], [])
        return [(path, name.sampling) for path, name in sorted(found, key=lambda one: _fullest_first(*one))]

    def _relist(self, model_dir: str, sha256: str) -> None:
        """List one video's entries again; with a library of many entries, no more than the one folder is looked at."""
        fresh: Listing = {}
        self._index.list_shard(model_dir, sha256[:2], fresh)
        listing = self._listing(model_dir)
        listing.pop(sha256[:16], None)
        listing.update(fresh)

    def _listing(self, model_dir: str) -> Listing:
        """Names in the folder of one model, by the first 16 digits of the video's hash."""
        if model_dir not in self._listings:
            self._listings[model_dir] = self._index.listing(model_dir)
        return self._listings[model_dir]


def open_target(target: StrPath, cache_dir: StrPath, model: str | None = None) -> Entry:
    """The entry that `target` names: by its own path, which ends in .h5, or by a video that is in the cache.

    Raises:
        CacheError: if there is no such cache, or it has no entry of the video.
        UsageError: if `target` cannot be read, or `model` is None and the cache holds several.
    """
    return Entry(target) if Path(target).suffix == ENTRY_SUFFIX else FeatureCache(cache_dir).get(target, model)


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


def _names(models: list[ModelDir]) -> str:
    return ", ".join(model.name for model in models)
