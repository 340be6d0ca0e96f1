"""Prepare a run: what is asked for, what is there, and how to decide what each item needs."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..cache.common.errors import EntryError, UsageError
from ..cache.common.hashing import DigestMemo
from ..cache.common.quoting import quoted
from ..cache.failure_log import Failure, FailureLog
from ..cache.format.names import model_dir_name
from ..cache.format.read import can_validate, open_entry
from ..cache.store import FeatureCache
from .inputs import Item, find_items
from .models.registry import find_weights
from .models.weights import WeightsFile
from .options import ExtractOptions, SoundOptions
from .plan import Planner, Prepared
from .video.pixel_measures import NAMES


@dataclass(frozen=True)
class PreparedPictures(Prepared):
    """A run over pictures that can begin.

    Attributes:
        weights: the model's weights.
        options: as asked for.
        mismatches: counts what was encoded otherwise.
    """

    weights: WeightsFile
    options: ExtractOptions
    mismatches: Mismatches


def prepare(
    inputs: Sequence[str | os.PathLike[str]],
    cache_dir: Path,
    options: ExtractOptions,
    *,
    list_file: str | os.PathLike[str] | None = None,
) -> PreparedPictures:
    """Find the inputs and the model; nothing is hashed or decoded, no model is loaded.

    Raises:
        UsageError: if there is nothing to work on, or the model is unknown.
        ModelError: if the weights file named does not exist.
    """
    check_is_folder(cache_dir)
    return prepare_items(find_items(inputs, list_file, shard=options.shard), cache_dir, options)


def check_is_folder(cache_dir: Path) -> None:
    """Refuse a packed library as a place to write to.

    Raises:
        UsageError: if the cache is a file.
    """
    if cache_dir.is_file():
        raise UsageError(
            f"{quoted(cache_dir)} is a file, to which nothing can be added",
            f"name a folder with --cache, or make one of "
            f"a packed library: clipcache cache unpack {quoted(cache_dir)} --into DIR",
        )


def prepare_items(items: Sequence[Item], cache_dir: Path, options: ExtractOptions) -> PreparedPictures:
    """Like `prepare`, for items that were found already; only a shard has none.

    Raises:
        As `prepare`.
    """
    check_is_folder(cache_dir)
    memo = DigestMemo()
    weights = find_weights(options.model, options.weights, memo)
    model_dir = model_dir_name(weights.model, weights.sha256)
    mismatches = Mismatches(options)

    def find(cache: FeatureCache, sha256: str) -> Path | None:
        path = find_cached(cache, model_dir, sha256, options)
        mismatches.note(path, cache.find(model_dir, sha256, options.sampling))
        return path

    planner, failed = planner_for(cache_dir, model_dir, options, find)
    return PreparedPictures(cache_dir, model_dir, items, memo, planner, failed, weights, options, mismatches)


def planner_for(
    cache_dir: Path,
    model_dir: str,
    options: ExtractOptions | SoundOptions,
    find: Callable[[FeatureCache, str], Path | None],
) -> tuple[Planner, dict[str, Failure]]:
    """What looks each item up in the cache and among the failures, and what failed before, by `Failure.key`.

    Args:
        cache_dir: the cache; it need not exist.
        model_dir: its folder for the model's weights.
        options: what to do with what is cached, and with what failed before.
        find: returns the entry of a content, named by its sha256, that satisfies the request; None if none does.
    """
    cache = FeatureCache(cache_dir) if cache_dir.is_dir() else None
    failed = FailureLog(cache_dir).read(model_dir) if cache is not None else {}

    def is_cached(sha256: str) -> bool:
        return cache is not None and find(cache, sha256) is not None

    return Planner(is_cached, failed, overwrite=options.overwrite, retry_failed=options.retry_failed), failed


def find_cached(
    cache: FeatureCache, model_dir: str, sha256: str, options: ExtractOptions, *, fresh: bool = False
) -> Path | None:
    """Path of the entry that satisfies the request; None if none does. `fresh` as in `FeatureCache.find`.

    Its name says which frames an entry holds, so none is opened, unless measures are asked for: what a file holds
    beside the features is said by the file alone, and a second record could contradict the first.
    """
    path = cache.find(model_dir, sha256, options.sampling, fresh=fresh)
    return None if path is not None and options.quality and _lacks_measures(path) else path


def _lacks_measures(path: Path) -> bool:
    """Whether an entry must be made again for its measures: also a damaged one, but not one that is only unreadable."""
    try:
        with open_entry(path) as entry:
            return not set(NAMES) <= set(entry.quality)
    except EntryError:
        return can_validate(path)


class Mismatches:
    """Counts cached entries that were made with other options than those asked for now.

    Those without the measures asked for are made again, the others are used as they are. Only what was asked for by
    name counts: "auto" takes what is there.
    """

    def __init__(self, options: ExtractOptions) -> None:
        self._options = options
        self._unmeasured = 0
        self._found = Counter[str]()

    def note(self, used: Path | None, held: Path | None) -> None:
        """Take in the entry that is used, and the one that holds the frames; None where there is none.

        Opens the entry, where a precision or the larger type was asked for by name.
        """
        self._unmeasured += held is not None and used is None
        if used is not None and (self._options.precision != "auto" or self._options.dtype != "float16"):
            self._found.update(_differences(used, self._options))

    def add(self, other: Mismatches) -> None:
        """Count what another one has counted as well."""
        self._unmeasured += other._unmeasured
        self._found.update(other._found)

    def sentences(self) -> Iterator[str]:
        """What to say of them at the end of a run."""
        if self._unmeasured:
            yield f"{self._unmeasured} cached item(s) lacked the measures of --quality and were to be encoded again."
        for what, count in sorted(self._found.items()):
            yield f"{count} cached item(s) {what}; --overwrite makes them again."


def _differences(path: Path, options: ExtractOptions) -> Iterator[str]:
    try:
        with open_entry(path) as entry:
            precision, dtype = entry.attributes.precision, str(entry.features.dtype)
    except EntryError as error:
        yield f"cannot be read ({error})"
        return
    if options.precision not in ("auto", precision):
        yield f"were encoded in {precision}, not in {options.precision}"
    if options.dtype == "float32" and dtype != "float32":
        yield f"are stored as {dtype}, not as float32"
