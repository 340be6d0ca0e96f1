"""What runs over pictures and runs over sound have in common: counts, failures, and what needs no work."""

from __future__ import annotations

import contextlib
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..cache.common.atomic import remove_stale_temporaries
from ..cache.common.errors import CacheError, NoLibraryError, NotReadNowError
from ..cache.common.quoting import quoted
from ..cache.failure_log import Failure, FailureLog
from ..cache.format.sampling import Sampling
from ..cache.format.schema import utc_now
from . import interrupts
from .cluster.claims import Claims
from .cluster.work_queue import WorkQueue
from .hashing import HashStream, check_readable
from .inputs import HashedItem
from .options import ExtractOptions, SoundOptions
from .plan import Action, Planner, Prepared, Step
from .progress import Progress, RunSummary
from .remote.scratch import Scratch

FILE_CHANGED = "FileChanged"

NAMED_FAILURES = 5
MORE_FAILED_BEFORE = "clipcache: more failed before; all are listed by: clipcache cache failures"
_POLL_S = 0.5

TRANSIENT_ERRORS = frozenset(
    {"DecoderKilled", FILE_CHANGED, "MemoryError", "ModelError", NoLibraryError.__name__, NotReadNowError.__name__}
)
"""Failures that say nothing about the file: they are reported, and the file is tried again next time."""


