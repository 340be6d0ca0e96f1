"""Find the inputs of a run: videos, single images, image folders, audio files."""

from __future__ import annotations

import csv
import glob
import io
import logging
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

from ..cache.common.errors import ClipcacheError, UsageError
from ..cache.common.hashing import Digests, content_sha256, image_files, natural_key
from ..cache.common.media_types import is_audio, is_image, is_video, still_format
from ..cache.common.messages import say
from ..cache.common.options import warn
from ..cache.common.quoting import quoted
from ..cache.common.reading import read_bounded
from ..cache.common.urls import word_without_credentials
from .cluster.shards import Shard
from .remote.sources import Source, find_sources, is_elsewhere

Stamp = tuple[int, int, int]  # size in bytes, modification time in ns, inode
_MAX_LIST_BYTES = 1 << 28  # a million paths


@dataclass(frozen=True)
class Item:
    """One input to encode, which becomes one entry of the cache.

    Attributes:
        path: the video, the image, the folder of images, or the audio file.
        kind: "video", "image", "image-folder" or "audio".
        images: the pictures of an image item in natural order; empty for the others.
        place: where it is in the library, by which its shard is chosen, with "/" between folders; see `find_items`.
        source: of an item that is not a file of this disk, whose path only looks like its name; None for the others.
    """

    path: Path
    kind: str
    images: tuple[Path, ...] = ()
    place: str = field(default="", compare=False)
    source: Source | None = None

    @property
    def name(self) -> str:
        """What is shown and stored: the path, or the URL without credentials."""
        return os.fspath(self.path) if self.source is None else self.source.name


@dataclass(frozen=True)
class HashedItem:
    """An item whose content is known.

    Attributes:
        item: the input.
        sha256: checksum of the content; see `cache.common.hashing.content_sha256`. Empty if it could not be read.
        size: bytes on disk.
        problem: why it could not be read; None where it could.
        stamps: size, modification time and inode of each file before it was hashed.
        copy: where an item from elsewhere lies on this disk; None if it does not, and for files of this disk.
    """

    item: Item
    sha256: str
    size: int
    problem: ClipcacheError | None = None
    stamps: tuple[Stamp, ...] = ()
    copy: Path | None = None

    @property
    def file(self) -> Path:
        """What is opened: the path, or the copy of an item from elsewhere."""
        return self.copy or self.item.path

    @property
    def is_elsewhere(self) -> bool:
        """Whether it must be fetched before it can be opened."""
        return self.item.source is not None and self.copy is None

    def has_changed(self, rows: Sequence[int] | None = None) -> bool:
        """Whether a file is no longer what was hashed: replaced, growing, or gone; of images, some `rows` only."""
        try:
            if rows is not None and self.item.images:
                return any(stamp_of(self.item.images[row]) != self.stamps[row] for row in rows)
            return tuple(map(stamp_of, self.item.images or (self.file,))) != self.stamps
        except (OSError, ClipcacheError):
            return True


