"""Whether two sequences change together: debiased linear CKA, with circular shifts as its null; no text is needed.

CKA compares the similarities within one sequence with those within the other (Kornblith et al. 2019); the unbiased
estimate of HSIC makes unrelated sequences score near 0 however long their vectors are (Song et al. 2012; Nguyen et al.
2021). A high value says that picture and sound change at the same times, not that they show the same thing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..similarity import Floats

MIN_WINDOWS = 24


@dataclass(frozen=True)
class SharedChange:
    """Debiased linear CKA of one video's picture and sound."""

    cka: float  # at most 1; near 0 for unrelated sequences, below it by chance
    null_mean: float  # over all circular shifts of the sound
    p_value: float  # share of shifts, the unshifted one counted, whose CKA is at least as high: 1/windows to 1
    windows: int


def shared_change(pictures: NDArray[np.float32], sounds: NDArray[np.float32]) -> SharedChange | None:
    """Compare (M, D) with (M, E) features, window by window; None below MIN_WINDOWS windows that both hold."""
    held = np.isfinite(pictures).all(axis=1) & np.isfinite(sounds).all(axis=1)
    windows = int(held.sum())
    if windows < MIN_WINDOWS:
        return None
    a, b = _gram(pictures[held]), _gram(sounds[held])
    values = np.array([_cka(a, np.roll(b, (shift, shift), (0, 1))) for shift in range(windows)])
    return SharedChange(
        cka=float(values[0]),
        null_mean=float(values[1:].mean()),
        p_value=float((values >= values[0]).mean()),
        windows=windows,
    )


def debiased_cka(a: Floats, b: Floats) -> float:
    """Debiased linear CKA of (M, D) and (M, E) rows, M >= 4."""
    return _cka(_gram(a), _gram(b))


def _gram(rows: Floats) -> NDArray[np.float64]:
    values = rows.astype(np.float64)
    values = values - values.mean(axis=0)  # HSIC does not change, its rounding does
    gram: NDArray[np.float64] = values @ values.T
    np.fill_diagonal(gram, 0)
    return gram


def _cka(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    scale = np.sqrt(max(_hsic(a, a), 0) * max(_hsic(b, b), 0))
    return float(_hsic(a, b) / scale) if scale > 0 else 0.0  # a sequence that never changes shares no change


def _hsic(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Unbiased HSIC of Gram matrices whose diagonals are 0 (Song et al. 2012, equation 5)."""
    n = len(a)
    rows_a, rows_b = a.sum(axis=0), b.sum(axis=0)
    product = (a * b).sum() + rows_a.sum() * rows_b.sum() / ((n - 1) * (n - 2)) - 2 * rows_a @ rows_b / (n - 2)
    return float(product / (n * (n - 3)))
