"""Cached videos compared with references: features are read block by block; each pair gives one `Comparison`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..cache import Entry
from ..cache.common.errors import CacheError, EntryError, UsageError
from ..cache.common.quoting import quoted
from ..cache.format.blocks import ALL_ZERO, NOT_FINITE
from ..cache.format.sampling import Sampling
from ..cache.format.schema import EXTRACT_AGAIN, TIMED_KINDS
from ..cache.select import OnSkip
from .metrics import AUDIO
from .references import Reference, ReferenceKind
from .similarity import TILE_ROWS, Floats, Summary, compare_blocks, pair_blocks, summarise, summarise_columns

COSINES_IN_MEMORY = 64_000_000  # 256 MB of float32; references beyond that are taken in another pass


@dataclass(frozen=True)
class FrameSelection:
    """Which frames of each video count; the default is all of them."""

    fps: float | None = None  # frames per second of the video's clock, > 0
    every: int | None = None  # every n-th frame, >= 1
    start: float | None = None  # seconds on the video's clock, inclusive
    end: float | None = None  # seconds on the video's clock, exclusive

    def __post_init__(self) -> None:
        Sampling(self.fps, self.every)  # an invalid rate is refused before any video is read
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise UsageError(f"--start {self.start:g} is not before --end {self.end:g}", "swap or widen them")

    def of(self, entry: Entry) -> Entry:
        """Return the frames of `entry` that count.

        Raises:
            UsageError: none of them does, or the entry holds other frames than those.
            EntryError: the entry cannot be trusted.
        """
        kept = entry.slice(fps=self.fps, every=self.every, start=self.start, end=self.end)
        if not len(kept):
            raise UsageError(f"{entry.video_name!r} has no frames in the range asked for", "widen --start and --end")
        return kept


@dataclass(frozen=True)
class Calibration:
    """A video's mean cosine in relation to its mean cosines with generic prompts, the null."""

    prompts: int  # of the null
    null_mean: float  # mean of the generic prompts' mean cosines, -1 to 1
    null_std: float  # of the sample (ddof = 1), of the same
    z_score: float  # (mean cosine - null_mean) / null_std, in standard deviations
    percentile: float  # share of the generic prompts with a lower mean cosine, 0 to 100


@dataclass(frozen=True)
class Comparison:
    """One video compared with one reference."""

    video: Entry  # the frames that counted, each with its score
    kind: ReferenceKind
    reference: str  # name of the reference, fit for printing
    scores: NDArray[np.float32] = field(repr=False)  # (n,), in the scale of `metric`
    pooled: float  # score of the reference with the mean of the normalised frames, in the scale of `metric`
    frames_ignored: int = 0  # frames that only one of two videos has
    metric: str = "cosine"  # one of `metrics.METRICS`; a cosine is in [-1, 1]
    is_null: bool = False  # the reference is one of the generic prompts of a calibration
    won_share: float | None = None  # share of the frames on which this reference is the most probable one, 0 to 1
    calibration: Calibration | None = None
    known_summary: Summary | None = field(default=None, repr=False)  # of these scores; None: made when asked for

    @property
    def name(self) -> str:
        """The kinds that are compared, such as `video-to-text`."""
        return f"{AUDIO if self.video.source_kind == AUDIO else 'video'}-to-{self.kind}"

    @property
    def summary(self) -> Summary:
        """Statistics over `scores`."""
        return self.known_summary or summarise(self.scores, self.pooled)

    @property
    def max_at_ms(self) -> float | None:
        """Timestamp of the (first) frame with the highest score, in milliseconds; None for images: no clock."""
        if not has_clock(self.video):
            return None
        return float(self.video.timestamps_ms[np.argmax(self.scores)])


def has_clock(entry: Entry) -> bool:
    """Whether the frames of an entry have a time; images have none."""
    return entry.source_kind in TIMED_KINDS


def evaluate(
    entries: Iterable[Entry],
    references: Sequence[Reference],
    reference_videos: Sequence[Entry],
    selection: FrameSelection,
    on_skip: OnSkip,
) -> Iterator[Comparison]:
    """Compare every entry with every reference, in order; one block of features is in memory at a time.

    Args:
        entries: the videos to score.
        references: vectors that every frame is compared with.
        reference_videos: compared frame i with frame i; frames that only one of the two has are ignored.
        selection: which frames count, in the reference videos too.
        on_skip: called with each entry that cannot be compared, or not with one of the reference videos, and with each
            reference video that cannot be read, and the reason; the others are compared.
    """
    partners = []
    for partner in reference_videos:
        try:
            partners.append(selection.of(partner))
        except (CacheError, UsageError) as error:
            on_skip(partner.path, error)
    for entry in entries:
        yield from _evaluate_one(entry, references, partners, selection, on_skip)


