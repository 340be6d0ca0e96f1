"""The worker's side of a run over sounds: decode a file, cut it into windows, and ship them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...cache.common.errors import MediaError
from ...cache.common.quoting import quoted
from ..workers.messages import ShipSamples, SoundDone, SoundTask
from ..workers.shared_pages import PAGE_SAMPLES
from .reader import open_sound
from .windows import cut_windows, level_db


@dataclass(frozen=True)
class WindowsTask(SoundTask):
    """Decode the windows of a file's sound.

    What is shipped are whole windows, one after the other; the last one of all alone may be shorter.

    Attributes:
        path: a video or an audio file.
        window: samples of a window.
        hop: samples from the start of a window to that of the next.
    """

    path: Path
    window: int
    hop: int

    def carry_out(self, ship: ShipSamples, beat: Callable[[], None]) -> SoundDone:
        """See `SoundTask`; no more than a page of windows is held.

        Raises:
            NoAudioError: if the file has no audio track.
            MediaError: if the file, or all its sound, cannot be decoded.
        """
        page = np.empty(PAGE_SAMPLES, np.float32)
        filled = 0
        levels: list[float] = []
        with open_sound(self.path, beat) as sound:
            for samples in cut_windows(sound.blocks(), self.window, self.hop):
                levels.append(level_db(samples))
                page[filled : filled + len(samples)] = samples
                filled += len(samples)
                if filled + self.window > len(page):
                    ship(page[:filled])
                    filled = 0
        if filled:
            ship(page[:filled])
        if not levels:
            raise MediaError(f"{quoted(self.path)} has no sound that can be decoded, or none after its first picture")
        return SoundDone(sound.codec, sound.errors, np.array(levels, np.float32))