def find_items(
    inputs: Sequence[str | os.PathLike[str]],
    list_file: str | os.PathLike[str] | None = None,
    *,
    sounds: bool = False,
    shard: Shard | None = None,
    on_left_out: Callable[[str], None] = warn,
) -> list[Item]:
    """Expand files, folders, globs and a list file into items, each path once, in the order given.

    A folder is searched recursively: every video in it is an item, and so is each folder that holds images and no
    video. Images beside videos, most of them posters and thumbnails, are items only if they are named. A tar is
    looked into if it is named or matches a pattern; see docs/cluster.md for these and for URLs.

    The place of an item, by which its shard is chosen, is its path relative to the folder that was named, so that it
    is the same wherever the library is mounted; where several inputs are named, the folder's name stands before it. The
    place of a file is its path as it is named, as the list has it, or as the glob gives it.

    Args:
        inputs: files, folders, globs, tars and URLs.
        list_file: a file with further paths.
        sounds: whether audio files, known by their suffix, are items too.
        shard: give the items of this one alone, which may be none, and say how many they are.
        on_left_out: called with one sentence on the images beside videos that are left out, if there are any.

    Raises:
        UsageError: if nothing was named, nothing was found, or the list file cannot be read.
    """
    if isinstance(inputs, str | os.PathLike):  # a str is a sequence too: of its letters
        one = word_without_credentials(os.fspath(inputs))
        raise UsageError(f"The inputs are one path, {quoted(one)}", "give a list of paths")
    named = [(os.fspath(name), os.fspath(name)) for name in inputs]
    named += _read_list(Path(list_file)) if list_file else []
    if not named:
        raise UsageError("Name at least one video, folder, image or glob, or a list of them with --list FILE")
    if not all(name for name, _ in named):  # as a path it would mean the current folder
        raise UsageError("One of the inputs is an empty name", "check the variable or the script that it comes from")
    beside: dict[Path, Path] = {}
    found = (item for name, said in named for item in _expand(name, said, sounds, beside, alone=len(named) == 1))
    items = {_identity(item): item for item in found}
    if not items:
        what = ", ".join(quoted(word_without_credentials(name)) for name, _ in named[:3])
        nothing = "No video, no audio file and no image" if sounds else "No video and no image"
        raise UsageError(f"{nothing} in {what}", "check the path, or name the files one by one")
    left_out = [path for path in beside if os.path.realpath(path) not in items]
    if left_out:
        on_left_out(_left_out(left_out, beside[left_out[0]]))
    kept = [item for item in items.values() if shard is None or shard.contains(item.place)]
    if shard is not None:
        say(f"shard {shard}: {len(kept):,} of {len(items):,} items", logging.INFO)
    return [item if item.kind else _looked_at(item, sounds) for item in kept]


def _identity(item: Item) -> str:
    return os.path.realpath(item.path) if item.source is None else item.source.key


def _left_out(images: Sequence[Path], video: Path) -> str:
    """The sentence on images of folders that hold videos too, the first of them beside `video`."""
    first = images[0]
    what = f"image {quoted(first)} is" if len(images) == 1 else f"{len(images)} images, such as {quoted(first)}, are"
    named = quoted(first if len(images) == 1 else first.parent / f"*{first.suffix}")
    return f"The {what} left out, beside videos such as {quoted(video.name)}; name them to extract them too: {named}."


def _expand(name: str, said: str, sounds: bool, beside: dict[Path, Path], *, alone: bool) -> Iterator[Item]:
    """Items of one input, which the user spelled as `said`; files that are named have no kind yet."""
    path = Path(name)
    if is_elsewhere(name):
        yield from _elsewhere(name, said, sounds)
    elif os.path.isdir(name):  # noqa: PTH112  Path.is_dir raises for a name that is too long
        before = "" if alone else os.path.basename(os.path.abspath(name))  # noqa: PTH100, PTH119  of ".", too
        for item in _search(path, sounds, beside):
            yield replace(item, place=PurePath(before, item.path.relative_to(path)).as_posix())
    elif not os.path.lexists(path) and glob.has_magic(name):
        for match in sorted(glob.glob(name, recursive=True), key=natural_key):  # noqa: PTH207  patterns may be absolute
            if is_elsewhere(match):
                yield from _elsewhere(match, match, sounds)
            elif not os.path.isdir(match):  # noqa: PTH112
                yield Item(Path(match), "", place=PurePath(match).as_posix())
    else:
        # Missing files too: they are reported with the others' failures.
        yield Item(path, "", place=PurePath(said).as_posix())


def _elsewhere(name: str, said: str, sounds: bool) -> Iterator[Item]:
    for source in find_sources(name, said, sounds=sounds):
        yield Item(Path(source.name), source.kind, place=source.relative, source=source)


def _looked_at(item: Item, sounds: bool) -> Item:
    """A file that was named, with its kind; it is opened for that."""
    path = item.path
    if is_image(path) or still_format(path):
        return replace(item, kind="image", images=(path,))
    return replace(item, kind="audio" if sounds and is_audio(path) else "video")


