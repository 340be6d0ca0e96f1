"""Best frames: the same as sorting all frames and suppressing greedily, whatever is searched in whatever portions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clipcache.cache import Entry
from clipcache.cache.common.errors import ClipcacheError
from clipcache.score.compare import FrameSelection
from clipcache.score.search import scan as scan_module
from clipcache.score.search.frames import Best, FrameFinder, Limits, pick_peaks
from clipcache.score.search.scan import scan
from score_caches import FRAMES, make_video, put

Found = list[tuple[str, int]]  # video, frame


def fail(path: Path, error: ClipcacheError) -> None:
    raise AssertionError(f"{path}: {error}")


def found(
    entries: list[Path], directions: np.ndarray, limits: Limits, selection: FrameSelection | None = None
) -> list[Found]:
    finder = FrameFinder(len(directions), limits)
    for scores in scan(entries, directions, selection or FrameSelection(), fail):
        finder.add(scores)
    return [[(hit.source.name, hit.frame_index) for hit in hits] for hits in finder.ranked()]


def brute_force(entries: list[Path], direction: np.ndarray, limits: Limits) -> Found:
    """All frames of all videos sorted by score, taken one by one unless a taken one of the same video is too near."""
    everything = []
    for order, path in enumerate(entries):
        entry = Entry(path)
        features = entry.features.astype(np.float64)
        cosines = features @ direction.astype(np.float64) / np.linalg.norm(features, axis=1)
        for row, (cosine, at_ms) in enumerate(zip(cosines, entry.timestamps_ms, strict=True)):
            everything.append((-round(float(cosine), 6), order, row, at_ms, entry.video_name, entry.source_kind))
    taken: list[tuple[Any, ...]] = []
    for frame in sorted(everything):
        if limits.threshold is not None and -frame[0] < limits.threshold:
            break
        same_video = [other for other in taken if other[1] == frame[1]]
        if limits.per_video is not None and len(same_video) >= limits.per_video:
            continue
        if frame[5] == "video" and any(abs(other[3] - frame[3]) < limits.min_gap_s * 1000 for other in same_video):
            continue
        taken.append(frame)
    return [(name, row) for _, _, row, _, name, _ in taken[: limits.top]]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Six videos of different lengths and rates, and an image folder; directions on a coarse grid, so that many tie."""
    folder = tmp_path_factory.mktemp("library")
    random = np.random.default_rng(5)
    entries = []
    for number, frames in enumerate((1, 3, 40, 200, 333, 500)):
        angles = random.integers(0, 120, frames) / 120 * 2 * np.pi
        features = np.stack([np.cos(angles), np.sin(angles), np.zeros(frames)], axis=1) * random.integers(1, 4)
        step_ms = (40.0, 100.0, 500.0)[number % 3]
        entries.append(put(folder / "features", make_video(folder, f"{number}.mp4"), features, step_ms=step_ms))
    names = [f"{n}.jpg" for n in range(20)]
    images = make_video(folder, "burst")
    entries.append(put(folder / "features", images, random.normal(size=(20, 3)), frame_names=names))
    return entries


DIRECTIONS = np.array([[1, 0, 0], [0, 1, 0], [-0.6, 0.8, 0], [0, 0, 1]], np.float32)


@pytest.mark.parametrize(
    "limits",
    [
        Limits(top=10, min_gap_s=0),
        Limits(top=10, min_gap_s=1),
        Limits(top=25, min_gap_s=2.5, per_video=2),
        Limits(top=7, min_gap_s=0.04),
        Limits(top=1000, min_gap_s=3, threshold=0.5),
        Limits(top=5, min_gap_s=0, per_video=1, threshold=0.9),
        Limits(top=5, threshold=1.0),
        Limits(top=3000, min_gap_s=0),
    ],
    ids=str,
)
def test_the_best_frames_are_those_of_a_full_sort(library: list[Path], limits: Limits) -> None:
    result = found(library, DIRECTIONS, limits)
    for direction, hits in zip(DIRECTIONS, result, strict=True):
        assert hits == brute_force(library, direction, limits)


def test_the_order_in_which_videos_come_changes_only_ties(library: list[Path]) -> None:
    limits = Limits(top=30, min_gap_s=1)
    turned = library[::-1]
    assert found(turned, DIRECTIONS, limits) == [brute_force(turned, direction, limits) for direction in DIRECTIONS]


