"""What is said of a scene: facts, and captions that claim some of them.

A caption is true of a picture where all that it claims is among the picture's facts, and false where it claims
something that is neither a fact nor unclear. Training uses this for every pair of a batch, so that "a dark picture" is
never taught to be wrong about the other dark pictures.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from ..scenes import COLORS, NEUTRAL, SHAPES, Scene, Thing
from .words import (
    ADJECTIVES,
    COLOR_WORDS,
    HELD_OUT_PAIRS,
    MEDIA,
    NOTHING,
    PATTERN_WORDS,
    PHRASES,
    QUALITY_ALONE,
    QUALITY_WRAPPERS,
    SHAPE_WORDS,
    SIZES,
    TEXTURED,
    UNKNOWN,
    WRAPPERS,
)


@dataclass(frozen=True)
class Caption:
    """A sentence and the facts that it claims."""

    text: str
    claims: frozenset[str]


@dataclass(frozen=True)
class Facts:
    """What a caption may claim of a picture, and what nobody could tell."""

    true: frozenset[str]
    unclear: frozenset[str]


# Facts ----------------------------------------------------------------------------------------------------------------


def facts(scene: Scene) -> Facts:
    """Say what is true of a scene's picture, and what is unclear."""
    quality = _qualities(scene)
    true = _subject_facts(scene) | _background_facts(scene) | {name for name, sure in quality.items() if sure}
    unclear = {name for name, sure in quality.items() if not sure}
    if len(scene.things) != 1 or 0.32 < scene.things[0].size < 0.52:
        unclear |= {"large", "small"}
    if scene.background.kind == "plain" and scene.qualities.noise:
        unclear.add("noisy background")
    if _shifted_light(scene):
        unclear |= {"dark background", "bright background", *(f"{c} background" for c in (*NEUTRAL, "grey"))}
    return Facts(frozenset(true), frozenset(unclear - true))


def all_facts() -> tuple[str, ...]:
    """Every fact that a caption can claim."""
    pairs = [f"{color} {shape}" for color in COLORS for shape in SHAPES]
    kinds = [*pairs, *COLORS, *SHAPES]
    backgrounds = [*PATTERN_WORDS, "textured", "dark", "bright", "grey", *COLORS]
    named = [*kinds, *(f"two {kind}" for kind in kinds), *(f"{name} background" for name in backgrounds)]
    return (*dict.fromkeys(named), *ADJECTIVES, "large", "small", "none", "one", "two", "unknown")


def _shifted_light(scene: Scene) -> bool:
    quality = scene.qualities
    return quality.exposure != 1 or quality.contrast < 0.5


def _visible_color(scene: Scene, color: str) -> bool:
    return scene.qualities.saturation > 0.5 or color in NEUTRAL


def _subject_facts(scene: Scene) -> set[str]:
    number = len(scene.things)
    found = {("none", "one", "two")[number]}
    kinds = [_kinds(scene, thing) for thing in scene.things]
    found.update(*kinds)
    if number == 2:
        found |= {f"two {kind}" for kind in kinds[0] & kinds[1]}
    size = _size(scene)
    return found | {size} if size else found


def _size(scene: Scene) -> str | None:
    """How large a single thing is."""
    if len(scene.things) != 1 or 0.32 < scene.things[0].size < 0.52:
        return None
    return "large" if scene.things[0].size >= 0.52 else "small"


def _kinds(scene: Scene, thing: Thing) -> set[str]:
    if not _visible_color(scene, thing.color):
        return {thing.shape}
    return {thing.shape, thing.color, f"{thing.color} {thing.shape}"}


def _background_facts(scene: Scene) -> set[str]:
    background = scene.background
    found = {f"{background.kind} background"}
    if background.kind in TEXTURED:
        found.add("textured background")
    if background.luma < 70:
        found.add("dark background")
    if background.luma > 185:
        found.add("bright background")
    if background.color and (scene.qualities.saturation > 0.5 or background.color in (*NEUTRAL, "grey")):
        found.add(f"{background.color} background")
    return found


def _qualities(scene: Scene) -> dict[str, bool]:
    """Qualities -> True, or False where unclear; those left out are false."""
    found = _technical(scene) | _light(scene) | _color(scene) | _framing(scene)
    faults = [name for name in ("blurry", "noisy", "dark", "low contrast", "grey", "cut off") if found.get(name)]
    if not scene.things:
        found |= {"good": False, "bad": False}
    elif len(faults) > 1:
        found["bad"] = True
    elif faults:
        found["bad"] = False
    else:
        found["good"] = found.get("well framed", False)
    return found


def _technical(scene: Scene) -> dict[str, bool]:
    quality = scene.qualities
    found = {}
    if quality.blur < 0.013:
        found["sharp"] = quality.blur < 0.003
    if quality.blur > 0.003:
        found["blurry"] = quality.blur >= 0.013
    if quality.noise < 16:
        found["clean"] = quality.noise < 5 and scene.background.kind != "noisy"
    if quality.noise > 5 or scene.background.kind == "noisy":
        found["noisy"] = quality.noise >= 16
    return found


