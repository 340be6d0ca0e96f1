"""What `clipcache demo` runs: the program's own commands on the demo library, each of which can be typed by hand."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .library import Interval

VIDEOS, FEATURES, PLOT = "videos", "features", "shapes.png"
QUESTIONS = ("a red circle", "a blue square", "a yellow star")


@dataclass(frozen=True)
class Step:
    """One command of the tour.

    Attributes:
        why: what it shows, for people.
        arguments: of `clipcache`.
    """

    why: str
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return f"\n# {self.why}\n$ {shlex.join(['clipcache', *self.arguments])}"


def steps(folder: Path) -> list[Step]:
    """The tour through a library that was written to `folder / VIDEOS`."""
    videos, cache = str(folder / VIDEOS), ("--cache", str(folder / FEATURES))
    shapes = ("a red circle", "a blue square", "a green triangle", "a yellow star")
    return [
        Step(
            "Encode every frame once, with the bundled demo model. A second time, all is found in the cache.",
            ("extract", videos, *cache, "--model", "demo"),
        ),
        Step(
            "Which video shows what, and when best (max_at_ms)? No video is decoded for this.",
            ("score", *cache, *_texts(QUESTIONS)),
        ),
        Step(
            f"Follow four prompts through one video, and draw it: {folder / PLOT}",
            ("score", str(folder / VIDEOS / "shapes.mp4"), *cache, *_texts(shapes), "--plot", str(folder / PLOT)),
        ),
        Step(
            "The same numbers for your own program: one row a frame.",
            (
                *("score", str(folder / VIDEOS / "shapes.mp4"), *cache, *_texts(QUESTIONS[:1])),
                *("--per-frame", "--format", "csv", "--output", str(folder / "red-circle.csv")),
            ),
        ),
    ]


def _texts(prompts: Sequence[str]) -> list[str]:
    return [part for prompt in prompts for part in ("--text", prompt)]


def truth_lines(truth: Sequence[Interval]) -> list[str]:
    """What the videos really show, of what the tour asks for."""
    lines = []
    for prompt in QUESTIONS:
        shown = [f"{i.video} {i.start_s:g}-{i.end_s:g} s" for i in truth if i.caption == prompt]
        lines.append(f"{prompt}: {', '.join(shown)}")
    return lines
