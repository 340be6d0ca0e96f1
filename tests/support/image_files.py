"""Pictures for the tests, and files that Pillow reads but does not write."""

from __future__ import annotations

import importlib.util
import struct
import sys
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pytest
from PIL import Image, features

RED, BLUE = (200, 30, 30), (30, 30, 200)
HEIC_HEAD = b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf" + bytes(40)
"""As a HEIC file begins; no more is needed where nothing can read it."""

needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow does not read AVIF")
needs_heic = pytest.mark.skipif(importlib.util.find_spec("pillow_heif") is None, reason="pillow-heif is not installed")


def two_colours() -> Image.Image:
    """Red on the left, blue on the right: 96 x 64."""
    picture = Image.new("RGB", (96, 64), RED)
    picture.paste(BLUE, (48, 0, 96, 64))
    return picture


def hide_heic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it seem as if pillow-heif were not installed."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)


def write_tiff(path: Path, values: npt.NDArray[Any], *, bits: int, kind: int = 1, photometric: int = 1) -> Path:
    """Write rows of grey, uncompressed; of 12 bits, `values` are the packed bytes.

    Args:
        path: where to.
        values: (H, W), little-endian.
        bits: of a value.
        kind: 1 unsigned, 2 signed, 3 float.
        photometric: 1 where the highest value is white, 0 where it is black.
    """
    data = values.tobytes()
    width = values.shape[1] * values.itemsize * 8 // bits
    longs = {273: 8, 279: len(data)}
    shorts = {256: width, 257: len(values), 258: bits, 259: 1, 262: photometric, 277: 1, 278: len(values), 339: kind}
    directory = struct.pack("<H", len(longs | shorts))
    for tag, value in sorted((longs | shorts).items()):
        directory += struct.pack("<HHII", tag, 4 if tag in longs else 3, 1, value)
    path.write_bytes(struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + directory + bytes(4))
    return path
