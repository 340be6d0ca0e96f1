"""Cutting a stream at its keyframes, as arithmetic over packet times."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from clipcache.extract.video import segments as segments_module
from clipcache.extract.video.segments import Segment, cut, join
from clipcache.extract.video.timeline import IntArray, pts_to_ms


@pytest.fixture(autouse=True)
def _cut_at_every_keyframe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments_module, "GOP_FRAMES", 1)


def run_cut(
    pts: list[int | None], keys: list[int], discard: tuple[int, ...] = ()
) -> tuple[IntArray | None, tuple[Segment, ...]]:
    keyframe, hidden = np.zeros(len(pts), bool), np.zeros(len(pts), bool)
    keyframe[keys] = True
    hidden[list(discard)] = True
    return cut(pts, keyframe, hidden)


def fed(segment: Segment, pts: list[int]) -> list[int]:
    numbers = range(segment.first_packet, segment.end_packet)
    return [pts[n] for n in numbers if segment.feeds(n, pts[n])]


def test_closed_gops_part_cleanly() -> None:
    pts = [0, 2, 1, 3, 5, 4]
    shown, segments = run_cut(list(pts), [0, 3])
    assert shown is not None
    assert shown.tolist() == [0, 1, 2, 3, 4, 5]
    assert [fed(s, pts) for s in segments] == [[0, 2, 1, 3], [3, 5, 4]]  # 3, decoded on, proves the cut
    assert [(s.first_row, s.rows) for s in segments] == [(0, 3), (3, 3)]


def test_leading_pictures_of_an_open_gop_decode_with_the_gop_before() -> None:
    # Decode order: I0 P3 B1 B2 | I6 b4 b5 P9 B7 B8: b4 and b5 need both P3 and I6.
    pts = [0, 3, 1, 2, 6, 4, 5, 9, 7, 8]
    _, segments = run_cut(list(pts), [0, 4])
    assert [fed(s, pts) for s in segments] == [[0, 3, 1, 2, 6, 4, 5], [6, 9, 7, 8]]
    assert [(s.first_row, s.rows) for s in segments] == [(0, 6), (6, 4)]


def test_hidden_frames_are_fed_but_not_shown() -> None:
    pts = [-20, -10, 0, 10, 20, 30]
    shown, segments = run_cut(list(pts), [0, 3], discard=(0, 1))
    assert shown is not None
    assert shown.tolist() == [0, 10, 20, 30]
    assert fed(segments[0], pts) == [-20, -10, 0, 10]
    assert [(s.first_row, s.rows) for s in segments] == [(0, 1), (1, 3)]


def test_what_is_hidden_before_a_segment_is_decoded_with_it() -> None:
    pts = [-20, -10, 0, 10, 20, 30]
    _, segments = run_cut(list(pts), [0, 2, 4], discard=(0, 1))
    assert [(s.first_row, s.rows) for s in segments] == [(0, 2), (2, 2)]
    assert fed(segments[0], pts) == [-20, -10, 0, 10, 20]
    _, segments = run_cut(list(pts), [0, 2, 4], discard=(4, 5))
    assert [(s.first_row, s.rows) for s in segments] == [(0, 2), (2, 2)]


@pytest.mark.parametrize("pts", [[0, None, 2], [0, 1, 1], []])
def test_missing_and_doubled_times_give_no_index(pts: list[int | None]) -> None:
    assert run_cut(pts, [0] if pts else []) == (None, ())


def test_keyframes_that_do_not_part_the_frames_give_one_segment() -> None:
    pts = [0, 50, 10, 20, 30]  # the frame at 50 is fed before the keyframe at 10
    _, segments = run_cut(list(pts), [0, 2])
    assert [fed(s, pts) for s in segments] == [pts]
    assert segments[0].rows == 5


def test_short_gops_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments_module, "MIN_SEGMENT_FRAMES", 10)
    pts = list(range(36))
    _, segments = run_cut(list(pts), pts)
    assert [s.rows for s in segments] == [1] * 36
    joined, firsts = join(segments, 100)
    assert [s.rows for s in joined] == [10, 10, 10, 6]
    assert firsts == [0, 10, 20, 30]
    assert [fed(s, pts) for s in joined] == [pts[:11], pts[10:21], pts[20:31], pts[30:]]


def test_segments_are_not_joined_beyond_what_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments_module, "MIN_SEGMENT_FRAMES", 10)
    pts = list(range(36))
    _, segments = run_cut(list(pts), pts[::4])
    assert [s.rows for s in join(segments, 11)[0]] == [8, 8, 8, 8, 4]
    assert [s.rows for s in join(segments, 3)[0]] == [4] * 9


def test_keyframes_close_together_are_not_all_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments_module, "GOP_FRAMES", 10)
    _, segments = run_cut(list(range(36)), list(range(36)))
    assert [s.rows for s in segments] == [10, 10, 10, 6]


@pytest.mark.parametrize("seed", range(20))
def test_any_stream_is_shown_exactly_once(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = np.split(np.arange(60), np.sort(rng.choice(np.arange(1, 60), 6, replace=False)))
    order = np.concatenate([[g[0], *rng.permutation(g[1:])] for g in groups]).astype(int)
    keys = [int(np.flatnonzero(order == g[0])[0]) for g in groups]
    hidden = tuple(int(n) for n in rng.choice(60, 5, replace=False))
    shown, segments = run_cut([int(p) for p in order], keys, hidden)
    assert shown is not None
    rows = [row for s in segments for row in range(s.first_row, s.first_row + s.rows)]
    assert rows == list(range(55))
    assert sorted(set(order.tolist()) - {int(order[n]) for n in hidden}) == shown.tolist()


def test_ticks_become_milliseconds_without_drift() -> None:
    pts = np.array([0, 1001, 10_000_000 * 1001], np.int64)
    expected = [float(Fraction(int(p), 30000) * 1000) for p in pts]
    assert pts_to_ms(pts, Fraction(1, 30000)).tolist() == expected
