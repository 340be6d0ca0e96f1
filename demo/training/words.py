"""The words of the small world: what things, colours and qualities are called, and how sentences are built of them."""

from __future__ import annotations

from ..scenes import COLORS

HELD_OUT_PAIRS = frozenset(
    {
        ("pink", "circle"),
        ("purple", "square"),
        ("green", "triangle"),
        ("blue", "star"),
        ("yellow", "cross"),
        ("orange", "ring"),
        ("cyan", "heart"),
    }
)
"""Colours and shapes that training never shows or names together."""

HELD_OUT_TEMPLATES = (
    "here you can see {}",
    "look at {} in the middle of my screen",
    "an example of {}",
    "a screenshot containing {}",
    "we were looking for {}",
    "my camera recorded {}",
)
"""Phrasings that training never uses, around what is shown."""

HELD_OUT_QUALITY_TEMPLATES = (
    "my camera recorded a {} scene",
    "a screenshot that is rather {}",
    "everything here is {}",
    "somebody took a very {} photo",
)
"""Phrasings that training never uses, around a quality."""

UNKNOWN = "\0"
"""Stands in a caption for a word that the model does not know; it has no embedding."""

SHAPE_WORDS: dict[str, tuple[tuple[str, str], ...]] = {
    "circle": (("circle", "circles"), ("disc", "discs"), ("disk", "disks"), ("dot", "dots")),
    "square": (("square", "squares"), ("square", "squares"), ("box", "boxes")),
    "triangle": (("triangle", "triangles"),),
    "star": (("star", "stars"), ("star shape", "star shapes")),
    "cross": (("cross", "crosses"), ("plus sign", "plus signs")),
    "ring": (("ring", "rings"), ("ring", "rings"), ("hoop", "hoops"), ("donut", "donuts")),
    "heart": (("heart", "hearts"), ("heart shape", "heart shapes")),
}
COLOR_WORDS = {name: (name, name, name) for name in COLORS} | {
    "purple": ("purple", "purple", "violet"),
    "cyan": ("cyan", "cyan", "turquoise"),
    "pink": ("pink", "pink", "rose"),
}

ADJECTIVES: dict[str, tuple[str, ...]] = {
    "sharp": ("sharp", "sharp", "crisp", "in-focus", "focused", "well focused", "clear"),
    "blurry": ("blurry", "blurry", "blurred", "out-of-focus", "unfocused", "fuzzy", "unsharp"),
    "bright": ("bright", "bright", "brightly lit", "well lit", "overexposed", "light"),
    "dark": ("dark", "dark", "dim", "underexposed", "badly lit", "poorly lit", "gloomy"),
    "high contrast": ("high contrast", "high-contrast", "contrasty", "punchy"),
    "low contrast": ("low contrast", "low-contrast", "flat", "washed out", "faded", "hazy"),
    "colourful": ("colourful", "colorful", "vivid", "vibrant", "saturated"),
    "grey": ("grey", "gray", "black and white", "colourless", "colorless", "monochrome", "greyscale", "desaturated"),
    "clean": ("clean", "clean", "noise-free", "noiseless", "smooth"),
    "noisy": ("noisy", "noisy", "grainy"),
    "well framed": (
        "well framed",
        "well-framed",
        "well composed",
        "centered",
        "centred",
        "nicely framed",
        "well cropped",
    ),
    "cut off": ("cut off", "cut-off", "badly framed", "poorly framed", "badly cropped", "poorly composed", "cropped"),
    "good": (
        "good",
        "beautiful",
        "high quality",
        "high-quality",
        "professional",
        "excellent",
        "great",
        "perfect",
        "nice",
    ),
    "bad": ("bad", "ugly", "low quality", "low-quality", "amateur", "poor", "terrible", "awful", "poor quality"),
}
"""Qualities by the words that go before "picture"."""

