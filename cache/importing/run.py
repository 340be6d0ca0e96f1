"""An import: each file is read by its rule; each video in it is checked, identified, and written if it is new."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..common.atomic import remove_stale_temporaries
from ..common.errors import ClipcacheError, ContentError, UsageError
from ..common.hashing import Digests
from ..common.paths import StrPath, is_file
from ..common.quoting import quoted
from ..entry import Entry
from ..format.checks import attribute_problem
from ..format.names import ENTRY_SUFFIX, entry_folder, model_dir_name
from ..format.write import entries_of, write_entry
from ..select import OnSkip
from .entry_of import Contents, Model, Timing, build, checked_features
from .formats import Found, Rule
from .identity import Videos


@dataclass
class Summary:
    """How an import went.

    Attributes:
        imported: videos that became entries.
        unseen: those of them whose video was not found.
        present: videos whose entry holds the same features already.
        failed: videos, or whole files, that could not be imported.
        frames: frames imported.
    """

    imported: int = 0
    unseen: int = 0
    present: int = 0
    failed: int = 0
    frames: int = 0

    def as_text(self, cache_dir: StrPath, model: Model) -> str:
        """The summary as one line of text."""
        unseen = f", {self.unseen} without their video" if self.unseen else ""
        folder = Path(cache_dir) / model_dir_name(model.name, model.weights_sha256)
        return (
            f"{self.imported} videos imported{unseen} ({self.frames} frames), {self.present} already there, "
            f"{self.failed} failed: {folder}"
        )


@dataclass
class Import:
    """One import; `run` does it.

    Attributes:
        cache_dir: the cache to write to; created if it does not exist.
        model: that made the features.
        timing: times of the rows, for files that do not hold them.
        videos: files, and folders to search for the videos.
        digests: computes or remembers the content hash of videos.
        on_skip: called with each file that cannot be imported, or holds a video that cannot, and why.
        on_done: called with how many more files are done, for a progress bar.
    """

    cache_dir: StrPath
    model: Model
    timing: Timing
    videos: Sequence[StrPath]
    digests: Digests
    on_skip: OnSkip
    on_done: Callable[[int], object] = lambda _: None
    summary: Summary = field(default_factory=Summary)

    def run(self, files: Sequence[tuple[Path, Rule]]) -> Summary:
        """Import what is in some files, as `find_files` returns them.

        Raises:
            UsageError: if the cache is a packed library.
            CacheError: if the cache cannot be written.
        """
        if is_file(self.cache_dir):
            raise UsageError(
                f"{quoted(self.cache_dir)} is a file, to which nothing can be added",
                f"name a folder with --cache, or "
                f"unpack the library: clipcache cache unpack {quoted(self.cache_dir)} --into DIR",
            )
        self._learn_embed_dim()
        videos = Videos(self.videos, self.digests)
        remove_stale_temporaries(Path(self.cache_dir))
        for path, rule in files:
            try:
                for found in rule.load()(path):
                    self._import(found, rule, videos)
            except ContentError as error:  # of the whole file; what was imported from it before is kept
                self._fail(path, error)
            self.on_done(1)
        return self.summary

    def _import(self, found: Found, rule: Rule, videos: Videos) -> None:
        try:
            features = checked_features(found, self.model)
            identity = videos.identify(found.name, found.path, features)
            contents = build(found, features, identity, self.model, self.timing, rule.name)
            if problem := attribute_problem(contents.attributes):
                raise ContentError(
                    f"{quoted(found.path)} cannot be imported: {found.name!r} has {problem}", "correct it"
                )
            if self._is_present(contents, found):
                self.summary.present += 1
                return
            write_entry(
                self.cache_dir, contents.attributes, contents.features, contents.timestamps_ms, contents.frame_index
            )
        except (ContentError, UsageError) as error:
            self._fail(found.path, error)
            return
        self.model = replace(self.model, embed_dim=features.shape[1])
        self.summary.imported += 1
        self.summary.unseen += not identity.is_seen
        self.summary.frames += len(contents.features)

    @property
    def _model_dir(self) -> str:
        return model_dir_name(self.model.name, self.model.weights_sha256)

    def _learn_embed_dim(self) -> None:
        """Take the length of the features from the model's entries, if there are any and the model does not say."""
        folder = Path(self.cache_dir) / self._model_dir
        for path in sorted(folder.glob(f"??/*{ENTRY_SUFFIX}")) if self.model.embed_dim is None else ():
            with contextlib.suppress(ClipcacheError):
                self.model = replace(self.model, embed_dim=Entry(path).attributes.embed_dim)
                return

    def _is_present(self, contents: Contents, found: Found) -> bool:
        """Whether the video's entry holds exactly these features.

        Raises:
            ContentError: if the video has an entry with others, which an import never replaces.
        """
        sha256 = contents.attributes.video_sha256
        entries = [path for path, _ in entries_of(entry_folder(Path(self.cache_dir), self._model_dir, sha256), sha256)]
        for path in entries:
            if not _holds(Entry(path), contents):
                raise ContentError(
                    f"{quoted(found.path)} holds other features of {found.name!r} than the entry {quoted(path)}",
                    "remove that first, or import to another --cache",
                )
        return bool(entries)

    def _fail(self, path: Path, error: ClipcacheError) -> None:
        self.summary.failed += 1
        self.on_skip(path, error)


def _holds(entry: Entry, contents: Contents) -> bool:
    """Whether the entry has these features, times and positions, bit for bit; False if it cannot be read."""
    with contextlib.suppress(ClipcacheError):
        return (
            entry.sampling == contents.attributes.sampling
            and entry.video_sha256 == contents.attributes.video_sha256
            and np.array_equal(entry.features, contents.features)
            and np.array_equal(entry.timestamps_ms, contents.timestamps_ms)
            and np.array_equal(entry.frame_index, contents.frame_index)
        )
    return False
