"""Encode pictures into the cache: decode, encode, write, and report."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..cache.common.errors import NoLibraryError
from ..cache.common.messages import is_shown
from ..cache.common.quoting import quoted
from ..cache.format.write import write_entry
from ..cache.store import FeatureCache
from . import interrupts
from .cluster.work_queue import WorkQueue
from .encoded import EncodedItem
from .engine import PictureEngine
from .inputs import HashedItem
from .options import ExtractOptions
from .pipeline import Run
from .prepare import PreparedPictures, find_cached, prepare
from .progress import OnProgress, Progress, Summary
from .provenance import attributes_of, recipe_of
from .session import Session
from .unfinished import Unfinished, remove_old
from .video.pixel_measures import by_name


def extract(
    inputs: Sequence[str | os.PathLike[str]],
    cache_dir: str | os.PathLike[str] = "features",
    options: ExtractOptions | None = None,
    *,
    list_file: str | os.PathLike[str] | None = None,
    on_progress: OnProgress | None = None,
) -> Summary:
    """Encode every frame of videos, images and folders of both into a cache, and skip what is there.

    Args:
        inputs: files, folders and globs.
        cache_dir: the cache; made if need be.
        options: how; None for the defaults.
        list_file: a file with further paths, one a line or in the `path` column of a CSV.
        on_progress: called with a `ProgressReport` about twice a second and at the end; what it raises ends the run.

    Returns:
        How it went. Items that could not be decoded are in `failures` and in `<cache>/failed.jsonl`.

    Raises:
        UsageError: if there is nothing to work on, or this machine does not have the device.
        ModelError: if weights are missing, damaged or of another model.
        CacheError: if the cache cannot be written.
    """
    return carry_out(prepare(inputs, Path(cache_dir), options or ExtractOptions(), list_file=list_file), on_progress)


def carry_out(
    prepared: PreparedPictures, on_progress: OnProgress | None = None, engine: PictureEngine | None = None
) -> Summary:
    """Do what was decided.

    Args:
        prepared: what was decided.
        on_progress: as of `extract`.
        engine: of an earlier run with the same weights and options, left open; None makes one if there is work.

    Raises:
        UsageError: if this machine does not have the device or the precision, or not one input can be read.
        ModelError: if weights are missing, damaged or of another model.
        CacheError: if the cache cannot be written.
    """
    progress = Progress("frames", verbose=prepared.options.verbose, show=is_shown(), on_progress=on_progress)
    session = PictureSession(prepared, progress, engine)
    session.carry_out()
    return session.summary


class PictureSession(Session):
    """One run over pictures: receives what happens (`RunEvents`) and writes entries.

    Args:
        prepared: what was decided.
        engine: as in `carry_out`.
        progress: where to report; None for a bar of its own.
    """

    _prepared: PreparedPictures
    _options: ExtractOptions
    summary: Summary

    def __init__(self, prepared: PreparedPictures, progress: Progress, engine: PictureEngine | None = None) -> None:
        self._options = prepared.options
        self._given_engine = engine
        super().__init__(prepared, Summary(shard=self._options.shard), progress)

    def carry_out(self) -> None:
        """See `Session`; says then which cached entries are not quite what is asked for."""
        super().carry_out()
        for sentence in self._prepared.mismatches.sentences():
            self._progress.say(f"clipcache: {sentence}")

    def _run(self) -> None:
        self._cache = self._open_cache()
        self._engine = self._given_engine or self._new_engine()
        whole = False
        try:
            with self._queue(self._options.sampling, claims=self._options.claims) as queue:
                self._work_off(queue)
            whole = True
        finally:
            if self._given_engine is None or not whole:
                self._engine.close(kill=not whole)

    def _open_cache(self) -> FeatureCache:
        return FeatureCache(self._prepared.cache_dir)

    def _new_engine(self) -> PictureEngine:
        say = self._progress.say
        return PictureEngine(self._prepared.weights, self._options, lambda sentence: say(f"clipcache: {sentence}"))

    def _work_off(self, queue: WorkQueue) -> None:
        options, engine = self._options, self._engine
        run = Run(
            queue,
            engine.encoder,
            self,
            sampling=options.sampling,
            decoder=options.decoder,
            dtype=options.dtype,
            measured=options.quality,
            unfinished=self._unfinished(),
        )
        try:
            while run.has_work:
                engine.pool.run(run, self._on_wait)
                run.batcher.flush()
                if run.has_work and not run.has_tasks:
                    self._wait(queue)
        finally:
            self.summary.encode_seconds = run.batcher.seconds
            self.summary.encoded = run.batcher.encoded

    def _unfinished(self) -> Unfinished:
        prepared, engine = self._prepared, self._engine
        remove_old(prepared.cache_dir)
        recipe = recipe_of(engine.encoder, prepared.options, engine.resize, engine.threads)
        folder = prepared.cache_dir / prepared.model_dir
        return Unfinished(folder, recipe, lambda problem: self._progress.say(f"clipcache: {problem}"))

    def _on_wait(self, seconds: float) -> None:
        self.summary.decode_wait_seconds += seconds
        self._progress.tick()
        interrupts.check()

    def _is_cached(self, item: HashedItem) -> bool:
        """See `Session`."""
        prepared, options = self._prepared, self._options
        if options.overwrite:
            return False
        return find_cached(self._cache, prepared.model_dir, item.sha256, options, fresh=True) is not None

    def on_open(self, item: HashedItem) -> None:
        """See `RunEvents`; the bar names an item when the number of its frames is known."""

    def on_expected(self, item: HashedItem, frames: int) -> None:
        """See `RunEvents`."""
        self._progress.expect(item, frames)

    def on_resumed(self, item: HashedItem, frames: int) -> None:
        """See `RunEvents`."""
        self._progress.resume(item, frames)

    def on_frames(self, item: HashedItem, frames: int) -> None:
        """See `RunEvents`."""
        self._progress.advance(item, frames)

    def on_failed(self, item: HashedItem, error: str, sentence: str) -> None:
        """See `RunEvents`."""
        self._fail(item, error, sentence)

    def on_encoded(self, encoded: EncodedItem) -> None:
        """Write the entry."""
        if self._changed(encoded.item):
            return
        attributes = attributes_of(encoded, self._engine.encoder, encoded.sampling, self._engine.resize)
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
        self._forget_failure(encoded.item)
        self._count(encoded)

    def _count(self, encoded: EncodedItem) -> None:
        frames = len(encoded.features)
        self.summary.extracted += 1
        self.summary.frames += frames
        outcome = f"{frames} frames"
        if not encoded.complete:
            self.summary.partial += 1
            outcome += f"{_lacks(encoded)}; cached with complete = false"
            if not self._progress.verbose and not encoded.unread:  # of images that are missing the reason is said below
                self._progress.say(f"clipcache: {quoted(encoded.item.item.name)}: {outcome}")
        self._progress.item(encoded.item, outcome)
        if unread := encoded.unread:
            later = " until it is extracted with --overwrite" if unread[0].error == NoLibraryError.__name__ else ""
            images = f"{len(unread)} image(s) of {quoted(encoded.item.item.name)}"
            self._progress.say(f"clipcache: {images} left out of its entry{later}, the first: {unread[0].sentence}")


def _lacks(encoded: EncodedItem) -> str:
    """What an entry that is not complete lacks, as words that follow its number of frames."""
    wanted = encoded.frames_expected if encoded.sampling.is_all else encoded.frames_wanted
    said = f" of {wanted}, the rest cannot be decoded" if len(encoded.features) < wanted else ""
    if encoded.frames_corrupt:
        said += f", {encoded.frames_corrupt} of them corrupt"
    return said or ", some packets are damaged"
