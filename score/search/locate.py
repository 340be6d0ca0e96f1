"""Find the file of a cached video by its content: an entry does not hold its path."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from ...cache import DigestMemo
from ...cache.common.errors import UsageError
from ...cache.common.hashing import content_sha256, image_files
from ...cache.common.media_types import is_image, is_video
from ...cache.common.quoting import quoted
from ..read_files import StrPath
from .scan import Source


class SourceFinder:
    """Finds the file (or image folder) of a source by its content.

    Args:
        memo: knows the paths at which a content was hashed.
        root: folder to search as well, at any depth; only files of the right size are hashed.
        on_missing: called once for each source that is not found.

    Raises:
        UsageError: the root is not a folder.
    """

    def __init__(self, memo: DigestMemo, root: StrPath | None, on_missing: Callable[[UsageError], None]) -> None:
        if root is not None and not os.path.isdir(root):  # noqa: PTH112 - Path.is_dir raises for a name too long
            raise UsageError(f"There is no folder {quoted(root)} to search", "check --video-root")
        self._memo = memo
        self._root = None if root is None else Path(root)
        self._on_missing = on_missing
        self._known: dict[str, Path | None] = {}
        self._listed: list[tuple[Path, int]] | None = None

    def find(self, source: Source) -> Path | None:
        """Return the path of a source, or None if it is not found."""
        if source.sha256 not in self._known:
            self._known[source.sha256] = found = self._search(source)
            if found is None:
                where = "at a known path" if self._root is None else f"below {quoted(self._root)}"
                advice = "give the folder that holds it by --video-root DIR"
                self._on_missing(UsageError(f"The file of {source.name!r} is not {where}", advice))
        return self._known[source.sha256]

    def _search(self, source: Source) -> Path | None:
        """Look at the last known paths, then below the root."""
        for path in self._memo.paths_of(source.sha256):
            return path
        fitting = (path for path, size in self._candidates() if size == source.bytes)
        return next((path for path in fitting if self._holds(path, source.sha256)), None)

    def _holds(self, path: Path, sha256: str) -> bool:
        """Tell whether a file has this content; one that cannot be read does not."""
        try:
            return content_sha256(path, self._memo) == sha256
        except UsageError:
            return False

    def _candidates(self) -> list[tuple[Path, int]]:
        """Return the videos, images and image folders below the root with their sizes in bytes."""
        if self._listed is None:
            self._listed = [] if self._root is None else list(_list(self._root))
        return self._listed


def _list(root: Path) -> Iterator[tuple[Path, int]]:
    """List the files and folders that an entry can be made from."""
    for folder, _, names in os.walk(root):
        here = Path(folder)
        for name in sorted(names):
            path = here / name
            if path.is_file() and (is_image(path) or is_video(path)):
                yield path, path.stat().st_size
        images = image_files(here)
        if images:
            yield here, sum(image.stat().st_size for image in images)
