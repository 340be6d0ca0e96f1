"""What runs over pictures and runs over sound have in common: counts, failures, and what needs no work."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
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
from .inputs import HashedItem
from .plan import Action, Prepared, Step
from .progress import Progress, RunSummary

FILE_CHANGED = "FileChanged"

_NAMED_FAILURES = 5

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

    def __init__(self, prepared: Prepared, summary: RunSummary, progress: Progress) -> None:
        self._prepared = prepared
        self.summary = summary
        self._progress = progress
        self._failures = FailureLog(prepared.cache_dir)
        self._given_up: set[str] = set()
        self._started = time.monotonic()
        self._is_waiting = False
        size = sum(item.size for item in prepared.work)
        progress.hashed(size)
        progress.found(len(prepared.work), size)

    def carry_out(self) -> None:
        """Do what was decided.

        Raises:
            CacheError: if the cache cannot be written.
        """
        try:
            for step in self._prepared.steps:
                self._note_skipped(step)
            if self._prepared.work:
                make_folder(self._prepared.cache_dir)
                remove_stale_temporaries(self._prepared.cache_dir)
                self._run()
            for step in self._prepared.steps:
                if step.action is Action.DUPLICATE:
                    self._note_duplicate(step.item)
        finally:
            self._progress.close()
            self.summary.seconds = time.monotonic() - self._started

    @contextlib.contextmanager
    def _queue(self, sampling: Sampling, *, claims: bool) -> Iterator[WorkQueue]:
        """The work, shared with other runs over the same cache; what is claimed is given back in the end."""
        own = Claims(self._prepared.cache_dir / self._prepared.model_dir) if claims else None
        try:
            yield WorkQueue(self._prepared.work, sampling, own, self._was_done_by_another)
        finally:
            if own is not None:
                own.close()

    def _share(self, queue: WorkQueue) -> None:
        """Wait where all that is left is claimed by other runs."""
        if not self._is_waiting:
            self._is_waiting = True
            line = f"clipcache: other runs are at the last {len(queue)} item(s); waiting for them"
            self._progress.say(line, logging.INFO)
        queue.wait()
        self._progress.tick()
        interrupts.check()

    def _was_done_by_another(self, item: HashedItem, was_claimed: bool) -> bool:
        """Whether another run has cached an item meanwhile, or given it up."""
        if self._is_cached(item):
            self.summary.cached += 1
            self._progress.item(item, Action.HIT.value)
            return True
        if not was_claimed:
            return False
        self._prepared.known_failures.update(self._failures.read(self._prepared.model_dir))
        if item.sha256 not in self._prepared.known_failures:
            return False
        self._progress.skip(item)
        self._note_failed_before(item)
        return True

    @abstractmethod
    def _is_cached(self, item: HashedItem) -> bool:
        """Whether an item needs no work any more, since the run was decided."""

    @abstractmethod
    def _run(self) -> None:
        """Decode, encode and write `prepared.work`."""

    def _note_skipped(self, step: Step) -> None:
        """Count an item that needs no work, and report one that cannot be read."""
        if step.item.problem is not None:
            self._fail(step.item, type(step.item.problem).__name__, str(step.item.problem))
            return
        if step.action is Action.HIT:
            self.summary.cached += 1
        elif step.action is Action.FAILED_BEFORE:
            self._note_failed_before(step.item)
        if not step.is_work:
            self._progress.detail(step.item, self._prepared.action(step))

    def _note_failed_before(self, item: HashedItem) -> None:
        self.summary.failed_before += 1
        self._given_up.add(item.sha256)
        if not self._progress.verbose and self.summary.failed_before <= _NAMED_FAILURES:
            known = self._prepared.known_failures[item.sha256]
            self._progress.say(f"clipcache: failed before, not tried again without --retry-failed: {known.sentence}")
        elif self.summary.failed_before == _NAMED_FAILURES + 1:
            self._progress.say("clipcache: more failed before; all are listed by: clipcache cache failures")

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
        path = os.fspath(item.item.path)
        sentence = sentence if quoted(path) in sentence else f"{quoted(path)}: {sentence}"
        is_remembered = bool(item.sha256) and error not in TRANSIENT_ERRORS and not item.has_changed()
        self.summary.failed += 1
        self.summary.failures[path] = sentence
        self._given_up.add(item.sha256)
        if item.problem is not None:  # it was not found as work
            self._progress.detail(item, f"failed: {sentence}")
        else:
            self._progress.item(item, f"failed: {sentence}", failed=True)
        if not self._progress.verbose:
            self._progress.say(f"clipcache: {sentence}")
        if is_remembered:
            self._remember(item, error, sentence)
        elif item.sha256 and not item.item.path.parent.exists():
            raise NotReadNowError(
                f"The folder {quoted(item.item.path.parent)} is not there any more, so the run stops",
                "connect its disk again, and run the same command; what is done is kept",
            )

    def _remember(self, item: HashedItem, error: str, sentence: str) -> None:
        """Note a failure in the cache's log, unless it is noted there already."""
        make_folder(self._prepared.cache_dir)
        failure = Failure(os.fspath(item.item.path), item.sha256, error, sentence, utc_now(), self._prepared.model_dir)
        known = self._prepared.known_failures.get(failure.key)
        if known is None or (known.error, known.sentence) != (error, sentence):
            self._failures.append(failure)


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
