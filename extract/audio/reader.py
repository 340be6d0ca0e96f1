"""Sound of a file as mono samples at 48 kHz, each where its timestamp says, streamed.

Packets give frames and frames mono pieces (`Sound`); pieces are laid on the file's clock, where a lost packet leaves
silence and not a shift (`place`); the whole is resampled (`_resample`). Each step is a generator that holds about a
second, so that hours of sound take no more memory than minutes.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np

from ...cache.common.errors import MediaError, NoAudioError
from ...cache.common.quoting import quoted
from ..video.container import SOUND_FORMATS, main_video_stream, open_media
from .windows import SAMPLE_RATE, Samples

RESAMPLER = "soxr HQ"

JITTER_S = Fraction(15, 1000)
"""Timestamps may be off by this much, as containers round them; more is a gap or an overlap. Lost packets are longer:
1024 samples of AAC are 21 ms at 48 kHz."""

MAX_GAPS_S = 86_400
"""Silence for lost packets, in all: timestamps that leave out more than a day are wrong, or chosen to waste time."""

_RATES = range(1_000, 768_001)
# A full-scale sample by NumPy's kind and size of the sample format; floats are as they are.
_FULL_SCALE = {"u1": 2.0**7, "i2": 2.0**15, "i4": 2.0**31, "i8": 2.0**63}


@dataclass(frozen=True)
class Piece:
    """Consecutive mono samples.

    Attributes:
        start_s: seconds on the sound's clock of the first one; None: right after the piece before.
        samples: (n,) float32, 1.0 is full scale.
        rate: samples a second.
    """

    start_s: Fraction | None
    samples: Samples
    rate: int

    @property
    def duration_s(self) -> Fraction:
        """Seconds that it lasts."""
        return Fraction(len(self.samples), self.rate)


class Sound:
    """The sound of an open file, to be read once.

    Attributes:
        codec: FFmpeg's name, "aac".
        errors: packets and frames so far that could not be used: damaged, or overlapping earlier ones.
    """

    def __init__(
        self, container: Any, stream: Any, path: str | os.PathLike[str], beat: Callable[[], None] = lambda: None
    ) -> None:
        """`open_sound` makes one."""
        self.codec: str = stream.codec_context.name
        self.errors = 0
        self._container = container
        self._stream = stream
        self._path = path
        self._beat = beat

    def blocks(self) -> Iterator[Samples]:
        """The samples: mono, float32, 48 kHz, in pieces of about a second.

        Sample n is heard n / 48000 seconds after the first picture; in a file without pictures, after the first
        sound. What is heard before the first picture is left out, and so are packets that cannot be decoded: both
        are silence where something follows.

        Raises:
            MediaError: if the timestamps leave out more than a day, or the sample rate is out of range.
        """
        placed = place(self._pieces(), self._note_error, self._path)
        for rate, pieces in itertools.groupby(placed, key=lambda piece: piece.rate):
            yield from _resample(_gather((piece.samples for piece in pieces), rate), rate)

    def _note_error(self) -> None:
        self.errors += 1

    def _pieces(self) -> Iterator[Piece]:
        zero_s = _video_start_s(self._container)
        for frame in self._frames():
            try:
                samples = mono(frame)
            except ValueError:  # a sample format that PyAV cannot lay out
                samples = None
            if samples is None or not np.isfinite(samples).all():
                self._note_error()
                continue
            if frame.sample_rate not in _RATES:
                raise MediaError(f"{quoted(self._path)} has {frame.sample_rate} samples a second", "convert it first")
            start_s = None if frame.pts is None else Fraction(frame.pts) * frame.time_base
            if zero_s is None:
                zero_s = start_s
            yield Piece(start_s if start_s is None or zero_s is None else start_s - zero_s, samples, frame.sample_rate)

    def _frames(self) -> Iterator[Any]:
        """Frames as they come; what is damaged is counted and left out."""
        packets = self._container.demux(self._stream)
        while True:
            self._beat()
            try:
                packet = next(packets, None)  # an error in reading ends the packets: the next one is None
                if packet is None:
                    return
                frames = packet.decode()
            except av.EOFError:
                return
            except MemoryError:  # FFmpeg's too: it says nothing of the file
                raise
            except (av.FFmpegError, ValueError):
                self._note_error()
            else:
                yield from frames


@contextmanager
def open_sound(path: str | os.PathLike[str], beat: Callable[[], None] = lambda: None) -> Iterator[Sound]:
    """Open the main audio track of a video or an audio file; `beat` is called for every packet that is read.

    Raises:
        NoAudioError: if the file has no audio track.
        MediaError: if the file is missing, empty or not a media file, or its sound is of a codec that FFmpeg lacks.
    """
    with open_media(path, SOUND_FORMATS, "video or audio file") as container:
        if not container.streams.audio:
            raise NoAudioError(f"{quoted(path)} has no audio track")
        stream = container.streams.best("audio") or container.streams.audio[0]
        if stream.codec_context is None:
            raise MediaError(f"FFmpeg cannot decode the sound of {quoted(path)}", "convert it to another codec")
        yield Sound(container, stream, path, beat)


def mono(frame: Any) -> Samples:
    """The mean of a frame's channels, (n,) float32 where 1.0 is full scale.

    Not FFmpeg's own downmix, which adds 3 dB to what all channels share.
    """
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    kind = samples.dtype.str[1:]
    mean = samples.mean(axis=0, dtype=np.float64)
    if kind == "u1":
        mean -= 128.0
    averaged: Samples = (mean / _FULL_SCALE.get(kind, 1.0)).astype(np.float32)
    return averaged


def place(pieces: Iterable[Piece], on_error: Callable[[], None], path: str | os.PathLike[str]) -> Iterator[Piece]:
    """Place pieces by their timestamps, from 0 on: silence in the gaps, and of overlapping pieces the first.

    Args:
        pieces: pieces in the order of the file.
        on_error: called for each piece that is not used, or only in part, because it overlaps an earlier one.
        path: path of the file, for errors.

    Yields:
        Pieces that follow one another without gaps, `start_s` left out.

    Raises:
        MediaError: if the gaps are longer than `MAX_GAPS_S` in total.
    """
    reached_s = gaps_s = Fraction(0)
    begun = False
    for piece in pieces:
        late_s = Fraction(0) if piece.start_s is None else piece.start_s - reached_s
        if begun and abs(late_s) <= JITTER_S:
            late_s = Fraction(0)
        gaps_s += max(late_s, Fraction(0))
        if gaps_s > MAX_GAPS_S:
            raise MediaError(
                f"The timestamps of the sound of {quoted(path)} leave out more than a day", "remux the file"
            )
        for silence in _silence(round(late_s * piece.rate), piece.rate):
            yield silence
            reached_s += silence.duration_s
        kept = Piece(None, piece.samples[max(0, round(-late_s * piece.rate)) :], piece.rate)
        if begun and len(kept.samples) < len(piece.samples):
            on_error()
        if len(kept.samples):
            begun = True
            reached_s += kept.duration_s
            yield kept


def _silence(samples: int, rate: int) -> Iterator[Piece]:
    """Yield so many zeros, a second at a time; none for a negative number."""
    for start in range(0, samples, rate):
        yield Piece(None, np.zeros(min(rate, samples - start), np.float32), rate)


def _gather(pieces: Iterable[Samples], least: int) -> Iterator[Samples]:
    """Join pieces until each has `least` samples or more, but for the last."""
    held: list[Samples] = []
    for piece in pieces:
        held.append(piece)
        if sum(map(len, held)) >= least:
            yield np.concatenate(held)
            held = []
    if held:
        yield np.concatenate(held)


def _resample(blocks: Iterable[Samples], rate: int) -> Iterator[Samples]:
    """Resample from `rate` to 48 kHz."""
    if rate == SAMPLE_RATE:
        yield from blocks
        return
    import soxr

    stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def _video_start_s(container: Any) -> Fraction | None:
    """Seconds on the file's clock at which its pictures start; None for a file without pictures."""
    stream = main_video_stream(container)
    if stream is None or stream.start_time is None:
        return None
    return Fraction(stream.start_time) * Fraction(stream.time_base)
