"""A search: finds the entries, encodes the queries, and reads the features once for all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...cache import DigestMemo
from ...cache.common.errors import ClipcacheError, UsageError
from ...cache.format.schema import TIMED_KINDS
from ...cache.select import Chosen, OnSkip, fullest
from ..compare import FrameSelection
from ..question import ScoringContext, choose, resolver_for
from ..read_files import StrPath
from .frames import FrameFinder, Hit, Limits
from .moments import MomentFinder, Spread, Thresholds
from .query import Query, query_vectors
from .scan import VideoScores, scan


@dataclass(frozen=True)
class Search:
    """Query vectors and the entries to search; features are read by `frames` and `moments`."""

    queries: tuple[str, ...]  # names, printable
    directions: NDArray[np.float32] = field(repr=False)  # (Q, D), rows of length one
    entries: tuple[Chosen, ...]
    selection: FrameSelection
    on_skip: OnSkip  # called once with each entry that cannot be searched, and the reason

    def frames(self, limits: Limits) -> list[Hit]:
        """Return the best frames, those of one query in a row, best first."""
        finder = FrameFinder(len(self.queries), limits)
        for scores in scan([one.path for one in self.entries], self.directions, self.selection, self.on_skip):
            finder.add(scores)
        return [hit for hits in finder.ranked() for hit in hits]

    def moments(
        self, limits: Limits, high: float | None = None, low: float | None = None
    ) -> tuple[list[Hit], list[Thresholds]]:
        """Return the best moments, those of one query in a row, best first, and the thresholds of each query.

        Thresholds that are not given are computed in a pass of their own; see the module `moments`.

        Raises:
            UsageError: `low` is above `high`, or nothing searched has a time.
        """
        paths = [one.path for one in self.entries if one.attributes.source_kind in TIMED_KINDS]
        if not paths:
            raise UsageError("Images have no time, and there is no video to find moments in", "leave out --moments")
        skipped: set[Path] = set()

        def skip(path: Path, error: ClipcacheError) -> None:
            skipped.add(path)
            self.on_skip(path, error)

        if high is None or low is None:
            spread = Spread(len(self.queries))
            for scores in scan(paths, self.directions, self.selection, skip):
                spread.add(scores)
            thresholds = spread.thresholds(high, low)
        else:
            thresholds = [Thresholds(high, low)] * len(self.queries)
        finder = MomentFinder(thresholds, limits)
        for scores in scan([path for path in paths if path not in skipped], self.directions, self.selection, skip):
            finder.add(scores)
        return [hit for hits in finder.ranked() for hit in hits], thresholds

    def scores(self, entries: Sequence[Path], queries: int) -> Iterator[VideoScores]:
        """Yield the cosines of all frames of some entries with the first queries."""
        return scan(entries, self.directions[:queries], self.selection, self.on_skip)


def prepare(
    queries: Sequence[Query],
    targets: Sequence[StrPath],
    selection: FrameSelection,
    context: ScoringContext,
    memo: DigestMemo,
    *,
    truncate: bool = False,
) -> Search:
    """Find the entries, and the directions of the queries.

    Args:
        queries: at least one.
        targets: videos, images, folders, entries to search; none means the whole cache.
        selection: which of their frames count.
        context: of the question.
        memo: gives the content hash of files.
        truncate: cut prompts that are longer than the model takes, instead of refusing them.

    Raises:
        UsageError: a query is not valid, a target does not exist, or the entries are of several models.
        CacheError: there is no such cache, or a target is not in it.
        ModelError: a prompt does not fit the model, or the model cannot be loaded.
        MediaError: an image cannot be decoded.
    """
    chosen = choose(targets, context, memo)
    directions = query_vectors(queries, resolver_for(chosen, context, memo), truncate=truncate)
    names = tuple(query.name for query in queries)
    return Search(names, directions, tuple(fullest(chosen)), selection, context.on_skip)
