"""What the user points at becomes a list of items: videos, single images, image folders."""

from __future__ import annotations

import csv
import glob
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..cache.digest import IMAGE_SUFFIXES, Digests, content_sha256, image_files, natural_key
from ..cache.errors import ClipcacheError, UsageError
from .container import ascii_safe

VIDEO_SUFFIXES = frozenset(
    "." + suffix
    for suffix in (
        *("3g2", "3gp", "asf", "avi", "divx", "dv", "f4v", "flv", "gif", "h264", "hevc", "ivf", "m1v", "m2ts", "m2v"),
        *("m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "mts", "mxf", "nut", "obu", "ogm", "ogv", "rm", "rmvb", "ts"),
        *("vob", "webm", "wmv", "wtv", "y4m"),
    )
)
_SNIFF_BYTES = 1024
# Matroska, FLV, Ogg, MPEG-PS, MPEG-1/2, GIF, IVF, ASF.
_SIGNATURES = (
    b"\x1aE\xdf\xa3",
    b"FLV\x01",
    b"OggS",
    b"\0\0\x01\xba",
    b"\0\0\x01\xb3",
    b"GIF8",
    b"DKIF",
    b"0&\xb2u\x8ef\xcf",
)


@dataclass(frozen=True)
class Item:
    """One thing to encode, and one entry of the cache.

    Attributes:
        path: The video, the image, or the folder of images.
        kind: "video", "image" or "image-folder".
        images: The pictures of an image item in natural order; empty for a video.
    """

    path: Path
    kind: str
    images: tuple[Path, ...] = ()


@dataclass(frozen=True)
class HashedItem:
    """An item whose content is known.

    Attributes:
        item: What it is.
        sha256: Of the content; see `cache.digest.content_sha256`. Empty where the item could not be read.
        size: Bytes on disk.
        problem: Why it could not be read; None where it could.
    """

    item: Item
    sha256: str
    size: int
    problem: ClipcacheError | None = None


def find_items(inputs: Sequence[str | os.PathLike[str]], list_file: Path | None = None) -> list[Item]:
    """Expand files, folders, globs and a list file into items, each path once, in the order given.

    A folder is searched recursively: every video in it is an item, and so is each folder that holds images and no
    video.

    Raises:
        UsageError: Nothing was named, nothing was found, or the list file cannot be read.
    """
    names = [os.fspath(name) for name in inputs] + (_read_list(list_file) if list_file else [])
    if not names:
        raise UsageError("Name at least one video, folder, image or glob, or a list of them with --list FILE.")
    items = {os.path.realpath(item.path): item for name in names for item in _expand(name)}
    if not items:
        what = ", ".join(ascii_safe(name) for name in names[:3])
        raise UsageError(f"No video and no image in {what}; check the path, or name the files one by one.")
    return list(items.values())


def _expand(name: str) -> Iterator[Item]:
    path = Path(name)
    if path.is_dir():
        yield from _search(path)
    elif not os.path.lexists(path) and glob.has_magic(name):
        for match in sorted(glob.glob(name, recursive=True), key=natural_key):  # noqa: PTH207  patterns may be absolute
            if not Path(match).is_dir():
                yield _single(Path(match))
    else:
        yield _single(path)  # missing files too: they are reported with the others' failures


def _single(path: Path) -> Item:
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return Item(path, "image", (path,))
    return Item(path, "video")


def _search(top: Path) -> Iterator[Item]:
    """Videos and image folders below `top`; what cannot be listed becomes an item whose failure is reported."""
    unreadable: list[OSError] = []
    for folder, below, names in os.walk(top, onerror=unreadable.append):
        below.sort(key=natural_key)
        here = Path(folder)
        videos = [here / name for name in sorted(names, key=natural_key) if is_video(here / name)]
        yield from (Item(path, "video") for path in videos)
        images = () if videos else tuple(image_files(here))
        if images:
            yield Item(here, "image-folder", images)
    yield from (Item(Path(os.fsdecode(error.filename)), "video") for error in unreadable)


def is_video(path: Path) -> bool:
    """Whether a file found in a folder is meant as a video: by its suffix, and without one by its first bytes."""
    if path.name.startswith("."):
        return False
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return suffix != ".ts" or not _is_text(path)
    return suffix not in IMAGE_SUFFIXES and _looks_like_video(_first_bytes(path))


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_SNIFF_BYTES)
    except OSError:
        return b""


def _is_text(path: Path) -> bool:
    """TypeScript sources share the suffix of MPEG transport streams."""
    return b"\0" not in _first_bytes(path)


def _looks_like_video(head: bytes) -> bool:
    """Signatures of the containers that hold videos; see the formats' own specifications."""
    return (
        head[4:8] in (b"ftyp", b"moov", b"mdat")
        or head.startswith(_SIGNATURES)
        or (head.startswith(b"RIFF") and head[8:12] == b"AVI ")
        or (len(head) > 376 and head[0] == head[188] == head[376] == 0x47)
    )


def _read_list(list_file: Path) -> list[str]:
    """Paths from a text file (one a line) or a CSV with a `path` column; relative ones may lie beside the list."""
    try:
        text = list_file.read_bytes().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise UsageError(f"Cannot read the list {ascii_safe(str(list_file))}: {error.strerror}.") from error
    lines = text.splitlines()
    header = next(csv.reader(lines[:1]), [])
    if list_file.suffix.lower() == ".csv" or "path" in header:
        if "path" not in header:
            raise UsageError(f"The CSV {ascii_safe(str(list_file))} has no column named path; its columns: {header}.")
        names: Iterable[str] = (row["path"] or "" for row in csv.DictReader(lines))
    else:
        names = lines
    return [_beside(list_file, name.strip()) for name in names if name.strip()]


def _beside(list_file: Path, name: str) -> str:
    relative = list_file.parent / name
    return str(relative) if not os.path.lexists(name) and os.path.lexists(relative) else name


def hash_items(items: Iterable[Item], digests: Digests, on_bytes: Callable[[int], None]) -> Iterator[HashedItem]:
    """Hash the content of each item; `on_bytes` hears of each item's size when it is through."""
    for item in items:
        try:
            size = sum(path.stat().st_size for path in item.images or (item.path,))
            hashed = HashedItem(item, content_sha256(item.path, digests), size)
        except ClipcacheError as error:
            hashed = HashedItem(item, "", 0, error)
        except OSError as error:
            reason = UsageError(f"Cannot read {ascii_safe(str(item.path))}: {error.strerror}; check the path.")
            hashed = HashedItem(item, "", 0, reason)
        on_bytes(hashed.size)
        yield hashed