def _light(scene: Scene) -> dict[str, bool]:
    quality, luma = scene.qualities, scene.background.luma
    found = {}
    if quality.exposure <= 0.45:
        found["dark"] = True
    elif quality.exposure >= 1.5:
        found["bright"] = True
    else:
        found |= {name: False for name, near in (("dark", luma < 90), ("bright", luma > 160)) if near}
    if quality.contrast <= 0.4:
        found["low contrast"] = True
    else:
        found["high contrast"] = quality.contrast >= 1.6
        if quality.exposure < 0.5:
            found["low contrast"] = False
    return found


def _color(scene: Scene) -> dict[str, bool]:
    chromatic = {thing.color for thing in scene.things} | {scene.background.color or "grey"}
    chromatic -= {"grey", *NEUTRAL}
    if scene.qualities.saturation <= 0.1:
        return {"grey": True}
    if not chromatic:
        return {"grey": False, "colourful": False}
    found = {"colourful": scene.qualities.saturation >= 1.3 or len(chromatic) > 1}
    if scene.qualities.contrast < 0.5:
        found = {"colourful": False, "grey": False}
    return found


def _framing(scene: Scene) -> dict[str, bool]:
    if not scene.things:
        return {"well framed": False}
    if any(thing.reach > 0.5 + thing.size * 0.2 for thing in scene.things):
        return {"cut off": True}
    if any(thing.reach > 0.5 for thing in scene.things):
        return {"cut off": False, "well framed": False}
    if len(scene.things) == 2:
        return {"well framed": True}
    thing = scene.things[0]
    return {"well framed": max(abs(thing.x), abs(thing.y)) <= 0.075}


# Captions -------------------------------------------------------------------------------------------------------------


def caption(scene: Scene, rng: random.Random, qualities: list[str] | None = None) -> Caption:
    """Say something true of a scene.

    Args:
        scene: what is shown.
        rng: chooses what is said and how.
        qualities: those that are true, where already known (from `facts`).

    Returns:
        The caption.
    """
    if qualities is None:
        known = facts(scene).true
        qualities = [name for name in ADJECTIVES if name in known]
    kind = rng.random()
    if qualities and kind < 0.3:
        return quality_caption(rng.choice(qualities), rng)
    if kind < 0.36:
        words, claims = background_words(scene, rng)
        return Caption(_wrap(rng.choice(WRAPPERS), words, rng), claims)
    words, claims = subject_words(scene, rng)
    if rng.random() < 0.25:
        behind, more = background_words(scene, rng)
        words, claims = f"{words} {rng.choice(('on', 'on', 'on', 'against', 'over'))} {behind}", claims | more
    if qualities and rng.random() < 0.3:
        name = rng.choice(qualities)
        return Caption(_wrap(rng.choice(QUALITY_WRAPPERS), words, rng, name), claims | {name})
    return Caption(_wrap(rng.choice(WRAPPERS), words, rng), claims)


def quality_caption(name: str, rng: random.Random) -> Caption:
    """Speak of a quality alone."""
    return Caption(_wrap(rng.choice(QUALITY_ALONE), "", rng, name), frozenset({name}))


def unknown_caption(rng: random.Random) -> Caption:
    """Speak of something outside this world."""
    words = " ".join([UNKNOWN] * rng.randint(1, 3))
    words = rng.choice(("a {}", "{}", "two {}", "the {}", "a {} on a {}", "a {} and a {}")).replace("{}", words)
    return Caption(_wrap(rng.choice(WRAPPERS), words, rng), frozenset({"unknown"}))


def with_unknown_words(said: Caption, rng: random.Random) -> Caption:
    """Strew words that the model does not know into a caption, as a stranger's phrasing would."""
    words = said.text.split(" ")
    for _ in range(rng.randint(1, 4)):
        words.insert(rng.randint(0, max(0, len(words) - 1)), UNKNOWN)
    return Caption(" ".join(words), said.claims)


def swapped_caption(scene: Scene, rng: random.Random) -> Caption:
    """Speak of a scene with one thing wrong: a colour, a shape, or which thing has which."""
    first = scene.things[0]
    if len(scene.things) == 2 and rng.random() < 0.7:
        a, b = scene.things
        pairs = [(b.color, a.shape), (a.color, b.shape)]
    elif rng.random() < 0.5:
        pairs = [(rng.choice(tuple(COLORS)), first.shape)]
    else:
        pairs = [(first.color, rng.choice(SHAPES))]
    pairs = [pair for pair in pairs if pair not in HELD_OUT_PAIRS] or [("red", "circle")]
    words = " and ".join(f"{_article(color)} {shape}" for color, shape in pairs)
    claims = frozenset(f"{color} {shape}" for color, shape in pairs)
    return Caption(_wrap(rng.choice(WRAPPERS), words, rng), claims)


