"""What the parent and its decoding workers say to each other.

Messages are pickled over a socket pair; pixels and samples never are: they cross in pages of shared memory
(`shared_pages`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...cache.format.sampling import Sampling
from ..video.collector import CollectedRows
from ..video.decode import Span
from ..video.delivery import DecodeReport
from ..video.index import VideoIndex
from ..video.timeline import BoolArray

ShipSamples = Callable[[npt.NDArray[np.float32]], None]
"""Takes mono samples, no more than a page holds; they may be overwritten afterwards."""


@dataclass(frozen=True)
class IndexTask:
    """Read a video's index."""

    path: Path


@dataclass(frozen=True)
class SpanTask:
    """Decode a span of a video.

    Attributes:
        path: the video.
        index: its index, or the part that the span needs.
        span: the segments to decode.
        wanted: as in `decode_span`.
        decoder: "auto", "decord" or "pyav".
        is_picked: whether the frames wanted lie so far apart that `decode_picked` pays.
        measured: take the measures of `pixel_measures` too.
        skip: pictures at the beginning that are encoded already and need not be shipped.
    """

    path: Path
    index: VideoIndex = field(repr=False)
    span: Span
    wanted: BoolArray = field(repr=False)
    decoder: str
    is_picked: bool = False
    measured: bool = False
    skip: int = 0


@dataclass(frozen=True)
class WholeTask:
    """Decode a video in one piece.

    Attributes:
        path: the video.
        index: its index.
        sampling: which frames, where the index has no times.
        wanted: which frames, as in `decode_whole`, where it has.
        by_count: as in `decode_whole`.
        threads: of the decoder; None for the worker's own choice.
        measured: take the measures of `pixel_measures` too.
        skip: pictures at the beginning that are encoded already and need not be shipped.
    """

    path: Path
    index: VideoIndex = field(repr=False)
    sampling: Sampling
    wanted: BoolArray | None = field(default=None, repr=False)
    by_count: bool = False
    threads: int | None = None
    measured: bool = False
    skip: int = 0


@dataclass(frozen=True)
class ImagesTask:
    """Read picture files; `rows` are their positions in the item, and `is_whole` says that it wants no others.

    `measured` asks for the measures of `quality`.
    """

    paths: tuple[Path, ...] = field(repr=False)
    rows: tuple[int, ...] = field(repr=False)
    is_whole: bool = True
    measured: bool = False


class SoundTask(ABC):
    """Decode sound. The task says itself how that is done, as this package knows pictures alone."""

    @abstractmethod
    def carry_out(self, ship: ShipSamples, beat: Callable[[], None]) -> SoundDone:
        """Decode it.

        Args:
            ship: receives the samples in order.
            beat: called often, to show that work goes on.
        """


PictureTask = IndexTask | SpanTask | WholeTask | ImagesTask
Task = PictureTask | SoundTask


@dataclass(frozen=True)
class PageFree:
    """To the worker: the page may be written again."""

    page: int


@dataclass(frozen=True)
class Stop:
    """To the worker: leave."""


@dataclass(frozen=True)
class Indexed:
    """From the worker: the answer to an `IndexTask`."""

    index: VideoIndex


@dataclass(frozen=True)
class PageFull:
    """From the worker: the first `count` pictures or samples of a page are ready."""

    page: int
    count: int


@dataclass(frozen=True)
class SpanDone:
    """From the worker: a span or a run of images is through; all its pages were announced before.

    `width` and `height` are those of the first picture; 0 for video spans, whose index has them. `unread` says why
    images could not be read, one failure for each.
    """

    collected: CollectedRows
    report: DecodeReport
    width: int = 0
    height: int = 0
    unread: tuple[TaskFailed, ...] = ()


@dataclass(frozen=True)
class SoundDone:
    """From the worker: a sound is through; all its pages were announced before.

    Attributes:
        codec: FFmpeg's name, "aac".
        errors: packets that could not be decoded.
        rms_db: (M,) float32, level of each window in dB of full scale.
    """

    codec: str
    errors: int
    rms_db: npt.NDArray[np.float32] = field(repr=False)


@dataclass(frozen=True)
class TaskFailed:
    """From the worker: the task raised. `error` is the exception's class name, `sentence` its text.

    From the pool, where the worker was lost over the task: `is_lost`, and `error` says how.
    """

    error: str
    sentence: str
    is_lost: bool = False


@dataclass(frozen=True)
class Beat:
    """From the worker: still decoding."""


Reply = Indexed | PageFull | SpanDone | SoundDone | TaskFailed | Beat
