"""Calibration: a score in relation to its null, the scores of the same video with generic prompts."""

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
"""The mean and standard deviation of fewer are not reliable."""


def read_baseline(path: StrPath | None) -> list[str]:
    """The generic prompts of a text file, one a line; of the bundled list if `path` is None.

    Raises:
        UsageError: the file cannot be read, or holds fewer than MIN_PROMPTS different prompts.
    """
    return read_list(path, _BUNDLED, "baseline needs {} prompts", MIN_PROMPTS)


def resolve_baseline(prompts: list[str], resolver: ReferenceResolver, *, prefix: str = "") -> list[Reference]:
    """The generic prompts as references, with `is_null` set."""
    groups = [PromptGroup.plain(prompt) for prompt in prompts]
    return [replace(one, is_null=True) for one in resolve_groups(groups, resolver, truncate=True, prefix=prefix)]


def calibrate(comparisons: Iterable[Comparison]) -> Iterator[Comparison]:
    """Take out the comparisons with the null, which come first for each video, and calibrate the others by them.

    CLIP's cosines of one video with any text are close together and differ from video to video, so a value such as 0.26
    has no meaning by itself; its rank among the cosines of the same video with generic prompts tells whether it is a
    match.

    Args:
        comparisons: in cosines, those of one video one after the other.
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
