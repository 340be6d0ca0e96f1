"""Encode sounds into the cache: decode, cut, encode, write, and report."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...cache.common.errors import ContentError, NoAudioError, UsageError
from ...cache.common.messages import is_shown
from ...cache.failure_log import NO_AUDIO
from ...cache.format.schema import EntryAttributes
from ...cache.format.write import write_entry
from ...cache.store import FeatureCache
from .. import interrupts
from ..cluster.work_queue import WorkQueue
from ..inputs import HashedItem, find_items
from ..models.placement import first_device
from ..options import SoundOptions
from ..progress import OnProgress, Progress, SoundSummary
from ..provenance import common_attributes
from ..session import Session
from ..workers.pool import InProcessPool, WorkerPool
from ..workers.sizing import choose_sound_workers
from .clap import SoundEncoder
from .pipeline import EncodedSound, SoundRun
from .plan import PreparedSound, prepare_sounds
from .reader import RESAMPLER
from .windows import SAMPLE_RATE, Windows


def extract_sounds(
    inputs: Sequence[str | os.PathLike[str]],
    cache_dir: str | os.PathLike[str] = "features",
    options: SoundOptions | None = None,
    *,
    list_file: str | os.PathLike[str] | None = None,
    on_progress: OnProgress | None = None,
) -> SoundSummary:
    """Encode the sound of videos and audio files into a cache, and skip what is there.

    Args:
        inputs: files, folders and globs; images among them are left out.
        cache_dir: the cache; made if need be.
        options: how; None for the defaults.
        list_file: a file with further paths, one a line or in the `path` column of a CSV.
        on_progress: called with a `ProgressReport` about twice a second and at the end; what it raises ends the run.

    Returns:
        How it went. Files that could not be decoded are in `failures` and in `<cache>/failed.jsonl`.

    Raises:
        UsageError: if there is nothing to work on, or a package is missing.
        ModelError: if there is no such model, or it cannot be used.
        CacheError: if the cache cannot be written.
    """
    options = options or SoundOptions()
    items = find_items(inputs, list_file, sounds=True, shard=options.shard, on_left_out=lambda _: None)
    return carry_out(prepare_sounds(items, Path(cache_dir), options), on_progress)


def carry_out(prepared: PreparedSound, on_progress: OnProgress | None = None) -> SoundSummary:
    """Do what was decided.

    Args:
        prepared: it.
        on_progress: as of `extract_sounds`.

    Raises:
        UsageError: if this machine does not have the device, or windows are longer than the model takes.
        ModelError: if the model cannot be loaded.
        CacheError: if the cache cannot be written.
    """
    session = _SoundSession(prepared, on_progress)
    session.carry_out()
    return session.summary


def attributes_of(encoded: EncodedSound, encoder: SoundEncoder, windows: Windows) -> EntryAttributes:
    """The attributes of the entry that an encoded sound becomes."""
    count = len(encoded.features)
    return EntryAttributes(
        complete=encoded.errors == 0,
        source_kind="audio",
        fps=1.0 / windows.hop_s,
        duration_s=(count - 1) * windows.hop_s + float(encoded.durations_ms[-1]) / 1000.0,
        width=0,
        height=0,
        rotation=0,
        codec=encoded.codec,
        frames_expected=count,
        frames_decoded=count,
        input_size=windows.samples,
        preprocess=(
            f"clap: {SAMPLE_RATE} Hz mono, window {windows.window_s:g} s, hop {windows.hop_s:g} s, {RESAMPLER}"
        ),
        sampling=str(windows.sampling),
        **common_attributes(encoded.item, encoder.files, encoder, ["pyav"]),
    )


class _SoundSession(Session):
    """One run over sounds: receives what happens (`SoundEvents`) and writes entries."""

    _prepared: PreparedSound
    _options: SoundOptions
    summary: SoundSummary

    def __init__(self, prepared: PreparedSound, on_progress: OnProgress | None) -> None:
        self._options = prepared.options
        verbose = self._options.verbose
        progress = Progress("windows", verbose=verbose, show=is_shown(), on_progress=on_progress)
        super().__init__(prepared, SoundSummary(shard=self._options.shard), progress)
        self._without_audio: set[str] = set()  # found out before, meanwhile by another run, or now

    def _run(self) -> None:
        options = self._options
        self._cache = FeatureCache(self._prepared.cache_dir)
        self._encoder = SoundEncoder(self._prepared.files, first_device(options.device), options.batch_size)
        if options.windows.samples > self._encoder.max_samples:
            most = self._encoder.max_samples / SAMPLE_RATE
            raise UsageError(
                f"This CLAP takes windows of at most {most:g} seconds", "give an --audio-window of no more"
            )
        with self._queue(options.windows.sampling, claims=options.claims) as queue:
            self._work_off(queue)

    def _work_off(self, queue: WorkQueue) -> None:
        options = self._options
        run = SoundRun(queue, self._encoder, self, options.windows, options.dtype)
        pool = self._pool()
        whole = False
        try:
            while run.has_work:
                pool.run(run, self._on_wait)
                if run.has_work:
                    self._wait(queue)
            whole = True
        finally:
            pool.close(kill=not whole)

    def _on_wait(self, _: float) -> None:
        self._progress.tick()
        interrupts.check()

    def _pool(self) -> WorkerPool | InProcessPool:
        options = self._options
        workers = choose_sound_workers(options.num_workers, self._encoder.placement.device, options.memory_limit)
        if workers.count == 0:
            return InProcessPool(None)
        return WorkerPool(
            workers.count,
            None,
            quiet=not options.debug,
            stall_seconds=options.stall_seconds,
            start_seconds=options.start_seconds,
            memory=workers.memory,
        )

    def _note_failed_before(self, item: HashedItem) -> None:
        if self._prepared.lacks_audio(item):
            self.summary.without_audio += 1
            self._without_audio.add(item.sha256)
        else:
            super()._note_failed_before(item)

    def _note_duplicate(self, item: HashedItem) -> None:
        if item.sha256 in self._without_audio:
            self.summary.without_audio += 1
        else:
            super()._note_duplicate(item)

    def _is_cached(self, item: HashedItem) -> bool:
        """See `Session`."""
        if self._options.overwrite:
            return False
        sampling = self._options.windows.sampling
        return self._cache.find(self._prepared.model_dir, item.sha256, sampling, fresh=True) is not None

    def on_open(self, item: HashedItem) -> None:
        """See `SoundEvents`."""
        self._progress.begin(item)

    def on_windows(self, item: HashedItem, count: int) -> None:
        """See `SoundEvents`."""
        self._progress.advance(item, count)

    def on_failed(self, item: HashedItem, error: str, sentence: str) -> None:
        """See `SoundEvents`; a file without an audio track did not fail."""
        if error != NoAudioError.__name__:
            self._fail(item, error, sentence)
        elif not self._changed(item):
            self._note_no_audio(item, sentence)

    def on_encoded(self, encoded: EncodedSound) -> None:
        """Write the entry."""
        if self._changed(encoded.item):
            return
        try:
            self._write(encoded)
        except ContentError as error:
            self._fail(encoded.item, type(error).__name__, str(error))

    def _write(self, encoded: EncodedSound) -> None:
        attributes = attributes_of(encoded, self._encoder, self._options.windows)
        windows, count = self._options.windows, len(encoded.features)
        numbers = np.arange(count, dtype=np.int64)
        write_entry(
            self._prepared.cache_dir,
            attributes,
            encoded.features,
            numbers.astype(np.float64) * (windows.hop_samples * 1000.0 / SAMPLE_RATE),
            numbers,
            quality={"duration_ms": encoded.durations_ms, "rms_db": encoded.rms_db},
        )
        self._forget_failure(encoded.item)
        self.summary.extracted += 1
        self.summary.partial += not attributes.complete
        self.summary.windows += count
        self.summary.sound_seconds += attributes.duration_s
        damage = "" if attributes.complete else ", the rest is damaged; cached with complete = false"
        self._progress.item(encoded.item, f"{count} windows of {attributes.duration_s:.1f} s of sound{damage}")

    def _note_no_audio(self, item: HashedItem, sentence: str) -> None:
        """Note that a file has no audio track: not a failure, but it need not be opened again either."""
        self.summary.without_audio += 1
        self._without_audio.add(item.sha256)
        self._remember(item, NO_AUDIO, sentence)
        self._progress.item(item, "no audio track")

    def _remember(self, item: HashedItem, error: str, sentence: str) -> None:
        """See `Session`; a file that cannot be read is not noted: nothing is known about its sound."""
        if item.sha256:
            super()._remember(item, error, sentence)
