"""Which stretches of a sound are encoded: windows as index arithmetic, and the cutting of a stream into them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...cache.common.errors import UsageError
from ...cache.format.sampling import Sampling

SAMPLE_RATE = 48_000
"""Samples a second of the sound that CLAP takes."""

SILENCE_DB = -120.0
"""Level of silence, and the floor of all levels: under the last bit of 16."""

LEAST_SAMPLES = 4_800
"""What a window must add to the sound before it: 0.1 s."""

_MAX_S = 10.0
_MIN_S = 0.1

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Windows:
    """How sound is cut: window n starts at `n * hop_s`, and there are as many as it takes to reach the end.

    Less than a tenth of a second past the end of a window gives no further one: encoders of sound pad it by some
    hundredths, and a feature of those would weigh as much as one of ten seconds.

    Attributes:
        window_s: length in seconds, 0.1 to 10 (the most that CLAP takes at once), in whole milliseconds.
        hop_s: from start to start in seconds, 0.1 or more, in whole milliseconds; more than `window_s` leaves gaps.

    Raises:
        UsageError: if one is out of range.
    """

    window_s: float = 10.0
    hop_s: float = 10.0

    def __post_init__(self) -> None:
        if not _MIN_S <= self.window_s <= _MAX_S:
            raise UsageError(f"--audio-window must lie between {_MIN_S} and {_MAX_S:g} seconds, not {self.window_s:g}")
        Sampling(window_s=self.window_s, hop_s=self.hop_s)  # which refuses a hop that makes no sense
        object.__setattr__(self, "window_s", round(float(self.window_s), 3))
        object.__setattr__(self, "hop_s", round(float(self.hop_s), 3))

    @property
    def sampling(self) -> Sampling:
        """What an entry records of its windows; "all" for the default."""
        return Sampling() if self == Windows() else Sampling(window_s=self.window_s, hop_s=self.hop_s)

    @property
    def samples(self) -> int:
        """Samples of a full window, at 48 kHz."""
        return round(self.window_s * SAMPLE_RATE)

    @property
    def hop_samples(self) -> int:
        """Samples from start to start, at 48 kHz."""
        return round(self.hop_s * SAMPLE_RATE)


def count_windows(length: int, window: int, hop: int, least: int = LEAST_SAMPLES) -> int:
    """Return how many windows a sound of `length` samples has; see `cut_windows`."""
    if length <= 0:
        return 0
    reach = length - least
    return 1 + max(0, min(reach // hop, (reach - window) // hop + 1))


def cut_windows(blocks: Iterable[Samples], window: int, hop: int, least: int = LEAST_SAMPLES) -> Iterator[Samples]:
    """Cut a stream of samples into windows, holding no more than a window and a block.

    Args:
        blocks: mono samples in order, in pieces of any length.
        window: samples of a window.
        hop: samples from start to start, `least` or more.
        least: samples that a window after the first must have beyond the one before it.

    Yields:
        `count_windows` pieces of 1 to `window` samples; all but the last are full.
    """
    held: list[Samples] = []
    start = end = 0  # of what is held, as positions in the sound; start may lie ahead of end while a gap passes
    reached = 0  # where the last window given ended
    for block in blocks:
        fresh = block[max(0, start - end) :]
        end += len(block)
        if len(fresh):
            held.append(fresh)
        while end - start >= window:
            whole = np.concatenate(held)
            yield whole[:window]
            reached = start + window
            start += hop
            held = [whole[hop:]] if hop < len(whole) else []
    if end - max(start, reached) >= (least if reached else 1):
        yield np.concatenate(held)


def level_db(samples: Samples) -> float:
    """Root mean square in dB of full scale (a full square wave is 0), at least `SILENCE_DB`."""
    power = float(np.mean(np.square(samples, dtype=np.float64)))
    return max(SILENCE_DB, 10.0 * float(np.log10(power))) if power > 0 else SILENCE_DB
