"""Similarity over time, drawn: a picture that exists, says what it shows, and refuses what would not be readable."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from clipcache.cache import Entry
from clipcache.cache.common.errors import UsageError
from clipcache.cli import cli
from clipcache.score.compare import Comparison
from clipcache.score.plot_style import KINDS
from clipcache.score.plots import (
    MAX_COLUMNS,
    MAX_GROUPS,
    MAX_LINES,
    MAX_ROWS,
    MAX_VIDEOS,
    plot_comparisons,
    plot_distribution,
    plot_heatmap,
    plot_similarity,
)
from demo_library import DemoLibrary
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


@pytest.mark.parametrize("shape", [(MAX_ROWS + 1, 1), (1, MAX_COLUMNS + 1)])
def test_a_heat_map_that_nobody_could_read_is_refused(tmp_path: Path, shape: tuple[int, int]) -> None:
    rows, columns = (["name"] * count for count in shape)
    with pytest.raises(UsageError, match="name fewer"):
        plot_heatmap(np.zeros(shape), rows, columns, tmp_path / "plot.png", "cosine (-1 to 1)")


@pytest.mark.parametrize("kind", ["distribution", "heatmap"])
def test_videos_of_one_name_are_drawn_apart(tmp_path: Path, kind: str) -> None:
    comparisons = []
    for folder, score in (("one", 0.1), ("two", 0.3)):
        video = make_video(tmp_path / folder, "a.mp4", folder.encode())
        entry = Entry(put(tmp_path / "features", video))
        comparisons.append(Comparison(entry, "text", "a dog", np.full(3, score, np.float32), pooled=score))
    plot_comparisons(comparisons, tmp_path / "plot.svg", kind)
    shown = texts(tmp_path / "plot.svg").split(" | ")
    assert {name for name in shown if name.startswith("a.mp4")} == (
        {"a.mp4", "a.mp4 (2)"} if kind == "heatmap" else {"a.mp4: a dog", "a.mp4 (2): a dog"}
    )
    if kind == "heatmap":
        assert shown.index("0.10") < shown.index("0.30"), "each mean in the row of its own video"


def test_best_frames_are_shown_with_time_and_score(tmp_path: Path) -> None:
    comparisons = compared(tmp_path, references=("a dog", "a cat"))
    comparisons[1] = replace(comparisons[1], scores=np.array([0.1, 0.2, 0.4], np.float32))
    asked: list[tuple[str, list[float]]] = []

    def frames(video: Entry, at_ms: Sequence[float]) -> Iterator[tuple[int, np.ndarray]]:
        asked.append((video.video_name, list(at_ms)))
        yield 1, np.full((24, 32, 3), (255, 0, 255), np.uint8)  # the first cannot be had

    plot_similarity(comparisons, tmp_path / "plot.svg", frames=frames)
    assert asked == [("a.mp4", [100.0, 200.0])]
    shown = texts(tmp_path / "plot.svg")
    assert "0.20 s: 0.400" in shown
    assert "0.10 s: 0.300" not in shown
    plot_similarity(comparisons, tmp_path / "plot.png", frames=frames)
    with Image.open(tmp_path / "plot.png") as image:
        assert (np.asarray(image.convert("RGB")) == (255, 0, 255)).all(axis=2).sum() > 1000


def test_score_shows_the_best_frame_of_the_video_itself(demo_library: DemoLibrary, tmp_path: Path) -> None:
    target, plot = demo_library.folder / "shapes.mp4", tmp_path / "plot.png"
    words = ["score", target, "--cache", demo_library.cache_dir, "--text", "a blue square", "--plot", plot]
    result = CliRunner().invoke(cli, [*map(str, words), "--plot-frames"], catch_exceptions=False)
    assert result.stderr == ""
    with Image.open(plot) as image:
        red, green, blue = np.moveaxis(np.asarray(image.convert("RGB")).astype(int), 2, 0)
    # Lines and borders are tab:blue, (31, 119, 180): green in it is far above that of the square.
    assert ((blue > 180) & (red < 80) & (green < 90)).sum() > 200


def test_frames_belong_to_a_plot_over_time(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="plot over time"):
        CliRunner().invoke(cli, ["score", "--text", "a dog", "--plot-frames"], catch_exceptions=False)
