"""Many methods over many items: the score of each item by each method."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ...cache import DigestMemo, Entry, EntryAttributes
from ...cache.common.errors import UsageError
from ...cache.common.progress import counted
from ..question import ScoringContext, choose, resolver_for, warn_of_scales
from ..references import ReferenceResolver
from .aesthetic import Column
from .attributes import read_attributes
from .choices import PAIR_PROBABILITY
from .config import BenchmarkConfig, MethodSpec, read_ratings
from .heads import load_head_of
from .methods import MEASURES, OneColumn, ScoredVideo, Scorer, attribute_scorer, prompt_scorer, score_videos


@dataclass(frozen=True)
class Results:
    """I items (videos and images) rated by M methods."""

    items: tuple[str, ...]  # name of a video, or of an image, also of one in a folder
    frames: tuple[int, ...]  # frames of each item
    methods: tuple[Column, ...]
    scores: NDArray[np.float64] = field(repr=False)  # (I, M), mean over the frames; NaN: not measured
    ratings: Mapping[str, float] | None = None  # by people, by the name of the item; None: not given


def run_benchmark(config: BenchmarkConfig, context: ScoringContext) -> Results:
    """Score all items by all methods.

    Raises:
        UsageError: a target, prompt or file is not valid, or nothing could be scored.
        CacheError: there is no such cache, or a target is not in it.
        ModelError: a head does not fit the features, or the model cannot be loaded.
    """
    ratings = read_ratings(config.ratings) if config.ratings else None
    memo = DigestMemo()
    chosen = choose(config.videos, context, memo)
    made_with = chosen[0].attributes
    resolver = resolver_for(chosen, context, memo)
    if any(spec.value == PAIR_PROBABILITY for spec in config.methods):
        warn_of_scales("probability", chosen, context.warn)
    scorers = [_scorer(spec, resolver, made_with, context.warn) for spec in config.methods if spec.kind != "measure"]
    wanted = [spec.name for spec in config.methods]
    measures = [measure for measure in MEASURES if measure.name in wanted]
    columns = {column.name: column for scorer in scorers for column in scorer.columns}
    columns |= {measure.name: measure for measure in measures}
    entries = (Entry(one.path) for one in counted(chosen, "Rating", len(chosen)))
    names, frames, scores = [], [], []
    for scored in score_videos(entries, scorers, config.selection, context.on_skip, measures):
        for name, rows in _items(scored):
            names.append(name)
            frames.append(len(scored.values[wanted[0]][rows]))
            scores.append([scored.values[method][rows].mean(dtype=np.float64) for method in wanted])
    if not names:
        raise UsageError("There is nothing to compare: no video could be scored")
    if ratings is not None:
        _check_ratings(names, ratings, context.warn)
    return Results(tuple(names), tuple(frames), tuple(columns[name] for name in wanted), np.array(scores), ratings)


def _scorer(
    spec: MethodSpec, resolver: ReferenceResolver, made_with: EntryAttributes, warn: Callable[[str], None]
) -> Scorer:
    if spec.kind == "prompt":
        return prompt_scorer(spec.name, spec.value, resolver)
    if spec.kind == "head":
        head = load_head_of(spec.value, made_with, spec.activation, warn)
        return OneColumn(spec.name, head, head.name)
    attributes = read_attributes(spec.attributes)
    return OneColumn(spec.name, attribute_scorer(attributes, resolver, made_with.logit_scale), spec.value)


def _items(scored: ScoredVideo) -> Iterator[tuple[str, slice]]:
    """Name the items of an entry and their rows: a video or an image as a whole, of a folder each image."""
    frame_names = scored.video.frame_names
    if frame_names is None:
        yield scored.video.video_name, slice(None)
        return
    for row, name in enumerate(frame_names):
        yield name, slice(row, row + 1)


def _check_ratings(items: Sequence[str], ratings: Mapping[str, float], warn: Callable[[str], None]) -> None:
    """Refuse ratings of which none names an item, or one names several; warn how many name no item."""
    times = Counter(items)
    known = [item for item in ratings if item in times]
    if not known:
        raise UsageError(f"No rated item was scored: the names must be those of the videos, such as {items[0]!r}")
    if several := [item for item in known if times[item] > 1]:
        raise UsageError(f"The rating of {several[0]!r} may mean {times[several[0]]} items", "rename them")
    if len(known) < len(ratings):
        warn(f"{len(ratings) - len(known)} of {len(ratings)} rated items were not scored.")
