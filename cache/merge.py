"""Merge several caches into one; remove entries whose videos no longer exist."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .common.atomic import remove_file
from .common.errors import CacheError, EntryError, UncheckedEntryError, UsageError
from .common.hashing import DigestMemo, content_sha256, image_files
from .common.media_types import is_audio, is_image, is_video
from .common.paths import StrPath, is_file, is_folder
from .common.progress import counted
from .common.quoting import quoted
from .entry import Entry
from .format.sampling import Sampling
from .format.schema import IMPORTED_PREFIX, storable_text
from .format.write import copy_entry
from .store import FeatureCache, OnBad


@dataclass
class Merged:
    """How a merge went.

    Attributes:
        written: entries copied.
        kept: entries that the target has already, as good or better.
    """

    written: int = 0
    kept: int = 0


def merge(sources: Sequence[FeatureCache], into: StrPath, on_bad: OnBad) -> Merged:
    """Copy every entry of the sources that the target lacks, or has less of; each content and weights once.

    Of two entries with the same sampling the better one is kept: the complete one, else the one with more frames, else
    the one with more measures of quality, else the one that was not imported. Copies are of the current schema.

    Args:
        sources: cache folders or packed files.
        into: a cache folder, created if it does not exist.
        on_bad: called with each entry that cannot be read, and why; it is left out.

    Raises:
        UsageError: if the target is a file.
        CacheError: if an entry cannot be written.
    """
    if is_file(into):
        raise UsageError(f"{quoted(into)} is a file", "merge into a folder, and pack that")
    _make_folder(Path(into))
    target, merged = FeatureCache(into), Merged()
    for source in sources:
        for entry in source.iter_entries(on_bad):
            try:
                if _has_as_much(target, entry):
                    merged.kept += 1
                    continue
                with entry.opened() as opened:
                    copy_entry(into, opened, entry.path)
            except EntryError as error:
                on_bad(entry.path, error)
            else:
                merged.written += 1
    return merged


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CacheError(
            f"Cannot make the folder {quoted(folder)} ({error.strerror or error})", "choose another"
        ) from error


def _has_as_much(target: FeatureCache, entry: Entry) -> bool:
    """Whether the target's entry is as good.

    Raises:
        EntryError: if `entry` is bad, or nothing can be said of the target's.
    """
    sampling = Sampling.parse(entry.sampling)
    path = target.find(entry.model_dir, entry.video_sha256, sampling, fresh=True)
    if path is None:
        return False
    offered = _rank(entry)
    try:
        held = Entry(path)
        if held.sampling != entry.sampling:
            return held.complete or not entry.complete
        return _rank(held) >= offered
    except UncheckedEntryError:
        raise  # it may be as good
    except EntryError:
        return False  # a bad entry is worth less than any good one


def _rank(entry: Entry) -> tuple[bool, int, int, bool]:
    with entry.opened() as opened:
        is_imported = entry.decoder.startswith(IMPORTED_PREFIX)
        return entry.complete, entry.frames_decoded, len(opened.quality), not is_imported


@dataclass(frozen=True)
class Orphan:
    """An entry whose video was not found."""

    path: Path
    video_name: str
    bytes: int  # of the entry's file


def find_orphans(
    cache: FeatureCache, folders: Iterable[StrPath], on_bad: OnBad, model: str | None = None
) -> list[Orphan]:
    """Entries whose content is not below the folders, nor where it was encoded or where this machine hashed it before.

    Imported entries, which may never have had a video, are not among them.

    Args:
        cache: a folder.
        folders: where the videos, audio files, images and image folders are; all of them are hashed.
        on_bad: called with each entry that cannot be read.
        model: only entries of this model.

    Raises:
        UsageError: if the cache is a packed file, a folder does not exist, or a file in it cannot be read.
    """
    if is_file(cache.directory):
        raise UsageError(
            f"{quoted(cache.directory)} is a packed library, from which nothing is removed",
            "prune the folder that it was packed from, and pack that again",
        )
    memo = DigestMemo()
    present = {digest for folder in folders for digest in _digests(Path(folder), memo)}
    elsewhere = _Elsewhere(memo)
    orphans = []
    for entry in cache.iter_entries(on_bad, model):
        known = entry.video_sha256 in present or entry.decoder.startswith(IMPORTED_PREFIX)
        if not known and not elsewhere.has(entry):
            orphans.append(Orphan(entry.path, entry.video_name, entry.path.stat().st_size))
    return orphans


class _Elsewhere:
    """Finds the content of entries outside the folders given: at their own path, or where this machine hashed it."""

    def __init__(self, memo: DigestMemo) -> None:
        self._memo = memo

    def has(self, entry: Entry) -> bool:
        """Whether the content still exists somewhere."""
        if self._memo.paths_of(entry.video_sha256):
            return True
        places = [Path(entry.source_path)] if entry.source_path else []
        if entry.source_kind == "image-folder":  # whose images alone are in the memo
            places += self._folders.get(entry.video_name, ())
        return any(self._is_at(place, entry) for place in places)

    @cached_property
    def _folders(self) -> dict[str, set[Path]]:
        """Folders of all files that were hashed, by name."""
        folders: dict[str, set[Path]] = {}
        for folder in {path.parent for path in self._memo.paths()}:
            folders.setdefault(storable_text(folder.name), set()).add(folder)
        return folders

    def _is_at(self, place: Path, entry: Entry) -> bool:
        """Compares sizes first: a path of somebody else's cache must not make this machine hash anything large."""
        try:
            files = image_files(place) if is_folder(place) else [place] * is_file(place)
            size = sum(path.stat().st_size for path in files)
            return size == entry.video_bytes > 0 and content_sha256(place, self._memo) == entry.video_sha256
        except (UsageError, OSError):
            return False


def remove_orphans(orphans: Iterable[Orphan]) -> None:
    """Delete the entries.

    Raises:
        CacheError: if one cannot be removed.
    """
    for one in orphans:
        remove_file(one.path)


def _digests(folder: Path, memo: DigestMemo) -> Iterable[str]:
    if not folder.is_dir():
        raise UsageError(f"There is no folder {quoted(folder)}", "name one that holds the videos")
    files = [path for path in folder.rglob("[!.]*") if path.is_file()]
    pictures = [path for path in files if is_image(path)]
    media = [*pictures, *(path for path in files if is_video(path) or is_audio(path))]
    for path in counted(media, "Hashing", len(media), "files"):
        yield content_sha256(path, memo)
    for images in {path.parent for path in pictures}:
        if image_files(images):
            yield content_sha256(images, memo)
