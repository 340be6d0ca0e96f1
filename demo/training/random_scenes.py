"""Scenes made up at random: what training, evaluation and tests look at."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..scenes import BACKGROUNDS, COLORS, LUMA, SHAPES, Background, Qualities, Rgb, Scene, Thing

FAULTS: dict[str, tuple[str, float, float]] = {
    "blurry": ("blur", 0.015, 0.032),
    "noisy": ("noise", 20, 48),
    "dark": ("exposure", 0.28, 0.45),
    "bright": ("exposure", 1.5, 1.9),
    "low contrast": ("contrast", 0.26, 0.4),
    "high contrast": ("contrast", 1.7, 2.3),
    "grey": ("saturation", 0.0, 0.08),
    "colourful": ("saturation", 1.3, 1.7),
}
"""Name of a deviation from the plain good picture -> which of the `Qualities`, from, to."""

FRAMINGS = ("centred", "anywhere", "cut off")


def random_scene(
    rng: np.random.Generator,
    *,
    count: int | None = None,
    subject: tuple[str, str] | None = None,
    framing: str | None = None,
    deviations: tuple[str, ...] | None = None,
    exclude: frozenset[tuple[str, str]] = frozenset(),
) -> Scene:
    """Make up a scene.

    Args:
        rng: decides what is left open.
        count: of things: 0, 1 or 2; mostly 1 by default.
        subject: colour and shape of the (first) thing.
        framing: one of `FRAMINGS`.
        deviations: keys of `FAULTS`; none to two by default.
        exclude: pairs of colour and shape that are never drawn.

    Returns:
        The scene.
    """
    if count is None:
        count = 1 if subject or framing else int(rng.choice(3, p=(0.03, 0.67, 0.3)))
    framing = framing or str(rng.choice(FRAMINGS, p=(0.32, 0.5, 0.18)))
    pairs = [subject or _random_pair(rng, exclude)]
    if count == 2:
        pairs.append(pairs[0] if rng.random() < 0.4 else _random_pair(rng, exclude))
    background = random_background(rng, [COLORS[color] for color, _ in pairs[:count]])
    things = (random_thing(rng, pairs[0], framing),) if count == 1 else _random_two(rng, pairs) if count else ()
    if deviations is None:
        deviations = _random_deviations(rng, background)
    return Scene(things, background, random_qualities(rng, deviations))


def random_qualities(rng: np.random.Generator, deviations: tuple[str, ...]) -> Qualities:
    """How a picture with the named deviations (keys of `FAULTS`) was taken."""
    values = {FAULTS[name][0]: float(rng.uniform(*FAULTS[name][1:])) for name in deviations}
    return Qualities(**values)


def _random_pair(rng: np.random.Generator, exclude: frozenset[tuple[str, str]]) -> tuple[str, str]:
    names = tuple(COLORS)
    while True:
        pair = names[rng.integers(len(names))], SHAPES[rng.integers(len(SHAPES))]
        if pair not in exclude:
            return pair


def _random_deviations(rng: np.random.Generator, background: Background) -> tuple[str, ...]:
    number = int(rng.choice(3, p=(0.35, 0.43, 0.22)))
    names = [str(name) for name in rng.permutation(list(FAULTS))[:number]]
    return tuple(name for name in names if suits(name, background) and not _rules_out(names[0], name))


def suits(name: str, background: Background) -> bool:
    """Whether a deviation shows against a background: black cannot be darkened, nor white brightened."""
    return background.luma > 60 if name == "dark" else 70 < background.luma < 200 if name == "bright" else True


def _rules_out(first: str, second: str) -> bool:
    """Whether two deviations contradict or hide each other."""
    same = FAULTS[first][0] == FAULTS[second][0] and first != second
    return same or {first, second} in ({"dark", "low contrast"}, {"low contrast", "colourful"})


def random_thing(rng: np.random.Generator, pair: tuple[str, str], framing: str) -> Thing:
    """A thing of the given colour and shape, well placed or not."""
    size = float(rng.uniform(0.24, 0.72))
    if framing == "centred":
        x, y = rng.uniform(-0.07, 0.07, 2)
        size = max(size, 0.3)
    elif framing == "cut off":
        size = max(size, 0.34)
        x, y = _over_the_edge(rng, size)
    else:
        x, y = rng.uniform(-1, 1, 2) * (0.49 - size / 2)
    return _turned(rng, pair, float(x), float(y), size)


def _over_the_edge(rng: np.random.Generator, size: float) -> tuple[float, float]:
    """A centre from which a good part of the thing is outside."""
    first = 0.5 - size / 2 * float(rng.uniform(-0.05, 0.45))
    second = float(rng.uniform(-1, 1)) * (0.5 - size / 4)
    point = first * float(rng.choice((-1, 1))), second
    return point if rng.random() < 0.5 else point[::-1]


def _turned(rng: np.random.Generator, pair: tuple[str, str], x: float, y: float, size: float) -> Thing:
    color, shape = pair
    most = 22.0 if shape in ("square", "cross", "heart") else 180.0
    red, green, blue = (int(value) for value in rng.integers(-12, 13, 3))
    return Thing(shape, color, x, y, size, float(rng.uniform(-most, most)), (red, green, blue))


def _random_two(rng: np.random.Generator, pairs: list[tuple[str, str]]) -> tuple[Thing, ...]:
    """Two things side by side, apart from each other."""
    angle = float(rng.uniform(0, 2 * math.pi))
    apart = float(rng.uniform(0.44, 0.56))
    middle = rng.uniform(-0.04, 0.04, 2)
    things = []
    for sign, pair in zip((-1, 1), pairs, strict=True):
        x, y = middle + sign * apart / 2 * np.array([math.cos(angle), math.sin(angle)])
        size = min(float(rng.uniform(0.26, 0.46)), apart - 0.03, 2 * (0.49 - max(abs(x), abs(y))))
        things.append(_turned(rng, pair, float(x), float(y), size))
    return tuple(things)


def random_background(rng: np.random.Generator, against: list[Rgb]) -> Background:
    """A background that the given colours stand out from."""
    while True:
        rgb, name = _random_rgb(rng)
        kind = str(rng.choice(BACKGROUNDS, p=(0.34, 0.2, 0.13, 0.1, 0.1, 0.13)))
        other = _second_rgb(rng, rgb, kind)
        if all(_stands_out(color, tone) for color in against for tone in (rgb, other)):
            break
    name = None if kind == "gradient" else name
    period = float(rng.uniform(0.1, 0.3))
    return Background(kind, rgb, other, float(rng.uniform(0, 360)), period, int(rng.integers(1 << 30)), name)


def _random_rgb(rng: np.random.Generator) -> tuple[Rgb, str | None]:
    """Half of them shades of grey, the others coloured."""
    if rng.random() < 0.55:
        level = int(rng.integers(6, 250))
        name = "black" if level < 34 else "white" if level > 224 else "grey" if 84 < level < 172 else None
        return (level, level, level), name
    name = list(COLORS)[rng.integers(8)]
    factor = float(rng.uniform(0.8, 1.0))
    return _rgb(np.asarray(COLORS[name]) * factor + rng.integers(-8, 9, 3)), name


def _second_rgb(rng: np.random.Generator, rgb: Rgb, kind: str) -> Rgb:
    if kind == "plain":
        return rgb
    base = np.asarray(rgb, float)
    if kind == "gradient" and rng.random() < 0.3:
        return _random_rgb(rng)[0]
    step = float(rng.uniform(36, 64)) * (-1 if base.mean() > 128 else 1)
    return _rgb(base + step)


def _rgb(values: NDArray[np.float64]) -> Rgb:
    red, green, blue = (int(value) for value in np.clip(values, 0, 255))
    return red, green, blue


def _stands_out(color: Rgb, tone: Rgb) -> bool:
    """Whether the two differ well, in a picture without colour too."""
    light = abs(float(np.subtract(color, tone) @ LUMA))
    return math.dist(color, tone) > 95 and light > 18
