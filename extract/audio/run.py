"""Sounds in, entries out: decode, cut, encode and write one file after the other."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache.common.atomic import remove_stale_temporaries
from ...cache.common.errors import CacheError, ContentError, MediaError, ModelError, NoAudioError, UsageError
from ...cache.common.quoting import quoted
from ...cache.failure_log import NO_AUDIO, Failure, FailureLog
from ...cache.format.schema import SCHEMA_VERSION, EntryAttributes
from ...cache.format.write import write_entry
from ..inputs import HashedItem, find_items
from ..plan import Action
from ..provenance import decoder_version, now
from .clap import SoundEncoder
from .plan import PreparedSound, SoundOptions, prepare_sounds
from .progress import SoundProgress, SoundSummary
from .reader import RESAMPLER, open_sound
from .windows import SAMPLE_RATE, Windows, cut_windows, level_db

Features = npt.NDArray[np.float16] | npt.NDArray[np.float32]


@dataclass(frozen=True)
class EncodedSound:
    """A sound with all its features.

    Attributes:
        codec: FFmpeg's name, "aac".
        errors: Packets that could not be decoded.
        features: (M, D) float16 or float32, a row per window.
        durations_ms: (M,) float32, milliseconds of sound in each window; the last may be short.
        rms_db: (M,) float32, level in dB of full scale, -120 or more.
    """

    codec: str
    errors: int
    features: Features
    durations_ms: npt.NDArray[np.float32]
    rms_db: npt.NDArray[np.float32]


def extract_sounds(
    inputs: Sequence[str | os.PathLike[str]],
    cache_dir: str | os.PathLike[str] = "features",
    options: SoundOptions | None = None,
    *,
    list_file: Path | None = None,
) -> SoundSummary:
    """Encode the sound of videos and audio files into a cache, and skip what is there.

    Args:
        inputs: Files, folders and globs; images among them are left out.
        cache_dir: The cache; made if need be.
        options: How; None for the defaults.
        list_file: A file with further paths, one a line or in the `path` column of a CSV.

    Returns:
        How it went. Files that could not be decoded are in `failures` and in `<cache>/failed.jsonl`.

    Raises:
        UsageError: Nothing to work on, an option out of range, or a package is missing.
        ModelError: There is no such model, or it cannot serve.
        CacheError: The cache cannot be written.
    """
    items = find_items(inputs, list_file, sounds=True, on_left_out=lambda _: None)
    return carry_out(prepare_sounds(items, Path(cache_dir), options or SoundOptions()))


def carry_out(prepared: PreparedSound) -> SoundSummary:
    """Do what was decided.

    Raises:
        UsageError: A device that this machine does not have, or windows longer than the model hears.
        ModelError: The model cannot be loaded.
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


def encode_sound(
    path: Path, encoder: SoundEncoder, windows: Windows, dtype: str, on_windows: Callable[[int], None]
) -> EncodedSound:
    """Decode, cut and encode one file; of its sound no more than a batch of windows is held.

    Args:
        path: A video or an audio file.
        encoder: Encodes the windows.
        windows: How the sound is cut.
        dtype: "float16" or "float32", of the features.
        on_windows: Told of so many more windows done.

    Raises:
        NoAudioError: The file has no audio track.
        MediaError: The file, or all its sound, cannot be decoded.
        ModelError: The features are not finite.
    """
    features: list[npt.NDArray[Any]] = []
    lengths: list[int] = []
    levels: list[float] = []
    with open_sound(path) as sound:
        cut = cut_windows(sound.blocks(), windows.samples, windows.hop_samples)
        while batch := list(islice(cut, encoder.placement.batch_size)):
            features.append(encoder.encode(batch).astype(dtype))
            lengths += map(len, batch)
            levels += map(level_db, batch)
            on_windows(len(batch))
    if not features:
        raise MediaError(f"{quoted(path)} has no sound that can be decoded, or none after its first picture")
    if not all(np.isfinite(rows).all() for rows in features):
        raise ModelError(f"The model gives features of {quoted(path)} that are not finite", "check its weights")
    durations_ms = np.array(lengths, np.float32) / np.float32(SAMPLE_RATE / 1000)
    return EncodedSound(sound.codec, sound.errors, np.concatenate(features), durations_ms, np.array(levels, np.float32))


def attributes_of(item: HashedItem, encoded: EncodedSound, encoder: SoundEncoder, windows: Windows) -> EntryAttributes:
    """The attributes of the entry that an encoded sound becomes."""
    import torch

    count = len(encoded.features)
    return EntryAttributes(
        schema_version=SCHEMA_VERSION,
        clipcache_version=metadata.version("clipcache"),
        created=now(),
        complete=encoded.errors == 0,
        source_kind="audio",
        video_name=os.path.basename(os.path.abspath(item.item.path)),  # noqa: PTH100, PTH119  as for pictures
        video_sha256=item.sha256,
        video_bytes=item.size,
        fps=1.0 / windows.hop_s,
        duration_s=(count - 1) * windows.hop_s + float(encoded.durations_ms[-1]) / 1000.0,
        width=0,
        height=0,
        rotation=0,
        codec=encoded.codec,
        frames_expected=count,
        frames_decoded=count,
        model=encoder.files.model,
        weights_sha256=encoder.files.sha256,
        embed_dim=encoder.embed_dim,
        input_size=windows.samples,
        logit_scale=encoder.logit_scale,
        precision=encoder.placement.precision,
        preprocess=(
            f"clap: {SAMPLE_RATE} Hz mono, window {windows.window_s:g} s, hop {windows.hop_s:g} s, {RESAMPLER}"
        ),
        sampling=str(windows.sampling),
        decoder="pyav",
        decoder_version=decoder_version("pyav"),
        torch_version=torch.__version__,
    )


