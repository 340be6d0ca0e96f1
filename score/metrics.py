"""The scales of a score: what becomes of the cosines of one video with its references.

- cosine: c = <f, r> / (|f| |r|), per frame, -1 to 1 (`similarity`).
- logit: the model's logit scale (about 100) times the cosine, as CLIP's `forward` gives it (Radford et al. 2021).
- probability: softmax of the logits over the references, per frame: 0 to 1, and one over all references. It says which
  of the given references fits best, never how well; over one reference it is always 1, and refused.
- clipscore: 2.5 max(c, 0), of prompts that begin with "A photo depicts ", 0 to 2.5 (Hessel et al. 2021, CLIPScore).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from ..cache.common.errors import UsageError
from .compare import Calibration, Comparison

METRICS = ("cosine", "logit", "probability", "clipscore")
CLIPSCORE_PREFIX = "A photo depicts "
CLIPSCORE_WEIGHT = 2.5
_BLOCK_FRAMES = 8192  # softmax takes several copies in float64
SCALES = {
    "cosine": "cosine, -1 to 1",
    "logit": "logit: the model's logit scale times the cosine",
    "probability": "probability over the references of the video, 0 to 1",
    "clipscore": "CLIPScore: 2.5 max(cosine, 0), 0 to 2.5",
}


def check_metric(metric: str, kinds: Sequence[str], *, pairs: bool) -> None:
    """Refuse a metric that means nothing for what is asked.

    Args:
        metric: One of METRICS.
        kinds: Kind of each reference of a video.
        pairs: Whether each video has a reference of its own.

    Raises:
        UsageError: Saying why.
    """
    if metric == "probability" and (pairs or len(kinds) < 2):
        raise UsageError(
            "A probability is shared among the references of a video, and that of a single one is always 1",
            ("give two or more, or choose another --metric"),
        )
    if metric == "probability" and "video" in kinds:
        raise UsageError("A probability needs references without a time of their own", "leave out --video")
    if metric == "clipscore" and set(kinds) - {"text"}:
        raise UsageError("CLIPScore is defined for prompts", "give only prompts, or choose another --metric")


def convert(comparisons: Iterable[Comparison], metric: str) -> Iterator[Comparison]:
    """Turn comparisons in cosines, all of a video in a row, into those of another metric, in the same order."""
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


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float32]:
    """Softmax over the first axis of (R, ...) logits, in float64: each column adds up to one."""
    shifted = logits.astype(np.float64) - logits.max(axis=0)
    powers = np.exp(shifted)
    probabilities: NDArray[np.float32] = (powers / powers.sum(axis=0)).astype(np.float32)
    return probabilities


def _probabilities(group: Sequence[Comparison]) -> Iterator[Comparison]:
    scale = group[0].video.logit_scale
    per_frame = np.stack([one.scores for one in group])
    for start in range(0, per_frame.shape[1], _BLOCK_FRAMES):
        block = per_frame[:, start : start + _BLOCK_FRAMES]
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


def calibrate(comparisons: Iterable[Comparison]) -> Iterator[Comparison]:
    """Use up the comparisons with the null, which come first of each video's, and put the others beside them.

    CLIP's cosines of one video with any text lie close together and differ from video to video, so that "0.26" says
    little by itself; its place among the cosines of the same video with generic prompts says whether it is a match.

    Args:
        comparisons: In cosines, all of a video in a row.
    """
    for _, group in groupby(comparisons, key=lambda one: one.video.path):
        null: list[float] = []
        for one in group:
            mean = one.summary.mean
            if one.is_null:
                null.append(mean)
            else:
                yield replace(one, calibration=_place(mean, np.array(null)) if one.kind == "text" else None)


def _place(mean: float, null: NDArray[np.float64]) -> Calibration:
    null_mean, null_std = float(null.mean()), float(null.std(ddof=1))
    z_score = (mean - null_mean) / null_std if null_std else math.nan
    return Calibration(len(null), null_mean, null_std, z_score, float((null < mean).mean() * 100))
