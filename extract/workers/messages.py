"""What the parent and its decoding workers say to each other.

Messages are pickled over a socket pair; pixels never are: they cross in pages of shared memory (`pages`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..video.collector import CollectedRows
from ..video.decode import DecodeReport, Span
from ..video.index import BoolArray, VideoIndex


@dataclass(frozen=True)
class IndexTask:
    """Read a video's index."""

    path: Path


@dataclass(frozen=True)
class SpanTask:
    """Decode a span of a video. `wanted` as in `decode_span`; `measured` asks for the measures of `quality`."""

    path: Path
    index: VideoIndex = field(repr=False)
    span: Span
    decoder: str
    wanted: BoolArray | None = field(default=None, repr=False)
    measured: bool = False


@dataclass(frozen=True)
class ImagesTask:
    """Read picture files; `rows` are their positions in the item, and `is_whole` says that it wants no others.

    `measured` asks for the measures of `quality`.
    """

    paths: tuple[Path, ...] = field(repr=False)
    rows: tuple[int, ...] = field(repr=False)
    is_whole: bool = True
    measured: bool = False


Task = IndexTask | SpanTask | ImagesTask


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
    """From the worker: the first `count` pictures of a page are ready."""

    page: int
    count: int


@dataclass(frozen=True)
class SpanDone:
    """From the worker: a span or a run of images is through; all its pages were announced before.

    `width` and `height` are those of the first picture; 0 for video spans, whose index knows. `unread` says
    why images cannot be read, one of them each.
    """

    collected: CollectedRows
    report: DecodeReport
    width: int = 0
    height: int = 0
    unread: tuple[TaskFailed, ...] = ()


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


Reply = Indexed | PageFull | SpanDone | TaskFailed | Beat
