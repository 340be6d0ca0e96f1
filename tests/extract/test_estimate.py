"""How long a run still takes, by arithmetic: simulated libraries, encoded at a known speed on a simulated clock."""

from __future__ import annotations

import itertools
import random

import pytest
from clipcache.extract.estimate import SPEED_OVER_S, Estimate, RecentSpeed

Library = list[tuple[int, int]]  # bytes and frames of each item
BATCH = 32


def mixed(number: int, rng: random.Random) -> Library:
    """Few frames in large files, many in small ones, in any order."""
    large = [(rng.randint(1_700_000, 2_300_000), rng.randint(400, 600)) for _ in range(number // 2)]
    small = [(rng.randint(15_000, 25_000), rng.randint(4000, 6000)) for _ in range(number // 2)]
    return rng.sample(large + small, number)


def alike(number: int, rng: random.Random) -> Library:
    """Films of all lengths at about one bit rate."""
    lengths = [int(rng.lognormvariate(7, 0.8)) + 1 for _ in range(number)]
    return [(int(frames * rng.uniform(800, 1200)), frames) for frames in lengths]


def simulate(library: Library, fps: float, cached: int = 0) -> dict[int, tuple[float, float]]:
    """The seconds estimated and those that it took, at 25, 50 and 75 % of the time."""
    estimate, now = Estimate(), 100.0
    estimate.found(len(library) + cached, sum(size for size, _ in library) + 10**6 * cached)
    estimate.bytes_hashed = estimate.bytes_found
    for _ in range(cached):
        estimate.skip(10**6)
    whole = sum(frames for _, frames in library) / fps
    said = {}
    for number, (size, frames) in enumerate(library):
        estimate.expect(str(number), size, frames, now)
        for start in range(0, frames, BATCH):
            now += min(BATCH, frames - start) / fps
            estimate.advance(str(number), min(BATCH, frames - start), now)
            for share in {25, 50, 75} - set(said):
                if now - 100 >= whole * share / 100:
                    seconds = estimate.seconds_left(now)
                    assert seconds is not None
                    said[share] = (seconds, whole - (now - 100))
        estimate.finish(str(number), size)
    assert estimate.seconds_left(now) == 0
    assert estimate.bytes_done == estimate.bytes == sum(size for size, _ in library)
    return said


@pytest.mark.parametrize("make", [mixed, alike])
@pytest.mark.parametrize("seed", range(5))
def test_the_time_left_is_near_the_truth(make: object, seed: int) -> None:
    library = make(200, random.Random(seed))  # type: ignore[operator]
    for share, (estimated, true) in simulate(library, fps=90.0, cached=50).items():
        assert 0.75 < estimated / true < 1.35, share


def test_large_files_of_few_frames_first_do_not_hide_the_rest() -> None:
    library = sorted(mixed(60, random.Random(1)), reverse=True)
    estimated, true = simulate(library, fps=100.0)[25]
    assert 0.5 < estimated / true < 2  # by frames per byte alone it would be a hundredth


def test_known_frames_are_exact() -> None:
    estimate = Estimate()
    estimate.found(2, 3000)
    estimate.expect("a", 1000, 500, 0.0)
    estimate.expect("b", 2000, 40, 0.0)
    estimate.advance("a", 100, 10.0)
    assert estimate.frames_left() == 440
    assert estimate.bytes_done == 200
    estimate.expect("b", 2000, 50, 10.0)  # said again
    assert estimate.frames_left() == 450


def test_items_whose_frames_are_never_told_are_estimated_by_those_that_are_over() -> None:
    estimate = Estimate()
    estimate.found(3, 3000)
    estimate.begin("a", 1000, 0.0)
    estimate.advance("a", 60, 10.0)
    assert estimate.seconds_left(10.0) is None  # nothing tells how long a file is
    estimate.finish("a", 1000)
    estimate.begin("b", 1000, 10.0)
    estimate.advance("b", 20, 12.0)
    assert estimate.frames_left() == 100
    assert estimate.bytes_done == round(1000 + 1000 / 3)


def test_nothing_is_said_before_five_seconds_of_encoding() -> None:
    estimate = Estimate()
    estimate.found(1, 1000)
    assert estimate.seconds_left(50.0) is None
    estimate.expect("a", 1000, 1000, 60.0)
    estimate.advance("a", 100, 62.0)
    assert estimate.seconds_left(64.9) is None
    assert estimate.seconds_left(65.1) is not None


def test_frames_of_an_earlier_run_say_nothing_of_the_speed() -> None:
    estimate = Estimate()
    estimate.found(1, 1000)
    estimate.expect("a", 1000, 1000, 0.0)
    estimate.resume("a", 800)
    estimate.advance("a", 100, 10.0)
    assert estimate.speed.at(10.0) == pytest.approx(100 / (SPEED_OVER_S * (1 - 2.718281828 ** (-10 / SPEED_OVER_S))))
    assert (estimate.frames, estimate.encoded, estimate.frames_left()) == (900, 100, 100)


def test_lost_frames_are_to_be_done_again_and_do_not_slow_the_speed() -> None:
    estimate = Estimate()
    estimate.found(1, 1000)
    estimate.expect("a", 1000, 1000, 0.0)
    estimate.advance("a", 500, 10.0)
    speed = estimate.speed.at(10.0)
    estimate.advance("a", -300, 10.0)
    assert (estimate.frames_left(), estimate.speed.at(10.0)) == (800, speed)


def test_what_is_not_hashed_yet_counts_as_work() -> None:
    estimate = Estimate()
    estimate.found(4, 4000)
    estimate.bytes_hashed += 2000
    estimate.skip(1000)
    assert (estimate.is_hashing, estimate.items, estimate.bytes) == (True, 3, 3000)
    estimate.expect("a", 1000, 100, 0.0)
    estimate.advance("a", 50, 10.0)
    assert estimate.frames_left() == 250
    estimate.bytes_hashed += 2000
    estimate.skip(1000)
    estimate.skip(1000)
    assert (estimate.is_hashing, estimate.frames_left()) == (False, 50)


def test_an_item_that_fails_before_it_is_opened_leaves_the_rest_as_it_was() -> None:
    estimate = Estimate()
    estimate.found(3, 3000)
    estimate.expect("a", 1000, 100, 0.0)
    estimate.finish("broken", 1000)
    assert (estimate.items_done, estimate.frames_left(), estimate.bytes_done) == (1, 200, 1000)


def test_the_speed_follows_a_change_within_two_minutes_and_does_not_jump() -> None:
    speed, now = RecentSpeed(), 0.0
    speed.start(now)
    seen = []
    for fps in (100, 25):
        for _ in range(240):
            now += 0.5
            speed.add(fps // 2 if fps == 100 else round(fps / 2), now)
            seen.append(speed.at(now))
    before, after = seen[239], seen[-1]
    assert before == pytest.approx(100, rel=0.02)
    assert after == pytest.approx(24, rel=0.1)
    assert max(abs(b - a) / a for a, b in itertools.pairwise(seen[20:])) < 0.03
