"""Cosine similarity of features and the statistics over it, on arrays; it needs numpy alone.

The cosine of a frame f with a reference r is c = <f, r> / (|f| |r|), computed in float32 whatever precision the
features are stored in. A zero vector has no direction: its cosine with anything is 0.0. Values that are not finite give
NaN, and every statistic over a NaN is NaN. The statistics of a video are mean, median, minimum, maximum and standard
deviation of the cosines of its frames, and `pooled`, the cosine with the mean of its normalised frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cache.common.errors import UsageError

Floats = NDArray[np.floating[Any]]
TILE_ROWS = 1024  # 2 MB of float32 at D = 512: what is computed from them stays in the processor's cache
_COLUMNS = 32  # references summarised at once: a copy of their scores in float64 takes 256 bytes a frame
_TINY = np.float32(1e-15)  # shorter vectors have squares that float32 rounds away
_HALF_INFINITY = np.int16(0x7C00)  # the exponent of float16's infinities and NaNs
_SIGN_AND_LOW_28 = np.int32(0x8FFFFFFF - (1 << 32))
_TWO_TO_112 = np.float32(2.0**112)
BLOCK_ROWS = 8192  # 16 MB of float32 at D = 512: large enough for BLAS, small enough for a laptop


@dataclass(frozen=True)
class Summary:
    """Statistics of the scores of one video with one reference; cosines in [-1, 1] unless of another metric."""

    frames: int  # frames the statistics are taken over, > 0
    mean: float
    median: float  # mean of the two middle values when `frames` is even
    min: float
    max: float
    std: float  # of the population (ddof = 0), in [0, 1]
    pooled: float  # cosine of the reference with the mean of the L2-normalised frames


@dataclass(frozen=True)
class Cosines:
    """N frames against R references."""

    per_frame: NDArray[np.float32]  # (N, R), cosine in [-1, 1]
    pooled: NDArray[np.float32]  # (R,), cosine with the mean of the normalised frames, in [-1, 1]


def similarities(features: Floats, references: Floats) -> NDArray[np.float32]:
    """Return the cosine of every frame with every reference.

    Args:
        features: (N, D) floats of any precision, not necessarily normalised.
        references: (R, D) floats of any precision, not necessarily normalised.

    Returns:
        (N, R) float32 cosines in [-1, 1]; 0.0 where either vector is zero.

    Raises:
        UsageError: an array is not two-dimensional, or the widths differ.
    """
    return compare_blocks(_blocks(features), references).per_frame


def score(features: Floats, references: Floats) -> list[Summary]:
    """Return one `Summary` of the frames' cosines per reference.

    Args:
        features: (N, D) floats of any precision, N > 0, not necessarily normalised.
        references: (R, D) floats of any precision, not necessarily normalised.

    Raises:
        UsageError: an array is not two-dimensional, the widths differ, or there are no frames.
    """
    cosines = compare_blocks(_blocks(features), references)
    return [
        summarise(column, float(pooled)) for column, pooled in zip(cosines.per_frame.T, cosines.pooled, strict=True)
    ]


def paired_similarities(a: Floats, b: Floats) -> NDArray[np.float32]:
    """Return the cosine of frame i of one video with frame i of another.

    Args:
        a: (N, D) floats of any precision.
        b: (M, D) floats of any precision.

    Returns:
        (min(N, M),) float32 cosines in [-1, 1]; the leftover frames of the longer video are ignored.

    Raises:
        UsageError: an array is not two-dimensional, or the widths differ.
    """
    return pair_blocks(_blocks(a), _blocks(b)).per_frame[:, 0]


def compare_blocks(blocks: Iterable[Floats], references: Floats) -> Cosines:
    """Compare frames, given as consecutive (n, D) blocks, with (R, D) references, one block at a time.

    Raises:
        UsageError: an array is not two-dimensional, or the widths differ.
    """
    directions = unit_rows(references)
    total = np.zeros(directions.shape[1], np.float64)
    cosines = [np.empty((0, len(directions)), np.float32)]
    for block in blocks:
        _check_width(block, directions)
        for start in range(0, len(block), TILE_ROWS):
            frames = unit_rows(block[start : start + TILE_ROWS])
            total += np.ones(len(frames), np.float32) @ frames
            cosines.append(_dot(frames, directions.T))
    pooled = _dot(unit_rows(total[None]), directions.T)[0]
    return Cosines(np.concatenate(cosines), pooled)


def pair_blocks(a: Iterable[Floats], b: Iterable[Floats]) -> Cosines:
    """Compare frame i of one video with frame i of another, up to the end of the shorter one.

    Both videos come as consecutive (n, D) blocks of any lengths.

    Returns:
        Cosines with one column; `pooled` is the cosine of the two means of normalised frames.

    Raises:
        UsageError: an array is not two-dimensional, or the widths differ.
    """
    total_a = total_b = np.zeros(1, np.float64)
    cosines = [np.empty(0, np.float32)]
    for block_a, block_b in _aligned(a, b):
        _check_width(block_a, block_b)
        frames_a, frames_b = unit_rows(block_a), unit_rows(block_b)
        total_a = total_a + frames_a.sum(axis=0, dtype=np.float64)
        total_b = total_b + frames_b.sum(axis=0, dtype=np.float64)
        cosines.append(np.clip(np.einsum("nd,nd->n", frames_a, frames_b), -1, 1))
    pooled = _dot(unit_rows(total_a[None]), unit_rows(total_b[None]).T)[0]
    return Cosines(np.concatenate(cosines)[:, None], pooled)


def summarise(scores: NDArray[np.float32], pooled: float) -> Summary:
    """Statistics of the (N,) scores of one video with one reference, computed in float64.

    Raises:
        UsageError: there are no frames.
    """
    return next(summarise_columns(scores[:, None], np.array([pooled], np.float64)))


def summarise_columns(scores: NDArray[np.float32], pooled: Floats) -> Iterator[Summary]:
    """Statistics of each column of the (N, R) scores of one video with R references, as `summarise` gives them.

    Raises:
        UsageError: there are no frames.
    """
    if not len(scores):
        raise UsageError("There are no frames to score", "ask for a range or a rate that holds at least one")
    for start in range(0, scores.shape[1], _COLUMNS):
        rows = scores[:, start : start + _COLUMNS].T.astype(np.float64, order="C")
        statistics = (rows.mean(axis=1), np.median(rows, axis=1), rows.min(axis=1), rows.max(axis=1), rows.std(axis=1))
        for values in zip(
            *(one.tolist() for one in statistics), pooled[start : start + _COLUMNS].tolist(), strict=True
        ):
            yield Summary(rows.shape[1], *values)


def unit_rows(vectors: Floats) -> NDArray[np.float32]:
    """Return the rows of an (N, D) array at length one, as float32; zero rows stay zero.

    Raises:
        UsageError: the array is not two-dimensional.
    """
    if vectors.ndim != 2:
        raise UsageError(f"Features must be a (rows, D) array, not one of shape {vectors.shape}")
    units = as_float32(vectors)
    with np.errstate(invalid="ignore", over="ignore"):  # inf / inf: NaN, as the module's docstring says
        norms = np.sqrt(np.einsum("nd,nd->n", units, units))
        if (
            not np.isfinite(norms).all() or norms.min(initial=1) < _TINY
        ):  # squares beyond float32: once more, in float64
            norms = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)).astype(np.float32)
        norms[norms == 0] = 1
        units /= norms[:, None]
    return units


def as_float32(values: Floats) -> NDArray[np.float32]:
    """Return a copy in float32; of float16 in a seventh of the time that `astype` takes.

    The bits of a finite float16 are those of a float32 shifted by 13, but for an exponent that is 112 too low; a
    product puts that right, of subnormal numbers too.
    """
    if values.dtype != np.float16 or not values.flags.c_contiguous:
        return values.astype(np.float32)
    bits = values.view(np.int16)
    if (bits & _HALF_INFINITY).max(initial=0) == _HALF_INFINITY and not np.isfinite(values).all():
        return values.astype(np.float32)
    wide = bits.astype(np.int32)
    wide <<= 13
    wide &= _SIGN_AND_LOW_28
    single: NDArray[np.float32] = wide.view(np.float32)
    single *= _TWO_TO_112
    return single


def _blocks(features: Floats) -> Iterator[Floats]:
    """Cut (N, D) features into blocks of rows; no rows give one empty block, whose width is checked too."""
    for start in range(0, max(len(features), 1), BLOCK_ROWS):
        yield features[start : start + BLOCK_ROWS]


def _aligned(a: Iterable[Floats], b: Iterable[Floats]) -> Iterator[tuple[Floats, Floats]]:
    """Cut two sequences of blocks at the same rows, up to the end of the shorter one."""
    blocks_a, blocks_b = iter(a), iter(b)
    rest_a, rest_b = next(blocks_a, None), next(blocks_b, None)
    while rest_a is not None and rest_b is not None:
        rows = min(len(rest_a), len(rest_b))
        yield rest_a[:rows], rest_b[:rows]
        rest_a = rest_a[rows:] if rows < len(rest_a) else next(blocks_a, None)
        rest_b = rest_b[rows:] if rows < len(rest_b) else next(blocks_b, None)


def _dot(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Multiply unit vectors; what rounding adds beyond one is cut off, so that the stated range holds."""
    product: NDArray[np.float32] = a @ b
    return product.clip(-1, 1)


def _check_width(a: Floats, b: Floats) -> None:
    """Refuse to compare vectors of two widths."""
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise UsageError(
            f"Features of shape {a.shape} cannot be compared with references of shape {b.shape}: "
            "both must be (rows, D) with the same D"
        )
