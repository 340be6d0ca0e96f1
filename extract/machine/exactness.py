"""`clipcache doctor --videos`: is every frame of a library decoded exactly?

The run is the real one, with all that it proves and falls back to; only the model is replaced by an encoder that
returns checksums, and nothing is cached. Pictures, their order and their times are compared with a plain decode of each
video.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...cache.common.errors import UsageError
from ...cache.common.progress import Bar
from ...cache.common.quoting import one_line
from ...cache.common.render import table_lines
from ...cache.format.sampling import Sampling
from ..cluster.work_queue import Known, WorkQueue
from ..encoded import EncodedItem
from ..inputs import HashedItem, Item, find_items
from ..pipeline import Run
from ..video.resize import Pixels
from ..video.timeline import CONTAINER
from ..workers.pool import InProcessPool, WorkerPool
from ..workers.sizing import choose_workers
from .plain_decode import RULE, SIZE, Mark, PlainVideo, brightness_of, decode_plainly, mark_of

EXACT = "exact"
PICTURES = "wrong pictures"
ORDER = "order"
DISTORTED = "size or distortion"
TIMES = "times"
COUNT = "count"
SILENT = "complete though damaged"
DAMAGED = "damaged"
BOTH_REFUSE = "refused by both"
REFUSED = "refused though a plain decode works"
NOT_COMPARED = "not compared"

MEANINGS = {
    EXACT: "every picture, its place and its time are those of a plain decode",
    PICTURES: "some pictures are not those that a plain decode shows",
    ORDER: "the right pictures, but not in the right order",
    DISTORTED: "some pictures look like the right ones, but are scaled, moved or altered",
    TIMES: "the right pictures at wrong times",
    COUNT: "frames are missing, or there are too many",
    SILENT: "a plain decode meets damage, but the entry would say that it is complete",
    DAMAGED: "the file is damaged and the entry would say so; frames beside the damage differ",
    BOTH_REFUSE: "neither way decodes it",
    REFUSED: "a run gives it up, but a plain decode shows it",
    NOT_COMPARED: "the plain decode crashed or hung",
}
"""What the verdicts mean."""

_TIME_TOLERANCE_MS = 1e-3
_LOOKS_ALIKE = 16.0  # levels of brightness, on average over the cells of a picture
_BATCH = 64


@dataclass(frozen=True)
class Report:
    """What was found of one video.

    Attributes:
        path: the video.
        codec: FFmpeg's name; empty where it cannot be opened.
        frames: as a run decodes it; 0 where it refuses.
        frames_plain: as a plain decode gives it.
        decoder: names of the decoders of the run, joined by "+".
        timeline: where its times come from, as in `extract.video.timeline`.
        complete: as the entry would say; None where the run refuses.
        verdict: a key of `MEANINGS`.
        detail: what exactly was found, in words; empty where all is exact.
    """

    path: str
    codec: str
    frames: int
    frames_plain: int
    decoder: str
    timeline: str
    complete: bool | None
    verdict: str
    detail: str

    def as_line(self) -> str:
        """For people."""
        what = f"{self.verdict}{f' ({self.detail})' if self.detail else ''}"
        complete = "refused" if self.complete is None else "complete" if self.complete else "not complete"
        cells = [self.codec, f"{self.frames} frames", self.decoder, f"times: {self.timeline}", complete, what]
        return one_line(f"{self.path}: {', '.join(cell for cell in cells if cell and cell != 'times: ')}")


def examine_videos(
    inputs: Sequence[str | os.PathLike[str]], on_report: Callable[[Report], None], workers: int | None = None
) -> list[Report]:
    """Decode each video as a run does and plainly, and compare.

    Args:
        inputs: files, folders and globs.
        on_report: called with the report of each video as it is ready.
        workers: decoding processes of the run; 0 decodes in this process, without protection; None chooses.

    Raises:
        UsageError: there is no video.
    """
    videos = [item for item in find_items(inputs) if item.kind == "video" and item.source is None]
    if not videos:
        raise UsageError("There is no video in what --videos names", "check the path")
    count = max(1, choose_workers(None, "cuda", None).count // 2) if workers is None else workers
    pool = WorkerPool(count, SIZE, "pil", RULE) if count else InProcessPool(SIZE, "pil", RULE)
    examination = _Examination(on_report, ThreadPoolExecutor(max(1, count)), len(videos))
    try:
        run_without_model(videos, pool, examination, mark_features, examination.collect)
        examination.collect(wait=True)
    finally:
        pool.close(kill=True)
        examination.close()
    return examination.reports


def run_without_model(
    items: Iterable[Item],
    pool: WorkerPool | InProcessPool,
    events: Any,
    feature_of: Callable[[Pixels], Sequence[float]],
    on_wait: Callable[[], None] = lambda: None,
    **how: Any,
) -> None:
    """Decode items as a run does; what `feature_of` makes of a picture takes the place of its features.

    Args:
        items: videos.
        pool: decodes.
        events: receives the reports; `RunEvents`.
        feature_of: from (size, size, 3) uint8 to numbers that float32 holds.
        on_wait: called while workers decode.
        how: `sampling` and `decoder` of the run; all frames and "auto" by default.
    """
    assert pool.size is not None  # noqa: S101  it is no pool for sound
    encoder: Any = _PictureReader(feature_of, pool.size)
    hashed = (HashedItem(item, "", _size(item.path)) for item in items)
    how = {"sampling": Sampling(), "decoder": "auto", "dtype": "float32", **how}
    run = Run(WorkQueue(Known(hashed), how["sampling"]), encoder, events, **how)
    while run.has_work:
        pool.run(run, lambda seconds: on_wait())  # noqa: ARG005  how long does not matter
        run.batcher.flush()


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


class _PictureReader:
    """Stands in for a `FrameEncoder`."""

    in_flight = 1
    min_batch = 1

    def __init__(self, feature_of: Callable[[Pixels], Sequence[float]], size: int) -> None:
        self._feature_of = feature_of
        self._size = size

    def new_batch(self) -> Any:
        import torch

        return torch.empty((_BATCH, self._size, self._size, 3), dtype=torch.uint8)

    def encode(self, pictures: Any) -> Any:
        done: Future[Any] = Future()
        done.set_result(np.array([self._feature_of(picture) for picture in pictures.numpy()], np.float32))
        return done

    def wait(self, pending: Any) -> None:
        """Nothing is computed beside this process."""


def checksum_features(checksum: int) -> tuple[int, int]:
    """A checksum as two numbers that float32 holds."""
    return checksum >> 16, checksum & 0xFFFF


def checksum_of(features: Sequence[float]) -> int:
    """The checksum that `checksum_features` made numbers of."""
    return int(features[0]) << 16 | int(features[1])


def mark_features(picture: Pixels) -> tuple[int, ...]:
    """The mark of a picture as numbers that float32 holds."""
    mark = mark_of(picture)
    return (*checksum_features(mark.checksum), *mark.cells)


@dataclass(frozen=True)
class _Pending:
    """A video that the run is through with, while it is decoded plainly."""

    item: HashedItem
    encoded: EncodedItem | None
    failure: str
    plain: Future[PlainVideo]


class _Examination:
    """Receives what the run says (`RunEvents`), starts plain decodes, and compares."""

    def __init__(self, on_report: Callable[[Report], None], executor: ThreadPoolExecutor, count: int) -> None:
        self.reports: list[Report] = []
        self._on_report = on_report
        self._executor = executor
        self._plain: dict[Path, Future[PlainVideo]] = {}
        self._pending: list[_Pending] = []
        self._bar = Bar("Examining", count, "videos")

    def on_open(self, item: HashedItem) -> None:
        """See `RunEvents`."""
        self._plain[item.item.path] = self._executor.submit(decode_plainly, item.item.path)

    def on_expected(self, item: HashedItem, frames: int) -> None:
        """See `RunEvents`."""

    def on_resumed(self, item: HashedItem, frames: int) -> None:
        """See `RunEvents`; nothing is kept."""

    def on_frames(self, item: HashedItem, frames: int) -> None:  # noqa: ARG002  the bar counts videos
        """See `RunEvents`."""
        self._bar.advance(0)

    def on_encoded(self, encoded: EncodedItem) -> None:
        """See `RunEvents`."""
        self._pending.append(_Pending(encoded.item, encoded, "", self._plain.pop(encoded.item.item.path)))

    def on_failed(self, item: HashedItem, error: str, sentence: str) -> None:  # noqa: ARG002  the sentence has it
        """See `RunEvents`."""
        self._pending.append(_Pending(item, None, sentence, self._plain.pop(item.item.path)))

    def collect(self, *, wait: bool = False) -> None:
        """Compare the videos that both ways are through with."""
        for pending in [one for one in self._pending if wait or one.plain.done()]:
            self._pending.remove(pending)
            report = compare(pending.item.item.path, pending.encoded, pending.failure, pending.plain.result())
            self.reports.append(report)
            self._bar.advance()
            self._on_report(report)

    def close(self) -> None:
        """Start no more plain decodes, and leave the bar."""
        self._executor.shutdown(cancel_futures=True)
        self._bar.close()


def compare(path: Path, encoded: EncodedItem | None, failure: str, plain: PlainVideo) -> Report:
    """Hold what a run decoded against a plain decode.

    Args:
        path: the video.
        encoded: what the run made, with `mark_features` as features; None where it gave the video up.
        failure: why it did.
        plain: the plain decode.
    """
    if encoded is None:
        verdict, detail = (REFUSED if plain.works else BOTH_REFUSE), failure
        return Report(os.fspath(path), plain.codec, 0, len(plain.marks), "", "", None, verdict, detail)
    verdict, detail = _judge(encoded, plain)
    return Report(
        os.fspath(path),
        plain.codec or (encoded.index.codec if encoded.index else ""),
        len(encoded.features),
        len(plain.marks),
        "+".join(encoded.decoders),
        encoded.timeline,
        encoded.complete,
        verdict,
        detail,
    )


def _judge(encoded: EncodedItem, plain: PlainVideo) -> tuple[str, str]:
    if plain.is_lost:
        return NOT_COMPARED, plain.trouble
    marks = [Mark(checksum_of(row), tuple(int(cell) for cell in row[2:])) for row in encoded.features]
    verdict, detail = _judge_pictures(marks, plain.marks)
    if verdict == EXACT:
        verdict, detail = _judge_times(encoded, np.array(plain.times_ms))
    if encoded.complete and plain.damage:
        return SILENT, f"{plain.damage} packets or frames are damaged{f'; {verdict}: {detail}' if detail else ''}"
    is_damaged = plain.damage or (encoded.damage and verdict != COUNT)  # the run alone meets some damage
    if verdict == EXACT or encoded.complete or not is_damaged:
        return verdict, detail
    return DAMAGED, f"{verdict}: {detail}"


def _judge_pictures(marks: list[Mark], plain: list[Mark]) -> tuple[str, str]:
    ours, right = [mark.checksum for mark in marks], [mark.checksum for mark in plain]
    if ours == right:
        return EXACT, ""
    if len(ours) != len(right):
        return COUNT, f"{len(ours)} frames instead of {len(right)}"
    wrong = [n for n, (a, b) in enumerate(zip(ours, right, strict=True)) if a != b]
    where = f"{len(wrong)} of {len(right)} frames, the first is frame {wrong[0]}"
    if Counter(ours) == Counter(right):
        return ORDER, where
    apart = np.abs(brightness_of([marks[n] for n in wrong]) - brightness_of([plain[n] for n in wrong])).mean(axis=1)
    is_elsewhere = bool(set(right) & {ours[n] for n in wrong})
    return (DISTORTED if not is_elsewhere and (apart <= _LOOKS_ALIKE).all() else PICTURES), where


def _judge_times(encoded: EncodedItem, plain_ms: npt.NDArray[np.float64]) -> tuple[str, str]:
    """Times must rise; where they are the container's own, they must be those of the plain decode.

    Where the decoder gives pictures in another order than their times, its times say nothing of their order: they are
    put in order. A frame without a time, as flushed after an edit list, is left out.
    """
    ours = encoded.timestamps_ms
    falls = np.flatnonzero(np.diff(ours) <= 0)
    if len(falls):
        return TIMES, f"{len(falls)} frames are not later than the one before, the first is frame {falls[0] + 1}"
    known = np.isfinite(plain_ms)
    if encoded.timeline != CONTAINER or not known.any():
        return EXACT, ""
    right = np.sort(plain_ms) if known.all() else plain_ms
    off = np.abs(ours - right)
    late = np.flatnonzero(off[known] > _TIME_TOLERANCE_MS)
    if not len(late):
        return EXACT, ""
    return TIMES, f"{len(late)} of {len(ours)} frames, up to {off[known].max():.3f} ms off"


def summary_lines(reports: Sequence[Report]) -> str:
    """A table: each verdict, how many videos have it, and what it means."""
    counts = Counter(report.verdict for report in reports)
    rows = [(verdict, str(counts[verdict]), meaning) for verdict, meaning in MEANINGS.items() if counts[verdict]]
    return "".join(table_lines([("VERDICT", "VIDEOS", "MEANING"), *rows], right_aligned={1})).rstrip("\n")


def as_json(reports: Sequence[Report]) -> str:
    """A list of objects with the attributes of `Report`."""
    return json.dumps([asdict(report) for report in reports], indent=2, allow_nan=False)
