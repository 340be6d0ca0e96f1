"""What a recipe makes of an entry: each truth is computed frame by frame, from the rule and not from the code."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from cache_entries import make_attributes
from clipcache.cache import Entry, write_entry
from clipcache.cache.common.errors import UsageError
from clipcache.cache.export.formats import FORMATS
from clipcache.cache.export.make_rows import make_rows
from clipcache.cache.export.recipe import Recipe, parse_pool

DIM = 8
NTSC = Fraction(30000, 1001)


def entry_of(folder: Path, times_ms: list[float], dtype: str = "float16", **changes: Any) -> Entry:
    count = len(times_ms)
    features = np.random.default_rng(count).normal(size=(count, DIM)).astype(dtype)
    attributes = make_attributes(frames_expected=count, frames_decoded=count, **changes)
    return Entry(write_entry(folder, attributes, features, np.array(times_ms), np.arange(count)))


@pytest.fixture
def ntsc(tmp_path: Path) -> Entry:
    """Ten minutes at 29.97 frames a second: more rows than are read at once."""
    return entry_of(tmp_path, [float(1000 * number / NTSC) for number in range(17982)], fps=float(NTSC))


def firsts_of(times_ms: np.ndarray, tick_s: Fraction) -> list[int]:
    """The first frame of each tick, in exact arithmetic, with the millisecond that a container may round away."""
    ticks = [
        (Fraction(time).limit_denominator(10**6) - Fraction(times_ms[0]) + 1) / 1000 // tick_s for time in times_ms
    ]
    return [row for row in range(len(ticks)) if row == 0 or ticks[row] != ticks[row - 1]]


@pytest.mark.parametrize(
    ("recipe", "tick_s"),
    [
        (Recipe(fps=1), Fraction(1)),
        (Recipe(fps=0.5), Fraction(2)),
        (Recipe(fps=5), Fraction(1, 5)),
        (Recipe(interval_s=1.5), Fraction(3, 2)),
        (Recipe(interval_s=2), Fraction(2)),
    ],
)
def test_the_rates_of_papers_give_the_first_frame_of_each_tick(ntsc: Entry, recipe: Recipe, tick_s: Fraction) -> None:
    rows = make_rows(ntsc, "a", recipe)
    expected = firsts_of(ntsc.timestamps_ms, tick_s)
    assert rows.frame_index.tolist() == expected
    assert rows.timestamps_ms.tolist() == ntsc.timestamps_ms[expected].tolist()
    assert rows.features().tobytes() == ntsc.features[expected].tobytes()
    assert rows.fps == pytest.approx(float(1 / tick_s))
    assert len(rows) == 600 / tick_s


def test_every_sixteenth_frame_and_means_of_sixteen(ntsc: Entry) -> None:
    every = make_rows(ntsc, "a", Recipe(every=16))
    assert every.frame_index.tolist() == list(range(0, 17982, 16))
    assert every.features().tobytes() == ntsc.features[::16].tobytes()
    means = make_rows(ntsc, "a", Recipe(pool=16))
    assert means.frame_index.tolist() == list(range(0, 17982, 16))
    assert means.timestamps_ms.tolist() == ntsc.timestamps_ms[::16].tolist()
    assert means.fps == pytest.approx(float(NTSC / 16))
    features = ntsc.features.astype(np.float64)
    truth = np.array([features[first : first + 16].mean(axis=0) for first in range(0, 17982, 16)])  # the last of 14
    assert means.dtype == np.float32
    assert means.features().tobytes() == truth.astype(np.float32).tobytes()


def test_groups_are_of_the_frames_kept(ntsc: Entry) -> None:
    rows = make_rows(ntsc, "a", Recipe(fps=2, start=10, end=20, pool=8))
    kept = [row for row in firsts_of(ntsc.timestamps_ms, Fraction(1, 2)) if 10_000 <= ntsc.timestamps_ms[row] < 20_000]
    assert [len(kept), len(rows)] == [20, 3]
    assert rows.frame_index.tolist() == kept[::8]
    assert np.allclose(rows.features()[2], ntsc.features[kept[16:]].astype(np.float64).mean(axis=0))
    assert rows.fps == 0.25


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_untouched_features_leave_bit_by_bit(tmp_path: Path, dtype: str) -> None:
    entry = entry_of(tmp_path, [0.0, 40.0, 80.0], dtype)
    rows = make_rows(entry, "a", Recipe())
    assert rows.dtype == dtype
    assert rows.features().tobytes() == entry.features.tobytes()
    assert rows.fps == 25.0


def test_normalized_rows_have_length_one_and_zeros_stay(tmp_path: Path) -> None:
    features = np.array([[3e4] * DIM, [3e-7] * DIM, [1] * DIM], np.float16)  # squares of float16 would overflow
    entry = Entry(
        write_entry(
            tmp_path,
            make_attributes(frames_expected=3, frames_decoded=3),
            features,
            np.arange(3) * 40.0,
            np.arange(3),
        )
    )
    with h5py.File(entry.path, "r+") as file:
        file["features"][2] = 0  # as in an entry of an older program: none is written now
    rows = make_rows(entry, "a", Recipe(normalize=True))
    assert rows.dtype == np.float32
    assert np.linalg.norm(rows.features().astype(np.float64), axis=1) == pytest.approx([1, 1, 0], abs=1e-6)


def test_values_that_do_not_fit_are_refused_in_a_sentence(tmp_path: Path) -> None:
    attributes = make_attributes(frames_expected=1, frames_decoded=1)
    path = write_entry(tmp_path, attributes, np.full((1, DIM), 1e5, np.float32), np.zeros(1), np.arange(1))
    with pytest.raises(UsageError, match="not finite, or too large for float16; use --dtype float32"):
        make_rows(Entry(path), "a", Recipe(dtype="float16")).features()


def test_an_interval_can_be_taken_of_a_rate_that_holds_its_frames(tmp_path: Path) -> None:
    whole = entry_of(tmp_path / "whole", [float(40 * number) for number in range(200)])
    two = make_rows(whole, "a", Recipe(fps=2))
    attributes = make_attributes(sampling="fps=2", frames_expected=200, frames_decoded=200)
    sampled = Entry(write_entry(tmp_path, attributes, two.features(), two.timestamps_ms, two.frame_index))
    of_sampled, of_whole = (make_rows(one, "a", Recipe(interval_s=1.5)) for one in (sampled, whole))
    assert of_sampled.frame_index.tolist() == of_whole.frame_index.tolist() == [0, 38, 75, 113, 150, 188]
    with pytest.raises(UsageError, match=r"cannot give one frame in 0\.75 s"):
        make_rows(sampled, "a", Recipe(interval_s=0.75))


def test_cosines_follow_the_rows(tmp_path: Path) -> None:
    entry = entry_of(tmp_path, [float(40 * number) for number in range(7)])
    given: dict[str, np.ndarray] = {"a cat": np.linspace(-1, 1, 7, dtype=np.float32)}

    def score_columns(frames: Entry, texts: object) -> dict[str, np.ndarray]:
        assert (len(frames), texts) == (7, ("a cat",))
        return given

    plain = make_rows(entry, "a", Recipe(texts=("a cat",)), score_columns)
    assert {name: values.tolist() for name, values in plain.cosines.items()} == {
        "cosine:a cat": given["a cat"].tolist()
    }
    pooled = make_rows(entry, "a", Recipe(texts=("a cat",), pool=3), score_columns)
    assert list(pooled.cosines) == ["mean_cosine:a cat"]
    assert pooled.cosines["mean_cosine:a cat"].tolist() == pytest.approx([-2 / 3, 1 / 3, 1])


def test_images_have_no_clock(tmp_path: Path) -> None:
    attributes = make_attributes(source_kind="image-folder", fps=0.0, frames_expected=3, frames_decoded=3)
    features = np.ones((3, DIM), np.float16)
    path = write_entry(tmp_path, attributes, features, np.zeros(3), np.arange(3), ["a.png", "b.png", "c.png"])
    rows = make_rows(Entry(path), "a", Recipe(interval_s=1, start=1))
    assert (len(rows), rows.fps, rows.frame_names) == (3, 0.0, ["a.png", "b.png", "c.png"])


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Recipe(fps=1, every=2), "by fps or by every"),
        (lambda: Recipe(fps=1, interval_s=2), "not by several"),
        (lambda: Recipe(interval_s=0), "must lie between"),
        (lambda: Recipe(start=2, end=1), "not before"),
        (lambda: Recipe(pool=0), "1 frame or more"),
        (lambda: parse_pool("max:3"), "of the form mean:N"),
        (lambda: parse_pool("mean:x"), "of the form mean:N"),
        (lambda: Recipe(texts=("a",)).fit_for(FORMATS["h5"]), "cannot hold the scores"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Callable[[], object], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        make()


def test_a_recipe_says_what_differs_from_the_default() -> None:
    assert Recipe().as_dict() == {}
    assert Recipe(fps=2, pool=16, texts=("a",)).as_dict() == {"fps": 2, "pool": 16, "texts": ["a"]}
    assert parse_pool("mean:16") == 16


def test_no_range_without_frames(tmp_path: Path) -> None:
    entry = entry_of(tmp_path, [0.0, 40.0])
    with pytest.raises(UsageError, match="no frames in the range"):
        make_rows(entry, "a", Recipe(start=5))
    assert make_rows(entry, "a", Recipe(end=0.02)).features().shape == (1, DIM)
