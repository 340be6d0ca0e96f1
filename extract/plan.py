"""What a run will do: one action per item, from what is cached and what failed before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any

from ..cache.common.hashing import DigestMemo
from ..cache.common.quoting import quoted
from ..cache.failure_log import Failure
from .hashing import hash_all
from .inputs import HashedItem, Item


class Action(Enum):
    """What to do with an item. The values are what `--dry-run` prints."""

    HIT = "cached"
    EXTRACT = "extract"
    RETRY = "retry"
    FAILED_BEFORE = "failed before"
    DUPLICATE = "duplicate"
    UNREADABLE = "unreadable"
    FETCH = "fetch"  # its content is not known before


@dataclass(frozen=True)
class Step:
    """One item and what to do with it."""

    action: Action
    item: HashedItem

    @property
    def is_work(self) -> bool:
        """Whether it will be decoded."""
        return self.action in (Action.EXTRACT, Action.RETRY)


class Planner:
    """Decides what to do with one item after the other; the first of several copies is the one that counts.

    Args:
        is_cached: whether an entry satisfies the request, by the content's sha256.
        failed: sha256 of contents that failed before.
        overwrite: encode again what is cached.
        retry_failed: try again what failed before.
    """

    def __init__(
        self,
        is_cached: Callable[[str], bool],
        failed: Collection[str],
        *,
        overwrite: bool = False,
        retry_failed: bool = False,
    ) -> None:
        self._is_cached = is_cached
        self._failed = failed
        self._overwrite = overwrite
        self._retry_failed = retry_failed
        self._seen: set[str] = set()

    def step(self, item: HashedItem) -> Step:
        """What to do with an item."""
        step = Step(self._decide(item), item)
        self._seen.add(item.sha256)
        return step

    def forget(self, sha256: str) -> None:
        """Decide on the next copies of a content as if none had been there."""
        self._seen.discard(sha256)

    def _decide(self, item: HashedItem) -> Action:
        if item.problem is not None:
            return Action.UNREADABLE
        if not item.sha256:
            return Action.FETCH
        if item.sha256 in self._seen:
            return Action.DUPLICATE
        if not self._overwrite and self._is_cached(item.sha256):
            return Action.HIT
        if item.sha256 in self._failed:
            return Action.RETRY if self._retry_failed or self._overwrite else Action.FAILED_BEFORE
        return Action.EXTRACT


@dataclass(frozen=True)
class Prepared:
    """A run that can begin: what is asked for, and how to decide what each item needs.

    Attributes:
        cache_dir: the cache that entries are written to.
        model_dir: folder of the cache for the model's weights.
        items: the inputs; only a shard has none.
        memo: remembers checksums of files.
        planner: decides; it goes through the items once.
        known_failures: what failed before with this model, by `Failure.key`.
    """

    cache_dir: Path
    model_dir: str
    items: Sequence[Item]
    memo: DigestMemo
    planner: Planner
    known_failures: dict[str, Failure]

    @cached_property
    def steps(self) -> list[Step]:
        """What to do with each item, in order; hashes all of them first.

        Raises:
            UsageError: if not one of them can be read.
        """
        return [self.planner.step(item) for item in hash_all(self.items, self.memo)]

    def action(self, step: Step) -> str:
        """What happens to an item, in words."""
        return step.action.value

    def as_text(self) -> str:
        """One line per item, and the count of each action."""
        lines = [f"{self.action(step):<12} {quoted(step.item.item.name)}" for step in self.steps]
        counts = Counter(map(self.action, self.steps))
        return "\n".join([*lines, ", ".join(f"{count} {action}" for action, count in counts.items())])

    def rows(self) -> list[dict[str, Any]]:
        """One object per item, for JSON: path, kind, sha256, bytes, action."""
        return [
            {
                "path": step.item.item.name,
                "kind": step.item.item.kind,
                "sha256": step.item.sha256,
                "bytes": step.item.size,
                "action": self.action(step),
            }
            for step in self.steps
        ]
