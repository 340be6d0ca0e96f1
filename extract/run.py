"""The extraction stage as a function: decode, encode, write what was decided, and say how it went."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from ..cache.common.atomic import remove_stale_temporaries
from ..cache.common.errors import CacheError, NoLibraryError
from ..cache.common.quoting import quoted
from ..cache.failure_log import Failure, FailureLog
from ..cache.format.write import write_entry
from ..cache.store import FeatureCache
from .inputs import HashedItem
from .models.frame_encoder import FrameEncoder
from .models.placement import place
from .pipeline import EncodedItem, Run
from .plan import Action
from .prepare import ExtractOptions, Prepared, find_cached, mismatches, prepare
from .progress import Progress, Summary
from .provenance import attributes_of, now
from .video.pixel_measures import by_name
from .workers.pool import InProcessPool, WorkerPool
from .workers.sizing import Workers, choose_workers

# Failures that say nothing of the file: they are reported, and the file is tried again next time.
NOT_REMEMBERED = frozenset({"DecoderKilled", "FileChanged", "ModelError", NoLibraryError.__name__})


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


def carry_out(prepared: Prepared) -> Summary:
    """Do what was decided.

    Raises:
        UsageError: A device or precision that this machine does not have.
        ModelError: Weights missing, damaged or of another model.
        CacheError: The cache cannot be written.
    """
    session = _Session(prepared)
    try:
        session.note_skipped()
        if prepared.work:
            session.run()
        session.note_duplicates()
    finally:
        session.close()
    return session.summary


class _Session:
    """One run: hears what happens (`RunEvents`), writes entries and failures, counts."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._options = prepared.options
        self._failures = FailureLog(prepared.cache_dir)
        self._progress = Progress(prepared.work, verbose=self._options.verbose)
        self._retried = {step.item.sha256 for step in prepared.steps if step.action is Action.RETRY}
        self._known_failures = self._failures.read(prepared.model_dir) if prepared.cache_dir.is_dir() else {}
        self._given_up = {step.item.sha256 for step in prepared.steps if step.action is Action.FAILED_BEFORE}
        self._started = time.monotonic()
        self.summary = Summary()

    def note_skipped(self) -> None:
        """Count what needs no work, and report what cannot be read or is not quite what is asked for."""
        for sentence in mismatches(self._prepared):
            self._progress.say(f"clipcache: {sentence}")
        for step in self._prepared.steps:
            if step.action is Action.HIT:
                self.summary.cached += 1
            elif step.action is Action.FAILED_BEFORE:
                self.summary.failed_before += 1
            elif step.item.problem is not None:
                self.on_failed(step.item, type(step.item.problem).__name__, str(step.item.problem))
                continue
            if not step.is_work and self._options.verbose:
                self._progress.say(f"{quoted(step.item.item.path)}: {step.action.value}")

    def note_duplicates(self) -> None:
        """Copies share the fate of the item they are copies of: cached, or failed with it."""
        for step in self._prepared.steps:
            if step.action is not Action.DUPLICATE:
                continue
            if step.item.sha256 in self._given_up:
                self.summary.failed += 1
            else:
                self.summary.cached += 1

    def run(self) -> None:
        """Decode, encode and write."""
        options = self._options
        _make_folder(self._prepared.cache_dir)
        remove_stale_temporaries(self._prepared.cache_dir)
        self._cache = FeatureCache(self._prepared.cache_dir)
        placement = place(options.device, options.precision, options.batch_size)
        workers = choose_workers(options.num_workers, placement.device, options.memory_limit)
        self._resize = workers.resize
        self._encoder = FrameEncoder(self._prepared.weights, placement, trust=options.trust_weights)
        run = Run(
            self._prepared.work,
            self._encoder,
            self,
            sampling=options.sampling,
            decoder=options.decoder,
            dtype=options.dtype,
            measured=options.quality,
        )
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
        size, rule = self._encoder.input_size, self._encoder.spec.resize
        if workers.count == 0:
            return InProcessPool(size, workers.resize, rule)
        options = self._options
        return WorkerPool(
            workers.count, size, workers.resize, rule, quiet=not options.debug, stall_seconds=options.stall_seconds
        )

    def close(self) -> None:
        """End the bar and the clock."""
        self._progress.close()
        self.summary.seconds = time.monotonic() - self._started

    def _on_wait(self, seconds: float) -> None:
        self.summary.decode_wait_seconds += seconds

    def on_open(self, item: HashedItem) -> bool:
        """See `RunEvents`; two runs over the same folder share the work instead of both doing all of it."""
        prepared, options = self._prepared, self._options
        if options.overwrite or not find_cached(self._cache, prepared.model_dir, item.sha256, options, fresh=True):
            return True
        self.summary.cached += 1
        self._progress.item(item, Action.HIT.value)
        return False

    def on_expected(self, item: HashedItem, frames: int) -> None:
        """See `RunEvents`."""
        self._progress.expect(item, frames)

    def on_frames(self, item: HashedItem, frames: int) -> None:  # noqa: ARG002  one bar for all
        """See `RunEvents`."""
        self._progress.frames(frames)

    def on_encoded(self, encoded: EncodedItem) -> None:
        """Write the entry."""
        if encoded.item.has_changed():
            self.on_failed(encoded.item, "FileChanged", "It changed while it was read; run the command again.")
            return
        attributes = attributes_of(encoded, self._encoder, encoded.sampling, self._resize)
        names = (
            [encoded.item.item.images[row].name for row in encoded.frame_index] if encoded.item.item.images else None
        )
        write_entry(
            self._prepared.cache_dir,
            attributes,
            encoded.features,
            encoded.timestamps_ms,
            encoded.frame_index,
            names,
            by_name(encoded.quality),
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
            wanted = encoded.frames_expected if encoded.sampling.is_all else encoded.frames_wanted
            outcome += f" of {wanted}, the rest cannot be decoded; cached with complete = false"
        self._progress.item(encoded.item, outcome)
        if unread := encoded.unread:
            later = " until it is extracted with --overwrite" if unread[0].error == NoLibraryError.__name__ else ""
            images = f"{len(unread)} image(s) of {quoted(encoded.item.item.path)}"
            self._progress.say(f"clipcache: {images} left out of its entry{later}, the first: {unread[0].sentence}")

    def on_failed(self, item: HashedItem, error: str, sentence: str) -> None:
        """Note a failure for this run and the next ones."""
        path = os.fspath(item.item.path)
        sentence = sentence if quoted(path) in sentence else f"{quoted(path)}: {sentence}"
        self.summary.failed += 1
        self.summary.failures[path] = sentence
        self._given_up.add(item.sha256)
        self._progress.item(item, f"failed: {sentence}")
        if not self._options.verbose:
            self._progress.say(f"clipcache: {sentence}")
        if error in NOT_REMEMBERED:
            return
        _make_folder(self._prepared.cache_dir)
        failure = Failure(path, item.sha256, error, sentence, now(), self._prepared.model_dir)
        known = self._known_failures.get(failure.key)
        if item.sha256 or known is None or known.sentence != sentence:  # a missing file is said again, not noted again
            self._failures.append(failure)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CacheError(
            f"Cannot make the cache {quoted(folder)}: {error.strerror}", "choose another --cache"
        ) from error
