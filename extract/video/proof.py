"""Proof that the pieces of a cut video are what decoding it in one go gives.

A segment that is decoded on its own begins without what the stream said before: reference pictures, parameter sets,
messages that only the start carries. Whether it needs any of that shows in its first picture. So each piece is decoded
one picture further, to the keyframe at which the next piece begins, and the two versions of that picture must agree to
the last bit. The first picture of the whole video is compared with that of a plain reading of the file.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Picture(NamedTuple):
    """One picture of a video: its pts in ticks, and the checksum of its pixels."""

    pts: int
    checksum: int


@dataclass
class Cuts:
    """What one piece says of its borders.

    Attributes:
        alone: pictures at which decoding began, as they came out.
        continued: pictures at which another piece begins, as they came out when decoding went on from before.
    """

    alone: set[Picture] = field(default_factory=set)
    continued: set[Picture] = field(default_factory=set)


def checksum(rgb: npt.NDArray[np.uint8]) -> int:
    """Of (H, W, 3) uint8 pixels and of their shape."""
    return zlib.crc32(np.ascontiguousarray(rgb).data, zlib.crc32(str(rgb.shape).encode()))


def are_proved(cuts: Iterable[Cuts], first: Picture | None) -> bool:
    """Whether each piece begins with the picture that decoding on from the piece before gives.

    Args:
        cuts: of all pieces of one video.
        first: the first picture that a plain reading of the file gives.
    """
    several = list(cuts)
    continued = {picture for one in several for picture in one.continued} | ({first} if first else set())
    return all(one.alone <= continued for one in several)
