"""One pass over cached videos for many queries, a block of features at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...cache import Entry
from ...cache.common.errors import CacheError, UsageError
from ...cache.common.progress import counted
from ...cache.format.schema import TIMED_KINDS
from ...cache.select import OnSkip
from ..compare import FrameSelection, check_finite, check_frames
from ..similarity import TILE_ROWS, unit_rows

COSINES_IN_MEMORY = 32_000_000  # 128 MB of float32; a video with more is read again for the other queries


@dataclass(frozen=True)
class Source:
    """The video, image or image folder of an entry, with what a found frame needs of it."""

    entry: Path
    name: str  # of the video when it was extracted
    sha256: str  # of its content, 64 hex digits
    bytes: int
    kind: str  # "video", "image", "image-folder" or "audio"
    fps: float  # frames per second; 0.0 where unknown
    zero_ms: float  # timestamp of the first frame, milliseconds on the container's clock

    @property
    def has_clock(self) -> bool:
        """Whether its frames have a time; images have none."""
        return self.kind in TIMED_KINDS


@dataclass(frozen=True)
class VideoScores:
    """The cosines of one video's frames with some of the queries."""

    video: Entry  # the frames that count
    source: Source
    first_query: int  # number of the query of the first row
    cosines: NDArray[np.float32] = field(repr=False)  # (R, N), queries by frames, in [-1, 1]


def scan(
    entries: Sequence[Path], directions: NDArray[np.float32], selection: FrameSelection, on_skip: OnSkip
) -> Iterator[VideoScores]:
    """Score every frame of every entry with every query.

    Args:
        entries: paths of the entries, of one model.
        directions: (Q, D), rows of length one.
        selection: which frames count.
        on_skip: called with each entry that cannot be scored, and the reason.

    Yields:
        The videos in order; one more than once only where N * Q cosines would exceed COSINES_IN_MEMORY.
    """
    for path in counted(entries, "Searching", len(entries)):
        entry = Entry(path)
        try:
            with entry.kept_open():
                yield from _scan_one(selection.of(entry), directions)
        except (CacheError, UsageError) as error:
            on_skip(path, error)


def _scan_one(video: Entry, directions: NDArray[np.float32]) -> Iterator[VideoScores]:
    """Score one video, as many queries at a time as memory allows."""
    attributes = video.attributes
    source = Source(
        entry=video.path,
        name=attributes.video_name,
        sha256=attributes.video_sha256,
        bytes=attributes.video_bytes,
        kind=attributes.source_kind,
        fps=attributes.fps,
        zero_ms=video.zero_ms,
    )
    group = max(1, COSINES_IN_MEMORY // len(video))
    for first in range(0, len(directions), group):
        yield VideoScores(video, source, first, _cosines(video, directions[first : first + group]))


def _cosines(video: Entry, directions: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (R, N) cosines of R directions with the N frames of a video."""
    cosines = np.empty((len(directions), len(video)), np.float32)
    row = 0
    for block in video.iter_features(TILE_ROWS):
        cosines[:, row : row + len(block)] = directions @ unit_rows(block).T
        row += len(block)
    check_finite(cosines, video)
    check_frames(video, (cosines == 0).all(axis=0))
    return cosines.clip(-1, 1, out=cosines)
