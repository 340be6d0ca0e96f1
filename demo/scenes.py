"""A small world of coloured shapes, and how its pictures are drawn.

A `Scene` says what is shown; `render` draws it at any frame size. Nothing here knows of CLIP: the training of the tiny
model, the demo videos and the pictures of the tests all come from this module. numpy and Pillow are all it needs.

Positions and sizes are in units of the frame's shorter side, from its centre, so that the square that CLIP looks at
(the centre of the frame) shows the same at every frame size.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Pixels = NDArray[np.float32]
Rgb = tuple[int, int, int]

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "heart")
COLORS: dict[str, Rgb] = {
    "red": (214, 32, 32),
    "green": (36, 160, 56),
    "blue": (36, 72, 222),
    "yellow": (240, 218, 36),
    "purple": (126, 40, 176),
    "orange": (246, 134, 20),
    "cyan": (36, 206, 216),
    "pink": (250, 132, 192),
    "white": (244, 244, 244),
    "black": (16, 16, 16),
}
NEUTRAL = ("white", "black")
BACKGROUNDS = ("plain", "gradient", "striped", "checkered", "dotted", "noisy")

_OVERSAMPLE = 3
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True)
class Thing:
    """One shape in the picture.

    Attributes:
        shape: one of `SHAPES`.
        color: one of `COLORS`.
        x: of the centre, rightwards from the middle of the frame, in shorter sides; the edge of a square is at 0.5.
        y: likewise, downwards.
        size: diameter in shorter sides.
        turn: degrees, clockwise.
        shade: added to the colour, so that not all reds are one red.
    """

    shape: str
    color: str
    x: float = 0.0
    y: float = 0.0
    size: float = 0.5
    turn: float = 0.0
    shade: Rgb = (0, 0, 0)

    @property
    def rgb(self) -> Pixels:
        """The colour drawn."""
        return np.clip(np.add(COLORS[self.color], self.shade), 0, 255).astype(np.float32)

    @property
    def reach(self) -> float:
        """How far the shape goes towards an edge, in shorter sides; more than 0.5 is outside CLIP's square."""
        return max(abs(self.x), abs(self.y)) + self.size / 2


@dataclass(frozen=True)
class Background:
    """What is behind the things.

    Attributes:
        kind: one of `BACKGROUNDS`.
        rgb: the main colour.
        other: the second colour of a gradient or pattern.
        angle: of a gradient or of stripes, in degrees.
        period: of a pattern, in shorter sides.
        seed: of the speckles of "noisy".
        color: the name of `rgb` where it has one, of `COLORS` or "grey".
    """

    kind: str = "plain"
    rgb: Rgb = (128, 128, 128)
    other: Rgb = (128, 128, 128)
    angle: float = 0.0
    period: float = 0.2
    seed: int = 0
    color: str | None = None

    @property
    def luma(self) -> float:
        """Brightness from 0 to 255, of all of it."""
        return float((np.asarray(self.rgb, np.float32) + np.asarray(self.other, np.float32)) @ LUMA / 2)


@dataclass(frozen=True)
class Qualities:
    """How well the picture was taken; the defaults are a good one.

    Attributes:
        blur: radius in shorter sides; blurry from about 0.015.
        noise: standard deviation of the grain in levels of 255; noisy from about 18.
        exposure: factor on all light; dark below about 0.45, bright above about 1.5.
        contrast: factor on the distance from the mean; low below about 0.4, high above about 1.6.
        saturation: factor on the distance from grey; grey below about 0.1, colourful above about 1.3.
    """

    blur: float = 0.0
    noise: float = 0.0
    exposure: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0


@dataclass(frozen=True)
class Scene:
    """What a picture shows: up to a few things on a background, in a certain quality."""

    things: tuple[Thing, ...] = ()
    background: Background = field(default_factory=Background)
    qualities: Qualities = field(default_factory=Qualities)

    def with_qualities(self, **changes: float) -> Scene:
        """The same scene, taken otherwise."""
        return replace(self, qualities=replace(self.qualities, **changes))


def render(
    scene: Scene, size: tuple[int, int] = (224, 224), rng: np.random.Generator | None = None
) -> NDArray[np.uint8]:
    """Draw a scene.

    Args:
        scene: what to show.
        size: width and height in pixels.
        rng: of the grain, the one thing that differs from frame to frame; by default always the same grain.

    Returns:
        RGB pixels of shape (height, width, 3).
    """
    width, height = size
    short = min(size)
    canvas = _paint_background(scene.background, width, height)
    for thing in scene.things:
        _paint_thing(canvas, thing, short)
    canvas = _expose(canvas, scene.qualities)
    if scene.qualities.blur > 0:
        canvas = _blur(canvas, scene.qualities.blur * short)
    if scene.qualities.noise > 0:
        canvas += _grain(width, height, scene.qualities.noise, rng or np.random.default_rng(0))
    return (canvas.clip(0, 255) + 0.5).astype(np.uint8)


@functools.lru_cache(maxsize=16)
def _grid(width: int, height: int) -> tuple[Pixels, Pixels]:
    """Coordinates of the pixels' centres, in shorter sides from the middle."""
    short = min(width, height)
    x = (np.arange(width) + 0.5 - width / 2) / short
    y = (np.arange(height) + 0.5 - height / 2) / short
    return x[None, :].astype(np.float32), y[:, None].astype(np.float32)