PHRASES: dict[str, tuple[str, ...]] = {
    "sharp": ("sharp focus", "fine detail", "crisp edges"),
    "blurry": ("blur", "soft focus", "blurred edges", "motion blur"),
    "bright": ("bright light", "a lot of light", "bright lighting"),
    "dark": ("little light", "poor lighting", "dim lighting", "low light"),
    "high contrast": ("high contrast", "strong contrast"),
    "low contrast": ("low contrast", "little contrast", "weak contrast"),
    "colourful": ("vivid colours", "vivid colors", "saturated colors", "vibrant colors"),
    "grey": ("no colour", "no color", "no colors", "only grey"),
    "clean": ("no noise", "no grain", "clean detail"),
    "noisy": ("noise", "a lot of noise", "visible noise", "film grain", "grain"),
    "well framed": (
        "good composition",
        "good framing",
        "balanced composition",
        "the subject well placed",
        "good subject placement",
        "clean cropping",
        "good cropping",
        "the whole subject in the frame",
        "the subject in the center",
    ),
    "cut off": (
        "bad composition",
        "poor composition",
        "poor framing",
        "bad framing",
        "the subject badly placed",
        "poor subject placement",
        "awkward cropping",
        "bad cropping",
        "the subject cut off",
        "the subject cut off at the edge",
        "the subject partly outside the frame",
    ),
    "good": ("good quality", "high quality", "excellent quality", "professional photography", "good overall quality"),
    "bad": ("bad quality", "low quality", "poor quality", "an amateur snapshot", "poor overall quality"),
}
"""Qualities by the words that go after "a picture with"."""

QUALITY_PAIRS = (
    ("sharp", "blurry"),
    ("bright", "dark"),
    ("high contrast", "low contrast"),
    ("colourful", "grey"),
    ("clean", "noisy"),
    ("well framed", "cut off"),
    ("good", "bad"),
)

MEDIA = ("photo", "photo", "photo", "picture", "picture", "image", "image", "photograph", "frame", "shot", "drawing")
WRAPPERS = (
    "{}",
    "{}",
    "{}",
    "a photo of {}",
    "a {m} of {}",
    "a {m} of {}",
    "the {m} of {}",
    "{m} of {}",
    "a {m} with {}",
    "a {m} showing {}",
    "a {m} that shows {}",
    "a photo depicts {}",
    "a photo depicts {}",
    "this is {}",
    "there is {}",
    "this {m} shows {}",
    "I see {}",
    "{} in a {m}",
    "a video of {}",
    "{}.",
)
QUALITY_WRAPPERS = (
    "a {q} {m} of {}",
    "a {q} {m} of {}",
    "a {q} {m} of {}",
    "a photo depicts a {q} {m} of {}",
    "{q} {m} of {}",
    "{}, {q}",
    "{q}, {}",
    "a {m} of {}, {q}",
    "a {m} of {} with {p}",
    "{} with {p}",
    "{}, {p}",
)
QUALITY_ALONE = (
    "a {q} {m}",
    "a {q} {m}",
    "a {q} photo",
    "{q} {m}",
    "{q}",
    "the {m} is {q}",
    "this {m} is {q}",
    "a {m} that is {q}",
    "a photo depicts a {q} {m}",
    "a photo depicts something {q}",
    "{p}",
    "a {m} with {p}",
    "a {m} with {p}",
    "this {m} has {p}",
    "a photo depicts {p}",
)
PATTERN_WORDS = {
    "plain": ("plain", "plain", "uniform", "solid"),
    "gradient": ("gradient", "gradient", "shaded"),
    "striped": ("striped", "stripy"),
    "checkered": ("checkered", "chequered", "checkerboard"),
    "dotted": ("dotted", "spotted"),
    "noisy": ("noisy", "speckled"),
}
NOTHING = ("nothing", "an empty scene", "no objects", "no shapes", "just a background")
SIZES = {"large": ("large", "big", "huge"), "small": ("small", "little", "tiny")}
TEXTURED = ("striped", "checkered", "dotted")