class Session(ABC):
    """One run: counts and reports what becomes of each item, and notes failures.

    Args:
        prepared: what was decided.
        summary: where to count.
        progress: where to report.
    """

    _options: ExtractOptions | SoundOptions

    def __init__(self, prepared: Prepared, summary: RunSummary, progress: Progress) -> None:
        self._prepared = prepared
        self.summary = summary
        self._progress = progress
        self._failures = FailureLog(prepared.cache_dir)
        self._given_up: set[str] = set()
        self._started = time.monotonic()
        self._is_waiting = False
        self._duplicates: list[HashedItem] = []  # what became of them is known at the end

    def carry_out(self) -> None:
        """Do what was decided.

        Raises:
            UsageError: if not one item can be read.
            CacheError: if the cache cannot be written.
        """
        try:
            scratch = Scratch(self._options.scratch, self._options.scratch_bytes)
            with HashStream(self._prepared.items, self._prepared.memo, scratch) as stream:
                self._feed = _Feed(stream, self._prepared.planner, self._note, self._given_up.add, self._progress)
                if self._feed.has_work():
                    self._make_ready()
                    self._run()
            for item in self._duplicates:
                self._note_duplicate(item)
        finally:
            self._progress.close()
            self.summary.seconds = time.monotonic() - self._started

    def _make_ready(self) -> None:
        """Make the cache, and remove what killed runs left in it."""
        make_folder(self._prepared.cache_dir)
        remove_stale_temporaries(self._prepared.cache_dir)

    @contextlib.contextmanager
    def _queue(self, sampling: Sampling, *, claims: bool) -> Iterator[WorkQueue]:
        """The work, shared with other runs over the same cache; what is claimed is given back in the end."""
        own = Claims(self._prepared.cache_dir / self._prepared.model_dir) if claims else None
        try:
            yield WorkQueue(self._feed, sampling, own, self._was_done_by_another)
        finally:
            if own is not None:
                own.close()

    def _wait(self, queue: WorkQueue) -> None:
        """Wait where all that is known is claimed by other runs, and more is being hashed or nothing is left."""
        if queue.waits_for_others and not self._is_waiting:
            self._is_waiting = True
            line = f"clipcache: other runs are at the last {len(queue)} item(s); waiting for them"
            self._progress.say(line, logging.INFO)
        queue.wait()
        self._progress.tick()
        interrupts.check()

    def _was_done_by_another(self, item: HashedItem, was_claimed: bool) -> bool:
        """Whether another run has cached an item meanwhile, or given it up."""
        if self._is_cached(item):
            action = Action.HIT
        elif was_claimed and self._has_failed_meanwhile(item):
            action = Action.FAILED_BEFORE
        else:
            return False
        self._note(Step(action, item))
        return True

    def _has_failed_meanwhile(self, item: HashedItem) -> bool:
        self._prepared.known_failures.update(self._failures.read(self._prepared.model_dir))
        return item.sha256 in self._prepared.known_failures

    @abstractmethod
    def _is_cached(self, item: HashedItem) -> bool:
        """Whether an item needs no work any more, since the run was decided."""

    @abstractmethod
    def _run(self) -> None:
        """Decode, encode and write what `_queue` gives out."""

    def _note(self, step: Step) -> None:
        """Count an item that needs no work, and report one that cannot be read."""
        if step.item.problem is not None:
            self._fail(step.item, type(step.item.problem).__name__, str(step.item.problem))
            return
        self._progress.skip(step.item)
        if step.action is Action.HIT:
            self.summary.cached += 1
        elif step.action is Action.FAILED_BEFORE:
            self._note_failed_before(step.item)
        elif step.action is Action.DUPLICATE:
            self._duplicates.append(step.item)
        self._progress.detail(step.item, self._prepared.action(step))

    def _note_failed_before(self, item: HashedItem) -> None:
        self.summary.failed_before += 1
        self._given_up.add(item.sha256)
        if not self._progress.verbose and self.summary.failed_before <= NAMED_FAILURES:
            known = self._prepared.known_failures[item.sha256]
            self._progress.say(f"clipcache: failed before, not tried again without --retry-failed: {known.sentence}")
        elif self.summary.failed_before == NAMED_FAILURES + 1:
            self._progress.say(MORE_FAILED_BEFORE)

    def _note_duplicate(self, item: HashedItem) -> None:
        """Count a copy like the item that it is a copy of: cached, or failed with it."""
        if item.sha256 in self._given_up:
            self.summary.failed += 1
        else:
            self.summary.cached += 1

    def _changed(self, item: HashedItem) -> bool:
        """Whether a file changed since it was hashed; it is then given up."""
        if item.has_changed():
            self._fail(item, FILE_CHANGED, "It changed while it was read; run the command again.")
            return True
        return False

    def _forget_failure(self, item: HashedItem) -> None:
        """Drop what is noted of an item that failed before and is cached now."""
        if item.sha256 in self._prepared.known_failures:
            self._failures.forget([item.sha256], self._prepared.model_dir)

    def _fail(self, item: HashedItem, error: str, sentence: str) -> None:
        """Report a failure, and note it for the next runs unless it says nothing about the file."""
        path = item.item.name
        if item.copy is not None:  # whose name says nothing to anybody
            sentence = sentence.replace(quoted(item.copy), quoted(path))
        sentence = sentence if quoted(path) in sentence else f"{quoted(path)}: {sentence}"
        is_remembered = bool(item.sha256) and error not in TRANSIENT_ERRORS and not item.has_changed()
        self.summary.failed += 1
        self.summary.failures[path] = sentence
        self._given_up.add(item.sha256)
        self._progress.item(item, f"failed: {sentence}", failed=True)
        if not self._progress.verbose:
            self._progress.say(f"clipcache: {sentence}")
        if is_remembered:
            self._remember(item, error, sentence)
        elif item.item.source is None and item.sha256 and not item.item.path.parent.exists():
            raise NotReadNowError(
                f"The folder {quoted(item.item.path.parent)} is not there any more, so the run stops",
                "connect its disk again, and run the same command; what is done is kept",
            )

    def _remember(self, item: HashedItem, error: str, sentence: str) -> None:
        """Note a failure in the cache's log, unless it is noted there already."""
        make_folder(self._prepared.cache_dir)
        failure = Failure(item.item.name, item.sha256, error, sentence, utc_now(), self._prepared.model_dir)
        known = self._prepared.known_failures.get(failure.key)
        if known is None or (known.error, known.sentence) != (error, sentence):
            self._failures.append(failure)


