"""Frame numbers drawn so that they can be read after lossy coding.

A frame carries its number as 6 x 4 black and white cells: four corners that show which way is up, fourteen
bits of number, six check bits.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Rgb = npt.NDArray[np.uint8]

COLUMNS, ROWS = 6, 4
MAX_NUMBER = 2**14 - 1
_BLACK, _WHITE = 24, 232
# The corners are white, black, black, black: a frame turned or mirrored does not read as another number.
_CORNERS = ((0, 0), (0, COLUMNS - 1), (ROWS - 1, 0), (ROWS - 1, COLUMNS - 1))


class BarcodeError(ValueError):
    """The picture holds no readable barcode: damaged, turned, mirrored, or not one of ours."""


def _check_bits(number: int) -> int:
    """Six bits, 0 to 60; one wrong bit changes the number by a power of two, never a multiple of 61."""
    return (number * 37 + 21) % 61


def _cells(number: int) -> npt.NDArray[np.bool_]:
    bits = (number << 6) | _check_bits(number)
    grid = np.zeros((ROWS, COLUMNS), dtype=bool)
    grid[_CORNERS[0]] = True
    places = [(r, c) for r in range(ROWS) for c in range(COLUMNS) if (r, c) not in _CORNERS]
    for shift, place in enumerate(places):
        grid[place] = bool(bits >> shift & 1)
    return grid


def draw_barcode(number: int, width: int, height: int) -> Rgb:
    """Draw a frame number.

    Args:
        number: 0 to `MAX_NUMBER`.
        width: Pixels, at least 36 for lossy codecs.
        height: Pixels, at least 24 for lossy codecs.

    Returns:
        (height, width, 3) uint8, grey levels only.
    """
    if not 0 <= number <= MAX_NUMBER:
        raise ValueError(f"a barcode holds 0 to {MAX_NUMBER}, not {number}")
    grid = np.where(_cells(number), _WHITE, _BLACK).astype(np.uint8)
    rows, columns = np.arange(height) * ROWS // height, np.arange(width) * COLUMNS // width
    return np.ascontiguousarray(np.repeat(grid[rows][:, columns, None], 3, axis=2))


def read_barcode(rgb: Rgb) -> int:
    """Read the frame number of an upright (H, W, 3) uint8 picture.

    Raises:
        BarcodeError: A cell is neither dark nor light, the corners are elsewhere, or the check bits disagree.
    """
    grey = rgb.astype(np.float64).mean(axis=2)
    height, width = grey.shape
    means = np.empty((ROWS, COLUMNS))
    for r in range(ROWS):
        for c in range(COLUMNS):
            # The middle half of the cell: its border is blurred by the codec.
            top, bottom = (round((r + part) * height / ROWS) for part in (0.25, 0.75))
            left, right = (round((c + part) * width / COLUMNS) for part in (0.25, 0.75))
            means[r, c] = grey[top : max(bottom, top + 1), left : max(right, left + 1)].mean()
    if np.any(np.abs(means - 128) < 24):
        raise BarcodeError("a cell is neither black nor white")
    grid = means > 128
    if [bool(grid[place]) for place in _CORNERS] != [True, False, False, False]:
        raise BarcodeError("the corners are not where they belong: the picture is turned or mirrored")
    places = [(r, c) for r in range(ROWS) for c in range(COLUMNS) if (r, c) not in _CORNERS]
    bits = sum(int(grid[place]) << shift for shift, place in enumerate(places))
    number = bits >> 6
    if bits & 63 != _check_bits(number):
        raise BarcodeError("the check bits disagree with the number")
    return number
