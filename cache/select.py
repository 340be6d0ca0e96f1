"""Which cached entries a command is about: names of videos, images, folders and entries become entries.

Finding out opens no HDF5 file but the chosen ones: a video is hashed (memoised) and its hash looked up.
"""

from __future__ import annotations

import contextlib
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .common.errors import CacheError, ClipcacheError, NotCachedError, UsageError
from .common.hashing import Digests, content_sha256, image_files
from .common.media_types import VIDEO_SUFFIXES, is_audio, is_image, is_video
from .common.paths import StrPath, exists, is_file, is_folder
from .common.progress import counted
from .common.quoting import one_line, quoted
from .failure_log import NO_AUDIO, FailureLog
from .format.names import ENTRY_SUFFIX, is_clap, model_dir_name, parse_entry_name, parse_model_dir_name
from .format.packed import is_packed, packed_file_of
from .format.read import read_attributes_of
from .format.sampling import Sampling
from .format.schema import EntryAttributes
from .store import FeatureCache

OnSkip = Callable[[Path, ClipcacheError], None]
"""Called with each entry that cannot be used, and why."""
ExtractMissing = Callable[[Sequence[Path], str | None], None]
"""Called with targets to extract, and the model; None for the default one."""


@dataclass(frozen=True)
class _Item:
    """One of the things that a target stands for."""

    path: Path  # an entry, a video, an image or an image folder
    target: Path  # what the user named, which `clipcache extract` takes as well
    required: bool = True  # False: a file of unknown suffix among others, of interest only if it is cached

    @property
    def relative_path(self) -> Path:
        """Path of the item below what the user named; its name if the user named the item itself."""
        return Path(self.path.name) if self.path == self.target else self.path.relative_to(self.target)


@dataclass(frozen=True)
class Chosen:
    """An entry that opens. It is not held as an `Entry`: the frame times of a whole library would fill memory."""

    path: Path
    attributes: EntryAttributes
    model_dir: str  # name of its model's folder, "ViT-B-32-40d36571", even if the entry is in another folder
    relative_path: Path | None = None  # of its video below the folder that the user named; None if no video was named


