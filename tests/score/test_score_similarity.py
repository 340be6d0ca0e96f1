"""The arithmetic of scores against plain definitions, computed one pair at a time in float64."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator

import numpy as np
import pytest
from clipcache.cache.common.errors import UsageError
from clipcache.score import Summary, paired_similarities, score, similarities
from clipcache.score.similarity import BLOCK_ROWS, Cosines, compare_blocks, pair_blocks, summarise


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """The definition, one pair at a time: <a, b> / (|a| |b|)."""
    x, y = [float(value) for value in a], [float(value) for value in b]
    return math.fsum(p * q for p, q in zip(x, y, strict=True)) / (math.hypot(*x) * math.hypot(*y))


def unit(vector: np.ndarray) -> np.ndarray:
    return vector.astype(np.float64) / math.hypot(*map(float, vector))


@pytest.fixture
def features() -> np.ndarray:
    return np.random.default_rng(7).normal(size=(23, 64)).astype(np.float16)


@pytest.fixture
def references() -> np.ndarray:
    return np.random.default_rng(8).normal(size=(5, 64)).astype(np.float32)


def test_similarities_are_cosines_of_unnormalised_float16(features: np.ndarray, references: np.ndarray) -> None:
    expected = [[cosine(frame, reference) for reference in references] for frame in features]
    found = similarities(features, references)
    assert found.dtype == np.float32
    assert found.shape == (23, 5)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_norms_too_large_for_float16_and_float32_are_right() -> None:
    half = np.full((1, 512), 60000, np.float16)  # its squared norm is far beyond float16
    single = np.array([[3e30, 4e30]], np.float32)  # its squared norm is beyond float32
    assert similarities(half, half)[0, 0] == pytest.approx(1, abs=1e-6)
    assert similarities(single, np.array([[1.0, 0.0]]))[0, 0] == pytest.approx(0.6, abs=1e-6)


def test_cosines_stay_within_their_stated_range(features: np.ndarray) -> None:
    single = np.random.default_rng(1).normal(size=(500, 512)).astype(np.float32)
    assert similarities(single, single).max() <= 1
    assert similarities(single, -single).min() >= -1


def test_a_zero_vector_has_cosine_zero(references: np.ndarray) -> None:
    zero = np.zeros((1, 64), np.float16)
    assert not similarities(zero, references).any()
    assert not similarities(references, zero).any()
    assert score(zero, references)[0].pooled == 0


def test_a_value_that_is_not_finite_gives_nan_and_spoils_no_other_frame(references: np.ndarray) -> None:
    features = references.copy()
    features[1, 3], features[2, 3] = np.inf, np.nan
    found = similarities(features, references)
    assert np.isnan(found[[1, 2]]).all()
    assert np.isfinite(found[[0, 3, 4]]).all()


def test_score_gives_each_statistic_by_its_definition(features: np.ndarray, references: np.ndarray) -> None:
    mean_frame = np.mean([unit(frame) for frame in features], axis=0)
    for summary, reference in zip(score(features, references), references, strict=True):
        cosines = [cosine(frame, reference) for frame in features]
        assert summary.frames == 23
        assert summary.mean == pytest.approx(statistics.fmean(cosines), abs=1e-6)
        assert summary.median == pytest.approx(statistics.median(cosines), abs=1e-6)
        assert summary.min == pytest.approx(min(cosines), abs=1e-6)
        assert summary.max == pytest.approx(max(cosines), abs=1e-6)
        assert summary.std == pytest.approx(statistics.pstdev(cosines), abs=1e-6)
        assert summary.pooled == pytest.approx(cosine(mean_frame, reference), abs=1e-6)


def test_the_median_of_an_even_number_is_between_the_middle_two() -> None:
    cosines = [0.5, 0.25, 0, 1]
    summary = summarise(np.array(cosines, np.float32), pooled=0.75)
    std = statistics.pstdev(cosines)
    assert summary == Summary(frames=4, mean=0.4375, median=0.375, min=0, max=1, std=std, pooled=0.75)


def test_blocks_give_what_the_whole_gives(references: np.ndarray) -> None:
    features = np.random.default_rng(3).normal(size=(2 * BLOCK_ROWS + 5, 64)).astype(np.float16)
    exact = features.astype(np.float64)
    direct = exact @ references.astype(np.float64).T
    direct /= np.linalg.norm(exact, axis=1)[:, None] * np.linalg.norm(references, axis=1)
    np.testing.assert_allclose(similarities(features, references), direct, atol=1e-6)
    np.testing.assert_allclose(
        paired_similarities(features, features[::-1]),
        [cosine(a, b) for a, b in zip(features, features[::-1], strict=True)],
        atol=1e-6,
    )


def test_a_block_is_done_with_before_the_next_is_taken(features: np.ndarray, references: np.ndarray) -> None:
    def blocks() -> Iterator[np.ndarray]:
        room = np.empty((1, 64), np.float16)  # the same memory for every block
        for frame in features:
            room[0] = frame
            yield room

    found = compare_blocks(blocks(), references)
    expected = [[cosine(frame, reference) for reference in references] for frame in features]
    np.testing.assert_allclose(found.per_frame, expected, atol=1e-6)


def test_pairs_end_with_the_shorter_video(features: np.ndarray, references: np.ndarray) -> None:
    expected = [cosine(a, b) for a, b in zip(features, references, strict=False)]
    np.testing.assert_allclose(paired_similarities(features, references), expected, atol=1e-6)
    np.testing.assert_allclose(paired_similarities(references, features), expected, atol=1e-6)


def test_pooled_of_pairs_leaves_the_leftover_frames_out(features: np.ndarray, references: np.ndarray) -> None:
    pairs = pair_blocks([features[:1], features[1:4], features[4:]], [references[:3], references[3:]])
    assert isinstance(pairs, Cosines)
    expected = [[cosine(a, b)] for a, b in zip(features, references, strict=False)]
    np.testing.assert_allclose(pairs.per_frame, expected, atol=1e-6)
    mean_a = np.mean([unit(frame) for frame in features[:5]], axis=0)
    mean_b = np.mean([unit(frame) for frame in references], axis=0)
    assert pairs.pooled[0] == pytest.approx(cosine(mean_a, mean_b), abs=1e-6)


@pytest.mark.parametrize(
    ("a", "b"),
    [((3, 4), (2, 5)), ((4,), (2, 4)), ((3, 4), (4,)), ((0, 4), (2, 5))],
    ids=["two widths", "one frame, flat", "one reference, flat", "no frames of another width"],
)
def test_shapes_that_do_not_fit_are_refused(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    for compare in (similarities, paired_similarities, score):
        with pytest.raises(UsageError, match="D"):
            compare(np.ones(a, np.float32), np.ones(b, np.float32))


def test_no_frames_have_similarities_but_no_score(references: np.ndarray) -> None:
    nothing = np.zeros((0, 64), np.float32)
    assert similarities(nothing, references).shape == (0, 5)
    assert paired_similarities(nothing, references).shape == (0,)
    with pytest.raises(UsageError, match="no frames"):
        score(nothing, references)
