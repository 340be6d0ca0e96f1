"""Frames scored by several methods at once: attribute prompts, heads, plain prompts, and cached measures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ...cache import Entry
from ...cache.common.errors import CacheError, UsageError
from ...cache.select import OnSkip
from ..compare import FrameSelection, check_features, has_clock
from ..metrics import COSINE
from ..references import ReferenceResolver
from ..similarity import TILE_ROWS, unit_rows
from .aesthetic import AttributeScorer, Column
from .attributes import Attributes

MEASURES = (
    Column("sharpness", "variance of the Laplacian, 0 and up"),
    Column("contrast", "RMS, 0 to 0.5"),
    Column("clipped", "share of pixels, 0 to 1", ranks=False),
    Column("entropy", "bits, 0 to 8", ranks=False),
    Column("colourfulness", "Hasler and Süsstrunk, 0 and up"),
    Column("brightness", "0 to 1", ranks=False),
    Column("composite", "weighted sum of measures, 0 to 1"),
)
"""What `extract --quality` stores of each frame."""


class Scorer(Protocol):
    """Gives one or more numbers to each frame."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """C columns, in order."""

    def __call__(self, units: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score (N, D) frames of length one: (N, C)."""


@dataclass(frozen=True)
class PromptScorer:
    """Cosine of each frame with one prompt."""

    name: str
    direction: NDArray[np.float32] = field(repr=False)  # (D,), of length one

    @property
    def columns(self) -> tuple[Column, ...]:
        """What the column of the scores is."""
        return (Column(self.name, COSINE.scale),)

    def __call__(self, units: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score (N, D) frames of length one: (N, 1) in [-1, 1]."""
        cosines: NDArray[np.float32] = (units @ self.direction[:, None]).clip(-1, 1)
        return cosines


@dataclass(frozen=True)
class OneColumn:
    """One column of a scorer, under a name of its own."""

    name: str
    scorer: Scorer
    source: str  # what the scorer calls the column

    @property
    def _number(self) -> int:
        return [column.name for column in self.scorer.columns].index(self.source)

    @property
    def columns(self) -> tuple[Column, ...]:
        """What the column of the scores is."""
        return (replace(self.scorer.columns[self._number], name=self.name),)

    def __call__(self, units: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score (N, D) frames of length one: (N, 1)."""
        return self.scorer(units)[:, [self._number]]


def attribute_scorer(attributes: Attributes, resolver: ReferenceResolver, logit_scale: float) -> AttributeScorer:
    """A scorer by attribute prompts; their vectors come from the cache or the model.

    Raises:
        ModelError: a prompt does not fit the model, or the model cannot be loaded.
    """
    vectors = {reference.name: reference.vector for reference in resolver.texts(attributes.prompts)}
    return AttributeScorer(attributes, unit_rows(np.stack([vectors[p] for p in attributes.prompts])), logit_scale)


def prompt_scorer(name: str, prompt: str, resolver: ReferenceResolver) -> PromptScorer:
    """A scorer by one prompt; its vector comes from the cache or the model.

    Raises:
        UsageError: the prompt is empty, or not valid Unicode.
        ModelError: the prompt does not fit the model, or the model cannot be loaded.
    """
    return PromptScorer(name, unit_rows(resolver.texts([prompt])[0].vector[None])[0])


@dataclass(frozen=True)
class ScoredVideo:
    """The frames of one video, image or image folder, with their scores."""

    video: Entry  # the frames that count
    values: dict[str, NDArray[np.float32]] = field(repr=False)  # (N,) by the name of the column; NaN: not measured

    @property
    def has_clock(self) -> bool:
        """Whether its frames have a time; images have none."""
        return has_clock(self.video)

    def mean(self, column: str) -> float:
        """Mean over the frames, in float64; NaN where something was not measured."""
        return float(self.values[column].mean(dtype=np.float64))

    def best(self, column: str) -> int:
        """Row of the (first) frame with the highest score."""
        return int(np.argmax(self.values[column]))

    def frame_name(self, row: int) -> str | None:
        """File name of an image; None for a frame of a video."""
        names = self.video.frame_names
        return names[row] if names else None

    def at_ms(self, row: int) -> float | None:
        """Time of a frame, milliseconds on the container's clock; None for an image."""
        return float(self.video.timestamps_ms[row]) if self.has_clock else None


def score_videos(
    entries: Iterable[Entry],
    scorers: Sequence[Scorer],
    selection: FrameSelection,
    on_skip: OnSkip,
    measures: Sequence[Column] = (),
) -> Iterator[ScoredVideo]:
    """Score the frames of every entry, in order; one block of features is in memory at a time.

    Args:
        entries: of one model.
        scorers: each with columns of its own names.
        selection: which frames count.
        on_skip: called with each entry that cannot be scored, and the reason.
        measures: cached measures that become columns too; NaN where an entry lacks one.
    """
    for entry in entries:
        try:
            with entry.kept_open():
                scored = _score_one(selection.of(entry), scorers, measures)
        except (CacheError, UsageError) as error:
            on_skip(entry.path, error)
        else:
            yield scored


def _score_one(video: Entry, scorers: Sequence[Scorer], measures: Sequence[Column]) -> ScoredVideo:
    columns = [column.name for scorer in scorers for column in scorer.columns]
    table = np.empty((len(video), len(columns)), np.float32)
    row = 0
    for block in video.iter_features(TILE_ROWS):
        units = unit_rows(block)
        check_features(units, video)
        if scorers:
            table[row : row + len(block)] = np.column_stack([scorer(units) for scorer in scorers])
        row += len(block)
    values = dict(zip(columns, table.T, strict=True))
    cached = video.quality if measures else {}
    absent = np.full(len(video), np.nan, np.float32)
    return ScoredVideo(video, values | {one.name: cached.get(one.name, absent) for one in measures})