def test_portions_change_nothing(library: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Small memory: several passes over a video, and small blocks."""
    whole = found(library, DIRECTIONS, Limits(top=25))
    monkeypatch.setattr(scan_module, "COSINES_IN_MEMORY", 700)
    monkeypatch.setattr(scan_module, "TILE_ROWS", 7)
    assert found(library, DIRECTIONS, Limits(top=25)) == whole


def test_a_cut_counts_before_anything_is_suppressed(library: list[Path]) -> None:
    hits = found(library[5:6], DIRECTIONS[:1], Limits(top=1000, min_gap_s=0), FrameSelection(start=10, end=20))[0]
    times = [Entry(library[5]).timestamps_ms[row] for _, row in hits]
    assert len(hits) == 20  # a frame each half second
    assert (min(times), max(times)) == (10000, 19500)


def test_frames_exactly_a_gap_apart_are_both_kept() -> None:
    times = np.array([0, 41.666666, 2000, 2041.666666, 4000.0])
    cosines = np.array([0.9, 0.1, 0.8, 0.2, 0.7], np.float32)
    assert pick_peaks(cosines, times, 5, 2.0) == [0, 2, 4]
    assert pick_peaks(cosines, times, 5, 2.001) == [0, 4]
    assert pick_peaks(cosines, times, 5, 0.0) == [0, 2, 4, 3, 1]


def test_a_suppressed_frame_suppresses_nothing() -> None:
    times = np.array([0, 900, 1800.0])
    assert pick_peaks(np.array([0.9, 0.8, 0.7], np.float32), times, 3, 1.0) == [0, 2]


def test_best_keeps_the_highest_and_of_equals_the_first() -> None:
    best: Best[str] = Best(3)
    for score, item in [(0.1, "a"), (0.5, "b"), (0.5, "c"), (0.4, "d"), (0.5, "e"), (0.5, "f")]:
        best.offer(score, item)
    assert best.ranked() == ["b", "c", "e"]
    assert not best.takes(0.5)


def test_a_damaged_entry_is_told_and_the_others_are_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = (put(tmp_path / "features", make_video(tmp_path, name)) for name in ("good.mp4", "bad.mp4"))
    whole = Entry.iter_features
    spoilt = np.where(np.arange(4) == 1, np.nan, FRAMES)
    monkeypatch.setattr(Entry, "iter_features", lambda e, n: iter([spoilt]) if e.path == bad else whole(e, n))
    torn = put(tmp_path / "features", make_video(tmp_path, "torn.mp4"))
    torn.write_bytes(torn.read_bytes()[:3000])
    told: list[tuple[Path, str]] = []
    directions = np.eye(1, FRAMES.shape[1], dtype=np.float32)
    names = [
        s.source.name
        for s in scan([bad, torn, good], directions, FrameSelection(), lambda p, e: told.append((p, str(e))))
    ]
    assert names == ["good.mp4"]
    assert [path for path, _ in told] == [bad, torn]
    assert "not finite" in told[0][1]
    assert "truncated or damaged" in told[1][1]


def test_a_thousand_queries_on_real_features(test_data: Path, tmp_path: Path) -> None:
    reference = test_data / "clip_reference"
    features = np.load(reference / "v_GGSY1Qvo990_clip.npy")
    texts = np.load(reference / "lvis_text_features.npz")["features"].astype(np.float64)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    video = test_data / "videos" / "v_GGSY1Qvo990.mp4"
    entry = put(tmp_path / "features", video, features, step_ms=50.96)
    finder = FrameFinder(len(texts), Limits(top=1))
    for scores in scan([entry], texts.astype(np.float32), FrameSelection(), fail):
        finder.add(scores)
    units = features.astype(np.float64)
    cosines = units / np.linalg.norm(units, axis=1, keepdims=True) @ texts.T
    best = [hits[0] for hits in finder.ranked()]
    np.testing.assert_allclose([hit.cosine for hit in best], cosines.max(axis=0), atol=1e-6)
    at_best = cosines[[hit.frame_index for hit in best], np.arange(len(texts))]
    np.testing.assert_allclose(at_best, cosines.max(axis=0), atol=1e-6)
