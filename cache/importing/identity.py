"""Which video imported features belong to: its file if that is found, else a hash of the features replaces its hash."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from ..common.errors import ContentError
from ..common.hashing import Digests
from ..common.media_types import VIDEO_SUFFIXES
from ..common.paths import StrPath, is_file, is_folder
from ..common.quoting import quoted
from ..format.schema import EntryAttributes
from .provenance import Provenance

UNSEEN = "unseen"
_WITH_HASH = re.compile(r"(?P<stem>.+)-(?P<digits>[0-9a-f]{8}|[0-9a-f]{16})", re.DOTALL)


@dataclass(frozen=True)
class Identity:
    """The video of imported features.

    Attributes:
        name: file name with its suffix, or the name that the features had.
        sha256: of the video's content; of the features where the video was not seen.
        video_bytes: size of the file; 0 where it was not seen.
        path: of the file; None where it is not here.
    """

    name: str
    sha256: str
    video_bytes: int
    path: Path | None = None

    @property
    def is_seen(self) -> bool:
        """Whether the video is known: found, or named by the hash of its content."""
        return self.video_bytes > 0


class Videos:
    """Finds the video of a name: among those given, else beside the features."""

    def __init__(self, given: Iterable[StrPath], digests: Digests) -> None:
        """List `given`, files and folders of videos at any depth; nothing is opened."""
        self._digests = digests
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        for path in map(Path, given):
            for video in sorted(path.rglob("*")) if is_folder(path) else [path]:
                if video.suffix.lower() in VIDEO_SUFFIXES:
                    self._by_stem[video.stem].append(video)

    def identify(self, name: str, path: Path, features: npt.NDArray[Any], known: Provenance | None = None) -> Identity:
        """Return which video the features of `name` in the file `path` belong to: that of the export, if it says one.

        Raises:
            ContentError: if several videos have that name.
            UsageError: if the video cannot be read.
        """
        stem = PurePosixPath(name).name
        videos = _in_like_folders(self._by_stem.get(stem, []), name, path) or self._by_hash(stem)
        videos = videos or _beside(path, stem)
        if known is not None:
            return self._as_exported(known.attributes, dict.fromkeys([*videos, *self._by_stem.get(stem, [])]))
        if len(videos) > 1:
            raise ContentError(
                f"{quoted(path)} may belong to {quoted(videos[0])} or to {quoted(videos[1])}",
                "name the right one by --videos",
            )
        if videos:
            (video,) = videos
            return Identity(video.name, self._digests.sha256(video), video.stat().st_size, video)
        return Identity(stem or "video", stand_in_sha256(features), 0)

    def _as_exported(self, said: EntryAttributes, videos: Iterable[Path]) -> Identity:
        """The video of an export; of the files of its name only one of the same content is it."""
        path = next((video for video in videos if self._digests.sha256(video) == said.video_sha256), None)
        return Identity(path.name if path else said.video_name, said.video_sha256, said.video_bytes, path)

    def _by_hash(self, stem: str) -> list[Path]:
        """The video of "beach-0123456789abcdef": exports add 8 or 16 digits to equal names."""
        match = _WITH_HASH.fullmatch(stem)
        videos = self._by_stem.get(match["stem"], []) if match else []
        return [video for video in videos if match and self._digests.sha256(video).startswith(match["digits"])][:1]


def _beside(path: Path, stem: str) -> list[Path]:
    """The videos in the folder of a file that have the name `stem`."""
    paths = [path.with_name(stem + suffix) for suffix in sorted(VIDEO_SUFFIXES)]
    return [video for video in paths if is_file(video)]


def _in_like_folders(videos: list[Path], name: str, path: Path) -> list[Path]:
    """Of several videos those whose folders have the same names as the features': exports keep folders."""
    folders = PurePosixPath(name).parent.parts or path.parent.parts
    alike = [_common_end(video.parent.parts, folders) for video in videos]
    return [video for video, parts in zip(videos, alike, strict=True) if parts == max(alike)]


def _common_end(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    """How many parts two folders have in common, from the last one on."""
    return len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], zip(reversed(a), reversed(b), strict=False))))


def stand_in_sha256(features: npt.NDArray[Any]) -> str:
    """A hash that replaces the video's: of the features (N, D), so that the same ones are imported once.

    It is that of "clipcache imported features", a zero byte, the shape as in "(355, 512)", a zero byte, the type as in
    "<f2", a zero byte, and the values in C order, little-endian.
    """
    little = np.ascontiguousarray(features, dtype=features.dtype.newbyteorder("<"))
    digest = hashlib.sha256(b"clipcache imported features\0")
    digest.update(f"{features.shape}\0{little.dtype.str}\0".encode())
    digest.update(little.data)
    return digest.hexdigest()
