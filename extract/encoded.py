"""An item with all its features, put together from the spans of its video."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..cache.common.errors import NoLibraryError
from ..cache.format.sampling import Sampling
from ..cache.format.schema import Features
from .inputs import HashedItem
from .video.index import VideoIndex
from .video.pixel_measures import Measures
from .workers.messages import SpanDone, TaskFailed


@dataclass(frozen=True)
class EncodedItem:
    """An item with all its features.

    Attributes:
        item: what was encoded.
        index: the video's index; None for images.
        sampling: which of its frames were asked for.
        frames_wanted: how many these are.
        spans: how each span went, in order.
        features: (N, D) float16 or float32 as asked for, one row per frame.
        timestamps_ms: (N,) float64.
        frame_index: (N,) int64, increasing.
        quality: (N, Q) float32, as in `CollectedRows`.
        errors_otherwise: errors that decoding in another way met: the damage is there, however well this one went.
    """

    item: HashedItem
    index: VideoIndex | None
    sampling: Sampling
    frames_wanted: int
    spans: tuple[SpanDone, ...]
    features: Features
    timestamps_ms: npt.NDArray[np.float64]
    frame_index: npt.NDArray[np.int64]
    quality: Measures
    errors_otherwise: int = 0

    @property
    def errors(self) -> int:
        """Packets or pictures that are damaged or could not be decoded."""
        lost = self.index.packets_corrupt if self.index else 0
        return max(self.errors_otherwise, lost + sum(span.report.errors for span in self.spans))

    @property
    def unread(self) -> list[TaskFailed]:
        """Why images of a folder are missing, a failure for each; those that only lack a package come first."""
        found = (failure for span in self.spans for failure in span.unread)
        return sorted(found, key=lambda failure: failure.error != NoLibraryError.__name__)

    @property
    def frames_corrupt(self) -> int:
        """Frames that the decoder marked as corrupt: concealed damage, missing references."""
        return sum(span.report.corrupt for span in self.spans)

    @property
    def damage(self) -> int:
        """How much is known to be damaged: errors, corrupt frames, frames that did not come."""
        lacks = 0 if self.is_untimed else max(0, self.frames_wanted - len(self.features))
        return self.errors + self.frames_corrupt + lacks

    @property
    def is_damaged(self) -> bool:
        """Whether anything that lies in the file could not be decoded, or not well."""
        return self.damage > 0

    @property
    def complete(self) -> bool:
        """Whether every frame asked for is there and sound; an untimed video has no more to miss than what failed."""
        is_cut_short = self.index is not None and self.index.frames_missing > 0
        return not self.is_damaged and not is_cut_short

    @property
    def is_untimed(self) -> bool:
        """Whether this is a video whose frames were not known before they were decoded."""
        return self.index is not None and self.index.times_ms is None

    @property
    def timeline(self) -> str:
        """Where the times of a video come from, as in `video.timeline`; "" for images."""
        if self.index is None:
            return ""
        return self.index.timeline or self.spans[0].report.timeline

    @property
    def good_frames(self) -> int:
        """Frames without known damage."""
        return len(self.features) - self.frames_corrupt

    @property
    def frames_expected(self) -> int:
        """Frames of the whole item, before sampling."""
        if self.index is None:
            return len(self.item.item.images)
        if self.is_untimed and self.complete and self.sampling.is_all:
            return len(self.features)
        return self.index.frames_expected

    @property
    def decoders(self) -> list[str]:
        """Names of the decoders that took part, sorted."""
        return sorted(set().union(*(span.report.decoders for span in self.spans)))


def join_features(parts: list[Features], rows: int) -> Features:
    """Concatenate, giving each part back as it is copied: parts and whole together never take twice the memory."""
    width = max((part.shape[1] for part in parts), default=0)
    whole: Features = np.empty((rows, width), parts[0].dtype)
    end = rows
    while parts:
        part = parts.pop()
        if len(part):
            whole[end - len(part) : end] = part
            end -= len(part)
    return whole