class Selector:
    """Finds entries of one model in one cache directory.

    Args:
        directory: of the cache; it need not exist if only entries are selected.
        model: name of the model, or None for the only one there.
        memo: computes or remembers the content hash of videos.
        on_skip: called with each entry that cannot be read, and why; the others are chosen nevertheless.
        extract_missing: extracts targets of which something is not in the cache; None: that is an error.
    """

    def __init__(
        self,
        directory: StrPath,
        model: str | None,
        memo: Digests,
        on_skip: OnSkip,
        extract_missing: ExtractMissing | None = None,
    ) -> None:
        self._directory = Path(directory)
        self._model = model
        self._memo = memo
        self._on_skip = on_skip
        self._extract_missing = extract_missing

    def select(self, targets: Sequence[StrPath]) -> list[Chosen]:
        """Return the entries that targets stand for, each once and in order; no targets mean the whole cache.

        Raises:
            UsageError: a target does not exist or holds nothing that could be cached, or no model was named and the
                cache holds several.
            NotCachedError: a video is not in the cache; the remedy is the command that extracts it.
            CacheError: there is no such cache.
        """
        if not targets:
            cache = FeatureCache(self._directory, self._memo)
            return self._open({entry.path: None for entry in cache.entries(cache.model(self._model).name)})
        items = [item for target in targets for item in _expand(Path(target))]
        return self._open(_relative_paths(items, self._found(items)))

    def select_each(self, targets: Sequence[StrPath]) -> dict[Path, list[Chosen]]:
        """Return the entries that each target stands for by itself.

        Raises:
            ClipcacheError: as `select`.
        """
        items = {target: list(_expand(target)) for target in map(Path, targets)}
        everything = [item for some in items.values() for item in some]
        found = dict(zip(everything, self._found(everything), strict=True))
        return {
            target: self._open(_relative_paths(some, [found[item] for item in some])) for target, some in items.items()
        }

    def any_one(self) -> EntryAttributes:
        """Return the attributes of some entry, which tell the model.

        Raises:
            NotCachedError: there is none.
            UsageError: no model was named and the cache holds several.
        """
        cache = FeatureCache(self._directory, self._memo)
        for entry in cache.entries(cache.model(self._model).name):
            if chosen := self._open_one(entry.path):
                return chosen.attributes
        raise NotCachedError(f"No entry in the cache {quoted(self._directory)} can be read", "extract the videos again")

    def _found(self, items: Sequence[_Item]) -> list[list[Path]]:
        """Return the paths of each item's entries, extracting what is missing where that is allowed."""
        found = self._find_all(items)
        missing = self._targets_of_missing(items, found)
        if missing and self._extract_missing is not None:
            self._extract_missing(missing, self._model_to_extract())
            found = self._find_all(items)
            missing = self._targets_of_missing(items, found)
        if missing:
            raise NotCachedError(*self._how_to_extract(missing))
        return found

    def _targets_of_missing(self, items: Sequence[_Item], found: Sequence[Sequence[Path]]) -> list[Path]:
        """Return the targets that something is missing of, each once."""
        absent = [item for item, paths in zip(items, found, strict=True) if item.required and not paths]
        return list(dict.fromkeys(item.target for item in absent if not self._has_no_audio(item)))

    def _has_no_audio(self, item: _Item) -> bool:
        """Tell whether extraction found no audio track in a video: then it has no entry of a sound model to miss."""
        with contextlib.suppress(CacheError, UsageError):
            model_dir = FeatureCache(self._directory, self._memo).model(self._model).name
            if is_clap(model_dir):
                known = FailureLog(self._directory).read(model_dir)
                failure = known.get(content_sha256(item.path, self._memo))
                return failure is not None and failure.error == NO_AUDIO
        return False

    def _find_all(self, items: Sequence[_Item]) -> list[list[Path]]:
        """Return the paths of each item's entries, none for an item that is not cached."""
        cache = FeatureCache(self._directory, self._memo) if exists(self._directory) else None
        return [self._find_item(item, cache) for item in counted(items, "Finding", len(items), "files")]

    def _find_item(self, item: _Item, cache: FeatureCache | None) -> list[Path]:
        """Look an item up; one that is not required and cannot be read counts as not cached."""
        try:
            return self._find(item.path, cache)
        except UsageError:
            if item.required:
                raise
            return []

    def _find(self, path: Path, cache: FeatureCache | None) -> list[Path]:
        """Look an item up; an image folder that was not extracted as one item may have been image by image."""
        if path.suffix == ENTRY_SUFFIX:
            return [path]
        if cache is None:
            return []
        try:
            return [cache.get(path, self._model).path]
        except NotCachedError:
            images = image_files(path) if is_folder(path) else []
        found = [entry for image in images for entry in self._find(image, cache)]
        return found if len(found) == len(images) else []

    def _open(self, paths: Mapping[Path, Path | None]) -> list[Chosen]:
        """Read the attributes of entries; those that cannot be read, or are of another model, are left out."""
        opened = (self._open_one(path, relative) for path, relative in counted(paths.items(), "Reading", len(paths)))
        return [one for one in opened if one is not None and self._is_wanted(one)]

    def _open_one(self, path: Path, relative_path: Path | None = None) -> Chosen | None:
        """Read the attributes of one entry, or say why that cannot be done."""
        try:
            attributes = read_attributes_of(path)  # the data are checked when they are read
            return Chosen(path, attributes, model_dir_name(attributes.model, attributes.weights_sha256), relative_path)
        except CacheError as error:
            self._on_skip(path, error)
            return None

    def _is_wanted(self, chosen: Chosen) -> bool:
        """Tell whether an entry, which may come from a folder of several models, is of the one that was named."""
        model = parse_model_dir_name(chosen.model_dir)
        return self._model is None or model is None or model.matches(self._model)

    def _model_to_extract(self) -> str | None:
        """Return the model that was named, else the one that the rest of the cache was made with, if any."""
        if self._model is not None or not exists(self._directory):
            return self._model
        with contextlib.suppress(NotCachedError):
            return self.any_one().model
        return None

    def _how_to_extract(self, missing: Sequence[Path]) -> tuple[str, str]:
        """Say what is not cached, and the command that extracts it."""
        is_packed_library = is_file(self._directory)  # nothing can be added to it
        folder = "DIR" if is_packed_library else str(self._directory)
        command = ["clipcache", "extract", *map(str, missing), "--cache", folder]
        model = self._model_to_extract()
        if model is not None:
            command += ["--model", one_line(model)]
        names = ", ".join(map(quoted, missing))
        then = " and name that folder as --cache" if is_packed_library else ""
        return (
            f"Not, or not wholly, in the cache {quoted(self._directory)}: {names}",
            f"run: {shlex.join(command)}{then}",
        )


