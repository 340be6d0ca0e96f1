"""`clipcache consistency`, against arithmetic done here frame by frame."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from clipcache.cache import Entry
from clipcache.cache.common.errors import UsageError
from clipcache.cli import cli
from clipcache.score.consistency import consecutive_cosines, scene_starts
from score_caches import make_video, put


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(cli, ["consistency", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def rows(*arguments: object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run(*arguments, "--format", "json").stdout)
    return found


def walk(frames: int, seed: int = 0) -> np.ndarray:
    """(frames, 8) features that drift, with a cut to somewhere else in the middle; as float16 will hold them."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(0, 0.2, (frames, 8))
    steps[0] += 1
    steps[frames // 2] -= 5
    return np.cumsum(steps, axis=0).astype(np.float16).astype(np.float64)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    put(tmp_path / "features", make_video(tmp_path / "videos", "a.mp4"), walk(30))
    return tmp_path / "features"


def test_every_statistic_is_its_definition(cache: Path) -> None:
    frames = walk(30)
    previous = [cosine(frames[t], frames[t - 1]) for t in range(1, 30)]
    first = [cosine(frames[t], frames[0]) for t in range(1, 30)]
    (row,) = rows("--cache", cache)
    assert row["frames"] == 30
    assert row["frame_consistency_cosine"] == pytest.approx(np.mean(previous), abs=1e-5)
    assert row["first_frame_consistency_cosine"] == pytest.approx(np.mean(first), abs=1e-5)
    vbench = np.mean([(max(p, 0) + max(f, 0)) / 2 for p, f in zip(previous, first, strict=True)])
    assert min(first) < 0, "else the zero of VBench's formula is not tried"
    assert row["background_consistency_vbench"] == pytest.approx(vbench, abs=1e-5)
    assert row["min_cosine"] == pytest.approx(min(previous), abs=1e-5)
    assert row["min_at_ms"] == 100 * (1 + int(np.argmin(previous)))


@pytest.mark.parametrize("block", [1, 2, 7, 30])
def test_where_blocks_are_cut_does_not_matter(block: int) -> None:
    frames = walk(30)
    pieces = (frames[start : start + block] for start in range(0, 30, block))
    previous, first = consecutive_cosines(pieces)
    assert previous == pytest.approx([cosine(frames[t], frames[t - 1]) for t in range(1, 30)], abs=1e-5)
    assert first == pytest.approx([cosine(frames[t], frames[0]) for t in range(1, 30)], abs=1e-5)


def test_the_largest_jump_is_the_cut(cache: Path) -> None:
    first, second = rows("--cache", cache, "--jumps", 2)
    assert (first["rank"], first["at_ms"], first["frame_index"]) == (1, 1500, 15)
    assert first["cosine"] < second["cosine"]


def test_runs_of_duplicates_are_told_from_start_to_end(tmp_path: Path) -> None:
    still = np.repeat(np.eye(4), [3, 1, 4, 2], axis=0)  # frames 0-2, 3, 4-7, 8-9
    put(tmp_path / "features", make_video(tmp_path, "a.mp4"), still)
    found = rows("--cache", tmp_path / "features", "--duplicates", 0.99)
    assert [(row["start_ms"], row["end_ms"], row["frames"]) for row in found] == [
        (0, 200, 3),
        (400, 700, 4),
        (800, 900, 2),
    ]
    assert all(row["min_cosine"] == pytest.approx(1) for row in found)


def test_consecutive_means_among_the_frames_chosen(cache: Path) -> None:
    frames = walk(30)[::5]
    (row,) = rows("--cache", cache, "--every", 5)
    right = np.mean([cosine(frames[t], frames[t - 1]) for t in range(1, 6)])
    assert (row["frames"], row["frame_consistency_cosine"]) == (6, pytest.approx(right, abs=1e-5))


def test_a_single_frame_has_no_consistency(tmp_path: Path) -> None:
    put(tmp_path / "features", make_video(tmp_path, "a.mp4"), walk(30)[:1])
    (row,) = rows("--cache", tmp_path / "features")
    assert row["frames"] == 1
    assert {row[name] for name in row if "consistency" in name or name.startswith("min_")} == {None}
    assert rows("--cache", tmp_path / "features", "--jumps", 3) == []
    result = run("--cache", tmp_path / "features")
    assert "nan" not in result.stdout.lower()
    assert "one frame" in result.stderr


def test_images_jump_but_have_no_time(tmp_path: Path) -> None:
    names = [f"{number}.jpg" for number in range(4)]
    put(tmp_path / "features", make_video(tmp_path, "burst"), walk(4), frame_names=names)
    (jump,) = rows("--cache", tmp_path / "features", "--jumps", 1)
    assert (jump["at_ms"], jump["frame_index"]) == (None, 2)


def test_two_lists_at_once_are_refused(cache: Path) -> None:
    with pytest.raises(UsageError, match="one at a time"):
        run("--cache", cache, "--jumps", 1, "--duplicates", 0.9)


def test_a_plot_shows_both_curves(cache: Path, tmp_path: Path) -> None:
    run("--cache", cache, "--plot", tmp_path / "plot.svg")
    drawn = (tmp_path / "plot.svg").read_text()
    assert drawn.count("<path") > 4


def test_one_bad_entry_does_not_stop_the_others(cache: Path, tmp_path: Path) -> None:
    bad = put(cache, make_video(tmp_path / "videos", "b.mp4"))
    bad.write_bytes(bad.read_bytes()[:2000])
    result = run("--cache", cache)
    assert result.exit_code == 1
    assert "a.mp4" in result.stdout
    assert "Skipped" in result.stderr


def test_scenes_start_at_the_cuts(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    frames = np.repeat(np.eye(8)[[0, 3, 5]], [20, 30, 10], axis=0) + rng.normal(0, 0.01, (60, 8))
    entry = Entry(put(tmp_path / "features", make_video(tmp_path, "a.mp4"), frames))
    assert scene_starts(entry) == [0, 20, 50]
    assert scene_starts(entry.take(np.array([0]))) == [0]
