"""`clipcache aesthetic`, from the command line to printed rows and pictures, and what it means with the demo model."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from clipcache.cache.common.errors import ClipcacheError, ModelError, NotCachedError, UsageError
from clipcache.demo.scenes import Background, Qualities, Scene, Thing, render
from clipcache.extract import ExtractOptions, extract
from clipcache.score.quality.command import aesthetic
from demo_library import DemoLibrary
from PIL import Image
from quality_caches import ATTRIBUTES, add_measures, run
from score_caches import FakeEncoder, X, Y, make_video, put


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """`a.mp4` turns from y to x (cosines with x: 0, 0.6, 1), `b.mp4` is halfway; prompts as in ATTRIBUTES."""
    (tmp_path / "mine.yaml").write_text(ATTRIBUTES)
    put(tmp_path / "features", make_video(tmp_path, "a.mp4"), np.array([Y, 3 * X + 4 * Y, X]))
    put(tmp_path / "features", make_video(tmp_path, "b.mp4"), np.array([X + Y, X + Y]))
    return tmp_path / "features"


def ask(cache: Path, *words: object) -> Result:
    """Run `aesthetic` with the attributes of the fixture and an encoder that knows their prompts."""
    prompts = ("--attributes", cache.parent / "mine.yaml")
    return run(aesthetic, *words, *prompts, "--cache", cache, load_encoder=lambda *_, **__: FakeEncoder())


def rows(cache: Path, *words: object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ask(cache, *words, "--format", "json").stdout)
    return found


def test_videos_are_ranked_with_their_best_frames(cache: Path) -> None:
    # Per frame: 0.5 * (c - d) + 0.3 * c - 0.2 * d, where c and d are the cosines with x and y.
    scores = [0.5 * (c - d) + 0.3 * c - 0.2 * d for c, d in ((0, 1), (0.6, 0.8), (1, 0))]
    half = (0.3 - 0.2) * np.sqrt(0.5)
    first, second = rows(cache)
    assert (first["video"], second["video"]) == ("b.mp4", "a.mp4")
    assert first["overall"] == pytest.approx(half, abs=1e-3)
    assert second["overall"] == pytest.approx(np.mean(scores), abs=1e-3)
    assert second["best_overall"] == pytest.approx(0.8, abs=1e-3)
    assert (second["best_at_ms"], second["best_frame_index"]) == (200, 2)
    assert [row["rank"] for row in (first, second)] == [1, 2]
    assert (first["method"], first["scale"]) == ("weighted", "-1.5 to 1.5")


def test_the_table_names_its_method_and_scale(cache: Path) -> None:
    assert ask(cache, "--aggregation", "contrastive_only", cache.parent / "a.mp4").stdout == (
        "rank  video  frames  overall  best_overall  best_at_ms\n"
        "   1  a.mp4       3  -0.0667        1.0000    200.0000\n"
        "overall: contrastive_only (-2 to 2), mean over the frames; best_overall: of the best frame; best_at_ms: its "
        "time, milliseconds on the container's clock\n"
    )


def test_details_show_each_attribute_and_probability_each_pair(cache: Path) -> None:
    row = rows(cache, "--details", "--probability", cache.parent / "a.mp4")[0]
    assert row["contrast_one"] == pytest.approx((-1 - 0.2 + 1) / 3, abs=1e-3)
    assert row["pos_x_axis"] == pytest.approx(1.6 / 3, abs=1e-3)
    assert row["neg_y_axis"] == pytest.approx(1.8 / 3, abs=1e-3)
    assert row["overall"] == row["pair_probability_one"] == pytest.approx(1 / 3, abs=1e-3)
    assert row["method"] == "pair_probability"


def test_frames_are_listed_in_order_of_time(cache: Path) -> None:
    found = list(csv.DictReader(io.StringIO(ask(cache, "--per-frame", "--format", "csv", "--end", 0.2).stdout)))
    assert [(row["video"], float(row["timestamp_ms"])) for row in found] == [
        (video, at) for video in ("a.mp4", "b.mp4") for at in (0, 100)
    ]
    assert float(found[0]["overall"]) == pytest.approx(-0.7, abs=1e-3)


def test_a_head_alone_needs_no_model(cache: Path) -> None:
    torch.save({"weight": torch.tensor([[2.0, 0, 0, 0]]), "bias": torch.tensor([1.0])}, cache.parent / "rate.pth")

    def refuse(*_: object, **__: object) -> FakeEncoder:
        raise AssertionError("the model is not needed")

    words = ("--head", cache.parent / "rate.pth", "--cache", cache, "--format", "json")
    found = json.loads(run(aesthetic, *words, load_encoder=refuse).stdout)
    assert [row["video"] for row in found] == ["b.mp4", "a.mp4"]
    assert found[0]["overall"] == pytest.approx(1 + 2 * np.sqrt(0.5), abs=1e-3)
    assert found[0]["method"] == "head_rate"


def test_compare_correlates_methods_and_measures(cache: Path) -> None:
    entries = {path.name[0]: path for path in cache.rglob("?-*.h5")}
    add_measures(cache, entries["a"], {"sharpness": [1, 2, 3], "composite": [0.5, 0.5, 0.5]})
    add_measures(cache, entries["b"], {"sharpness": [2.5, 2.5], "composite": [0.5, 0.5]})
    found = rows(cache, "--compare")
    facts = {(row["what"], row["video"], row["method"], row["with_method"]): row["value"] for row in found}
    cosines = np.array([[0, 1], [0.6, 0.8], [1, 0], [np.sqrt(0.5)] * 2, [np.sqrt(0.5)] * 2])
    contrast, sharpness = cosines[:, 0] - cosines[:, 1], [1, 2, 3, 2.5, 2.5]
    expected = np.corrcoef(contrast, sharpness)[0, 1]
    assert facts["pearson", None, "contrastive_only", "sharpness"] == pytest.approx(expected, abs=1e-3)
    assert facts["spearman", None, "weighted", "sharpness"] == 1
    assert facts["pearson", None, "weighted", "composite"] is None  # it is the same everywhere
    assert facts["mean", "a.mp4", "sharpness", None] == 2
    assert facts["rank", "b.mp4", "sharpness", None] == 1
    assert facts["frames_correlated", None, None, None] == 5
    assert facts["best", None, "sharpness", None] == "b.mp4"
    assert {row["method"] for row in found} >= {"weighted", "contrastive_only", "mean", "pair_probability"}
    assert "brightness" not in {row["method"] for row in found}  # nobody has it


@pytest.mark.parametrize(("sharpness", "agree"), [([1, 2, 3], "yes"), ([3, 2, 1], "no")])
def test_compare_says_whether_the_methods_pick_the_same_frame(cache: Path, sharpness: list[float], agree: str) -> None:
    add_measures(cache, next(cache.rglob("a-*.h5")), {"sharpness": sharpness})
    text = ask(cache, cache.parent / "a.mp4", "--compare").stdout
    assert text.endswith(f"methods agree: {agree}\n")
    assert f"sharpness         {0.2 if agree == 'yes' else 0:.3f} s\n" in text
    assert "weighted          0.200 s\n" in text


def test_compare_says_who_has_no_measures(cache: Path) -> None:
    assert "2 of 2 have no measures; extract them again with --quality" in ask(cache, "--compare").stderr
    add_measures(cache, next(cache.rglob("a-*.h5")), {"sharpness": [1, 2, 3]})
    result = ask(cache, "--compare")
    assert "1 of 2 have no measures" in result.stderr
    assert "Pearson correlation over 3 frames" in result.stdout


def test_videos_with_different_measures_have_no_frames_in_common_to_correlate(cache: Path) -> None:
    add_measures(cache, next(cache.rglob("a-*.h5")), {"sharpness": [1, 2, 3]})
    add_measures(cache, next(cache.rglob("b-*.h5")), {"composite": [0.1, 0.2]})
    facts = {(row["what"], row["method"]): row["value"] for row in rows(cache, "--compare")}
    assert facts["frames_correlated", None] == 0
    assert facts["best", "composite"] == "b.mp4"


@pytest.mark.parametrize("words", [(), ("--compare",)])
def test_pictures_are_drawn(cache: Path, words: tuple[str, ...]) -> None:
    path = cache.parent / "picture.png"
    assert ask(cache, *words, "--plot", path).exit_code == 0
    with Image.open(path) as picture:
        assert picture.width > 500
        assert len(picture.convert("RGB").getcolors(maxcolors=1 << 20)) > 20


@pytest.mark.parametrize(
    ("words", "kind", "sentence"),
    [
        (("--aggregation", "mean", "--probability"), UsageError, "choose one"),
        (("--compare", "--details"), UsageError, "--compare shows every method"),
        (("--compare", "--per-frame"), UsageError, "leave out --per-frame"),
        (("--head", "absent.pth"), ModelError, "Cannot read the head 'absent.pth'"),
        (("--start", 5), UsageError, None),
        (("nowhere.mp4",), UsageError, "nowhere.mp4"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(
    cache: Path, words: tuple[object, ...], kind: type[ClipcacheError], sentence: str | None
) -> None:
    if sentence is None:  # each video is skipped, and said to be
        result = ask(cache, *words)
        assert (result.exit_code, result.stderr.count("no frames in the range")) == (1, 2)
        return
    with pytest.raises(kind, match=sentence):
        ask(cache, *words)


def test_a_video_that_is_not_cached_is_named_with_the_command_that_extracts_it(cache: Path) -> None:
    with pytest.raises(NotCachedError, match=r"clipcache extract.*new\.mp4"):
        ask(cache, make_video(cache.parent, "new.mp4"))


def test_the_sharp_image_of_a_burst_is_picked(tmp_path: Path) -> None:
    """By prompts that ask for it: the bundled ones are about composition as well, and the model is a small one."""
    (tmp_path / "sharp.yaml").write_text("pairs:\n  focus: {positive: a sharp photo, negative: a blurry photo}\n")
    background = Background("gradient", (222, 206, 170), (180, 160, 130), angle=20)
    bursts = [(Thing("heart", "pink"), 2), (Thing("square", "blue"), 0), (Thing("star", "yellow"), 4)]
    for thing, sharp in bursts:
        burst = tmp_path / "bursts" / thing.shape
        burst.mkdir(parents=True)
        for number, blur in enumerate((0.03, 0.04, 0.02, 0.03, 0.05)):
            qualities = Qualities(blur=0.0 if number == sharp else blur)
            pixels = render(Scene((thing,), background, qualities), (320, 240))
            Image.fromarray(pixels).save(burst / f"shot{number}.png")
    extract([tmp_path / "bursts"], tmp_path / "features", ExtractOptions(model="demo", quality=True))
    words = ("--attributes", tmp_path / "sharp.yaml", "--cache", tmp_path / "features", "--format", "json")
    found = {row["video"]: row for row in json.loads(run(aesthetic, *words).stdout)}
    for thing, sharp in bursts:
        best = found[thing.shape]
        assert (best["best_frame_name"], best["best_at_ms"], best["frames"]) == (f"shot{sharp}.png", None, 5)
    facts = json.loads(run(aesthetic, tmp_path / "bursts" / "heart", *words, "--compare").stdout)
    picked = {row["method"]: row["value"] for row in facts if row["what"] == "best"}
    assert picked["weighted"] == picked["pair_probability"] == picked["sharpness"] == "shot2.png"


def test_the_best_frame_of_the_demo_s_qualities_is_a_sharp_one(demo_library: DemoLibrary) -> None:
    words = (demo_library.folder / "qualities.mp4", "--cache", demo_library.cache_dir, "--format", "json")
    best = json.loads(run(aesthetic, *words).stdout)[0]
    sharp = next(one for one in demo_library.truth if one.caption == "a sharp photo")
    assert sharp.start_s <= best["best_at_ms"] / 1000 < sharp.end_s