def check_one_model(chosen: Sequence[Chosen]) -> None:
    """Refuse entries of several models: their features cannot be compared with one reference.

    Raises:
        UsageError: naming the models, or two entries whose features are not of one length.
    """
    models = sorted({(one.attributes.model, one.attributes.weights_sha256[:8]) for one in chosen})
    if len(models) > 1:
        names = ", ".join(f"{one_line(name)} (weights {weights})" for name, weights in models)
        if len({is_clap(name) for name, _ in models}) == 2:
            raise UsageError(
                f"The entries are of picture and of sound, {names}: their spaces are unrelated, and a cosine "
                "between them means nothing",
                "choose one by --model, or compare them through words: clipcache align",
            )
        raise UsageError(f"The entries are of several models, {names}", "choose one by --model")
    dims = {one.attributes.embed_dim: one.path for one in chosen}
    if len(dims) > 1:  # of imported features only, whose model nobody can check
        (first, path), (second, other), *_ = dims.items()
        raise UsageError(
            f"{quoted(path)} has features of {first} values, {quoted(other)} of {second}: not of one model",
            "leave one out",
        )


def fullest(chosen: Sequence[Chosen]) -> Iterator[Chosen]:
    """Leave out the entries whose frames another entry of the same video holds too: they would be counted twice."""
    held: dict[str, list[Sampling]] = {}
    for one in chosen:
        held.setdefault(one.attributes.video_sha256, []).append(Sampling.parse(one.attributes.sampling))
    for one in chosen:
        own = Sampling.parse(one.attributes.sampling)
        if not any(other != own and other.covers(own) for other in held[one.attributes.video_sha256]):
            yield one


def differences(chosen: Sequence[Chosen]) -> Iterator[str]:
    """Yield one sentence for each way in which entries were not made alike, or not made whole."""
    for attribute in ("precision", "sampling"):
        counts = Counter(str(getattr(one.attributes, attribute)) for one in chosen)
        if len(counts) > 1:
            shares = ", ".join(f"{count} with {one_line(value)}" for value, count in counts.most_common())
            yield f"The entries differ in {attribute}: {shares}."
    partial = [one.attributes.video_name for one in chosen if not one.attributes.complete]
    if partial:
        more = f" and {len(partial) - 1} more" if len(partial) > 1 else ""
        yield f"Part of the video could not be decoded when it was extracted: {partial[0]!r}{more}."


def _expand(target: Path) -> Iterator[_Item]:
    """Yield what one target stands for."""
    if is_file(target) and _is_library(target):
        yield from (_Item(entry.path, target) for entry in FeatureCache(target).entries())
    elif is_file(target) or packed_file_of(target):
        yield _Item(target, target)
    elif is_folder(target):
        items = list(_expand_directory(target))
        if not items:
            raise UsageError(f"There is no video, image or entry in {quoted(target)}", "check the path")
        yield from items
    else:
        raise UsageError(f"There is no file or folder {quoted(target)}", "check the path")


def _expand_directory(target: Path) -> Iterator[_Item]:
    """Yield the entries of a directory that holds some, else its videos and image folders, at any depth."""
    files = sorted(path for path in target.rglob("[!.]*") if is_file(path))
    entries = [path for path in files if path.suffix == ENTRY_SUFFIX and not _is_library(path)]
    if entries:
        yield from (_Item(path, target) for path in entries)
        return
    found = [path for path in files if is_video(path)]
    videos = [path for path in found if path.suffix.lower() in VIDEO_SUFFIXES]
    images = [path for path in files if is_image(path)]
    with_videos = {path.parent for path in found}  # their pictures are posters and thumbnails to `extract`, too
    folders = dict.fromkeys(path.parent for path in images if path.parent not in with_videos)
    certain = [*videos, *folders]
    yield from (_Item(path, target) for path in certain)
    # Sound, which pictures' models have nothing of, and what is known by its first bytes alone, which sound and
    # photographs may share: required only if there is nothing else.
    uncertain = {path for path in found if path.suffix.lower() not in VIDEO_SUFFIXES}
    others = [path for path in files if path in uncertain or is_audio(path)]
    yield from (_Item(path, target, required=not certain) for path in others)


def _is_library(path: Path) -> bool:
    """Tell whether a file is a packed library; one that has an entry's name is not opened to find out."""
    return parse_entry_name(path.name) is None and is_packed(path)


def _relative_paths(items: Sequence[_Item], found: Sequence[Sequence[Path]]) -> dict[Path, Path | None]:
    """Return each entry once, in order, with the relative path of its video, unless that is none or several."""
    relative_paths: dict[Path, Path | None] = {}
    for item, paths in zip(items, found, strict=True):
        for path in paths:
            relative_paths.setdefault(path, item.relative_path if len(paths) == 1 and path != item.path else None)
    return relative_paths
