"""Several caches into one, and entries whose videos are gone out of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .common.atomic import remove_file
from .common.errors import CacheError, EntryError, UsageError
from .common.hashing import DigestMemo, content_sha256, image_files
from .common.media_types import is_image, is_video
from .common.quoting import quoted
from .entry import Entry
from .format.sampling import Sampling
from .format.write import write_entry
from .store import FeatureCache

OnBad = Callable[[Path, EntryError], None]


@dataclass
class Merged:
    """How a merge went, in entries."""

    written: int = 0
    kept: int = 0  # the target has it, as full or fuller


def merge(sources: Sequence[FeatureCache], into: Path, on_bad: OnBad) -> Merged:
    """Copy every entry of the sources that the target lacks, or has less of; the same content and weights once.

    An entry is fuller than another of the same frames asked for if it is complete, holds more frames, or as many with
    more measures of quality.

    Args:
        sources: Cache folders or packed files.
        into: A cache folder, made if need be.
        on_bad: Told of each entry that cannot be read, and why; it is left out.

    Raises:
        UsageError: The target is a file.
        CacheError: An entry cannot be written.
    """
    if into.is_file():
        raise UsageError(f"{into} is a file", "merge into a folder, and pack that")
    _make_folder(into)
    target, merged = FeatureCache(into), Merged()
    for source in sources:
        for entry in source.iter_entries(on_bad):
            if _has_as_much(target, entry):
                merged.kept += 1
                continue
            try:
                arrays = (entry.features, entry.timestamps_ms, entry.frame_index, entry.frame_names, entry.quality)
            except EntryError as error:
                on_bad(entry.path, error)
                continue
            write_entry(into, entry.attributes, *arrays)
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
    sampling = Sampling.parse(entry.sampling)
    path = target.find(entry.model_dir, entry.video_sha256, sampling, fresh=True)
    if path is None:
        return False
    try:
        held = Entry(path)
        if held.sampling != entry.sampling:
            return held.complete or not entry.complete
        return _fullness(held) >= _fullness(entry)
    except EntryError:
        return False  # a bad entry is worth less than any good one


def _fullness(entry: Entry) -> tuple[bool, int, int]:
    with entry.opened() as opened:
        return entry.complete, entry.frames_decoded, len(opened.quality)


@dataclass(frozen=True)
class Gone:
    """An entry whose video is nowhere to be found."""

    path: Path
    video_name: str
    bytes: int  # of the entry's file


def find_gone(cache: FeatureCache, folders: Iterable[Path], on_bad: OnBad, model: str | None = None) -> list[Gone]:
    """Entries whose content is neither below the folders nor at any place where this machine has seen it.

    Imported entries, which may never have had a video, are not among them.

    Args:
        cache: A folder.
        folders: Where the videos, images and image folders are; all of them are hashed.
        on_bad: Told of each entry that cannot be read.
        model: Only entries of this model.

    Raises:
        UsageError: The cache is a packed file, a folder does not exist, or a file in it cannot be read.
    """
    if cache.directory.is_file():
        raise UsageError(
            f"{cache.directory} is a packed library, of which nothing is removed", "prune its folder, and pack"
        )
    memo = DigestMemo()
    present = {digest for folder in folders for digest in _digests(folder, memo)}
    gone = []
    for entry in cache.iter_entries(on_bad, model):
        known = entry.video_sha256 in present or memo.paths_of(entry.video_sha256)
        if not known and not entry.decoder.startswith("imported"):
            gone.append(Gone(entry.path, entry.video_name, entry.path.stat().st_size))
    return gone


def remove(gone: Iterable[Gone]) -> None:
    """Delete the entries.

    Raises:
        CacheError: One cannot be removed.
    """
    for one in gone:
        remove_file(one.path)


def _digests(folder: Path, memo: DigestMemo) -> Iterable[str]:
    if not folder.is_dir():
        raise UsageError(f"There is no folder {quoted(folder)}", "name one that holds the videos")
    files = [path for path in folder.rglob("[!.]*") if path.is_file()]
    pictures = [path for path in files if is_image(path)]
    for path in [*pictures, *(path for path in files if is_video(path))]:
        yield content_sha256(path, memo)
    for images in {path.parent for path in pictures}:
        if image_files(images):
            yield content_sha256(images, memo)
