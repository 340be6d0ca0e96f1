"""Where a video can be cut: segments that decode on their own, as arithmetic over packet times.

That a keyframe stands alone is the container's word, and not always true. Decoding proves it (`proof`): the first
picture of each segment must be the one that decoding on from the segment before gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .timeline import BoolArray, IntArray

GOP_FRAMES = 12
"""Keyframes closer together than this are no cuts of their own: an index of millions of them would serve nobody."""

MIN_SEGMENT_FRAMES = 240
"""Neighbouring GOPs are joined up to this many frames: a reader for each segment costs a few milliseconds, and the
proof of each cut a keyframe, as much as some fifty other pictures of AV1."""


@dataclass(frozen=True)
class Segment:
    """A run of packets that decodes on its own and shows the frames of one interval of time.

    Fed are the packets numbered `first_packet` to `end_packet` (exclusive, decode order) whose pts lies in
    [`start_pts`, `end_pts`), and `next_keyframe`: pictures of this interval may lead it (open GOP: they follow it in
    the file, are shown before it, and need both sides to decode), and its picture, decoded on from here, proves the
    cut.
    """

    first_packet: int
    end_packet: int
    start_pts: int
    end_pts: int
    next_keyframe: int | None
    first_row: int
    rows: int

    def feeds(self, packet_number: int, pts: int) -> bool:
        """Whether the decoder of this segment needs the packet."""
        return packet_number == self.next_keyframe or self.start_pts <= pts < self.end_pts


def cut(
    pts: Sequence[int | None], keyframe: BoolArray, discard: BoolArray
) -> tuple[IntArray | None, tuple[Segment, ...]]:
    """Cut a stream at its keyframes.

    Args:
        pts: (P,) presentation times of the packets in decode order; None where the container has none.
        keyframe: (P,) whether decoding can start at the packet.
        discard: (P,) whether an edit list hides the packet's frame.

    Returns:
        The pts of the frames shown, in order, and the segments that together show each of them exactly once. `(None,
        ())` where pts are missing or doubled; one segment where the keyframes do not part the frames cleanly.
    """
    if not pts or any(p is None for p in pts):
        return None, ()
    times = np.array(pts, np.int64)
    if len(np.unique(times)) != len(times) or not keyframe.any():
        return None, ()
    shown = np.sort(times[~discard])
    cuts = _choose_cuts(times, np.flatnonzero(keyframe))
    segments = tuple(_segment(times, shown, cuts, i) for i in range(len(cuts)))
    if _partition(times, segments) and sum(s.rows for s in segments) == len(shown):
        return shown, tuple(_without_hidden(segments))
    return shown, (Segment(0, len(times), int(times.min()), int(times.max()) + 1, None, 0, len(shown)),)


def join(segments: Sequence[Segment], max_frames: int) -> tuple[list[Segment], list[int]]:
    """Join neighbouring segments until each shows `MIN_SEGMENT_FRAMES`, or the next would make it too long.

    Args:
        segments: as `cut` gives them.
        max_frames: frames of a joined segment at most.

    Returns:
        The joined segments, and the number of the first of each in `segments`.
    """
    joined: list[Segment] = []
    firsts: list[int] = []
    for number, segment in enumerate(segments):
        rows = joined[-1].rows + segment.rows if joined else 0
        is_short = joined and joined[-1].rows < MIN_SEGMENT_FRAMES and rows <= max_frames
        if is_short and joined[-1].end_pts == segment.start_pts:
            joined[-1] = _both(joined[-1], segment)
        else:
            joined.append(segment)
            firsts.append(number)
    return joined, firsts


def _both(one: Segment, following: Segment) -> Segment:
    return replace(
        one,
        end_packet=max(one.end_packet, following.end_packet),
        end_pts=following.end_pts,
        next_keyframe=following.next_keyframe,
        rows=one.rows + following.rows,
    )


def _without_hidden(segments: Sequence[Segment]) -> list[Segment]:
    """Segments that show something; what is hidden before one is decoded with it, so that no cut goes unproved."""
    kept: list[Segment] = []
    for segment in segments:
        if kept and not kept[-1].rows:
            kept[-1] = _both(kept[-1], segment)
        else:
            kept.append(segment)
    return kept if kept[-1].rows else kept[:-1]


def _choose_cuts(times: IntArray, keys: IntArray) -> list[int]:
    """Keyframes at which to cut: each at least GOP_FRAMES after the one before, the first always."""
    cuts = [int(keys[0])]
    for key in keys[1:]:
        if key - cuts[-1] >= GOP_FRAMES and times[key] > times[cuts[-1]]:
            cuts.append(int(key))
    return cuts


def _segment(times: IntArray, shown: IntArray, cuts: list[int], i: int) -> Segment:
    first, start = cuts[i], int(times[cuts[i]])
    if i + 1 == len(cuts):
        end_packet, end, next_keyframe = len(times), int(times.max()) + 1, None
    else:
        next_keyframe = cuts[i + 1]
        end = int(times[next_keyframe])
        after = times[next_keyframe + 1 : cuts[i + 2] if i + 2 < len(cuts) else len(times)]
        leading = np.flatnonzero(after < end)
        end_packet = next_keyframe + 1 + (int(leading[-1]) + 1 if len(leading) else 0)
    if i == 0:  # pictures before the first keyframe cannot be placed better than here
        first, start = 0, int(times.min())
    first_row, end_row = np.searchsorted(shown, [start, end])
    return Segment(first, end_packet, start, end, next_keyframe, int(first_row), int(end_row - first_row))


def _partition(times: IntArray, segments: tuple[Segment, ...]) -> bool:
    """Whether every packet's frame comes out of exactly one segment."""
    outputs = np.zeros(len(times), np.int64)
    for s in segments:
        window = times[s.first_packet : s.end_packet]
        outputs[s.first_packet : s.end_packet] += (window >= s.start_pts) & (window < s.end_pts)
    return bool((outputs == 1).all())
