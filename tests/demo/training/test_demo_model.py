"""What the bundled model knows, asked on freshly rendered pictures in words that it was not trained with."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("clipcache.demo.training", reason="the training of the demo model lies in the checkout")
from clipcache.demo.training.evaluate import Model, other_results, quality_results, subject_results
from clipcache.demo.training.words import HELD_OUT_PAIRS, QUALITY_PAIRS
from clipcache.extract.models.weights import bundled_weights


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(bundled_weights())


def test_shapes_and_colours(model: Model) -> None:
    found = subject_results(model, np.random.default_rng(2026), 5)
    assert len(HELD_OUT_PAIRS) == 7
    for said in ("held-out phrasings", "a photo of"):
        assert found[f"plain good pictures, {said}: all"] >= 0.95
        assert found[f"plain good pictures, {said}: held-out combinations"] >= 0.80


def test_qualities(model: Model) -> None:
    found = quality_results(model, np.random.default_rng(2026), 60)
    for pair in QUALITY_PAIRS:
        assert found[f"{' / '.join(pair)}, held-out phrasings"] >= 0.90, pair


def test_other_things_score_lower(model: Model) -> None:
    found = other_results(model, np.random.default_rng(2026), 50)
    assert found["right prompt above all six unrelated ones"] >= 0.95
    assert found["mean cosine of the right prompt"] > found["mean cosine of unrelated prompts"] + 0.2
