"""The scores of `clipcache aesthetic`: finds the videos and prepares the methods."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...cache import DigestMemo, Entry
from ...cache.common.errors import UsageError
from ...cache.common.progress import counted
from ...cache.select import OnSkip, fullest
from ..compare import FrameSelection
from ..question import ScoringContext, choose, resolver_for, warn_of_scales
from ..read_files import StrPath
from .aesthetic import Column
from .attributes import BUNDLED, read_attributes
from .choices import PAIR_PROBABILITY, Activation
from .heads import load_head_of
from .methods import ScoredVideo, Scorer, attribute_scorer, score_videos


@dataclass(frozen=True)
class RatingOptions:
    """How to rate frames; at most one of `aggregation`, `probability` and `head` says what `overall` is."""

    attributes: StrPath = BUNDLED  # YAML of prompts
    aggregation: str | None = None  # one of AGGREGATIONS; None: "weighted", where nothing else is chosen
    probability: bool = False
    head: StrPath | None = None  # state dict of linear layers
    head_activation: Activation | None = None
    details: bool = False  # the score of each attribute too
    compare: bool = False  # all methods

    def __post_init__(self) -> None:
        if self.compare and (self.aggregation or self.probability or self.details):
            raise UsageError("--compare shows every method", "leave out --aggregation, --probability and --details")
        if sum(map(bool, (self.aggregation, self.probability, self.head))) > 1:
            raise UsageError("--aggregation, --probability and --head are three ways to rank", "choose one")


@dataclass(frozen=True)
class Rated:
    """The videos and the methods; features are read when `frames` is called."""

    overall: Column  # what videos are ranked by
    details: tuple[Column, ...]  # shown beside it
    methods: tuple[Column, ...]  # all ways to rate a frame by its features, of the scorers below
    entries: tuple[Path, ...]
    selection: FrameSelection
    on_skip: OnSkip
    scorers: Sequence[Scorer] = field(repr=False)

    def frames(self, measures: Sequence[Column] = ()) -> Iterator[ScoredVideo]:
        """Score the frames of each video; cached measures become columns too."""
        entries = map(Entry, counted(self.entries, "Rating", len(self.entries)))
        return score_videos(entries, self.scorers, self.selection, self.on_skip, measures)


def prepare(
    rating: RatingOptions, targets: Sequence[StrPath], selection: FrameSelection, context: ScoringContext
) -> Rated:
    """Find the entries, the head, and the vectors of the prompts; a head alone needs no model.

    Raises:
        UsageError: a target does not exist, the file of attributes is not valid, or the entries are of several models.
        CacheError: there is no such cache, or a target is not in it.
        ModelError: the head does not fit the features, or the model cannot be loaded.
    """
    attributes = read_attributes(rating.attributes)
    memo = DigestMemo()
    chosen = list(fullest(choose(targets, context, memo)))
    made_with = chosen[0].attributes
    if rating.probability:
        warn_of_scales("probability", chosen, context.warn)
    scorers: list[Scorer] = []
    methods: list[Column] = []
    details: list[Column] = []
    if rating.head is not None:
        head = load_head_of(rating.head, made_with, rating.head_activation, context.warn)
        scorers.append(head)
        methods += head.columns
    if rating.head is None or rating.details or rating.compare:
        prompts = attribute_scorer(attributes, resolver_for(chosen, context, memo), made_with.logit_scale)
        scorers.append(prompts)
        methods += prompts.methods
        details += prompts.details + prompts.pair_probability_columns * rating.probability
    named = PAIR_PROBABILITY if rating.probability else rating.aggregation
    return Rated(
        overall=next((method for method in methods if method.name == named), methods[0]),
        details=tuple(details) if rating.details else (),
        methods=tuple(methods),
        entries=tuple(one.path for one in chosen),
        selection=selection,
        on_skip=context.on_skip,
        scorers=scorers,
    )