def _search(top: Path, sounds: bool, beside: dict[Path, Path]) -> Iterator[Item]:
    """Videos, audio files if `sounds`, and image folders below `top`; to `beside`, images with a video beside each.

    What cannot be listed becomes an item whose failure is reported.
    """
    unreadable: list[OSError] = []
    for folder, below, names in os.walk(top, onerror=unreadable.append):
        below.sort(key=natural_key)
        here = Path(folder)
        files = [here / name for name in sorted(names, key=natural_key)]
        videos = [path for path in files if not (sounds and is_audio(path)) and is_video(path)]
        yield from (Item(path, "video") for path in videos)
        yield from (Item(path, "audio") for path in files if sounds and is_audio(path))
        images = tuple(image_files(here))
        if videos:
            beside.update(dict.fromkeys(images, videos[0]))
        elif images:
            yield Item(here, "image-folder", images)
    yield from (Item(Path(os.fsdecode(error.filename)), "video") for error in unreadable)


def _read_list(list_file: Path) -> list[tuple[str, str]]:
    """Paths from a text file (one a line) or a CSV with a `path` column, each with its spelling in the list.

    Relative ones may lie beside the list.
    """
    try:
        text = read_bounded(list_file, _MAX_LIST_BYTES, dash_is_stdin=True).decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise UsageError(f"Cannot read the list {quoted(list_file)}: {error.strerror or error}") from error
    if "\0" in text:
        raise UsageError(f"The list {quoted(list_file)} is not text", "give a file with one path a line, or a CSV")
    # Not `splitlines`: it also parts names at characters such as U+2028, and takes the line breaks out of quoted ones.
    try:
        names = _listed_names(list_file, io.StringIO(text).readlines())
    except csv.Error as error:
        raise UsageError(f"The list {quoted(list_file)} is not a valid CSV file: {error}") from error
    return [(_beside(list_file, name), name.strip()) for name in names if name.strip()]


def _listed_names(list_file: Path, lines: list[str]) -> list[str]:
    header = next(csv.reader(lines[:1]), [])
    if list_file.suffix.lower() != ".csv" and "path" not in header:
        return [line.rstrip("\r\n") for line in lines]
    if "path" not in header:
        columns = [word_without_credentials(word) for word in header]  # it may be a line of URLs
        raise UsageError(f"The CSV {quoted(list_file)} has no column named path; its columns: {columns}")
    return [row["path"] or "" for row in csv.DictReader(lines)]


def _beside(list_file: Path, name: str) -> str:
    """The path that a line means: as it stands or without the blanks around it, from here or from beside the list."""
    for one in (name, name.strip()):
        for path in (one, str(list_file.parent / one)):
            if os.path.lexists(path):
                return path
    return name.strip()


def hash_item(item: Item, digests: Digests) -> HashedItem:
    """Hash the content of an item; one that cannot be read says why in `problem`."""
    try:
        stamps = _stamps(item)
        size = sum(size for size, _, _ in stamps)
        return HashedItem(item, content_sha256(item.path, digests), size, stamps=stamps)
    except ClipcacheError as error:
        return HashedItem(item, "", 0, error)
    except OSError as error:
        reason = UsageError(f"Cannot read {quoted(item.path)}: {error.strerror}", "check the path")
        return HashedItem(item, "", 0, reason)


def size_of(item: Item) -> int:
    """Bytes of an item; 0 if it cannot be read, or is not a file of this disk."""
    if item.source is not None:
        return 0  # its path only looks like its name, and may be none
    try:
        return sum(size for size, _, _ in _stamps(item))
    except (OSError, ClipcacheError):
        return 0


def _stamps(item: Item) -> tuple[Stamp, ...]:
    return tuple(map(stamp_of, item.images or (item.path,)))


def stamp_of(path: Path) -> Stamp:
    """What changes with a file's content; a folder that cannot be listed has one too, and says why when hashed."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        raise UsageError(f"{quoted(path)} is a pipe or a device, not a file", "name a file or a folder")
    return status.st_size, status.st_mtime_ns, status.st_ino
