"""An import: each file is read by its rule; each video in it is checked, identified, and written if it is new."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..common.atomic import remove_stale_temporaries
from ..common.errors import ClipcacheError, ContentError, MediaError, UsageError
from ..common.hashing import Digests
from ..common.paths import StrPath, is_file
from ..common.quoting import quoted
from ..entry import Entry
from ..format.checks import attribute_problem
from ..format.names import ENTRY_SUFFIX, canonical_model, entry_folder, model_dir_name
from ..format.write import entries_of, write_entry
from ..manifests import Manifests
from ..select import OnSkip
from .entry_of import Contents, Model, PublishedModel, build, checked_features, name_model
from .formats import Found, Rule
from .frames_of_video import ReadFrames, VideoFrames
from .identity import Identity, Videos
from .placing import Timing, place
from .provenance import Provenance, check_claims, check_rows, provenance_of

DEFAULT_LOGIT_SCALE = 100.0


@dataclass(frozen=True)
class Claim:
    """What the user says of the model that made the features; what an export says of itself must agree with it.

    Attributes:
        name: of the model, "ViT-B/32"; None if the files say it.
        weights_sha256: of its weights; None for those that the name means, or that the files say.
        logit_scale: factor from cosine to logit; None for what the files say, else 100.
        published: what is known of a model by its canonical name; None of any but OpenAI's and the bundled one.
    """

    name: str | None = None
    weights_sha256: str | None = None
    logit_scale: float | None = None
    published: Callable[[str], PublishedModel | None] = lambda _: None

    def model_of(self, known: Provenance | None) -> Model:
        """The model of an export, else the one that the user names.

        Raises:
            UsageError: if neither says it.
        """
        if known is not None:
            said = known.attributes
            return Model(said.model, said.weights_sha256, said.embed_dim, said.input_size, said.logit_scale)
        published = self.published(canonical_model(self.name)) if self.name and self.weights_sha256 is None else None
        scale = DEFAULT_LOGIT_SCALE if self.logit_scale is None else self.logit_scale
        return name_model(self.name, self.weights_sha256, published, scale)


@dataclass
class Summary:
    """How an import went.

    Attributes:
        imported: videos that became entries.
        unseen: those of them whose video was not found.
        present: videos whose entry holds the same features already.
        failed: videos, or whole files, that could not be imported.
        frames: frames imported.
        model_dirs: names of the folders of their models, in order.
        samplings: how many of them are the frames of which sampling, and how that is known, where the user did not say.
    """

    imported: int = 0
    unseen: int = 0
    present: int = 0
    failed: int = 0
    frames: int = 0
    model_dirs: dict[str, None] = field(default_factory=dict)
    samplings: Counter[tuple[str, str]] = field(default_factory=Counter)

    def as_text(self, cache_dir: StrPath) -> str:
        """The summary as one line of text."""
        unseen = f", {self.unseen} without their video" if self.unseen else ""
        folder = Path(cache_dir, *self.model_dirs) if len(self.model_dirs) == 1 else Path(cache_dir)
        return (
            f"{self.imported} videos imported{unseen} ({self.frames} frames), {self.present} already there, "
            f"{self.failed} failed: {folder}"
        )

    def inferred(self) -> list[str]:
        """A sentence for each sampling that was not said by the user and is not simply every frame."""
        return [
            f"Of {count} {'video' if count == 1 else 'videos'} the rows are taken for the frames of {sampling}, {how}."
            for (sampling, how), count in self.samplings.items()
            if sampling != "all"
        ]


@dataclass
class Import:
    """One import; `run` does it.

    Attributes:
        cache_dir: the cache to write to; created if it does not exist.
        claim: what the user says of the model.
        timing: times of the rows, for files that do not hold them.
        videos: files, and folders to search for the videos.
        digests: computes or remembers the content hash of videos.
        on_skip: called with each file that cannot be imported, or holds a video that cannot, and why.
        on_done: called with how many more files are done, for a progress bar.
        read_frames: demuxes a video, so that rows are compared with its frames; None: they are not.
        on_unread: called with each video that cannot be demuxed, and why; its features are imported nevertheless.
    """

    cache_dir: StrPath
    claim: Claim
    timing: Timing
    videos: Sequence[StrPath]
    digests: Digests
    on_skip: OnSkip
    on_done: Callable[[int], object] = lambda _: None
    read_frames: ReadFrames | None = None
    on_unread: OnSkip = lambda _, __: None
    summary: Summary = field(default_factory=Summary)
    _dims: dict[str, int | None] = field(default_factory=dict)  # length of the features by the model's folder

    def run(self, files: Sequence[tuple[Path, Rule]]) -> Summary:
        """Import what is in some files, as `find_files` returns them.

        Raises:
            UsageError: if the cache is a packed library, or neither the user nor a file says of which model it is.
            CacheError: if the cache cannot be written.
        """
        if is_file(self.cache_dir):
            raise UsageError(
                f"{quoted(self.cache_dir)} is a file, to which nothing can be added",
                f"name a folder with --cache, or "
                f"unpack the library: clipcache cache unpack {quoted(self.cache_dir)} --into DIR",
            )
        videos = Videos(self.videos, self.digests)
        manifests = Manifests(self.digests)
        remove_stale_temporaries(Path(self.cache_dir))
        for path, rule in files:
            try:
                for found in rule.load()(path):
                    self._import(found, rule, videos, manifests)
            except ContentError as error:  # of the whole file; what was imported from it before is kept
                self._fail(path, error)
            self.on_done(1)
        return self.summary

    def _import(self, found: Found, rule: Rule, videos: Videos, manifests: Manifests) -> None:
        try:
            found = replace(found, metadata=found.metadata or manifests.metadata(found.path, found.name))
            known = provenance_of(found)
            if known is not None:
                check_claims(found, known, self.claim.name, self.claim.weights_sha256, self.claim.logit_scale)
        except ContentError as error:
            self._fail(found.path, error)
            return
        model = self._with_dim(self.claim.model_of(known))
        try:
            self._write(found, rule, videos, known, model)
        except (ContentError, UsageError) as error:
            self._fail(found.path, error)

    def _write(self, found: Found, rule: Rule, videos: Videos, known: Provenance | None, model: Model) -> None:
        """Write the entry of some features, unless it is there.

        Raises:
            ContentError: if they are not valid, or contradict the video or an entry.
        """
        features = checked_features(found, model)
        count, dim = features.shape
        if known is not None:
            check_rows(found, known, count, dim)
        identity = videos.identify(found.name, found.path, features, known)
        frames = self._frames_of(identity, known, found)
        placed = place(found, count, self.timing, known, frames)
        contents = build(found, features, identity, model, placed, rule.name, known, frames)
        if problem := attribute_problem(contents.attributes):
            raise ContentError(f"{quoted(found.path)} cannot be imported: {found.name!r} has {problem}", "correct it")
        model_dir = model_dir_name(model.name, model.weights_sha256)
        self.summary.model_dirs[model_dir] = None
        if self._is_present(contents, found, model_dir):
            self.summary.present += 1
            return
        write_entry(self.cache_dir, **vars(contents))
        self._dims[model_dir] = dim
        self.summary.imported += 1
        self.summary.unseen += identity.path is None
        self.summary.frames += count
        if placed.source:
            self.summary.samplings[str(placed.sampling), placed.source] += 1

    def _frames_of(self, identity: Identity, known: Provenance | None, found: Found) -> VideoFrames | None:
        """The frames of the video, if it is here and can be read; of our own exports only if they lack something."""
        is_told = known is not None and found.timestamps_ms is not None and found.frame_index is not None
        is_video = known is None or known.attributes.source_kind == "video"
        if identity.path is None or self.read_frames is None or is_told or not is_video:
            return None
        try:
            return self.read_frames(identity.path)
        except MediaError as error:
            self.on_unread(identity.path, error)
            return None

    def _with_dim(self, model: Model) -> Model:
        """The model with the length of its features, from its entries if there are any and it does not say."""
        model_dir = model_dir_name(model.name, model.weights_sha256)
        if model.embed_dim is None and model_dir not in self._dims:
            self._dims[model_dir] = self._dim_in_cache(Path(self.cache_dir) / model_dir)
        return model if model.embed_dim is not None else replace(model, embed_dim=self._dims[model_dir])

    def _dim_in_cache(self, folder: Path) -> int | None:
        for path in sorted(folder.glob(f"??/*{ENTRY_SUFFIX}")):
            with contextlib.suppress(ClipcacheError):
                return Entry(path).attributes.embed_dim
        return None

    def _is_present(self, contents: Contents, found: Found, model_dir: str) -> bool:
        """Whether the video's entry holds exactly these features.

        Raises:
            ContentError: if the video has an entry with others, which an import never replaces.
        """
        sha256 = contents.attributes.video_sha256
        entries = [path for path, _ in entries_of(entry_folder(Path(self.cache_dir), model_dir, sha256), sha256)]
        for path in entries:
            if not _holds(Entry(path), contents):
                raise ContentError(
                    f"{quoted(found.path)} holds other features of {found.name!r} than the entry {quoted(path)}",
                    "import to another --cache, or move that out of the cache first",
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
