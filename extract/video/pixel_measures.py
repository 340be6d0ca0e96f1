"""Rule-based measures of how well a frame was taken, computed on the decoded frame at its own resolution.

They are facts about pixels, beside CLIP's opinion: a focus measure, a contrast, an exposure, a colourfulness and a
brightness, and one sum of them. Turning the frame by a right angle changes none.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .resize import Pixels

Measures = npt.NDArray[np.float32]
_Moments = npt.NDArray[np.float64]

BLUR_LIMIT = 100.0
"""Laplacian variance at which sharpness counts half: below it, pictures are customarily called blurred."""

VIVID = 109.0
"""Colourfulness of the most colourful of Hasler and Süsstrunk's seven classes, "extremely colourful"."""

WEIGHTS = {"sharpness": 0.35, "contrast": 0.20, "exposure": 0.20, "colourfulness": 0.15, "brightness": 0.10}
"""Shares of the composite; they add up to 1. A rule of thumb: nothing was fitted to human ratings."""

_DARK, _BRIGHT = 2, 253  # luma up to and from which a pixel is clipped: 1 % from the ends, as coding blurs the ends
_BAND_PIXELS = 1 << 16  # worked on at a time: few enough to stay in the cache of a processor


@dataclass(frozen=True)
class FrameQuality:
    """The measures of one frame, luma being BT.601's, rounded to 8 bits (Pillow's mode "L").

    Attributes:
        sharpness: variance of the Laplacian of the luma, 0 to 1,040,400, in squared levels of 8 bits; 4-neighbour
            kernel, mirrored at the border (OpenCV's `Laplacian` with `ksize=1`). Pech-Pacheco et al., "Diatom
            autofocusing in brightfield microscopy", ICPR 2000. Grows with noise too.
        contrast: RMS contrast, 0 to 0.5: standard deviation of luma / 255. Peli, "Contrast in complex images", 1990.
        clipped: share of pixels, 0 to 1, whose luma is within 1 % of black or white (at most 2, or at least 253).
        entropy: shannon entropy of the histogram of the 256 levels of luma, 0 to 8 bits.
        colourfulness: hasler and Süsstrunk, "Measuring colourfulness in natural images", 2003, M^(3): 0 for grey, 15
            slightly, 45 on average, 109 and more extremely colourful.
        brightness: mean luma / 255, 0 to 1.
    """

    sharpness: float
    contrast: float
    clipped: float
    entropy: float
    colourfulness: float
    brightness: float

    @property
    def composite(self) -> float:
        """Sum of five parts, each 0 to 1, by `WEIGHTS`: 0 (a black frame) to 1.

        sharpness / (sharpness + 100), contrast / 0.5, (1 - clipped) * entropy / 8, min(colourfulness / 109, 1),
        1 - |2 * brightness - 1|.
        """
        parts = {
            "sharpness": self.sharpness / (self.sharpness + BLUR_LIMIT),
            "contrast": self.contrast / 0.5,
            "exposure": (1.0 - self.clipped) * self.entropy / 8.0,
            "colourfulness": min(self.colourfulness / VIVID, 1.0),
            "brightness": 1.0 - abs(2.0 * self.brightness - 1.0),
        }
        return sum(WEIGHTS[name] * part for name, part in parts.items())

    def as_row(self) -> Measures:
        """(Q,) float32 in the order of `NAMES`."""
        return np.array([getattr(self, name) for name in NAMES], np.float32)


NAMES = (*(field.name for field in dataclasses.fields(FrameQuality)), "composite")
"""What an entry calls the measures: its datasets `quality/<name>`."""


def by_name(rows: Measures) -> dict[str, Measures]:
    """(N, Q) measures as (N,) for each name; nothing where Q is 0: nothing was measured."""
    return dict(zip(NAMES, rows.T, strict=True)) if rows.shape[1] else {}


def measure(rgb: Pixels) -> FrameQuality:
    """Measure one frame.

    Args:
        rgb: (H, W, 3) uint8, H and W at least 1.
    """
    from PIL import Image

    luma: Any = Image.fromarray(rgb).convert("L")
    share = np.array(luma.histogram(), np.float64) / (rgb.shape[0] * rgb.shape[1])
    levels = np.arange(256)
    mean = float(share @ levels)
    shown = share[share > 0]
    return FrameQuality(
        sharpness=_laplacian_variance(np.asarray(luma)),
        contrast=float(np.sqrt(share @ (levels - mean) ** 2)) / 255.0,
        clipped=float(share[: _DARK + 1].sum() + share[_BRIGHT:].sum()),
        entropy=abs(float(shown @ np.log2(shown))),  # the sum is negative, or -0.0
        colourfulness=_colourfulness(rgb),
        brightness=mean / 255.0,
    )


def _laplacian_variance(luma: Pixels) -> float:
    bordered = np.pad(luma, 1, mode="reflect")  # without repeating the edge itself, as OpenCV's default border
    moments = np.zeros(2)
    rows = _band_rows(luma)
    for top in range(0, len(luma), rows):
        band = bordered[top : top + rows + 2].astype(np.int16)
        laplacian = band[1:-1, 1:-1] * np.int16(4)
        for neighbour in (band[:-2, 1:-1], band[2:, 1:-1], band[1:-1, :-2], band[1:-1, 2:]):
            laplacian -= neighbour
        moments += _moments(laplacian)
    return _mean_and_variance(moments, luma.size)[1]


def _colourfulness(rgb: Pixels) -> float:
    """M^(3) = sqrt(var(rg) + var(yb)) + 0.3 * sqrt(mean(rg)^2 + mean(yb)^2); rg = R - G, yb = (R + G) / 2 - B."""
    rg_moments, twice_yb_moments = np.zeros(2), np.zeros(2)
    rows = _band_rows(rgb)
    for top in range(0, len(rgb), rows):
        red, green, blue = (rgb[top : top + rows, :, channel].astype(np.int16) for channel in range(3))
        rg_moments += _moments(red - green)
        twice_yb_moments += _moments(red + green - blue * np.int16(2))
    pixels = rgb.shape[0] * rgb.shape[1]
    rg_mean, rg_variance = _mean_and_variance(rg_moments, pixels)
    yb_mean, yb_variance = _mean_and_variance(twice_yb_moments * (1 / 2, 1 / 4), pixels)
    return float(np.sqrt(rg_variance + yb_variance) + 0.3 * np.hypot(rg_mean, yb_mean))


def _band_rows(picture: Pixels) -> int:
    width: int = picture.shape[1]
    return max(1, _BAND_PIXELS // width)


def _moments(values: npt.NDArray[np.int16]) -> _Moments:
    """(2,) sum and sum of squares; exact, as whole numbers in float64 are."""
    flat = values.astype(np.float64).ravel()
    return np.array([flat.sum(), flat @ flat])


def _mean_and_variance(moments: _Moments, number: int) -> tuple[float, float]:
    mean, mean_square = moments / number
    return float(mean), max(float(mean_square - mean**2), 0.0)
