"""Cosines turned into scores of another metric; what each metric is, `metrics.METRICS` says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from .compare import Comparison
from .metrics import CLIPSCORE_WEIGHT
from .similarity import BLOCK_ROWS, Floats


def convert(comparisons: Iterable[Comparison], metric: str) -> Iterator[Comparison]:
    """Convert comparisons in cosines, those of one video one after the other, to another metric, in the same order."""
    if metric == "cosine":
        yield from comparisons
    elif metric == "probability":
        for _, group in groupby(comparisons, key=lambda one: one.video.path):
            yield from _probabilities(list(group))
    else:
        for one in comparisons:
            change = _CHANGES[metric](one.video.logit_scale)
            pooled = float(change(np.float32(one.pooled)))
            yield replace(one, metric=metric, scores=change(one.scores), pooled=pooled, known_summary=None)


def softmax(logits: Floats) -> NDArray[np.float32]:
    """Softmax over the first axis of (R, ...) logits, in float64: each column adds up to one."""
    shifted = logits.astype(np.float64) - logits.max(axis=0)
    powers = np.exp(shifted)
    probabilities: NDArray[np.float32] = (powers / powers.sum(axis=0)).astype(np.float32)
    return probabilities


def _probabilities(group: Sequence[Comparison]) -> Iterator[Comparison]:
    scale = group[0].video.logit_scale
    per_frame = np.stack([one.scores for one in group])
    for start in range(0, per_frame.shape[1], BLOCK_ROWS):  # softmax takes several copies in float64
        block = per_frame[:, start : start + BLOCK_ROWS]
        block[:] = softmax(block * scale)
    pooled = softmax(np.array([one.pooled for one in group]) * scale)
    winners = per_frame.argmax(axis=0)
    for row, one in enumerate(group):
        won = float((winners == row).mean())
        scores, value = per_frame[row], float(pooled[row])
        yield replace(one, metric="probability", scores=scores, pooled=value, won_share=won, known_summary=None)


_Change = Callable[[NDArray[np.float32]], NDArray[np.float32]]
_CHANGES: dict[str, Callable[[float], _Change]] = {
    "logit": lambda scale: lambda cosines: np.float32(scale) * cosines,
    "clipscore": lambda _: lambda cosines: np.float32(CLIPSCORE_WEIGHT) * np.maximum(cosines, np.float32(0)),
}
