"""`clipcache benchmark`: configs that are read or refused, and results against plain numpy."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from click.testing import Result
from clipcache.cache.common.errors import ModelError, UsageError
from clipcache.score.quality.command import benchmark
from clipcache.score.quality.config import read_config
from PIL import Image
from quality_caches import ATTRIBUTES, add_measures, run
from score_caches import FakeEncoder, X, Y, Z, make_video, put

METHODS: list[dict[str, Any]] = [
    {"aggregation": "contrastive_only", "attributes": "mine.yaml", "name": "x or y"},
    {"prompt": "x axis"},
    {"head": "head.pth"},
    {"measure": "sharpness"},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two videos, of which one has measures, and a folder of three images; a head that counts x."""
    (tmp_path / "mine.yaml").write_text(ATTRIBUTES)
    torch.save({"weight": torch.tensor([[3.0, 0, 0, 0]])}, tmp_path / "head.pth")
    cache, videos = tmp_path / "features", tmp_path / "videos"
    a = put(cache, make_video(videos, "a.mp4"), np.array([X, X, Y]))
    add_measures(cache, a, {"sharpness": [3, 4, 8]})
    put(cache, make_video(videos, "b.mp4"), np.array([Y]))
    images = {"frame_names": ["1.png", "2.png", "3.png"], "video_name": "images", "video_sha256": "7" * 64}
    put(cache, videos / "images", np.array([X, X + Y, Z]), **images)
    return tmp_path


def bench(folder: Path, **changes: Any) -> Result:
    config = {"cache": "features", "output": "results", "methods": METHODS} | changes
    (folder / "bench.yaml").write_text(yaml.safe_dump(config))
    return run(benchmark, folder / "bench.yaml", load_encoder=lambda *_, **__: FakeEncoder())


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_item_is_scored_by_every_method(folder: Path) -> None:
    assert bench(folder).exit_code == 0
    found = {row["item"]: row for row in table(folder / "results" / "scores.csv")}
    half = np.sqrt(0.5)
    expected = {  # frames; x or y, x axis, head_head, sharpness
        "a.mp4": (3, 1 / 3, 2 / 3, 2, 5),
        "b.mp4": (1, -1, 0, 0, None),
        "1.png": (1, 1, 1, 3, None),
        "2.png": (1, 0, half, 3 * half, None),
        "3.png": (1, 0, 0, 0, None),
    }
    assert set(found) == set(expected)
    for item, values in expected.items():
        cells = [found[item][name] for name in ("frames", "x or y", "x axis", "head_head", "sharpness")]
        assert [float(cell) if cell else None for cell in cells] == pytest.approx(list(values), abs=1e-3)
    scales = {row["method"]: row["scale"] for row in table(folder / "results" / "methods.csv")}
    assert scales["x axis"] == "cosine, -1 to 1"
    assert scales["x or y"] == "'-2 to 2", "no spreadsheet takes it for a formula"


def test_methods_are_correlated_over_the_items_that_both_have_scored(folder: Path) -> None:
    bench(folder)
    found = {(row["method"], row["with_method"]): row for row in table(folder / "results" / "correlations.csv")}
    half = np.sqrt(0.5)
    contrast, cosine = [1 / 3, -1, 1, 0, 0], [2 / 3, 0, 1, half, 0]
    row = found["x or y", "x axis"]
    assert float(row["pearson"]) == pytest.approx(np.corrcoef(contrast, cosine)[0, 1], abs=1e-3)
    ranks = np.corrcoef([4, 1, 5, 2.5, 2.5], [3, 1.5, 5, 4, 1.5])[0, 1]
    assert float(row["spearman"]) == pytest.approx(ranks, abs=1e-6)
    # Ten pairs, one tied in each; eight that are not: a before 2.png is turned.
    assert float(row["kendall_tau_b"]) == pytest.approx((7 - 1) / 9, abs=1e-6)
    alone = found["x axis", "sharpness"]
    assert (alone["items"], alone["pearson"]) == ("1", "")
    assert len(found) == 6


