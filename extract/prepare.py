"""Decide what a run will do: what is asked for, what is there, one step per item. Nothing is decoded or loaded here."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..cache.common.errors import EntryError, UsageError
from ..cache.common.hashing import DigestMemo
from ..cache.common.progress import Bar
from ..cache.common.quoting import quoted
from ..cache.failure_log import Failure, FailureLog
from ..cache.format.names import model_dir_name
from ..cache.format.read import can_validate, open_entry
from ..cache.store import FeatureCache
from .inputs import HashedItem, Item, find_items, hash_items
from .models.registry import find_weights
from .models.weights import WeightsFile
from .options import ExtractOptions, SoundOptions
from .plan import Action, Prepared, Step, plan
from .video.pixel_measures import NAMES


@dataclass(frozen=True)
class PreparedPictures(Prepared):
    """A run over pictures that is decided but not begun.

    Attributes:
        weights: the model's weights.
        options: as asked for.
    """

    weights: WeightsFile
    options: ExtractOptions


def prepare(
    inputs: Sequence[str | os.PathLike[str]],
    cache_dir: Path,
    options: ExtractOptions,
    *,
    list_file: str | os.PathLike[str] | None = None,
) -> PreparedPictures:
    """Find and hash the inputs and decide what to do with each; nothing is decoded, no model is loaded.

    Raises:
        UsageError: if there is nothing to work on, not one input can be read, or the model is unknown.
        ModelError: if the weights file named does not exist.
    """
    check_is_folder(cache_dir)
    return prepare_items(find_items(inputs, list_file), cache_dir, options)


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
    """Decide like `prepare`, for items that were found already, at least one.

    Raises:
        As `prepare`.
    """
    check_is_folder(cache_dir)
    memo = DigestMemo()
    weights = find_weights(options.model, options.weights, memo)
    model_dir = model_dir_name(weights.model, weights.sha256)
    steps, failed = decide_steps(
        items, cache_dir, model_dir, options, memo, lambda cache, sha256: find_cached(cache, model_dir, sha256, options)
    )
    return PreparedPictures(cache_dir, model_dir, steps, failed, weights, options)


def decide_steps(
    items: Sequence[Item],
    cache_dir: Path,
    model_dir: str,
    options: ExtractOptions | SoundOptions,
    memo: DigestMemo,
    find: Callable[[FeatureCache, str], Path | None],
) -> tuple[list[Step], dict[str, Failure]]:
    """Hash the items and look each up in the cache and among the failures.

    Args:
        items: what was found, at least one.
        cache_dir: the cache; it need not exist.
        model_dir: its folder for the model's weights.
        options: what to do with what is cached, and with what failed before.
        memo: gives checksums of files.
        find: returns the entry of a content, named by its sha256, that satisfies the request; None if none does.

    Returns:
        One step per item, and what failed before with this model, by `Failure.key`.

    Raises:
        UsageError: if not one item can be read.
    """
    hashed = hash_readable(items, memo)
    cache = FeatureCache(cache_dir) if cache_dir.is_dir() else None
    failed = FailureLog(cache_dir).read(model_dir) if cache is not None else {}

    def is_cached(sha256: str) -> bool:
        return cache is not None and find(cache, sha256) is not None

    steps = plan(hashed, is_cached, failed, overwrite=options.overwrite, retry_failed=options.retry_failed)
    return steps, failed


def hash_readable(items: Sequence[Item], memo: DigestMemo) -> list[HashedItem]:
    """Hash items; one that cannot be read says why in `problem`.

    Raises:
        UsageError: if not one of them can be read.
    """
    with Bar("Hashing", None, "B") as bar:
        hashed = list(hash_items(items, memo, bar.advance))
    memo.flush()
    problems = [item.problem for item in hashed if item.problem is not None]
    if len(problems) == len(hashed):
        first = problems[0]
        more = f" ({len(problems) - 1} more like it)" if problems[1:] else ""
        raise UsageError(f"{first.problem}{more}", first.remedy)
    return hashed


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


def mismatches(prepared: PreparedPictures) -> list[str]:
    """Sentences on cached entries that were made with other options than those asked for now.

    Those without the measures asked for are made again, the others are used as they are. Only what was asked for by
    name counts: "auto" takes what is there.
    """
    if not prepared.cache_dir.is_dir():
        return []
    cache = FeatureCache(prepared.cache_dir)
    return [*_unmeasured(prepared, cache), *_otherwise_encoded(prepared, cache)]


def _unmeasured(prepared: PreparedPictures, cache: FeatureCache) -> Iterator[str]:
    options = prepared.options
    if options.quality and not options.overwrite:
        found = [cache.find(prepared.model_dir, item.sha256, options.sampling) for item in prepared.work]
        if number := sum(path is not None for path in found):
            yield f"{number} cached item(s) lack the measures of --quality and are encoded again."


def _otherwise_encoded(prepared: PreparedPictures, cache: FeatureCache) -> list[str]:
    """Opens every entry to be used, where a precision or the larger type was asked for by name."""
    options, found = prepared.options, Counter[str]()
    if options.precision == "auto" and options.dtype == "float16":
        return []
    for step in prepared.steps:
        if step.action is Action.HIT:
            path = cache.find(prepared.model_dir, step.item.sha256, options.sampling)
            found.update(_differences(path, options) if path else ())
    return [f"{n} cached item(s) {what}; --overwrite makes them again." for what, n in sorted(found.items())]


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