class _Feed:
    """The `Feed` of a run: decides on each item once it is hashed, and keeps those that need work.

    Args:
        stream: hashes the items.
        planner: decides.
        note: called with the step of an item that needs no work.
        give_up: called with the checksum of a content that is not there any more.
        progress: where to report what is found and hashed.
    """

    def __init__(
        self,
        stream: HashStream,
        planner: Planner,
        note: Callable[[Step], None],
        give_up: Callable[[str], None],
        progress: Progress,
    ) -> None:
        self._stream = stream
        self._planner = planner
        self._note = note
        self._give_up = give_up
        self._progress = progress
        self._reported = (0, 0, 0)
        self._work: list[HashedItem] = []
        self._coming: dict[int, str] = {}  # checksums of what is fetched, as they were remembered
        self._unreadable: list[Step] | None = []  # until one item can be read: perhaps nothing can

    def has_work(self) -> bool:
        """Wait for the first item that needs work; False if none does.

        Raises:
            UsageError: if not one item can be read.
        """
        while not (work := self.take()) and not self.is_over:
            self.wait(_POLL_S)
            interrupts.check()
        self._work = list(work)
        return bool(work)

    @property
    def is_over(self) -> bool:
        """See `Feed`."""
        return not self._work and self._stream.is_over

    def take(self) -> Sequence[HashedItem]:
        """See `Feed`."""
        work, self._work = self._work, []
        taken = self._stream.take()
        self._report()  # after that, so that nothing is done that was not found
        for item in taken:
            if self._is_fetched(item):
                work.append(item)
                continue
            step = self._planner.step(item)
            if step.is_work and item.is_elsewhere:
                self.fetch(item)
            elif step.is_work:
                work.append(item)
            else:
                self._stream.go_on(item)
                self._stream.release(item)
            self._sort_out(step)
        if self._unreadable and self._stream.is_over:
            check_readable([step.item for step in self._unreadable])
        return work

    def _is_fetched(self, item: HashedItem) -> bool:
        """Whether an item was decided on before it was fetched. One that has changed since is decided on again."""
        expected = self._coming.pop(id(item.item), "")
        if not expected or item.problem is not None or item.sha256 == expected:
            return bool(expected) and item.problem is None
        self._give_up(expected)  # copies of what it was are not done with it
        self._planner.forget(expected)
        return False

    def _report(self) -> None:
        seen = self._stream.found, self._stream.found_bytes, self._stream.known_bytes
        items, found, hashed = (new - old for new, old in zip(seen, self._reported, strict=True))
        self._reported = seen
        self._progress.found(items, found)
        self._progress.hashed(hashed)

    def _sort_out(self, step: Step) -> None:
        if self._unreadable is not None and step.item.problem is not None:
            self._unreadable.append(step)
            return
        for unreadable in self._unreadable or ():
            self._note(unreadable)
        self._unreadable = None
        if not step.is_work:
            self._note(step)

    def wait(self, seconds: float) -> None:
        """See `Feed`."""
        self._stream.wait(seconds)

    def go_on(self, item: HashedItem) -> None:
        """See `Feed`; a queue calls this, so decoding has begun."""
        self._stream.look_ahead()
        self._stream.go_on(item)

    def fetch(self, item: HashedItem) -> None:
        """See `Feed`."""
        self._coming[id(item.item)] = item.sha256
        self._stream.fetch(item)

    def release(self, item: HashedItem) -> HashedItem:
        """See `Feed`."""
        return self._stream.release(item)


def make_folder(folder: Path) -> None:
    """Make the cache's folder.

    Raises:
        CacheError: if that is not possible.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CacheError(
            f"Cannot make the cache {quoted(folder)}: {error.strerror}", "choose another --cache"
        ) from error
