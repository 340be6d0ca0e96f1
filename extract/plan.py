"""Decide, purely: one action per item, from what is cached and what failed before."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from enum import Enum

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
    """One item and what becomes of it."""

    action: Action
    item: HashedItem

    @property
    def is_work(self) -> bool:
        """Whether frames will be decoded for it."""
        return self.action in (Action.EXTRACT, Action.RETRY)


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
        items: What was named, hashed.
        is_cached: Whether an entry satisfies the request, by the content's sha256.
        failed: sha256 of contents that failed before.
        overwrite: Encode again what is cached.
        retry_failed: Try again what failed before.
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
