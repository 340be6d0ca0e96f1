"""Correlations, against values worked out by hand and against plain loops over pairs."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from clipcache.score.quality.correlation import average_ranks, kendall, pearson, spearman


def test_pearson_of_three_points_by_hand() -> None:
    # Deviations (-1, 0, 1) and (-1, 1, 0): 1 / sqrt(2 * 2).
    matrix = pearson([[1, 1], [2, 3], [3, 2]])
    np.testing.assert_allclose(matrix, [[1, 0.5], [0.5, 1]], atol=1e-15)


def test_pearson_is_that_of_numpy_on_several_columns() -> None:
    table = np.random.default_rng(1).normal(size=(40, 5)) @ np.random.default_rng(2).normal(size=(5, 5))
    np.testing.assert_allclose(pearson(table), np.corrcoef(table.T), atol=1e-12)


def test_ranks_of_equal_values_are_averaged() -> None:
    assert average_ranks([30, 10, 30, 20, 30]).tolist() == [4, 1, 4, 2, 4]


def test_spearman_without_ties_by_hand() -> None:
    # Differences of ranks (0, 1, 1, 0): 1 - 6 * 2 / (4 * 15).
    assert spearman(np.c_[[1, 2, 3, 4], [10, 400, 30, 5000]])[0, 1] == pytest.approx(0.8)


def test_spearman_with_ties_by_hand() -> None:
    # Ranks (1, 2.5, 2.5, 4) and (1, 2, 3, 4): covariance 4.5, squares 4.5 and 5.
    assert spearman(np.c_[[1, 2, 2, 3], [1, 2, 3, 4]])[0, 1] == pytest.approx(4.5 / math.sqrt(4.5 * 5))


def test_kendall_by_hand() -> None:
    # Ten pairs, of which (4, 3) and (2, 1) are turned.
    assert kendall([1, 2, 3, 4, 5], [2, 1, 4, 3, 5]) == pytest.approx((8 - 2) / 10)


def test_kendall_with_ties_by_hand() -> None:
    # Six pairs; x ties (2, 2), y ties (1, 1); of the other four all agree.
    assert kendall([1, 2, 2, 3], [1, 1, 2, 3]) == pytest.approx(4 / math.sqrt(5 * 5))


def naive_kendall(a: np.ndarray, b: np.ndarray) -> float:
    pairs = list(itertools.combinations(range(len(a)), 2))
    signs = [(np.sign(a[i] - a[j]), np.sign(b[i] - b[j])) for i, j in pairs]
    untied = [sum(bool(sign[side]) for sign in signs) for side in (0, 1)]
    return float(sum(x * y for x, y in signs) / math.sqrt(untied[0] * untied[1]))


@pytest.mark.parametrize("levels", [2, 4, 1000])
def test_kendall_is_what_a_loop_over_all_pairs_gives(levels: int) -> None:
    rng = np.random.default_rng(levels)
    for size in (2, 3, 17, 64, 65):
        a = np.r_[0, 1, rng.integers(0, levels, size - 2)]
        b = np.r_[1, 0, rng.integers(0, levels, size - 2)] / 7.0 - 3
        assert kendall(a, b) == pytest.approx(naive_kendall(a, b), abs=1e-12)


def test_a_turned_series_has_the_opposite_correlation() -> None:
    a = np.random.default_rng(3).normal(size=5000)
    assert (kendall(a, -a), kendall(a, np.exp(a))) == (-1, 1)
    assert spearman(np.c_[a, -a, np.exp(a)])[0].tolist() == pytest.approx([1, -1, 1])


def test_what_is_not_defined_is_nan() -> None:
    constant = np.c_[[1.1, 1.1, 1.1], [1, 2, 3]]
    for matrix in (pearson(constant), spearman(constant), pearson([[1, 2]]), pearson(np.empty((0, 2)))):
        assert np.isnan(matrix[0, 1])
    assert pearson(constant)[1, 1] == pytest.approx(1)
    assert math.isnan(kendall([1, 1, 1], [1, 2, 3]))
    assert math.isnan(kendall([1], [1]))
