"""Encode sounds into the cache: decode, cut, encode and write one file after the other."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache.common.errors import ContentError, MediaError, ModelError, NoAudioError, UsageError
from ...cache.common.quoting import quoted
from ...cache.failure_log import NO_AUDIO
from ...cache.format.schema import EntryAttributes, Features
from ...cache.format.write import write_entry
from .. import interrupts
from ..inputs import HashedItem, find_items
from ..options import SoundOptions
from ..progress import Progress, SoundSummary
from ..provenance import common_attributes
from ..session import Session
from .clap import SoundEncoder
from .plan import PreparedSound, prepare_sounds
from .reader import RESAMPLER, open_sound
from .windows import SAMPLE_RATE, Windows, cut_windows, level_db


@dataclass(frozen=True)
class EncodedSound:
    """A sound with all its features.

    Attributes:
        codec: FFmpeg's name, "aac".
        errors: packets that could not be decoded.
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
    list_file: str | os.PathLike[str] | None = None,
) -> SoundSummary:
    """Encode the sound of videos and audio files into a cache, and skip what is there.

    Args:
        inputs: files, folders and globs; images among them are left out.
        cache_dir: the cache; made if need be.
        options: how; None for the defaults.
        list_file: a file with further paths, one a line or in the `path` column of a CSV.

    Returns:
        How it went. Files that could not be decoded are in `failures` and in `<cache>/failed.jsonl`.

    Raises:
        UsageError: if there is nothing to work on, or a package is missing.
        ModelError: if there is no such model, or it cannot be used.
        CacheError: if the cache cannot be written.
    """
    items = find_items(inputs, list_file, sounds=True, on_left_out=lambda _: None)
    return carry_out(prepare_sounds(items, Path(cache_dir), options or SoundOptions()))


def carry_out(prepared: PreparedSound) -> SoundSummary:
    """Do what was decided.

    Raises:
        UsageError: if this machine does not have the device, or windows are longer than the model takes.
        ModelError: if the model cannot be loaded.
        CacheError: if the cache cannot be written.
    """
    session = _SoundSession(prepared)
    session.carry_out()
    return session.summary


def encode_sound(
    path: Path, encoder: SoundEncoder, windows: Windows, dtype: str, on_windows: Callable[[int], None]
) -> EncodedSound:
    """Decode, cut and encode one file; no more than a batch of windows is held in memory.

    Args:
        path: a video or an audio file.
        encoder: encodes the windows.
        windows: how the sound is cut.
        dtype: "float16" or "float32", of the features.
        on_windows: called with the number of windows of each batch that is done.

    Raises:
        NoAudioError: if the file has no audio track.
        MediaError: if the file, or all its sound, cannot be decoded.
        ModelError: if the features are not finite.
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
        **common_attributes(item, encoder.files, encoder, ["pyav"]),
    )


class _SoundSession(Session):
    """One run over sounds: decodes, encodes and writes one file after the other."""

    _prepared: PreparedSound
    summary: SoundSummary

    def __init__(self, prepared: PreparedSound) -> None:
        self._options = prepared.options
        super().__init__(prepared, SoundSummary(), Progress(prepared.work, "windows", verbose=self._options.verbose))
        self._without_audio = {step.item.sha256 for step in prepared.steps if prepared.lacks_audio(step.item)}

    def _run(self) -> None:
        encoder = SoundEncoder(self._prepared.files, self._options.device, self._options.batch_size)
        if self._options.windows.samples > encoder.max_samples:
            most = encoder.max_samples / SAMPLE_RATE
            raise UsageError(
                f"This CLAP takes windows of at most {most:g} seconds", "give an --audio-window of no more"
            )
        for item in self._prepared.work:
            interrupts.check()
            self._progress.begin(item)
            self._extract(item, encoder)

    def _note_failed_before(self, item: HashedItem) -> None:
        if item.sha256 in self._without_audio:
            self.summary.without_audio += 1
        else:
            super()._note_failed_before(item)

    def _note_duplicate(self, item: HashedItem) -> None:
        if item.sha256 in self._without_audio:
            self.summary.without_audio += 1
        else:
            super()._note_duplicate(item)

    def _extract(self, item: HashedItem, encoder: SoundEncoder) -> None:
        options = self._options
        try:
            encoded = encode_sound(item.item.path, encoder, options.windows, options.dtype, self._progress.advance)
            if not self._changed(item):
                self._write(item, encoded, attributes_of(item, encoded, encoder, options.windows))
        except NoAudioError as error:
            self._note_no_audio(item, str(error))
        except (MediaError, ContentError, ModelError) as error:
            self._fail(item, type(error).__name__, str(error))

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
        self._forget_failure(item)
        self.summary.extracted += 1
        self.summary.partial += not attributes.complete
        self.summary.windows += count
        self.summary.sound_seconds += attributes.duration_s
        damage = "" if attributes.complete else ", the rest is damaged; cached with complete = false"
        self._progress.item(item, f"{count} windows of {attributes.duration_s:.1f} s of sound{damage}")

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
