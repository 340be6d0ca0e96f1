"""From an entry to the rows that are exported of it, as a recipe says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..common.errors import UsageError
from ..common.quoting import quoted
from ..entry import Entry
from ..format.blocks import NOT_FINITE, all_finite
from ..format.sampling import TICK_TOLERANCE_US, Sampling
from ..format.schema import Features
from .recipe import Recipe
from .rows import Rows


class ScoreColumns(Protocol):
    """Scores frames against prompts; passed in, because this package cannot run models."""

    def __call__(self, entry: Entry, texts: Sequence[str]) -> Mapping[str, npt.NDArray[np.float32]]:
        """Return for each prompt the cosine, in [-1, 1], of each frame of `entry`: (N,) float32."""


def make_rows(entry: Entry, name: str, recipe: Recipe, score_columns: ScoreColumns | None = None) -> Rows:
    """Apply `recipe` to an entry; the features are computed when `blocks` is called.

    Args:
        entry: kept open by the caller until the rows are written.
        name: of the video in the export.
        recipe: what is done to the frames.
        score_columns: computes the cosines with the recipe's prompts.

    Raises:
        UsageError: if the entry does not hold the frames asked for, or none of them.
        EntryError: if it cannot be read.
    """
    kept = frames_of(entry, recipe)
    if not len(kept):
        raise UsageError(f"{entry.video_name!r} has no frames in the range asked for", "widen --start and --end")
    firsts = np.arange(0, len(kept), recipe.pool)
    dtype = _dtype(kept, recipe)
    cosines = score_columns(kept, recipe.texts) if recipe.texts and score_columns is not None else {}
    prefix = "cosine" if recipe.pool == 1 else "mean_cosine"
    names = kept.frame_names
    return Rows(
        name=name,
        entry_path=entry.path,
        attributes=kept.attributes,
        timestamps_ms=kept.timestamps_ms[firsts],
        frame_index=kept.frame_index[firsts],
        frame_names=None if names is None else names[:: recipe.pool],
        fps=_rate(kept, recipe),
        dtype=dtype,
        cosines={f"{prefix}:{text}": _group_means(cosines[text], recipe.pool) for text in cosines},
        recipe=recipe.as_dict(),
        blocks=lambda: _computed(kept, recipe, dtype),
    )


def frames_of(entry: Entry, recipe: Recipe) -> Entry:
    """The frames of `entry` that the recipe chooses, as a view.

    Raises:
        UsageError: if the entry does not hold them.
    """
    if recipe.interval_s is None or entry.source_kind != "video":
        return entry.slice(recipe.fps, recipe.every, recipe.start, recipe.end)
    chosen = entry.take(_interval_rows(entry, recipe.interval_s))
    return chosen.slice(start=recipe.start, end=recipe.end)


def _interval_rows(entry: Entry, interval_s: float) -> npt.NDArray[np.int64]:
    """(K,) positions of the first frame of each interval: the rule of `Sampling`, in whole microseconds."""
    held = Sampling.parse(entry.sampling)
    interval_us = round(interval_s * 1e6)
    # An interval that is so many whole ticks of the held rate begins with the first frame of one of them.
    ticks = None if held.fps is None else round(held.fps * 1000) * interval_us / 10**9
    if not held.is_all and (ticks is None or ticks < 1 or not ticks.is_integer()):
        raise UsageError(
            f"{quoted(entry.path)} holds the frames of {held}, which cannot give one frame in {interval_s:g} s",
            "extract the video again with every frame",
        )
    micros = np.rint(entry.timestamps_ms * 1000).astype(np.int64)
    intervals = (micros - round(entry.zero_ms * 1000) + TICK_TOLERANCE_US) // interval_us
    return np.unique(intervals, return_index=True)[1].astype(np.int64)


def _rate(kept: Entry, recipe: Recipe) -> float:
    """Rows a second: the rate of the chosen frames, at most the video's own, divided by the size of a group."""
    sampling = Sampling.parse(kept.sampling)
    own = kept.fps
    asked = sampling.fps if recipe.interval_s is None else 1 / recipe.interval_s
    if kept.source_kind != "video":
        return 0.0
    if asked is not None:
        own = min(own, asked) if own > 0 else asked
    elif sampling.every is not None:
        own /= sampling.every
    return own / recipe.pool


def _dtype(kept: Entry, recipe: Recipe) -> np.dtype[Any]:
    if recipe.dtype is not None:
        return np.dtype(recipe.dtype)
    if not recipe.keeps_values:
        return np.dtype(np.float32)
    with kept.opened() as opened:
        cached: np.dtype[Any] = opened.features.dtype
    return cached


def _computed(kept: Entry, recipe: Recipe, dtype: np.dtype[Any]) -> Iterator[Features]:
    """The features block by block: pooled, normalised, cast."""
    blocks: Iterator[npt.NDArray[Any]] = kept.iter_features()
    if recipe.pool > 1:
        blocks = _pooled(blocks, recipe.pool)
    for block in blocks:
        values = _normalized(block) if recipe.normalize else block
        with np.errstate(over="ignore"):  # reported below
            cast = values.astype(dtype, copy=False)
        if not all_finite(cast):
            raise UsageError(f"{kept.video_name!r} has {NOT_FINITE}, or too large for {dtype}", "use --dtype float32")
        yield cast


def _pooled(blocks: Iterator[npt.NDArray[Any]], count: int) -> Iterator[npt.NDArray[np.float64]]:
    """Means over `count` consecutive rows, across the borders of blocks; the last group holds what is left."""
    rest: npt.NDArray[np.float64] | None = None
    for block in blocks:
        rows = block.astype(np.float64)
        if rest is not None:
            rows = np.concatenate([rest, rows])
        whole = len(rows) // count * count
        if whole:
            yield rows[:whole].reshape(-1, count, rows.shape[1]).mean(axis=1)
        rest = rows[whole:]
    if rest is not None and len(rest):
        yield rest.mean(axis=0, keepdims=True)


def _group_means(values: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.float32]:
    """Means over `count` consecutive values, (N,) to (R,)."""
    if count == 1:
        return values
    starts = np.arange(0, len(values), count)
    sizes = np.diff([*starts, len(values)])
    return (np.add.reduceat(values.astype(np.float64), starts) / sizes).astype(np.float32)


def _normalized(block: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Each row at length 1; float64, as squares of float16 overflow."""
    rows = block.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: npt.NDArray[np.float64] = rows / np.where(lengths > 0, lengths, 1.0)
    return scaled
