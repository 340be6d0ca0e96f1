"""Cutting sound into windows: arithmetic, checked against plain loops, without a file."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from clipcache.cache.common.errors import UsageError
from clipcache.cache.format.names import entry_name, parse_entry_name
from clipcache.cache.format.sampling import Sampling
from clipcache.extract.audio.windows import Samples, Windows, count_windows, cut_windows, level_db


def plainly_cut(samples: np.ndarray, window: int, hop: int, least: int) -> list[list[float]]:
    """Start after start, as long as there is something new to hear."""
    found: list[list[float]] = []
    heard: set[float] = set()
    for start in range(0, len(samples), hop):
        one = samples[start : start + window].tolist()
        if found and len(set(one) - heard) < least:
            break
        found.append(one)
        heard |= set(one)
    return found


@pytest.mark.parametrize("seed", range(40))
def test_windows_of_a_stream_are_those_of_the_whole(seed: int) -> None:
    rng = np.random.default_rng(seed)
    samples = np.arange(int(rng.integers(0, 60)), dtype=np.float32)
    least = int(rng.integers(1, 4))
    window, hop = (int(n) for n in rng.integers(least, (15, 25)))
    blocks = np.split(samples, np.sort(rng.integers(0, len(samples) + 1, 6)))
    expected = plainly_cut(samples, window, hop, least)
    assert [one.tolist() for one in cut_windows(blocks, window, hop, least)] == expected
    assert count_windows(len(samples), window, hop, least) == len(expected)


@pytest.mark.parametrize(
    ("seconds", "lengths"),
    [(1e-5, [0]), (9.5, [9.5]), (10, [10]), (20, [10, 10]), (20.05, [10, 10]), (25.5, [10, 10, 5.5])],
)
def test_the_default_is_ten_seconds_side_by_side(seconds: float, lengths: list[float]) -> None:
    samples = np.zeros(max(1, round(seconds * 48_000)), np.float32)
    windows = Windows()
    cut = cut_windows([samples], windows.samples, windows.hop_samples)
    assert [round(len(one) / 48_000, 3) for one in cut] == lengths


def test_hours_take_the_memory_of_a_few_windows() -> None:
    def three_hours() -> Iterator[Samples]:
        return (np.zeros(48_000, np.float32) for _ in range(3 * 3600))

    tracemalloc.start()
    count = sum(1 for _ in cut_windows(three_hours(), 480_000, 480_000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 1080
    assert peak < 12 << 20


@pytest.mark.parametrize(
    ("window_s", "hop_s", "text"),
    [(10, 10, "all"), (5, 2.5, "window=5,hop=2.5"), (10, 5, "window=10,hop=5"), (0.5, 20, "window=0.5,hop=20")],
)
def test_windows_name_their_sampling_and_their_files(window_s: float, hop_s: float, text: str) -> None:
    sampling = Windows(window_s, hop_s).sampling
    assert str(sampling) == text
    assert Sampling.parse(text) == sampling
    name = parse_entry_name(entry_name("sound", "ab" * 32, sampling))
    assert name is not None
    assert name.sampling == sampling


def test_a_file_name_says_its_windows() -> None:
    assert entry_name("a", "ab" * 32, Sampling(window_s=5, hop_s=2.5)) == "a-abababababababab.window5-hop2p5.h5"


def test_windows_cover_only_themselves() -> None:
    samplings = [Sampling(), Windows(5, 5).sampling, Windows(5, 2.5).sampling, Windows(10, 5).sampling, Sampling(fps=1)]
    for held in samplings[1:4]:
        assert [held.covers(wanted) for wanted in samplings] == [wanted == held for wanted in samplings]
    assert not any(Sampling().covers(wanted) for wanted in samplings[1:4])


@pytest.mark.parametrize("windows", [(0.05, 1), (10.5, 1), (5, 0), (5, -1), (5, float("nan")), (float("nan"), 5)])
def test_windows_that_make_no_sense_are_refused(windows: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match="seconds"):
        Windows(*windows)


@pytest.mark.parametrize("given", [{"window_s": 5}, {"hop_s": 5}, {"window_s": 5, "hop_s": 5, "fps": 1}])
def test_half_a_sampling_is_none(given: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="window and a hop"):
        Sampling(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("samples", "db"), [([1.0, -1.0], 0.0), ([0.1, 0.1], -20.0), ([0.0], -120.0), ([1e-9], -120.0)]
)
def test_levels_are_in_decibel_of_full_scale(samples: list[float], db: float) -> None:
    assert level_db(np.array(samples, np.float32)) == pytest.approx(db, abs=1e-5)
