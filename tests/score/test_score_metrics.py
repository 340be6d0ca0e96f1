"""`score --metric`, `--baseline`, `--pairs` and prompt sets, against arithmetic done here in plain NumPy."""

from __future__ import annotations

import json
import math
import shutil
import sys
import types
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from checkout import CHECKOUT
from click.testing import CliRunner, Result
from clipcache.cache.common.errors import ClipcacheError, UsageError
from clipcache.cli import cli
from clipcache.score.calibration import read_baseline
from clipcache.score.conversion import softmax
from clipcache.score.metrics import METRICS
from clipcache.score.pairs import read_pairs
from clipcache.score.prompt_sets import read_prompt_file
from clipcache.score.references import read_embeddings
from score_caches import FRAMES, VECTORS, FakeEncoder, X, Y, Z, make_video, put

COSINES = {"x axis": [1, 0, 0.6], "y axis": [0, 1, 0.8]}  # of FRAMES


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    put(tmp_path / "features", make_video(tmp_path / "videos", "a.mp4"), logit_scale=10.0)
    return tmp_path / "features"


@pytest.fixture(autouse=True)
def encoder(monkeypatch: pytest.MonkeyPatch) -> FakeEncoder:
    fake = FakeEncoder()
    module = types.ModuleType("clipcache.extract.models.prompts")
    vars(module)["load_reference_encoder"] = lambda *_, **__: fake
    monkeypatch.setitem(sys.modules, "clipcache.extract.models.prompts", module)
    return fake


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def rows(*arguments: object) -> list[dict[str, Any]]:
    result = run("score", *arguments, "--format", "json")
    assert result.exit_code == 0, result.stderr
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def test_a_logit_is_the_scaled_cosine(cache: Path) -> None:
    (row,) = rows("--cache", cache, "--text", "x axis", "--metric", "logit")
    assert row["mean_logit"] == pytest.approx(10 * 1.6 / 3, abs=1e-5)
    assert (row["min_logit"], row["max_logit"]) == pytest.approx((0, 10), abs=1e-5)
    assert "mean_cosine" not in row


def test_probabilities_are_the_softmax_over_the_prompts_of_each_frame(cache: Path) -> None:
    arguments = ["--cache", cache, "--text", "x axis", "--text", "y axis", "--metric", "probability"]
    x, y = np.array(COSINES["x axis"]), np.array(COSINES["y axis"])
    right = np.exp(10 * x) / (np.exp(10 * x) + np.exp(10 * y))
    first, second = rows(*arguments)
    assert first["mean_probability"] == pytest.approx(right.mean(), abs=1e-5)
    assert first["won_share"] == pytest.approx(1 / 3)
    assert second["won_share"] == pytest.approx(2 / 3)
    per_frame = [row["probability"] for row in rows(*arguments, "--per-frame")]
    assert per_frame == pytest.approx([*right, *(1 - right)], abs=1e-5)


def test_probabilities_per_frame_read_side_by_side(cache: Path) -> None:
    arguments = ["--cache", cache, "--text", "x axis", "--text", "y axis", "--metric", "probability", "--per-frame"]
    lines = run("score", *arguments).stdout.splitlines()
    assert lines[0] == "Video a.mp4: x axis | y axis"
    assert lines[1] == "frame 0: [1.0000, 0.0000]"  # 1 / (1 + e^-10) = 0.99995
    assert lines[3] == "frame 2: [0.1192, 0.8808]"  # 1 / (1 + e^2) = 0.1192
    assert lines[4] == "probability over the references of the video, 0 to 1"


def test_softmax_of_large_logits_does_not_overflow() -> None:
    assert softmax(np.array([[1e4], [1e4 - math.log(3)]])) == pytest.approx(np.array([[0.75], [0.25]]), abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--text", "x axis", "--metric", "probability"], "always 1"),
        (["--text", "x axis", "--video", "a.mp4", "--metric", "probability"], "leave out --video"),
        (["--image", "x.jpg", "--metric", "clipscore"], "CLIPScore is defined for prompts"),
        (["--text", "x axis", "--text", "y axis", "--metric", "probability", "--baseline"], "not probabilities"),
        (["--image", "x.jpg", "--baseline"], "Generic prompts calibrate scores of prompts"),
    ],
)
def test_metrics_that_mean_nothing_are_refused(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], sentence: str
) -> None:
    (tmp_path / "videos" / "x.jpg").write_text("x axis")
    monkeypatch.chdir(tmp_path / "videos")
    with pytest.raises(UsageError, match=sentence):
        run("score", "--cache", cache, *arguments)


