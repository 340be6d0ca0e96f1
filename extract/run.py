"""The extraction stage as a function: plan, decode, encode, write, and say how it went."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..cache.digest import DigestMemo
from ..cache.errors import CacheError
from ..cache.failures import Failure, FailureLog
from ..cache.key import model_dir_name
from ..cache.sampling import Sampling
from ..cache.store import FeatureCache
from .container import ascii_safe
from .encoder import FrameEncoder, place
from .inputs import HashedItem, Item, find_items, hash_items
from .models import DEFAULT_MODEL, WeightsFile, find_weights
from .pipeline import EncodedItem, Run
from .plan import Action, Step, plan
from .pool import STALL_SECONDS, InProcessPool, WorkerPool
from .progress import Progress, Summary
from .record import attributes_of, now
from .resources import Workers, choose_workers

EVERY_FRAME = Sampling()


@dataclass(frozen=True)
class ExtractOptions:
    """How to extract. The defaults are those of the command line.

    Attributes:
        model: One of OpenAI's names in any spelling, or any name together with `weights`.
        weights: File with the model's weights; None takes OpenAI's, downloaded on first use.
        trust_weights: Open a TorchScript archive that is not OpenAI's own.
        device: "auto", "cpu", "cuda" or "cuda:N".
        precision: "auto", "fp32", "bf16" or "fp16"; auto is fp16 on CUDA, bf16 on CPUs that compute in it, else fp32.
        batch_size: Pictures per batch; None chooses by device.
        num_workers: Decoding processes; None chooses, 0 decodes in this process.
        decoder: "auto", "decord" or "pyav".
        sampling: Which frames of each video.
        dtype: "float16" or "float32", of the cached features.
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

    def as_text(self) -> str:
        """One line per item, and the count of each action."""
        lines = [f"{step.action.value:<12} {ascii_safe(os.fspath(step.item.item.path))}" for step in self.steps]
        counts = Counter(step.action.value for step in self.steps)
        return "\n".join([*lines, ", ".join(f"{count} {action}" for action, count in counts.items())])

    def as_json(self) -> str:
        """A list of objects: path, kind, sha256, bytes, action."""
        rows = [
            {
                "path": os.fspath(step.item.item.path),
                "kind": step.item.item.kind,
                "sha256": step.item.sha256,
                "bytes": step.item.size,
                "action": step.action.value,
            }
            for step in self.steps
        ]
        return json.dumps(rows, indent=2)


def extract(
    inputs: Sequence[str | os.PathLike[str]],
    cache_dir: str | os.PathLike[str] = "features",
    options: ExtractOptions | None = None,
    *,
    list_file: Path | None = None,
) -> Summary:
    """Encode every frame of videos, images and folders of both into a cache, and skip what is there.

    Args:
        inputs: Files, folders and globs.
        cache_dir: The cache; made if need be.
        options: How; None for the defaults.
        list_file: A file with further paths, one a line or in the `path` column of a CSV.

    Returns:
        How it went. Items that could not be decoded are in `failures` and in `<cache>/failed.jsonl`.

    Raises:
        UsageError: Nothing to work on, or an option out of range.
        ModelError: Weights missing, damaged or of another model.
        CacheError: The cache cannot be written.
    """
    return carry_out(prepare(inputs, Path(cache_dir), options or ExtractOptions(), list_file=list_file))


def prepare(
    inputs: Sequence[str | os.PathLike[str]],
    cache_dir: Path,
    options: ExtractOptions,
    *,
    list_file: Path | None = None,
) -> Prepared:
    """Find and hash the inputs and decide what to do with each; nothing is decoded, no model is loaded.

    Raises:
        UsageError: Nothing to work on, or an unknown model.
        ModelError: The weights file named does not exist.
    """
    memo = DigestMemo()
    weights = find_weights(options.model, options.weights, memo)
    model_dir = model_dir_name(weights.model, weights.sha256)
    items = find_items(inputs, list_file)
    hashed = _hash_with_bar(items, memo)
    is_cached, failed = _known(cache_dir, model_dir, options.sampling)
    steps = plan(hashed, is_cached, failed, overwrite=options.overwrite, retry_failed=options.retry_failed)
    return Prepared(cache_dir, weights, model_dir, steps, options)


def _hash_with_bar(items: Sequence[Item], memo: DigestMemo) -> list[HashedItem]:
    from tqdm import tqdm

    with tqdm(desc="Hashing", unit="B", unit_scale=True, delay=1.0, leave=False, disable=None) as bar:
        hashed = list(hash_items(items, memo, bar.update))
    memo.flush()
    return hashed


def _known(cache_dir: Path, model_dir: str, sampling: Sampling) -> tuple[Callable[[str], bool], Collection[str]]:
    if not cache_dir.is_dir():
        return lambda _: False, ()
    cache = FeatureCache(cache_dir)
    return lambda sha256: cache.find(model_dir, sha256, sampling) is not None, FailureLog(cache_dir).read(model_dir)


