"""Cached features as a PyTorch dataset of clips, windows of consecutive frames. Importing this imports torch."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from .common.errors import UsageError
from .entry import Entry


class Clip(NamedTuple):
    """One item of a `ClipDataset`; PyTorch's `DataLoader` can batch it as it is.

    Attributes:
        features: (window, D) float32 tensor, as the model returned them: not normalised.
        timestamps_ms: (window,) float64 tensor, milliseconds.
        frame_index: (window,) int64 tensor, positions in the video.
        video_name: of the entry.
        video_sha256: of the entry.
    """

    features: torch.Tensor
    timestamps_ms: torch.Tensor
    frame_index: torch.Tensor
    video_name: str
    video_sha256: str


class ClipDataset(Dataset[Any]):
    """Windows of frames of many entries; see `FeatureCache.to_dataset`.

    No file is kept open: the dataset can be pickled and used by several loading processes at once.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        window: int,
        stride: int,
        fps: float | None = None,
        transform: Callable[[Clip], Any] | None = None,
    ) -> None:
        if window < 1 or stride < 1:
            raise UsageError(f"A clip has 1 frame or more and moves on by as many, not {window} and {stride}")
        self._window, self._stride, self._fps, self._transform = window, stride, fps, transform
        self._paths: list[Path] = [entry.path for entry in entries]
        clips = [max(0, (len(entry.slice(fps=fps)) - window) // stride + 1) for entry in entries]
        self._ends = list(accumulate(clips))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, item: int) -> Any:
        """The `item`-th clip, or what the transform makes of it; a video shorter than the window has none."""
        number = item + len(self) if item < 0 else item
        if not 0 <= number < len(self):
            raise IndexError(f"Clip {item} of {len(self)}.")
        video = bisect.bisect_right(self._ends, number)
        first = (number - (self._ends[video - 1] if video else 0)) * self._stride
        clip = self._read(Entry(self._paths[video]), first)
        return clip if self._transform is None else self._transform(clip)

    def _read(self, entry: Entry, first: int) -> Clip:
        with entry.kept_open():
            frames = entry.slice(fps=self._fps).take(np.arange(first, first + self._window))
            return Clip(
                features=torch.from_numpy(frames.features.astype(np.float32)),
                timestamps_ms=torch.from_numpy(frames.timestamps_ms.copy()),
                frame_index=torch.from_numpy(frames.frame_index.copy()),
                video_name=frames.video_name,
                video_sha256=frames.video_sha256,
            )
