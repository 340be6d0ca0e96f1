"""Presentation times from packet times, as arithmetic."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from clipcache.cache.format.sampling import FramePicker, Sampling
from clipcache.extract.video.timeline import (
    CONTAINER,
    FROM_RATE,
    JOINED,
    PARTED,
    FrameClock,
    Timeline,
    part_doubled,
    timeline_of,
)

MS = Fraction(1, 1000)
DAY_MS = 86_400_000


def timeline(pts: list[int | None], keys: tuple[int, ...] = (0,), hidden: tuple[int, ...] = ()) -> Timeline | None:
    keyframe, shown = np.zeros(len(pts), bool), np.ones(len(pts), bool)
    keyframe[list(keys)] = True
    shown[list(hidden)] = False
    return timeline_of(pts, keyframe, shown, MS, 25.0)


def times(found: Timeline | None) -> list[float]:
    assert found is not None
    assert (np.diff(found.times_ms) > 0).all()
    return [round(float(time), 3) for time in found.times_ms]


def test_reordered_frames_come_in_presentation_order_and_hidden_ones_not_at_all() -> None:
    found = timeline([0, 120, 40, 80, 240, 160, 200], hidden=(4,))
    assert found is not None
    assert found.kind == CONTAINER
    assert times(found) == [0, 40, 80, 120, 160, 200]


def test_frames_of_one_time_are_parted() -> None:
    found = timeline([0, 40, 40, 40, 80])
    assert found is not None
    assert found.kind == PARTED
    assert times(found) == [0, 40, 40.001, 40.002, 80]


def test_parted_times_never_overtake() -> None:
    assert part_doubled(np.array([1.0, 1.0, 1.0005, 1.0005, 2.0])).tolist() == pytest.approx(
        [1, 1.001, 1.002, 1.003, 2]
    )


def test_a_clock_that_starts_again_at_a_keyframe_goes_on_one_frame_later() -> None:
    found = timeline([0, 1000, 2000, 0, 1000, 2000, 500, 700], keys=(0, 3, 6))
    assert found is not None
    assert found.kind == JOINED
    assert found.borders == (3, 6)
    assert times(found) == [0, 1000, 2000, 2040, 3040, 4040, 4080, 4280]


def test_a_pause_that_is_reordered_is_no_restart() -> None:
    found = timeline([0, 40, 9000, 4000, 4040], keys=(0,))
    assert found is not None
    assert (found.kind, times(found)) == (CONTAINER, [0, 40, 4000, 4040, 9000])


def test_a_corrupt_jump_does_not_take_the_rest_with_it() -> None:
    found = timeline([0, 40, 2**31, 120, 160], keys=(0,))
    assert found is not None
    assert found.kind == JOINED
    assert times(found) == [0, 40, 80, 120, 160]


def test_hidden_packets_that_repeat_a_part_are_no_restart() -> None:
    found = timeline([0, 2000, 4000, 1000, 2100, 5000], keys=(0, 3), hidden=(3, 4))
    assert found is not None
    assert (found.kind, times(found)) == (CONTAINER, [0, 2000, 4000, 5000])


@pytest.mark.parametrize("pts", [[None, None, None], [7, 7, 7], [0, 0, 0, 0, 40]])
def test_without_usable_times_the_rate_tells(pts: list[int | None]) -> None:
    found = timeline(pts)
    assert found is not None
    assert found.kind == FROM_RATE
    assert times(found) == [40.0 * n for n in range(len(pts))]


def test_some_times_missing_are_for_the_decoder_to_tell() -> None:
    assert timeline([0, None, 80]) is None


def clock_times(pts: list[int | None]) -> tuple[str, list[float]]:
    clock = FrameClock(40.0, MS)
    found = [round(clock.next_ms(one), 3) for one in pts]
    assert all(after > before for before, after in pairwise(found))
    return clock.kind, found


@pytest.mark.parametrize(
    ("pts", "kind", "expected"),
    [
        ([100, 140, 180], CONTAINER, [100, 140, 180]),
        ([-80, -40, 0], CONTAINER, [-80, -40, 0]),
        ([0, 0, 40], PARTED, [0, 0.001, 40]),
        ([0, None, 80], FROM_RATE, [0, 40, 80]),
        ([None, None, 80], FROM_RATE, [0, 40, 80]),
        ([None, None, 10, 50], FROM_RATE, [0, 40, 80, 120]),
        ([1000, 5000, 0, 40], JOINED, [1000, 5000, 5040, 5080]),
        ([0, 40, DAY_MS * 2, 120], JOINED, [0, 40, 80, 120]),
    ],
)
def test_the_clock_of_decoded_frames(pts: list[int | None], kind: str, expected: list[float]) -> None:
    assert clock_times(pts) == (kind, expected)


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(every=3), Sampling(fps=2), Sampling(fps=0.3)], ids=str)
def test_frames_picked_as_they_come_are_those_picked_of_all(sampling: Sampling) -> None:
    times_ms = np.cumsum(np.random.default_rng(1).uniform(5, 400, 200)) - 3000
    picker = FramePicker(sampling)
    picked = [row for row, time_ms in enumerate(times_ms) if picker.takes(row, float(time_ms))]
    assert picked == sampling.indices(times_ms).tolist()
