"""Moments: runs between two thresholds, and thresholds that come from a query's own scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clipcache.cache import Entry
from clipcache.cache.common.errors import ClipcacheError, UsageError
from clipcache.score.compare import FrameSelection
from clipcache.score.search.frames import Limits
from clipcache.score.search.moments import MomentFinder, Spread, Thresholds, find_runs, shown_until
from clipcache.score.search.scan import scan
from score_caches import make_video, put


def fail(path: Path, error: ClipcacheError) -> None:
    raise AssertionError(f"{path}: {error}")


def by_hand(cosines: np.ndarray, high: float, low: float) -> list[tuple[int, int]]:
    """Hysteresis as one would tell it: from every frame at `high`, go both ways while at `low`."""
    found = set()
    for row in np.flatnonzero(cosines >= high):
        first = end = int(row)
        while first > 0 and cosines[first - 1] >= low:
            first -= 1
        while end < len(cosines) and cosines[end] >= low:
            end += 1
        found.add((first, end))
    return sorted(found)


@pytest.mark.parametrize("seed", range(20))
def test_runs_are_those_found_by_hand(seed: int) -> None:
    random = np.random.default_rng(seed)
    frames = int(random.integers(1, 60))
    cosines = np.round(random.uniform(0, 1, frames), 1).astype(np.float32)
    times = np.cumsum(random.uniform(10, 500, frames))
    thresholds = Thresholds(high=0.75, low=0.35)
    assert find_runs(cosines, times, shown_until(times, 25), thresholds) == by_hand(cosines, 0.75, 0.35)


@pytest.mark.parametrize(
    ("cosines", "runs"),
    [
        ([0.1, 0.5, 0.9, 0.5, 0.1], [(1, 4)]),
        ([0.5, 0.5, 0.5], []),  # never high
        ([0.9, 0.1, 0.9], [(0, 1), (2, 3)]),  # at both borders
        ([0.9], [(0, 1)]),
        ([0.1], []),
        ([0.9, 0.9], [(0, 2)]),
    ],
)
def test_a_moment_needs_the_high_threshold_and_lasts_to_the_low_one(
    cosines: list[float], runs: list[tuple[int, int]]
) -> None:
    times = np.arange(len(cosines)) * 40.0
    assert find_runs(np.array(cosines, np.float32), times, times + 40, Thresholds(0.8, 0.4)) == runs


def test_moments_close_to_each_other_are_one() -> None:
    times = np.arange(12) * 500.0
    cosines = np.array([0.9, 0, 0.9, 0, 0, 0, 0.9, 0, 0.5, 0, 0.9, 0], np.float32)
    thresholds, ends = Thresholds(0.8, 0.4), times + 500
    assert find_runs(cosines, times, ends, thresholds, 0.5) == [(0, 1), (2, 3), (6, 7), (10, 11)]
    assert find_runs(cosines, times, ends, thresholds, 0.6) == [(0, 3), (6, 7), (10, 11)]
    assert find_runs(cosines, times, ends, thresholds, 1.6) == [(0, 11)]


def test_a_frame_lasts_until_the_next_one_comes() -> None:
    assert shown_until(np.array([0, 40, 140, 180.0]), 25).tolist() == [40, 140, 180, 220]
    assert shown_until(np.array([100.0]), 25).tolist() == [140]
    assert shown_until(np.array([100.0]), 0.0).tolist() == [140]


def test_the_low_threshold_lies_below_the_high_one() -> None:
    with pytest.raises(UsageError, match="lower --low"):
        Thresholds(0.2, 0.3)


@pytest.fixture
def library(tmp_path: Path) -> tuple[list[Path], np.ndarray]:
    """Three videos and an image folder; frames at an angle to the query, so that their cosines are known."""
    random = np.random.default_rng(3)
    entries, cosines = [], []
    for number, frames in enumerate((101, 1, 400)):
        values = random.normal(0.2, 0.03, frames).clip(-1, 1)
        values[frames // 2 :][:20] += 0.1
        features = np.stack([values, np.sqrt(1 - values**2)], axis=1)
        entries.append(put(tmp_path / "features", make_video(tmp_path, f"{number}.mp4"), features))
        cosines.append(features.astype(np.float16)[:, 0].astype(float))
    return entries, np.concatenate(cosines)


DIRECTIONS = np.array([[1, 0], [0, 1]], np.float32)


def test_thresholds_lie_between_the_median_and_the_best(library: tuple[list[Path], np.ndarray]) -> None:
    entries, cosines = library
    spread = Spread(2)
    for scores in scan(entries, DIRECTIONS, FrameSelection(), fail):
        spread.add(scores)
    median, best = np.median(cosines), cosines.max()
    first = spread.thresholds(None, None)[0]
    assert first.high == pytest.approx(median + 0.75 * (best - median), abs=1e-3)
    assert first.low == pytest.approx(median + 0.5 * (best - median), abs=1e-3)
    given_high = spread.thresholds(0.35, None)[0]
    assert given_high.high == 0.35
    assert given_high.low == pytest.approx(median + (0.35 - median) * 2 / 3, abs=1e-3)
    assert spread.thresholds(None, 0.1)[0] == Thresholds(first.high, 0.1)
    with pytest.raises(UsageError, match="lower --low"):
        spread.thresholds(None, 0.99)
    assert spread.thresholds(-0.5, None)[0] == Thresholds(-0.5, -0.5)  # below what is typical: no hysteresis


def test_a_single_frame_is_its_own_moment(tmp_path: Path) -> None:
    entry = put(tmp_path / "features", make_video(tmp_path, "one.mp4"), np.array([[0.3, 0.7]]))
    spread = Spread(1)
    for scores in scan([entry], DIRECTIONS[:1], FrameSelection(), fail):
        spread.add(scores)
    finder = MomentFinder(spread.thresholds(None, None), Limits())
    for scores in scan([entry], DIRECTIONS[:1], FrameSelection(), fail):
        finder.add(scores)
    ((hit,),) = finder.ranked()
    assert hit.span_ms == (0, 100)


def test_the_best_moments_of_all_videos_are_ranked_by_their_peaks(library: tuple[list[Path], np.ndarray]) -> None:
    entries, _ = library
    finder = MomentFinder([Thresholds(0.25, 0.22), Thresholds(2, 2)], Limits(top=9, per_video=6, min_gap_s=0))
    for scores in scan(entries, DIRECTIONS, FrameSelection(), fail):
        finder.add(scores)
    expected: list[tuple[float, str, float, float]] = []
    for path in entries:
        cosines = Entry(path).features[:, 0].astype(np.float32)  # the frames are of length one, near enough
        runs = [(float(cosines[first:end].max()), first, end) for first, end in by_hand(cosines, 0.25, 0.22)]
        best = sorted(runs, key=lambda run: -run[0])[:6]
        expected += [(peak, Entry(path).video_name, first * 100.0, end * 100.0) for peak, first, end in best]
    expected = sorted(expected, key=lambda moment: -moment[0])[:9]
    hits, none = finder.ranked()
    assert none == []
    assert [(hit.source.name, *hit.span_ms) for hit in hits if hit.span_ms] == [moment[1:] for moment in expected]
    assert [hit.cosine for hit in hits] == pytest.approx([moment[0] for moment in expected], abs=1e-3)
    assert len({hit.source.name for hit in hits}) > 1


def test_images_have_no_moments(tmp_path: Path) -> None:
    entry = put(tmp_path / "features", make_video(tmp_path, "a"), np.eye(2), frame_names=["1.jpg", "2.jpg"])
    finder = MomentFinder([Thresholds(0, 0)], Limits())
    for scores in scan([entry], DIRECTIONS[:1], FrameSelection(), fail):
        finder.add(scores)
    assert finder.ranked() == [[]]
