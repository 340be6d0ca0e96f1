"""The tasks of one item, and the features that come of each; what is done of a long item is kept on the way."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from ..cache.format.sampling import Sampling
from ..cache.format.schema import Features
from . import unfinished
from .encoded import EncodedItem
from .inputs import HashedItem
from .models.frame_encoder import FloatArray
from .unfinished import Outcome, UnfinishedItem
from .video.index import VideoIndex
from .video.proof import checksum
from .video.timeline import BoolArray
from .workers.messages import ImagesTask, IndexTask, PictureTask, SpanDone, SpanTask, WholeTask


@dataclass
class Work:
    """An item being encoded: its tasks in order, and what is known of it so far.

    Attributes:
        item: what is encoded.
        sampling: which of its frames.
        dtype: "float16" or "float32", of the features to store.
        kept: where what is done is kept; None where nothing is.
        frames_wanted: how many frames the sampling asks for.
        wanted: (N,) which frames of a video; None where decoding tells.
        index: of a video.
        attempts: its tasks, in the order of its frames.
        best: the outcome of the first way to decode it, while another is tried.
        over: whether it is given up or handed on.
        started: `time.monotonic()` when its first task was made.
        not_kept: attempts whose features are there, from before it was clear that the item takes long.
    """

    item: HashedItem
    sampling: Sampling
    dtype: str
    kept: UnfinishedItem | None = None
    frames_wanted: int = 0
    wanted: BoolArray | None = None
    index: VideoIndex | None = None
    attempts: list[Attempt] = field(default_factory=list)
    best: EncodedItem | None = None
    over: bool = False
    started: float = field(default_factory=time.monotonic)
    not_kept: list[Attempt] = field(default_factory=list)

    @property
    def takes_long(self) -> bool:
        """Whether what is done is worth keeping."""
        return self.kept is not None and time.monotonic() - self.started >= unfinished.SAVE_AFTER_S

    def keep(self, attempt: Attempt) -> None:
        """Keep the features of an attempt, and those that waited, if the item takes long."""
        self.not_kept.append(attempt)
        if self.kept is None or not self.takes_long or self._is_complete_and_sound:
            return
        for one in self.not_kept:
            if one.done is None or one.features is None or isinstance(one.task, IndexTask):
                continue
            if self.is_sound(one.features, one.task.rows if isinstance(one.task, ImagesTask) else None):
                self.kept.save(one.task, Outcome(one.done, one.features))
        self.not_kept = []

    def is_sound(self, features: Features, rows: Sequence[int] | None = None) -> bool:
        """Whether features may be kept: finite, and of files that are still those that were hashed."""
        return bool(np.isfinite(features).all()) and not self.item.has_changed(rows)

    @property
    def _is_complete_and_sound(self) -> bool:
        """Whether the entry can be written now, so that nothing is kept for the case that it is not."""
        dones = [one.done for one in self.attempts if one.features is not None and one.done is not None]
        return len(dones) == len(self.attempts) and not any(done.report.errors + done.report.corrupt for done in dones)


@dataclass(eq=False)
class Attempt:
    """One task of an item, tried for the first or the second time.

    `arrived` are the features of the pictures shipped so far, in the type that is stored; once the span is whole they
    become `features`, one row per frame, so that a long video takes no more memory than its entry will.
    """

    work: Work
    task: PictureTask
    position: int = 0
    second: bool = False
    arrived: list[Features] = field(default_factory=list)
    received: int = 0
    reported: int = 0
    done: SpanDone | None = None
    features: Features | None = None
    parts: Parts | None = None

    @property
    def is_stale(self) -> bool:
        """Whether another attempt has taken the place of this one, or the item is over."""
        return self.work.over or (bool(self.work.attempts) and self not in self.work.attempts)

    def recall(self) -> int:
        """Take what is kept of the task.

        Returns:
            How many frames need no encoding. If that is all of them, `features` are there.
        """
        kept = self.work.kept
        if kept is None or isinstance(self.task, IndexTask):
            return 0
        outcome = kept.load(self.task)
        if outcome is not None:
            self.done, self.features = outcome.done, outcome.features
            self.reported = len(outcome.features)
        elif _is_long(self.task):
            self._recall_beginning(kept, self.task)
        return self.reported

    def _recall_beginning(self, kept: UnfinishedItem, task: SpanTask | WholeTask) -> None:
        """Let the worker skip what is encoded but for the last picture, which shows that it decodes the same again."""
        beginning = kept.load_beginning(task)
        self.parts = Parts(kept, task, self.work.is_sound)
        if beginning is not None:
            count = len(beginning.features)
            self.arrived, self.received, self.reported = [beginning.features], count, count
            self.parts.go_on(count, beginning.checksum)
            self.task = replace(task, skip=count - 1)

    def accept(self, pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8] | None:
        """The (n, size, size, 3) pictures that are to be encoded; None if they do not continue what is kept."""
        return pictures if self.parts is None else self.parts.accept(pictures)

    def goes_on(self) -> bool:
        """Whether decoding gave the last picture that is kept once more; if not, what is kept is removed."""
        return self.parts is None or self.parts.goes_on()

    def arrive(self, features: FloatArray) -> None:
        """Take (n, D) features of the next n pictures."""
        with np.errstate(over="ignore"):  # what float16 cannot hold becomes infinite, and is refused by name later
            stored: Features = features.astype(self.work.dtype)
        self.arrived.append(stored)
        self.received += len(stored)
        if self.parts is not None:
            self.parts.arrive(stored, self.received, takes_long=self.work.takes_long)

    def settle(self) -> None:
        """Lay out the features by frame if all have arrived: a repeated frame gets those of the picture it repeats."""
        if self.features is not None or self.done is None or self.received < self.done.collected.shipped:
            return
        arrived: Any = np.concatenate(self.arrived) if self.arrived else np.zeros((0, 0), self.work.dtype)
        self.features = arrived[self.done.collected.source]
        self.arrived = []
        self.work.keep(self)

    def give_up_features(self) -> list[Features]:
        """Return the features, if there are any, and drop them here."""
        given, self.features = self.features, None
        return [] if given is None else [given]


def _is_long(task: PictureTask) -> TypeGuard[SpanTask | WholeTask]:
    """Whether a task may bring many more pictures than a span: a video in one piece, or one without keyframes."""
    if isinstance(task, SpanTask):
        return int(task.wanted.sum()) > 2 * unfinished.PART_PICTURES
    return isinstance(task, WholeTask)


class Parts:
    """Keeps the pictures of a long task part by part, and goes on after those kept before."""

    def __init__(self, kept: UnfinishedItem, task: SpanTask | WholeTask, is_sound: Callable[[Features], bool]) -> None:
        self._kept = kept
        self._is_sound = is_sound
        self._task = task
        self._given = 0  # pictures that were accepted
        self._marks: deque[tuple[int, int]] = deque()  # their number so far and the checksum of the last, by page
        self._start = 0  # first picture that is not kept
        self._fresh: list[Features] = []  # features from there on
        self._last_kept: int | None = None  # checksum of the picture that must come first

    def go_on(self, count: int, last: int) -> None:
        """Go on after `count` pictures, the last of which has the checksum `last` and is shipped again."""
        self._given = self._start = count
        self._last_kept = last

    def accept(self, pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8] | None:
        """The pictures that are new; None if the first is not the last that is kept."""
        if self._last_kept is not None:
            if checksum(pictures[0]) != self._last_kept:
                self._kept.forget_beginning(self._task)
                return None
            self._last_kept = None
            pictures = pictures[1:]
        if len(pictures):
            self._given += len(pictures)
            self._marks.append((self._given, checksum(pictures[-1])))
        return pictures

    def arrive(self, features: Features, received: int, *, takes_long: bool) -> None:
        """Take the features of the next pictures, `received` in all, and keep them by and by."""
        self._fresh.append(features)
        end = last = 0
        while self._marks and self._marks[0][0] <= received:
            end, last = self._marks.popleft()
        if end - self._start < unfinished.PART_PICTURES or not takes_long:
            if end:
                self._marks.appendleft((end, last))
            return
        rows: Any = np.concatenate(self._fresh)
        if self._is_sound(rows):
            self._kept.save_part(self._task, self._start, rows[: end - self._start], last)
        self._fresh = [rows[end - self._start :]]
        self._start = end

    def goes_on(self) -> bool:
        """Whether the last picture that is kept came again; if not, what is kept is removed."""
        if self._last_kept is not None:
            self._kept.forget_beginning(self._task)
        return self._last_kept is None