def test_ratings_of_people_are_correlated_with_each_method(folder: Path) -> None:
    (folder / "people.csv").write_text(
        "item,rating,who\n1.png,9,me\na.mp4,6,me\n2.png,7,me\nb.mp4,1,me\ngone.mp4,3,me\n"
    )
    result = bench(folder, ratings="people.csv")
    assert "1 of 5 rated items were not scored." in result.stderr
    found = {row["method"]: row for row in table(folder / "results" / "ratings.csv")}
    ratings, cosines = [9, 6, 7, 1], [1, 2 / 3, np.sqrt(0.5), 0]
    assert found["x axis"]["items"] == "4"
    assert float(found["x axis"]["plcc"]) == pytest.approx(np.corrcoef(ratings, cosines)[0, 1], abs=1e-3)
    assert (float(found["x axis"]["srcc"]), float(found["x axis"]["krcc"])) == (1, 1)
    assert float(found["x or y"]["krcc"]) == pytest.approx(4 / 6, abs=1e-6)  # a and 2.png are the other way round
    assert result.stdout.startswith("method     items    srcc    plcc    krcc\n")
    assert "srcc: Spearman; plcc: Pearson" in result.stdout


def test_pictures_are_written(folder: Path) -> None:
    bench(folder)
    for name in ("correlations.png", "distribution.png"):
        with Image.open(folder / "results" / name) as picture:
            assert picture.width > 500


def test_videos_and_frames_can_be_chosen(folder: Path) -> None:
    bench(folder, videos="videos/a.mp4", end=0.2, methods=[{"prompt": "x axis"}, {"measure": "sharpness"}])
    [row] = table(folder / "results" / "scores.csv")
    assert (row["item"], row["frames"], float(row["sharpness"])) == ("a.mp4", "2", 3.5)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"methods": []}, "one method or more"),
        ({"methods": [{}]}, "must have one of the keys aggregation, head, measure, prompt"),
        ({"methods": [{"prompt": "x", "measure": "sharpness"}]}, "must have one of the keys"),
        ({"methods": [{"measure": "beauty"}]}, "names the measure 'beauty': known are brightness, "),
        ({"methods": [{"aggregation": "median"}]}, "names the aggregation 'median'"),
        ({"methods": [{"prompt": "  "}]}, "for prompt, which must be text"),
        ({"methods": [{"prompt": "x", "weight": 2}]}, "does not take 'weight'"),
        ({"methods": [{"measure": "sharpness", "name": "sharp"}]}, "does not take 'name'"),
        ({"methods": [{"prompt": "x"}, {"prompt": "x"}]}, "Two methods .* are called 'x'"),
        ({"methods": [{"prompt": "item"}]}, "is called 'item'"),
        ({"methods": [{"head": "head.pth", "activation": "gelu"}]}, "must be none or relu, not 'gelu'"),
        ({"colour": "red"}, "has the key 'colour': known are"),
        ({"fps": "two"}, "'fps' .* must be a number, not 'two'"),
        ({"output": None}, "gives None for a path"),
        ({"ratings": "absent.csv"}, "Cannot read .*absent.csv"),
        ({"videos": ["videos/gone.mp4"]}, "gone.mp4"),
        ({"output": "mine.yaml"}, "Cannot make the folder .*mine.yaml"),
    ],
)
def test_a_config_that_makes_no_sense_is_one_sentence(folder: Path, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        bench(folder, **changes)


@pytest.mark.parametrize("text", ["methods: [", "- a", "", "output: x"])
def test_a_file_that_is_no_config_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "bench.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"bench\.yaml' (is not valid YAML, line 1|must have the keys)"):
        read_config(tmp_path / "bench.yaml")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("item,score\na.mp4,3\n", "has no column 'rating'"),
        ("item,rating\na.mp4,good\n", "The rating 'good' of 'a.mp4'"),
        ("item,rating\na.mp4,nan\n", "The rating 'nan'"),
        ("item,rating\na.mp4,3\na.mp4,4\n", "rates 'a.mp4' twice"),
        ("item,rating\nelsewhere.mp4,3\n", "No rated item was scored"),
    ],
)
def test_ratings_that_make_no_sense_are_one_sentence(folder: Path, text: str, sentence: str) -> None:
    (folder / "people.csv").write_text(text)
    with pytest.raises(UsageError, match=sentence):
        bench(folder, ratings="people.csv")


def test_a_rating_that_may_mean_two_items_is_refused(folder: Path) -> None:
    put(folder / "features", make_video(folder / "more", "a.mp4", b"another"), np.array([Z]))
    (folder / "people.csv").write_text("item,rating\na.mp4,3\n")
    with pytest.raises(UsageError, match=r"rating of 'a\.mp4' may mean 2 items"):
        bench(folder, ratings="people.csv")


def test_a_head_of_another_width_is_refused(folder: Path) -> None:
    torch.save({"weight": torch.zeros(1, 9)}, folder / "head.pth")
    with pytest.raises(ModelError, match="takes features of 9 values and the cached ones have 4"):
        bench(folder)
