"""Sampling is index arithmetic: checked against plain loops, without a video."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from clipcache.cache.common.errors import UsageError
from clipcache.cache.format.sampling import Sampling, time_range


def variable_rate(seed: int, frames: int = 400) -> np.ndarray:
    """Timestamps in milliseconds: bursts, long stills, equal neighbours, an offset; in whole microseconds."""
    rng = np.random.default_rng(seed)
    gaps = rng.choice([0.0, 8.333, 16.667, 33.367, 40.0, 700.0, 5000.0], size=frames - 1)
    return np.round(1234.5 + np.concatenate([[0.0], np.cumsum(gaps)]), 3)


def first_of_each_tick(timestamps_ms: np.ndarray, fps: str) -> list[int]:
    """The fps rule by exact fractions, one frame after the other; a frame up to 1 ms early counts as on the tick."""
    taken: list[int] = []
    last_tick = -1
    start = Fraction(str(timestamps_ms[0]))
    for row, time_ms in enumerate(timestamps_ms):
        tick = int((Fraction(str(time_ms)) - start + 1) / 1000 * Fraction(fps))
        if tick != last_tick:
            taken.append(row)
            last_tick = tick
    return taken


@pytest.mark.parametrize("text", ["all", "fps=2", "fps=0.5", "fps=23.976", "every=16"])
def test_text_survives_parsing(text: str) -> None:
    assert str(Sampling.parse(text)) == text


@pytest.mark.parametrize(("text", "same"), [("fps=2.0", "fps=2"), ("fps=2.500", "fps=2.5"), ("every=1", "all")])
def test_text_has_one_spelling(text: str, same: str) -> None:
    assert str(Sampling.parse(text)) == same


@pytest.mark.parametrize("text", ["", "ALL", "fps=", "fps=0", "fps=-1", "fps=nan", "fps=1001", "every=0", "every=1.5"])
def test_bad_text_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"fps|every"):
        Sampling.parse(text)


def test_fps_and_every_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="not by both"):
        Sampling(fps=1.0, every=2)


def test_fps_takes_the_first_frame_of_each_tick() -> None:
    timestamps = np.arange(50) * 40.0
    assert Sampling(fps=5).indices(timestamps).tolist() == list(range(0, 50, 5))
    assert Sampling(fps=2).indices(timestamps).tolist() == [0, 13, 25, 38]
    assert Sampling(fps=0.5).indices(timestamps).tolist() == [0]


def test_fps_above_the_videos_own_gives_every_frame_once() -> None:
    timestamps = np.arange(50) * 40.0
    for fps in (25, 30, 60, 1000):
        assert Sampling(fps=fps).indices(timestamps).tolist() == list(range(50))


@pytest.mark.parametrize("fps", [24, 30, 60])
def test_timestamps_rounded_to_milliseconds_lose_no_frame(fps: int) -> None:
    timestamps = np.round(np.arange(2000) * 1000.0 / fps)
    assert Sampling(fps=fps).indices(timestamps).tolist() == list(range(2000))
    assert Sampling(fps=fps / 2).indices(timestamps).tolist() == list(range(0, 2000, 2))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("fps", ["0.1", "0.5", "1", "3", "23.976", "25", "120"])
def test_fps_on_a_variable_rate(seed: int, fps: str) -> None:
    timestamps = variable_rate(seed)
    assert Sampling(fps=float(fps)).indices(timestamps).tolist() == first_of_each_tick(timestamps, fps)


def test_every_counts_frames() -> None:
    assert Sampling(every=16).indices(np.arange(50) * 40.0).tolist() == [0, 16, 32, 48]


@pytest.mark.parametrize("text", ["all", "fps=2", "every=3"])
def test_no_frames_give_no_frames(text: str) -> None:
    assert Sampling.parse(text).indices(np.array([])).tolist() == []


@pytest.mark.parametrize(
    ("held", "wanted", "covers"),
    [
        ("all", "all", True),
        ("all", "fps=29.97", True),
        ("all", "every=7", True),
        ("fps=2", "all", False),
        ("fps=4", "fps=2", True),
        ("fps=0.3", "fps=0.1", True),
        ("fps=2", "fps=4", False),
        ("fps=5", "fps=2", False),
        ("every=4", "every=8", True),
        ("every=4", "every=6", False),
        ("every=4", "all", False),
        ("fps=2", "every=2", False),
        ("every=2", "fps=2", False),
    ],
)
def test_covers(held: str, wanted: str, covers: bool) -> None:
    assert Sampling.parse(held).covers(Sampling.parse(wanted)) is covers


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("held", "wanted"),
    [
        ("fps=4", "fps=2"),
        ("fps=30", "fps=1"),
        ("fps=0.3", "fps=0.1"),
        ("fps=47.952", "fps=23.976"),
        ("every=4", "every=12"),
    ],
)
def test_what_is_covered_gives_the_same_frames_as_the_whole_video(seed: int, held: str, wanted: str) -> None:
    timestamps = variable_rate(seed)
    index = np.arange(len(timestamps))
    kept = Sampling.parse(held).indices(timestamps)
    rows = Sampling.parse(wanted).rows(timestamps[kept], index[kept])
    assert index[kept][rows].tolist() == Sampling.parse(wanted).indices(timestamps).tolist()


def test_time_range_compares_with_stored_timestamps() -> None:
    timestamps = np.array([1000.0, 1040.0, 1080.0, 1080.0, 1120.0])
    assert time_range(timestamps) == slice(0, 5)
    assert time_range(timestamps, start_s=1.04) == slice(1, 5)
    assert time_range(timestamps, end_s=1.08) == slice(0, 2)
    assert time_range(timestamps, 1.041, 1.121) == slice(2, 5)
    assert time_range(timestamps, start_s=9.0) == slice(5, 5)


def test_time_range_is_not_upset_by_rounding() -> None:
    timestamps = np.arange(1000) / 29.97 * 1000
    for frame in range(1000):
        assert time_range(timestamps, start_s=frame / 29.97).start == frame


def test_time_range_backwards_is_refused() -> None:
    with pytest.raises(UsageError, match="before the start"):
        time_range(np.array([0.0]), 2.0, 1.0)