def _paint_background(background: Background, width: int, height: int) -> Pixels:
    first = np.asarray(background.rgb, np.float32)
    canvas = np.empty((height, width, 3), np.float32)
    canvas[:] = first
    if background.kind == "plain":
        return canvas
    share = _pattern(background, width, height)
    canvas += share[..., None] * (np.asarray(background.other, np.float32) - first)
    return canvas


def _pattern(background: Background, width: int, height: int) -> Pixels:
    """How much of the second colour each pixel has, from 0 to 1."""
    x, y = _grid(width, height)
    angle = math.radians(background.angle)
    along = x * math.cos(angle) + y * math.sin(angle)
    if background.kind == "gradient":
        return np.clip(along + 0.5, 0, 1)
    if background.kind == "noisy":
        return _speckles(background, width, height)
    across = y * math.cos(angle) - x * math.sin(angle)
    wave = 2 * math.pi / background.period
    if background.kind == "striped":
        share = np.sin(along * wave)
    elif background.kind == "checkered":
        share = np.sin(along * wave) * np.sin(across * wave) * 2
    else:
        share = np.sin(along * wave) + np.sin(across * wave) - 1
    return np.clip(share * 3 + 0.5, 0, 1)


def _speckles(background: Background, width: int, height: int) -> Pixels:
    """Coarse random spots, which stay where they are while things move."""
    cell = max(1, round(min(width, height) / 40))
    rng = np.random.default_rng(background.seed)
    spots = rng.random((64, 96), dtype=np.float32)
    rows, columns = np.arange(height) // cell % 64, np.arange(width) // cell % 96
    return spots[rows][:, columns]


def _paint_thing(canvas: Pixels, thing: Thing, short: int) -> None:
    height, width = canvas.shape[:2]
    radius = thing.size * short / 2
    center = width / 2 + thing.x * short, height / 2 + thing.y * short
    left, top = (math.floor(c - radius) - 1 for c in center)
    side = math.ceil(2 * radius) + 3
    mask = _mask(thing, radius, (center[0] - left, center[1] - top), side)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
    if x0 >= x1 or y0 >= y1:
        return
    cover = mask[y0 - top : y1 - top, x0 - left : x1 - left, None]
    region = canvas[y0:y1, x0:x1]
    region += cover * (thing.rgb - region)


def _mask(thing: Thing, radius: float, center: tuple[float, float], side: int) -> Pixels:
    """How much of each pixel the shape covers."""
    image = Image.new("L", (side * _OVERSAMPLE, side * _OVERSAMPLE))
    draw = ImageDraw.Draw(image)
    angle = math.radians(thing.turn)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    points = (_outline(thing.shape) @ turn * radius + center) * _OVERSAMPLE
    draw.polygon([tuple(point) for point in points.tolist()], fill=255)
    if thing.shape == "ring":
        x, y, hole = center[0] * _OVERSAMPLE, center[1] * _OVERSAMPLE, radius * 0.56 * _OVERSAMPLE
        draw.ellipse((x - hole, y - hole, x + hole, y + hole), fill=0)
    cover: Pixels = np.asarray(image.reduce(_OVERSAMPLE), np.float32) / np.float32(255)
    return cover


@functools.cache
def _outline(shape: str) -> NDArray[np.float64]:
    """Corners of a shape of radius 1, y downwards."""
    if shape in ("circle", "ring"):
        return _corners(np.ones(60), 0)
    if shape == "square":
        return _corners(np.ones(4), 45)
    if shape == "triangle":
        return _corners(np.ones(3), -90)
    if shape == "star":
        return _corners(np.tile([1.0, 0.42], 5), -90)
    if shape == "cross":
        a, b = 0.3, 0.95
        half = [(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a)]
        return np.array(half + [(-x, -y) for x, y in half])
    if shape == "heart":
        t = np.linspace(0, 2 * math.pi, 60, endpoint=False)
        y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
        return np.stack([16 * np.sin(t) ** 3, -y - 2.5], axis=1) / 17
    raise ValueError(f"unknown shape {shape!r}")


def _corners(radii: NDArray[np.float64], start: float) -> NDArray[np.float64]:
    angles = np.radians(start) + np.arange(len(radii)) * (2 * math.pi / len(radii))
    return np.stack([np.cos(angles) * radii, np.sin(angles) * radii], axis=1)


def _expose(canvas: Pixels, qualities: Qualities) -> Pixels:
    """Saturation, contrast and light, in this order."""
    if qualities.saturation != 1:
        grey = (canvas @ LUMA)[..., None]
        canvas = (grey + (canvas - grey) * np.float32(qualities.saturation)).clip(0, 255)
    if qualities.contrast != 1:
        middle = canvas.mean() if qualities.contrast < 1 else np.float32(128)
        canvas = middle + (canvas - middle) * np.float32(qualities.contrast)
    if qualities.exposure != 1:
        lift = max(0.0, qualities.exposure - 1) * 40
        canvas = canvas.clip(0, 255) * np.float32(qualities.exposure) + np.float32(lift)
    return canvas.clip(0, 255)


def _blur(canvas: Pixels, radius: float) -> Pixels:
    image = Image.fromarray((canvas + 0.5).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), np.float32)


def _grain(width: int, height: int, sigma: float, rng: np.random.Generator) -> Pixels:
    """Noise whose grain is about a 224th of the frame, so that it looks the same at every frame size."""
    cell = max(1, round(min(width, height) / 224))
    shape = -(-height // cell), -(-width // cell), 3
    small: Pixels = rng.standard_normal(shape, dtype=np.float32) * np.float32(sigma)
    if cell > 1:
        small = small.repeat(cell, axis=0).repeat(cell, axis=1)
    return small[:height, :width]