def carry_out(prepared: Prepared) -> Summary:
    """Do what was decided.

    Raises:
        UsageError: A device or precision that this machine does not have.
        ModelError: Weights missing, damaged or of another model.
        CacheError: The cache cannot be written.
    """
    work = [step.item for step in prepared.steps if step.is_work]
    session = _Session(prepared, work)
    try:
        session.note_skipped()
        if work:
            session.run(work)
    finally:
        session.close()
    return session.summary


class _Session:
    """One run: hears what happens (`RunEvents`), writes entries and failures, counts."""

    def __init__(self, prepared: Prepared, work: list[HashedItem]) -> None:
        self._prepared = prepared
        self._options = prepared.options
        self._failures = FailureLog(prepared.cache_dir)
        self._progress = Progress(work, verbose=self._options.verbose)
        self._retried = {step.item.sha256 for step in prepared.steps if step.action is Action.RETRY}
        self._started = time.monotonic()
        self.summary = Summary()

    def note_skipped(self) -> None:
        """Count what needs no work, and report what cannot be read."""
        for step in self._prepared.steps:
            if step.action in (Action.HIT, Action.DUPLICATE):
                self.summary.cached += 1
            elif step.action is Action.FAILED_BEFORE:
                self.summary.failed_before += 1
            elif step.item.problem is not None:
                self.on_failed(step.item, type(step.item.problem).__name__, str(step.item.problem))
                continue
            if not step.is_work and self._options.verbose:
                self._progress.say(f"{ascii_safe(str(step.item.item.path))}: {step.action.value}")

    def run(self, work: list[HashedItem]) -> None:
        """Decode, encode and write."""
        options = self._options
        _make_folder(self._prepared.cache_dir)
        placement = place(options.device, options.precision, options.batch_size)
        workers = choose_workers(options.num_workers, placement.device, options.memory_limit)
        self._resize = workers.resize
        self._encoder = FrameEncoder(self._prepared.weights, placement, trust=options.trust_weights)
        run = Run(work, self._encoder, options.sampling, options.decoder, self)
        pool = self._pool(workers)
        whole = False
        try:
            pool.run(run, self._on_wait)
            run.batcher.flush()
            whole = True
        finally:
            pool.close(kill=not whole)
            self.summary.encode_seconds = run.batcher.seconds
            self.summary.encoded = run.batcher.encoded

    def _pool(self, workers: Workers) -> WorkerPool | InProcessPool:
        size = self._encoder.input_size
        if workers.count == 0:
            return InProcessPool(size, workers.resize)
        options = self._options
        return WorkerPool(
            workers.count, size, workers.resize, quiet=not options.debug, stall_seconds=options.stall_seconds
        )

    def close(self) -> None:
        """End the bar and the clock."""
        self._progress.close()
        self.summary.seconds = time.monotonic() - self._started

    def _on_wait(self, seconds: float) -> None:
        self.summary.decode_wait_seconds += seconds

    def on_expected(self, item: HashedItem, frames: int) -> None:
        """See `RunEvents`."""
        self._progress.expect(item, frames)

    def on_frames(self, item: HashedItem, frames: int) -> None:  # noqa: ARG002  one bar for all
        """See `RunEvents`."""
        self._progress.frames(frames)

    def on_encoded(self, encoded: EncodedItem) -> None:
        """Write the entry."""
        from ..cache.write import write_entry

        sampling = encoded.sampling
        attributes = attributes_of(encoded, self._encoder, sampling, self._resize)
        names = (
            [encoded.item.item.images[row].name for row in encoded.frame_index] if encoded.item.item.images else None
        )
        write_entry(
            self._prepared.cache_dir,
            attributes,
            encoded.features.astype(np.dtype(self._options.dtype)),
            encoded.timestamps_ms,
            encoded.frame_index,
            names,
        )
        if encoded.item.sha256 in self._retried:
            self._failures.forget([encoded.item.sha256], self._prepared.model_dir)
        self._count(encoded)

    def _count(self, encoded: EncodedItem) -> None:
        frames = len(encoded.features)
        self.summary.extracted += 1
        self.summary.frames += frames
        outcome = f"{frames} frames"
        if not encoded.complete:
            self.summary.partial += 1
            outcome += f" of {encoded.frames_wanted}, the rest is damaged; cached with complete = false"
        self._progress.item(encoded.item, outcome)

    def on_failed(self, item: HashedItem, error: str, sentence: str) -> None:
        """Note a failure for this run and the next ones."""
        path = os.fspath(item.item.path)
        sentence = sentence if ascii_safe(path) in sentence else f"{ascii_safe(path)}: {sentence}"
        self.summary.failed += 1
        self.summary.failures[path] = sentence
        self._progress.item(item, f"failed: {sentence}")
        if not self._options.verbose:
            self._progress.say(f"clipcache: {sentence}")
        _make_folder(self._prepared.cache_dir)
        self._failures.append(Failure(path, item.sha256, error, sentence, now(), self._prepared.model_dir))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CacheError(
            f"Cannot make the cache {ascii_safe(str(folder))}: {error.strerror}; choose another --cache."
        ) from error