def _evaluate_one(
    entry: Entry, references: Sequence[Reference], partners: Sequence[Entry], selection: FrameSelection, on_skip: OnSkip
) -> Iterator[Comparison]:
    """Compare one entry with all references and videos; `on_skip` is called where that fails."""
    try:
        with entry.kept_open():
            video = selection.of(entry)
            yield from _against_vectors(video, references)
    except (CacheError, UsageError) as error:
        on_skip(entry.path, error)
        return
    for partner in partners:
        try:
            yield _against_video(video, partner)
        except (CacheError, UsageError) as error:
            on_skip(entry.path, error)


def _against_vectors(video: Entry, references: Sequence[Reference]) -> Iterator[Comparison]:
    """Compare all frames with each reference, as many references in a pass as memory allows."""
    group = max(1, COSINES_IN_MEMORY // max(1, len(video)))
    for first in range(0, len(references), group):
        chosen = references[first : first + group]
        cosines = compare_blocks(video.iter_features(), np.stack([reference.vector for reference in chosen]))
        check_finite(cosines.pooled, video)
        check_frames(video, (cosines.per_frame == 0).all(axis=1))
        summaries = summarise_columns(cosines.per_frame, cosines.pooled)
        for column, (reference, summary) in enumerate(zip(chosen, summaries, strict=True)):
            yield Comparison(
                video=video,
                kind=reference.kind,
                reference=reference.name,
                scores=cosines.per_frame[:, column],
                pooled=float(cosines.pooled[column]),
                is_null=reference.is_null,
                known_summary=summary,
            )


def _against_video(video: Entry, partner: Entry) -> Comparison:
    """Compare the frames that both videos have.

    Raises:
        UsageError: they have none in common, or are sampled differently, so that it is not known which they are.
    """
    if video.sampling != partner.sampling:
        raise UsageError(
            f"The frames of {video.video_name!r} ({video.sampling}) and {partner.video_name!r} "
            f"({partner.sampling}) are sampled differently and cannot be paired",
            ("choose an --fps or --every that both can give, or extract one of them again"),
        )
    _, rows, partner_rows = np.intersect1d(_frame_numbers(video), _frame_numbers(partner), return_indices=True)
    if not len(rows):
        raise UsageError(
            f"{video.video_name!r} and {partner.video_name!r} have no frame in common", "widen --start and --end"
        )
    paired = video.take(rows)
    cosines = pair_blocks(paired.iter_features(), partner.take(partner_rows).iter_features())
    check_finite(cosines.pooled, video, partner)
    for one in (paired, partner.take(partner_rows)):
        check_frames(one, cosines.per_frame[:, 0] == 0)
    return Comparison(
        video=paired,
        kind="video",
        reference=partner.video_name,
        scores=cosines.per_frame[:, 0],
        pooled=float(cosines.pooled[0]),
        frames_ignored=len(video) + len(partner) - 2 * len(rows),
    )


def _frame_numbers(video: Entry) -> NDArray[np.int64]:
    """Return the numbers by which frames of two videos are paired, (N,), non-decreasing.

    They are positions in the video; of frames chosen by `--fps` they are ticks, because at the same time two videos of
    different frame rates are at different positions.
    """
    sampling = Sampling.parse(video.sampling)
    if sampling.fps is None:
        return video.frame_index
    return sampling.ticks(video.timestamps_ms, video.zero_ms)


def check_finite(computed: Floats, *compared: Entry) -> None:
    """Refuse entries with a feature that is not finite.

    Args:
        computed: what was computed from their features, such that a NaN or infinity in these makes one here.
        compared: the entries.

    Raises:
        EntryError: a value is not finite.
    """
    if not np.isfinite(computed).all():
        names = " or ".join(quoted(entry.path) for entry in compared)
        raise EntryError(f"{names} holds {NOT_FINITE}", EXTRACT_AGAIN)


def check_features(features: Floats, video: Entry) -> None:
    """Refuse an entry with a frame whose feature is not finite, or is all zero: it has no direction.

    Args:
        features: (n, D) some of its features, or the same at length one.
        video: the entry.

    Raises:
        EntryError: there is such a frame.
    """
    check_finite(features, video)
    if not features.any(axis=1).all():
        raise EntryError(f"{quoted(video.path)} holds {ALL_ZERO}", EXTRACT_AGAIN)


def check_frames(video: Entry, suspects: NDArray[np.bool_]) -> None:
    """Read some frames again for `check_features`.

    Args:
        video: the frames compared.
        suspects: (N,) whether a frame is read: those whose cosines are all exactly 0.

    Raises:
        EntryError: a feature is not finite, or is all zero.
    """
    rows = np.flatnonzero(suspects)
    for block in video.take(rows).iter_features(TILE_ROWS) if len(rows) else ():
        check_features(block, video)
