"""Similarity over time, drawn: a picture that exists, says what it shows, and refuses what would not be readable."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from clipcache.cache import Entry
from clipcache.cache.errors import UsageError
from clipcache.score.evaluate import Comparison
from clipcache.score.plots import (
    KINDS,
    MAX_GROUPS,
    MAX_LINES,
    MAX_VIDEOS,
    plot_comparisons,
    plot_distribution,
    plot_heatmap,
    plot_similarity,
)
from PIL import Image
from score_caches import make_video, put


def compared(
    tmp_path: Path, name: str = "a.mp4", references: tuple[str, ...] = ("a dog",), **how: object
) -> list[Comparison]:
    entry = Entry(put(tmp_path / "features", make_video(tmp_path, name), **how))
    cosines = np.array([0.1, 0.3, 0.2], np.float32)
    return [Comparison(entry, "text", reference, cosines, pooled=0.2) for reference in references]


def texts(svg: Path) -> str:
    """What matplotlib notes beside the outlines of the letters that it draws."""
    return " | ".join(re.findall(r"<!-- (.*?) -->", svg.read_text(encoding="utf-8")))


def test_a_plot_names_videos_prompts_and_scales(tmp_path: Path) -> None:
    comparisons = [*compared(tmp_path, references=("a dog", "costs $5 & $6")), *compared(tmp_path, "b.mp4")]
    assert plot_similarity(comparisons, tmp_path / "plot.svg") is None
    shown = texts(tmp_path / "plot.svg")
    for text in ("a.mp4", "b.mp4", "a dog", "costs $5 &amp; $6", "seconds", "cosine (-1 to 1)", "best frame"):
        assert text.replace("&amp;", "&") in shown.replace("&amp;", "&"), text


def test_a_png_is_a_picture(tmp_path: Path) -> None:
    plot_similarity(compared(tmp_path), tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as image:
        assert image.size[0] > 1000
        assert len(image.convert("RGB").getcolors(1 << 20)) > 10


def test_images_are_drawn_by_their_number(tmp_path: Path) -> None:
    plot_similarity(compared(tmp_path, frame_names=["1.jpg", "2.jpg", "3.jpg"]), tmp_path / "plot.svg")
    assert "image" in texts(tmp_path / "plot.svg")
    assert "seconds" not in texts(tmp_path / "plot.svg")


def test_letters_that_the_font_lacks_are_said(tmp_path: Path) -> None:
    sentence = plot_similarity(compared(tmp_path, references=("犬",)), tmp_path / "plot.png")
    assert sentence is not None
    assert "drawn as boxes" in sentence
    assert (tmp_path / "plot.png").exists()


@pytest.mark.parametrize(
    ("count", "name", "sentence"),
    [
        (0, "p.png", "nothing to plot"),
        (MAX_LINES + 1, "p.png", "at most"),
        (1, "p.xyz", "Cannot write"),
        (1, "no/p.png", "Cannot write"),
    ],
)
def test_what_cannot_be_drawn_is_one_sentence(tmp_path: Path, count: int, name: str, sentence: str) -> None:
    comparisons = compared(tmp_path, references=tuple(f"prompt {n}" for n in range(count)))
    with pytest.raises(UsageError, match=sentence):
        plot_similarity(comparisons, tmp_path / name)


def test_too_many_videos_are_refused(tmp_path: Path) -> None:
    comparisons = [c for n in range(MAX_VIDEOS + 1) for c in compared(tmp_path, f"{n}.mp4")]
    with pytest.raises(UsageError, match="name fewer"):
        plot_similarity(comparisons, tmp_path / "plot.png")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_plot_is_written(tmp_path: Path, kind: str) -> None:
    comparisons = compared(tmp_path, references=("a dog", "a very long prompt " * 9, "$x_1$ _hidden"))
    assert plot_comparisons(comparisons, tmp_path / "plot.png", kind) is None
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    plot_comparisons(comparisons, tmp_path / "plot.svg", kind)


def test_a_heat_map_leaves_gaps_where_nothing_was_compared(tmp_path: Path) -> None:
    values = np.array([[0.1, np.nan], [0.3, 0.2]])
    assert plot_heatmap(values, ["a", "b"], ["x", "y"], tmp_path / "plot.svg", "cosine (-1 to 1)") is None


def test_too_many_distributions_are_refused(tmp_path: Path) -> None:
    groups = {str(number): np.ones(2) for number in range(MAX_GROUPS + 1)}
    with pytest.raises(UsageError, match="name fewer"):
        plot_distribution(groups, tmp_path / "plot.png", "cosine (-1 to 1)")
