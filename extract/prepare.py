"""Decide what a run will do: what is asked for, what is there, one step per item. Nothing is decoded or loaded here."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..cache.common.errors import EntryError, UsageError
from ..cache.common.hashing import DigestMemo
from ..cache.common.quoting import quoted
from ..cache.failure_log import FailureLog
from ..cache.format.names import model_dir_name
from ..cache.format.read import is_verifiable, open_entry
from ..cache.format.sampling import Sampling
from ..cache.store import FeatureCache
from .inputs import HashedItem, Item, find_items, hash_items
from .models.registry import find_weights
from .models.weights import DEFAULT_MODEL, WeightsFile
from .plan import Action, Step, plan
from .video.pixel_measures import NAMES
from .workers.pool import STALL_SECONDS

EVERY_FRAME = Sampling()


@dataclass(frozen=True)
class ExtractOptions:
    """How to extract. The defaults are those of the command line.

    Attributes:
        model: One of OpenAI's names in any spelling, one of open_clip's (open_clip:ARCH/TAG, hf-hub:ORG/NAME), that of
            a registered encoder, or any name together with `weights`.
        weights: File with the model's weights; None takes OpenAI's, downloaded on first use.
        trust_weights: Open a TorchScript archive that is not OpenAI's own.
        device: "auto", "cpu", "cuda" or "cuda:N".
        precision: "auto", "fp32", "bf16" or "fp16"; auto is fp16 on CUDA, bf16 on CPUs that compute in it, else fp32.
        batch_size: Pictures per batch; None chooses by device.
        num_workers: Decoding processes; None chooses, 0 decodes in this process.
        decoder: "auto", "decord" or "pyav".
        sampling: Which frames of each video.
        dtype: "float16" or "float32", of the cached features.
        quality: Store the measures of `quality` of each frame too; what is cached without them is encoded again.
        overwrite: Encode again what is cached.
        retry_failed: Try again what failed before.
        memory_limit: Bytes that the run may hold; None for no limit.
        verbose: One line per item on stderr.
        debug: Let the decoders' own messages through.
        stall_seconds: A worker that decodes nothing for so long is killed.
    """

    model: str = DEFAULT_MODEL
    weights: Path | None = None
    trust_weights: bool = False
    device: str = "auto"
    precision: str = "auto"
    batch_size: int | None = None
    num_workers: int | None = None
    decoder: str = "auto"
    sampling: Sampling = EVERY_FRAME
    dtype: str = "float16"
    quality: bool = False
    overwrite: bool = False
    retry_failed: bool = False
    memory_limit: int | None = None
    verbose: bool = False
    debug: bool = False
    stall_seconds: float = STALL_SECONDS


@dataclass(frozen=True)
class Prepared:
    """A run that is decided but not begun.

    Attributes:
        cache_dir: Where entries go.
        weights: What encodes.
        model_dir: Folder of the cache for these weights.
        steps: One per item.
        options: As asked for.
    """

    cache_dir: Path
    weights: WeightsFile
    model_dir: str
    steps: list[Step]
    options: ExtractOptions

    @property
    def work(self) -> list[HashedItem]:
        """Items whose frames will be decoded."""
        return [step.item for step in self.steps if step.is_work]

    def as_text(self) -> str:
        """One line per item, and the count of each action."""
        lines = [f"{step.action.value:<12} {quoted(step.item.item.path)}" for step in self.steps]
        counts = Counter(step.action.value for step in self.steps)
        return "\n".join([*lines, ", ".join(f"{count} {action}" for action, count in counts.items())])

    def as_json(self) -> str:
        """A list of objects: path, kind, sha256, bytes, action."""
        return json.dumps(self.rows(), indent=2)

    def rows(self) -> list[dict[str, Any]]:
        """What `as_json` holds."""
        return [
            {
                "path": os.fspath(step.item.item.path),
                "kind": step.item.item.kind,
                "sha256": step.item.sha256,
                "bytes": step.item.size,
                "action": step.action.value,
            }
            for step in self.steps
        ]


def prepare(
    inputs: Sequence[str | os.PathLike[str]],
    cache_dir: Path,
    options: ExtractOptions,
    *,
    list_file: Path | None = None,
) -> Prepared:
    """Find and hash the inputs and decide what to do with each; nothing is decoded, no model is loaded.

    Raises:
        UsageError: Nothing to work on, not one input that can be read, or an unknown model.
        ModelError: The weights file named does not exist.
    """
    check_is_folder(cache_dir)
    return prepare_items(find_items(inputs, list_file), cache_dir, options)


def check_is_folder(cache_dir: Path) -> None:
    """Refuse a packed library as a place to write to.

    Raises:
        UsageError: The cache is a file.
    """
    if cache_dir.is_file():
        raise UsageError(
            f"{quoted(cache_dir)} is a file, to which nothing can be added",
            f"name a folder with --cache, or make one of "
            f"a packed library: clipcache cache unpack {quoted(cache_dir)} --into DIR",
        )


def prepare_items(items: Sequence[Item], cache_dir: Path, options: ExtractOptions) -> Prepared:
    """The same for items that were found already, at least one.

    Raises:
        As `prepare`.
    """
    check_is_folder(cache_dir)
    memo = DigestMemo()
    weights = find_weights(options.model, options.weights, memo)
    model_dir = model_dir_name(weights.model, weights.sha256)
    hashed = hash_readable(items, memo)
    is_cached, failed = _known(cache_dir, model_dir, options)
    steps = plan(hashed, is_cached, failed, overwrite=options.overwrite, retry_failed=options.retry_failed)
    return Prepared(cache_dir, weights, model_dir, steps, options)


def hash_readable(items: Sequence[Item], memo: DigestMemo) -> list[HashedItem]:
    """Hash items behind a bar; those that cannot be read say so themselves.

    Raises:
        UsageError: Not one of them can be read.
    """
    from tqdm import tqdm

    with tqdm(desc="Hashing", unit="B", unit_scale=True, delay=1.0, leave=False, disable=None) as bar:
        hashed = list(hash_items(items, memo, bar.update))
    memo.flush()
    problems = [item.problem for item in hashed if item.problem is not None]
    if len(problems) == len(hashed):
        first = problems[0]
        more = f" ({len(problems) - 1} more like it)" if problems[1:] else ""
        raise UsageError(f"{first.problem}{more}", first.remedy)
    return hashed


def _known(cache_dir: Path, model_dir: str, options: ExtractOptions) -> tuple[Callable[[str], bool], Collection[str]]:
    if not cache_dir.is_dir():
        return lambda _: False, ()
    cache = FeatureCache(cache_dir)
    failed = FailureLog(cache_dir).read(model_dir)
    return lambda sha256: find_cached(cache, model_dir, sha256, options) is not None, failed


def find_cached(
    cache: FeatureCache, model_dir: str, sha256: str, options: ExtractOptions, *, fresh: bool = False
) -> Path | None:
    """Path of the entry that satisfies the request; None if none does. `fresh` as in `FeatureCache.find`.

    Its name says which frames an entry holds, so none is opened, unless measures are asked for: what a file holds
    beside the features is said by the file alone, and a second record of it could come to contradict the first.
    """
    path = cache.find(model_dir, sha256, options.sampling, fresh=fresh)
    return None if path is not None and options.quality and _lacks_measures(path) else path


def _lacks_measures(path: Path) -> bool:
    """A bad entry lacks them too, so that it is made again; one that only cannot be read here, or is newer, is left."""
    try:
        with open_entry(path) as entry:
            return not set(NAMES) <= set(entry.quality)
    except EntryError:
        return is_verifiable(path)


def mismatches(prepared: Prepared) -> list[str]:
    """Sentences on cached entries that were made otherwise than is asked for now.

    Those without the measures asked for are made again, the others are used as they are. Only what was asked for by
    name counts: "auto" takes what is there.
    """
    if not prepared.cache_dir.is_dir():
        return []
    cache = FeatureCache(prepared.cache_dir)
    return [*_unmeasured(prepared, cache), *_otherwise_encoded(prepared, cache)]


def _unmeasured(prepared: Prepared, cache: FeatureCache) -> Iterator[str]:
    options = prepared.options
    if options.quality and not options.overwrite:
        found = [cache.find(prepared.model_dir, item.sha256, options.sampling) for item in prepared.work]
        if number := sum(path is not None for path in found):
            yield f"{number} cached item(s) lack the measures of --quality and are encoded again."


def _otherwise_encoded(prepared: Prepared, cache: FeatureCache) -> list[str]:
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
