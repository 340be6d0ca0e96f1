"""Attribute scores of frames, computed from cosines with prompts; it needs numpy alone."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..metrics import COSINE
from ..similarity import Floats
from .attributes import Attributes
from .choices import AGGREGATIONS, PAIR_PROBABILITY

_PROBABILITY_SCALE = "probability, 0 to 1"


@dataclass(frozen=True)
class Column:
    """One number that a method gives for each frame."""

    name: str
    scale: str  # what the number is, for people: "cosine, -1 to 1"
    ranks: bool = True  # whether a higher number means a better frame


@dataclass(frozen=True)
class AttributeScorer:
    """Scores frames by their cosines c with attribute prompts.

    contrast (of a pair) = c(positive) - c(negative); pos, neg = c.
    weighted = 0.5 * mean(contrast) + 0.3 * mean(pos) - 0.2 * mean(neg); contrastive_only = mean(contrast);
    mean = mean of all contrasts, all pos, and all neg with the sign reversed. A mean over no prompts is 0.
    pair_probability (of a pair) = softmax(logit_scale * [c(positive), c(negative)])[0], and their mean over pairs:
    the antonym pairs of CLIP-IQA (Wang, Chan and Loy, "Exploring CLIP for assessing the look and feel of images",
    AAAI 2023), but with CLIP's own image tower and these prompts, so not the published CLIP-IQA score.
    """

    attributes: Attributes
    directions: NDArray[np.float32] = field(repr=False)  # (P, D), rows of length one, in the order of the prompts
    logit_scale: float  # of the model

    @property
    def details(self) -> tuple[Column, ...]:
        """Scores of single attributes."""
        return tuple(Column(name, _detail_scale(name)) for name in self.attributes.score_names)

    @property
    def pair_probability_columns(self) -> tuple[Column, ...]:
        """Probability of the positive prompt of each pair."""
        contrasts = self.attributes.score_names[: len(self.attributes.pairs)]
        words = (name.removeprefix("contrast_") for name in contrasts)
        return tuple(Column(f"{PAIR_PROBABILITY}_{word}", _PROBABILITY_SCALE) for word in words)

    @property
    def methods(self) -> tuple[Column, ...]:
        """Scores of all attributes together."""
        aggregations = (Column(name, scale) for name, scale in AGGREGATIONS.items())
        return (*aggregations, Column(PAIR_PROBABILITY, _PROBABILITY_SCALE))

    @property
    def columns(self) -> tuple[Column, ...]:
        """What each column of the scores is, in order."""
        return (*self.details, *self.pair_probability_columns, *self.methods)

    def __call__(self, units: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score (N, D) frames of length one: (N, C) float32, in the order of `columns`."""
        cosines = (units @ self.directions.T).clip(-1, 1)
        paired = 2 * len(self.attributes.pairs)
        contrasts = cosines[:, 0:paired:2] - cosines[:, 1:paired:2]
        pos, neg = np.split(cosines[:, paired:], [len(self.attributes.positives)], axis=1)
        probabilities = pair_probabilities(contrasts, self.logit_scale)
        overall = aggregate(contrasts, pos, neg).values()
        return np.column_stack([contrasts, pos, neg, probabilities, *overall, probabilities.mean(axis=1)])


def aggregate(contrasts: Floats, pos: Floats, neg: Floats) -> dict[str, Floats]:
    """Make one score a frame in each of the ways of `AGGREGATIONS`.

    Args:
        contrasts: (N, pairs), differences of cosines, in [-2, 2].
        pos: (N, positives), cosines in [-1, 1]; there may be none.
        neg: (N, negatives), cosines in [-1, 1]; there may be none.

    Returns:
        (N,) by the name of the aggregation.
    """
    contrast = _mean(contrasts)
    return {
        "weighted": 0.5 * contrast + 0.3 * _mean(pos) - 0.2 * _mean(neg),
        "contrastive_only": contrast,
        "mean": _mean(np.concatenate([contrasts, pos, -neg], axis=1)),
    }


def pair_probabilities(contrasts: Floats, logit_scale: float) -> Floats:
    """Softmax over the two logits of each pair, of the positive one: a sigmoid of the scaled difference, 0 to 1."""
    # By tanh, which saturates where exp would overflow.
    probabilities: Floats = 0.5 + 0.5 * np.tanh(0.5 * logit_scale * contrasts)
    return probabilities


def _mean(values: Floats) -> Floats:
    """Mean of each row; 0 where there are no columns."""
    mean: Floats = values.sum(axis=1) / max(1, values.shape[1])
    return mean


def _detail_scale(name: str) -> str:
    return "difference of cosines, -2 to 2" if name.startswith("contrast_") else COSINE.scale
