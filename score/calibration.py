"""The null that scores are calibrated against: generic prompts, of which most have nothing to do with a video."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .compare import Calibration, Comparison
from .prompt_sets import PromptGroup, resolve_groups
from .read_files import StrPath
from .references import Reference, ReferenceResolver, read_list

_BUNDLED = Path(__file__).with_name("baseline_prompts.txt")
MIN_PROMPTS = 10
"""A mean and a standard deviation of fewer say too little."""


def read_baseline(path: StrPath | None) -> list[str]:
    """The generic prompts of a text file, one a line; of the bundled list if `path` is None.

    Raises:
        UsageError: The file cannot be read, or holds fewer than MIN_PROMPTS different prompts.
    """
    return read_list(path, _BUNDLED, "baseline needs {} prompts", MIN_PROMPTS)


def resolve_baseline(prompts: list[str], resolver: ReferenceResolver, *, prefix: str = "") -> list[Reference]:
    """The null as references, marked as such."""
    groups = [PromptGroup.plain(prompt) for prompt in prompts]
    return [replace(one, is_null=True) for one in resolve_groups(groups, resolver, truncate=True, prefix=prefix)]


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