def test_clipscore_puts_its_prefix_before_the_prompt_and_cuts_at_zero(
    cache: Path, encoder: FakeEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(VECTORS, "A photo depicts a mirror", 3 * X - 4 * Y)
    (row,) = rows("--cache", cache, "--text", "a mirror", "--metric", "clipscore")
    cosines = np.array([0.6, -0.8, 0.6 * 0.6 - 0.8 * 0.8])
    assert encoder.texts == ["A photo depicts a mirror"]
    assert row["reference"] == "a mirror"
    assert row["mean_clipscore"] == pytest.approx((2.5 * np.maximum(cosines, 0)).mean(), abs=1e-5)
    assert row["min_clipscore"] == 0


def test_the_baseline_says_where_a_score_lies_among_generic_prompts(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    generic = {f"thing {number}": rng.normal(size=4).astype(np.float32) for number in range(20)}
    for name, vector in generic.items():
        monkeypatch.setitem(VECTORS, name, vector)
    (tmp_path / "generic.txt").write_text("\n".join(generic))
    arguments = ["--cache", cache, "--text", "x axis", "--baseline-file", tmp_path / "generic.txt"]
    (row,) = rows(*arguments)
    units = FRAMES / np.linalg.norm(FRAMES, axis=1, keepdims=True)
    null = np.array([(units @ (v / np.linalg.norm(v))).mean() for v in generic.values()])
    mean = 1.6 / 3
    assert row["mean_cosine"] == pytest.approx(mean, abs=1e-6)
    assert row["baseline_prompts"] == 20
    assert row["z_score"] == pytest.approx((mean - null.mean()) / null.std(ddof=1), abs=1e-4)
    assert row["percentile"] == pytest.approx(100 * (null < mean).mean())
    assert "percentile" in run("score", *arguments).stdout
    logit = rows(*arguments, "--metric", "logit")[0]
    assert (logit["z_score"], logit["mean_logit"]) == pytest.approx((row["z_score"], 10 * mean), abs=1e-4)


def test_the_bundled_baseline_is_long_and_free_of_repetition() -> None:
    prompts = read_baseline(None)
    assert len(prompts) == len(set(prompts)) >= 200


def test_a_baseline_of_few_prompts_is_refused(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "few.txt").write_text("one\ntwo\n")
    with pytest.raises(UsageError, match="10 prompts or more"):
        run("score", "--cache", cache, "--text", "x axis", "--baseline-file", tmp_path / "few.txt")


# Prompt sets.


def test_a_set_averages_its_templates_at_length_one(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(VECTORS, "a photo of x", 100 * X)
    monkeypatch.setitem(VECTORS, "a drawing of x", 0.5 * Z)
    path = tmp_path / "set.yaml"
    path.write_text('templates: ["a photo of {}", "a drawing of {}"]\nnames: [x]\n')
    (row,) = rows("--cache", cache, "--text-file", path)
    assert row["reference"] == "x"
    assert row["mean_cosine"] == pytest.approx(1.6 / 3 / math.sqrt(2), abs=1e-5)  # (X + Z) / |X + Z|


def test_a_set_may_list_the_prompts_of_each_name(cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "set.yml"
    path.write_text("right: [x axis]\nup:\n  - y axis\n  - y axis\n")
    found = {row["reference"]: row["mean_cosine"] for row in rows("--cache", cache, "--text-file", path)}
    assert found == pytest.approx({"right": 1.6 / 3, "up": 1.8 / 3}, abs=1e-6)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("names: [x]\ntemplates: [a photo]", "has no {}"),
        ("names: []\ntemplates: ['{}']", "list of texts"),
        ("- x", "no prompt set"),
        ("a: [1, 2", "not valid YAML, line 1"),
        ("a: ['']", "none of them empty"),
        ("yes: [x axis]", "the name True is not text"),
        ("a: 2020-13-45", "not valid YAML"),
        ("", "no prompt set"),
    ],
)
def test_a_malformed_set_is_one_sentence(cache: Path, tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "set.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=sentence) as caught:
        run("score", "--cache", cache, "--text-file", path)
    assert "\n" not in str(caught.value)
    assert "set.yaml" in str(caught.value)


# Pairs.


def test_pairs_score_each_video_with_its_own_references(cache: Path, tmp_path: Path) -> None:
    put(cache, make_video(tmp_path / "videos", "b.mp4"), np.array([Y, Y, Z]))
    (tmp_path / "videos" / "up.jpg").write_text("y axis")
    table = tmp_path / "videos" / "pairs.csv"  # whose own folder the paths are relative to
    table.write_text(
        "video,prompt,image,reference_video\n"
        'a.mp4,"x axis",up.jpg,\n'
        "b.mp4,y axis,,a.mp4\n"
        "a.mp4,y axis,,\n"
    )  # fmt: skip
    found = [
        (row["video"], row["comparison"], row["reference"], round(row["mean_cosine"], 4))
        for row in rows("--cache", cache, "--pairs", table)
    ]
    assert found == [
        ("a.mp4", "video-to-text", "x axis", 0.5333),
        ("a.mp4", "video-to-image", "up.jpg", 0.6),
        ("b.mp4", "video-to-text", "y axis", 0.6667),
        ("b.mp4", "video-to-video", "a.mp4", 0.3333),
        ("a.mp4", "video-to-text", "y axis", 0.6),
    ]


def test_pairs_come_in_the_order_of_the_table(cache: Path, tmp_path: Path) -> None:
    """A video's row may stand before a prompt's; the generic prompts are counted once for all rows of a video."""
    for name in ("b.mp4", "c.mp4"):
        put(cache, make_video(tmp_path / "videos", name), np.array([Y, Y, Z]))
    table = tmp_path / "videos" / "pairs.csv"
    table.write_text(
        "video,prompt,reference_video\na.mp4,,b.mp4\na.mp4,x axis,c.mp4\na.mp4,y axis,\nb.mp4,,a.mp4\nb.mp4,z axis,\n"
    )
    found = rows("--cache", cache, "--pairs", table)
    assert [(row["video"], row["reference"]) for row in found] == [
        ("a.mp4", "b.mp4"),
        ("a.mp4", "x axis"),
        ("a.mp4", "c.mp4"),
        ("a.mp4", "y axis"),
        ("b.mp4", "a.mp4"),
        ("b.mp4", "z axis"),
    ]
    table.write_text("video,prompt,reference_video\na.mp4,,b.mp4\na.mp4,x axis,c.mp4\na.mp4,y axis,\n")
    calibrated = [row["baseline_prompts"] for row in rows("--cache", cache, "--pairs", table, "--baseline")]
    table.write_text("video,prompt\na.mp4,x axis\n")
    (alone,) = rows("--cache", cache, "--pairs", table, "--baseline")
    assert calibrated == [None, alone["baseline_prompts"], None, alone["baseline_prompts"]]


def test_a_video_that_cannot_be_scored_is_told_once(cache: Path, tmp_path: Path) -> None:
    put(cache, make_video(tmp_path / "videos", "b.mp4"), np.array([Y]))
    table = tmp_path / "videos" / "pairs.csv"
    table.write_text("video,prompt,reference_video\nb.mp4,,a.mp4\nb.mp4,x axis,\na.mp4,x axis,\nb.mp4,y axis,\n")
    result = run("score", "--cache", cache, "--pairs", table, "--start", 0.15)
    assert result.exit_code == 1
    assert result.stderr.count("'b.mp4' has no frames") == 1, result.stderr


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name,prompt\na.mp4,x axis\n", "no column 'video'"),
        ("video\na.mp4\n", "no column to compare with"),
        ("video,prompt\na.mp4,\n", "has no prompt; fill one in"),
        ("video,prompt\n,x axis\n", "line 2: there is no video"),
        ("video,prompt\na.mp4,x axis, running\n", "line 2: more values than columns"),
        ("video,prompt\n", "a header and no rows"),
        ("", "no column 'video'"),
        ("video,prompt\nmissing.mp4,x axis\n", "There is no file or folder"),
        ("video,prompt\nstranger.mp4,x axis\n", "clipcache extract"),
    ],
)
def test_a_malformed_table_is_one_sentence(cache: Path, tmp_path: Path, text: str, sentence: str) -> None:
    make_video(tmp_path / "videos", "stranger.mp4")
    table = tmp_path / "videos" / "pairs.csv"
    table.write_text(text)
    with pytest.raises(ClipcacheError, match=sentence) as caught:
        run("score", "--cache", cache, "--pairs", table)
    assert "\n" not in str(caught.value)


def test_pairs_leave_no_room_for_other_references(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--pairs names"):
        run("score", "--cache", cache, "--pairs", tmp_path / "pairs.csv", "--text", "x axis")


def test_pairs_take_clipscore_and_a_baseline(cache: Path, tmp_path: Path) -> None:
    table = tmp_path / "videos" / "pairs.csv"
    table.write_text("video,text\na.mp4,x axis\n")
    (row,) = rows("--cache", cache, "--pairs", table, "--metric", "clipscore", "--baseline")
    assert row["baseline_prompts"] >= 200
    with pytest.raises(UsageError, match="always 1"):
        run("score", "--cache", cache, "--pairs", table, "--metric", "probability")


def test_the_null_is_counted_once_where_two_names_mean_one_video(cache: Path, tmp_path: Path) -> None:
    shutil.copy(tmp_path / "videos" / "a.mp4", tmp_path / "videos" / "copy.mp4")
    table = tmp_path / "videos" / "pairs.csv"
    table.write_text("video,prompt\na.mp4,x axis\ncopy.mp4,x axis\n")
    first, second = rows("--cache", cache, "--pairs", table, "--baseline")
    assert first["baseline_prompts"] == second["baseline_prompts"]
    assert first["z_score"] == second["z_score"]


@pytest.mark.skipif(not (CHECKOUT / "docs").is_dir(), reason="the docs lie in the checkout")
def test_the_page_on_scoring_has_the_metrics_with_their_ranges() -> None:
    text = (CHECKOUT / "docs" / "scoring.md").read_text(encoding="utf-8").replace("&#124;", "/")
    cells = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in text.splitlines()
        if line.startswith("| `") and "--metric" not in line
    ]
    documented = {name.strip("`"): limits.partition(",")[0] for name, _, limits in cells}
    assert documented == {name: metric.range for name, metric in METRICS.items()}


def test_the_library_takes_paths_as_text(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text("{names: [dog], templates: ['a {}']}", encoding="utf-8")
    assert read_prompt_file(str(prompts)) == read_prompt_file(prompts)
    vectors = tmp_path / "vectors.npy"
    np.save(vectors, np.eye(2, 4, dtype=np.float32))
    assert [one.name for one in read_embeddings(str(vectors), 4)] == ["vectors.npy[0]", "vectors.npy[1]"]
    table = tmp_path / "pairs.csv"
    table.write_text("video,prompt\nv.mp4,a dog\n", encoding="utf-8")
    assert read_pairs(str(table)) == read_pairs(table)


@pytest.mark.parametrize("damage", ["entry", "features", "no frames in the range"])
def test_a_bad_reference_video_of_pairs_costs_its_own_rows(cache: Path, tmp_path: Path, damage: str) -> None:
    for name in ("b.mp4", "c.mp4"):
        put(cache, make_video(tmp_path / "videos", name), np.array([X, Y, Z]))
    frames = np.array([Y]) if damage == "no frames in the range" else np.array([X, Y, Z])
    bad = put(cache, make_video(tmp_path / "videos", "bad.mp4"), frames)
    if damage == "entry":
        bad.write_bytes(b"\x89HDF\r\n\x1a\n")
    if damage == "features":
        content = bytearray(bad.read_bytes())
        with h5py.File(bad) as file:
            offset = file["features"].id.get_chunk_info(0).byte_offset if file["features"].chunks else None
            offset = file["features"].id.get_offset() if offset is None else offset
        content[offset] ^= 0xFF
        bad.write_bytes(content)
    table = tmp_path / "videos" / "pairs.csv"
    table.write_text("video,prompt,reference_video\na.mp4,x axis,bad.mp4\nb.mp4,,bad.mp4\nc.mp4,,a.mp4\n")
    result = run("score", "--cache", cache, "--pairs", table, "--format", "json", "--start", 0.05)
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert '"c.mp4"' in result.stdout


def test_a_cell_too_long_for_a_path_is_one_sentence(cache: Path, tmp_path: Path) -> None:
    table = tmp_path / "videos" / "pairs.csv"
    table.write_text(f"video,reference_video\na.mp4,{'x' * 300}\n")
    with pytest.raises(ClipcacheError, match="There is no file or folder"):
        run("score", "--cache", cache, "--pairs", table)