class _Session:
    """One run: writes entries and failures, counts."""

    def __init__(self, prepared: PreparedSound) -> None:
        self._prepared = prepared
        self._options = prepared.options
        self._failures = FailureLog(prepared.cache_dir)
        self._progress = SoundProgress(len(prepared.work), verbose=prepared.options.verbose)
        self._given_up: set[str] = set()
        self._mute = {step.item.sha256 for step in prepared.steps if prepared.lacks_audio(step.item)}
        self._started = time.monotonic()
        self.summary = SoundSummary()

    def note_skipped(self) -> None:
        """Count what needs no work, and report what cannot be read."""
        for step in self._prepared.steps:
            if step.item.problem is not None:
                self._fail(step.item, type(step.item.problem).__name__, str(step.item.problem), remember=False)
                continue
            if step.action is Action.HIT:
                self.summary.cached += 1
            elif step.action is Action.FAILED_BEFORE and step.item.sha256 in self._mute:
                self.summary.without_audio += 1
            elif step.action is Action.FAILED_BEFORE:
                self.summary.failed_before += 1
                self._given_up.add(step.item.sha256)
            if not step.is_work:
                self._progress.item(step.item, self._prepared.action(step))

    def run(self) -> None:
        """Decode, encode and write."""
        try:
            self._prepared.cache_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            folder = quoted(self._prepared.cache_dir)
            raise CacheError(
                f"Cannot make the cache {quoted(folder)}: {error.strerror}", "choose another --cache"
            ) from error
        remove_stale_temporaries(self._prepared.cache_dir)
        encoder = SoundEncoder(self._prepared.files, self._options.device, self._options.batch_size)
        if self._options.windows.samples > encoder.max_samples:
            most = encoder.max_samples / SAMPLE_RATE
            raise UsageError(f"This CLAP hears {most:g} seconds at once", "give an --audio-window of no more")
        for item in self._prepared.work:
            self._progress.begin(item)
            self._extract(item, encoder)

    def note_duplicates(self) -> None:
        """Copies share the fate of the file they are copies of."""
        for step in self._prepared.steps:
            if step.action is not Action.DUPLICATE:
                continue
            if step.item.sha256 in self._mute:
                self.summary.without_audio += 1
            elif step.item.sha256 in self._given_up:
                self.summary.failed += 1
            else:
                self.summary.cached += 1

    def close(self) -> None:
        """End the bar and the clock."""
        self._progress.close()
        self.summary.seconds = time.monotonic() - self._started

    def _extract(self, item: HashedItem, encoder: SoundEncoder) -> None:
        options = self._options
        try:
            encoded = encode_sound(item.item.path, encoder, options.windows, options.dtype, self._progress.windows)
            if item.has_changed():
                self._fail(item, "FileChanged", "It changed while it was read; run again.", remember=False)
                return
            self._write(item, encoded, attributes_of(item, encoded, encoder, options.windows))
        except NoAudioError as error:
            self._note_mute(item, str(error))
        except (MediaError, ContentError) as error:
            self._fail(item, type(error).__name__, str(error))
        except ModelError as error:
            self._fail(item, type(error).__name__, str(error), remember=False)

    def _write(self, item: HashedItem, encoded: EncodedSound, attributes: EntryAttributes) -> None:
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
        if item.sha256 in self._prepared.known:
            self._failures.forget([item.sha256], self._prepared.model_dir)
        self.summary.extracted += 1
        self.summary.partial += not attributes.complete
        self.summary.windows += count
        self.summary.sound_seconds += attributes.duration_s
        damage = "" if attributes.complete else ", the rest is damaged; cached with complete = false"
        self._progress.item(item, f"{count} windows of {attributes.duration_s:.1f} s of sound{damage}")

    def _note_mute(self, item: HashedItem, sentence: str) -> None:
        """Remember that there is nothing to hear: no failure, but no reason to look again either."""
        self.summary.without_audio += 1
        self._mute.add(item.sha256)
        self._remember(item, NO_AUDIO, sentence)
        self._progress.item(item, "no audio track")

    def _fail(self, item: HashedItem, error: str, sentence: str, *, remember: bool = True) -> None:
        """Note a failure for this run and, unless it says nothing of the file, for the next ones."""
        path = os.fspath(item.item.path)
        sentence = sentence if quoted(path) in sentence else f"{quoted(path)}: {sentence}"
        self.summary.failed += 1
        self.summary.failures[path] = sentence
        self._given_up.add(item.sha256)
        self._progress.say(f"clipcache: {sentence}")
        if remember:
            self._remember(item, error, sentence)

    def _remember(self, item: HashedItem, error: str, sentence: str) -> None:
        known = self._prepared.known.get(item.sha256)
        if known is None or known.error != error:
            path = os.fspath(item.item.path)
            self._failures.append(Failure(path, item.sha256, error, sentence, now(), self._prepared.model_dir))
