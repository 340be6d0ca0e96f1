"""What a run will do: one action per item, from what is cached and what failed before. Nothing is read here."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from ..cache.common.quoting import quoted
from ..cache.failure_log import Failure
from .inputs import HashedItem


class Action(Enum):
    """What to do with an item. The values are what `--dry-run` prints."""

    HIT = "cached"
    EXTRACT = "extract"
    RETRY = "retry"
    FAILED_BEFORE = "failed before"
    DUPLICATE = "duplicate"
    UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Step:
    """One item and what to do with it."""

    action: Action
    item: HashedItem

    @property
    def is_work(self) -> bool:
        """Whether it will be decoded."""
        return self.action in (Action.EXTRACT, Action.RETRY)


@dataclass(frozen=True)
class Prepared:
    """A run that is decided but not begun.

    Attributes:
        cache_dir: the cache that entries are written to.
        model_dir: folder of the cache for the model's weights.
        steps: one per item.
        known_failures: what failed before with this model, by `Failure.key`.
    """

    cache_dir: Path
    model_dir: str
    steps: list[Step]
    known_failures: dict[str, Failure]

    @property
    def work(self) -> list[HashedItem]:
        """Items that will be decoded."""
        return [step.item for step in self.steps if step.is_work]

    def action(self, step: Step) -> str:
        """What happens to an item, in words."""
        return step.action.value

    def as_text(self) -> str:
        """One line per item, and the count of each action."""
        lines = [f"{self.action(step):<12} {quoted(step.item.item.path)}" for step in self.steps]
        counts = Counter(map(self.action, self.steps))
        return "\n".join([*lines, ", ".join(f"{count} {action}" for action, count in counts.items())])

    def rows(self) -> list[dict[str, Any]]:
        """One object per item, for JSON: path, kind, sha256, bytes, action."""
        return [
            {
                "path": os.fspath(step.item.item.path),
                "kind": step.item.item.kind,
                "sha256": step.item.sha256,
                "bytes": step.item.size,
                "action": self.action(step),
            }
            for step in self.steps
        ]


def plan(
    items: Iterable[HashedItem],
    is_cached: Callable[[str], bool],
    failed: Collection[str],
    *,
    overwrite: bool = False,
    retry_failed: bool = False,
) -> list[Step]:
    """One step per item, in order.

    Args:
        items: the inputs, hashed.
        is_cached: whether an entry satisfies the request, by the content's sha256.
        failed: sha256 of contents that failed before.
        overwrite: encode again what is cached.
        retry_failed: try again what failed before.
    """
    steps = []
    seen: set[str] = set()
    for item in items:
        steps.append(Step(_decide(item, is_cached, failed, seen, overwrite, retry_failed), item))
        seen.add(item.sha256)
    return steps


def _decide(
    item: HashedItem,
    is_cached: Callable[[str], bool],
    failed: Collection[str],
    seen: Collection[str],
    overwrite: bool,
    retry_failed: bool,
) -> Action:
    if item.problem is not None:
        return Action.UNREADABLE
    if item.sha256 in seen:
        return Action.DUPLICATE
    if not overwrite and is_cached(item.sha256):
        return Action.HIT
    if item.sha256 in failed:
        return Action.RETRY if retry_failed or overwrite else Action.FAILED_BEFORE
    return Action.EXTRACT
