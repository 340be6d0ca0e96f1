"""Correlations of two or more series of scores, in numpy: Pearson, Spearman, Kendall's tau-b.

Each is in [-1, 1], and NaN where it is not defined: fewer than two values, or a series whose values are all the same.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Matrix = NDArray[np.float64]


def pearson(table: ArrayLike) -> Matrix:
    """Pearson's product-moment correlation (Pearson 1895) of each column of (N, C) with each other: (C, C)."""
    centred = np.array(table, np.float64)
    if len(centred) < 2:
        return np.full((centred.shape[1],) * 2, np.nan)
    # Compared before the mean is taken off: rounding would leave something other than zero of a constant.
    constant = centred.min(axis=0) == centred.max(axis=0)
    centred -= centred.mean(axis=0)
    lengths = np.sqrt((centred**2).sum(axis=0))
    lengths[constant] = np.nan
    centred /= lengths
    matrix: Matrix = (centred.T @ centred).clip(-1, 1)
    return matrix


def spearman(table: ArrayLike) -> Matrix:
    """Spearman's rank correlation (Spearman 1904) of each column of (N, C) with each other: (C, C); ties averaged."""
    columns = np.asarray(table)
    return pearson(np.column_stack([average_ranks(column) for column in columns.T]))


def kendall(a: ArrayLike, b: ArrayLike) -> float:
    """Kendall's tau-b (Kendall 1945) of two (N,) series, by merging, in O(N log^2 N) (after Knight, JASA 61, 1966)."""
    x, y = (np.unique(series, return_inverse=True)[1] for series in (a, b))
    order = np.lexsort((y, x))
    x, y = x[order], y[order]
    pairs = len(x) * (len(x) - 1) // 2
    tied_x, tied_y, tied_both = _tied_pairs(x), _tied_pairs(y), _tied_pairs(x * (len(y) + 1) + y)
    untied = float(pairs - tied_x) * float(pairs - tied_y)
    if not untied:
        return float("nan")
    concordant_less_discordant = pairs - tied_x - tied_y + tied_both - 2 * _inversions(y)
    return float(concordant_less_discordant / np.sqrt(untied))


def average_ranks(series: ArrayLike) -> Matrix:
    """Ranks of (N,) values, 1 for the smallest; equal values share the mean of their ranks."""
    _, group, sizes = np.unique(series, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes)
    ranks: Matrix = (last - (sizes - 1) / 2)[group]
    return ranks


def finite_or_none(value: float) -> float | None:
    """The cell of a table for a value that may be NaN: not defined, or not measured."""
    return float(value) if np.isfinite(value) else None


def _tied_pairs(labels: NDArray[np.intp]) -> int:
    sizes = np.unique(labels, return_counts=True)[1]
    return int((sizes * (sizes - 1) // 2).sum())


def _inversions(values: NDArray[np.intp]) -> int:
    """Count pairs i < j with values[i] > values[j] >= 0.

    Two values differ first in one bit. So: bit after bit from the highest, within values that agree in all higher
    bits, count the ones that come before a zero.
    """
    total = 0
    for bit in reversed(range(int(values.max(initial=0)).bit_length())):
        higher, ones = values >> (bit + 1), (values >> bit) & 1
        ones_before = np.cumsum(ones) - ones
        of_group = ones_before - ones_before[np.searchsorted(higher, higher)]  # `higher` is sorted
        total += int(of_group[ones == 0].sum())
        values = values[np.argsort(values >> bit, kind="stable")]
    return total