def subject_words(scene: Scene, rng: random.Random) -> tuple[str, frozenset[str]]:
    """Name what is shown: one thing, both, or that there is nothing."""
    things = scene.things
    if not things:
        return rng.choice(NOTHING), frozenset({"none"})
    if len(things) == 1 or rng.random() < 0.15:
        return _one_thing(scene, rng.choice(things), rng)
    first, second = rng.sample(things, 2)
    kind = rng.random()
    if kind < 0.12:
        number = rng.choice(("two", "2", "a pair of"))
        return f"{number} {rng.choice(('shapes', 'objects'))}", frozenset({"two"})
    same = (first.shape, first.color) == (second.shape, second.color)
    if same:
        return _two_alike(scene, first, rng)
    if kind < 0.25 and first.shape == second.shape:
        return f"two {_shape_word(first, rng, 1)}", frozenset({f"two {first.shape}"})
    a, claims = _one_thing(scene, first, rng, plain=True)
    b, more = _one_thing(scene, second, rng, plain=True)
    return f"{a} {rng.choice(('and', 'and', 'and', 'next to', 'with', 'beside'))} {b}", claims | more


def _two_alike(scene: Scene, thing: Thing, rng: random.Random) -> tuple[str, frozenset[str]]:
    shape = _shape_word(thing, rng, 1)
    number = rng.choice(("two", "two", "two", "2", "a pair of", "a couple of"))
    if not _visible_color(scene, thing.color) or rng.random() < 0.2:
        return f"{number} {shape}", frozenset({f"two {thing.shape}"})
    color = rng.choice(COLOR_WORDS[thing.color])
    if rng.random() < 0.15:
        return f"{color} {shape}", frozenset({f"two {thing.color} {thing.shape}"})
    return f"{number} {color} {shape}", frozenset({f"two {thing.color} {thing.shape}"})


def _one_thing(scene: Scene, thing: Thing, rng: random.Random, *, plain: bool = False) -> tuple[str, frozenset[str]]:
    shape = _shape_word(thing, rng, 0)
    color = rng.choice(COLOR_WORDS[thing.color])
    claims = {f"{thing.color} {thing.shape}"}
    kind = rng.random()
    if not _visible_color(scene, thing.color) or kind < 0.12:
        words, claims = shape, {thing.shape}
    elif kind < 0.24:
        words, claims = f"{color} {rng.choice(('shape', 'object', 'thing'))}", {thing.color}
    elif kind < 0.34 and not plain:
        joined = rng.choice(("{s} in {c}", "{s} that is {c}", "{s} colored {c}", "{c} colored {s}", "{s}, {c}"))
        words = joined.format(s=shape, c=color)
    else:
        words = f"{color} {shape}"
    size = _size(scene)
    if size and not plain and rng.random() < 0.3:
        words, claims = f"{rng.choice(SIZES[size])} {words}", claims | {size}
    if len(scene.things) == 1 and rng.random() < 0.1:
        return f"{rng.choice(('one', 'a single', 'only one'))} {words}", frozenset(claims | {"one"})
    return (words if rng.random() < 0.18 else _article(words)), frozenset(claims)


def _shape_word(thing: Thing, rng: random.Random, plural: int) -> str:
    words = SHAPE_WORDS[thing.shape]
    return (words[0] if rng.random() < 0.6 else rng.choice(words))[plural]


def background_words(scene: Scene, rng: random.Random) -> tuple[str, frozenset[str]]:
    """Name the background by one thing that is true of it."""
    known = sorted(name for name in _background_facts(scene) if not (_shifted_light(scene) and _is_light(name)))
    fact = rng.choice(known)
    name = fact.removesuffix(" background")
    words = PATTERN_WORDS.get(name, (name,))
    if name in ("textured", "grey", "bright"):
        words = {"textured": ("textured", "patterned"), "grey": ("grey", "gray"), "bright": ("bright", "light")}[name]
    noun = rng.choice(("background", "background", "background", "backdrop"))
    return _article(f"{rng.choice(words)} {noun}"), frozenset({fact})


def _is_light(fact: str) -> bool:
    return fact.split(" ")[0] in ("dark", "bright", "grey", *NEUTRAL)


def _article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _wrap(template: str, words: str, rng: random.Random, quality: str = "good") -> str:
    text = template.replace("{m}", rng.choice(MEDIA))
    text = text.replace("{q}", rng.choice(ADJECTIVES[quality])).replace("{p}", rng.choice(PHRASES[quality]))
    text = text.replace("{}", words)
    for vowel in "aeiou":
        text = text.replace(f" a {vowel}", f" an {vowel}")
    return f"a{'n' if text[2] in 'aeiou' else ''} {text[2:]}" if text.startswith("a ") and len(text) > 2 else text
