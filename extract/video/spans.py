"""How a video is shared out among workers: spans of segments, and of them only what the frames wanted need."""

from __future__ import annotations

import numpy as np

from .decode import Span
from .index import VideoIndex
from .random_access import KNOWN_CODECS
from .timeline import BoolArray

SPAN_FRAMES = 500
"""Spans of a long video hold at least so many frames: enough work to pay for opening the file again."""

_PICKING_PAYS = 0.7  # of all frames, which would be decoded otherwise: entering a segment has its price


def split_spans(index: VideoIndex) -> list[Span]:
    """Consecutive segments, joined until each span holds SPAN_FRAMES frames, so that workers can share a long video."""
    spans, first, frames = [], 0, 0
    for number, segment in enumerate(index.segments):
        frames += segment.rows
        if frames >= SPAN_FRAMES:
            spans.append(Span(first, number + 1))
            first, frames = number + 1, 0
    if first < len(index.segments):
        spans.append(Span(first, len(index.segments)))
    return spans


def part_for(index: VideoIndex, span: Span, wanted: BoolArray) -> tuple[VideoIndex, Span, BoolArray]:
    """What a worker needs to decode a span: its segments and their neighbours, and which of their rows are wanted."""
    first = max(0, span.first - 1)
    part = index.part(first, span.end + 1)
    rows = slice(part.first_row, part.first_row + sum(segment.rows for segment in part.segments))
    return part, Span(span.first - first, span.end - first), wanted[rows]


def may_pick(index: VideoIndex) -> bool:
    """Whether frames of a video can be decoded without those before their segment, as `decode_picked` does."""
    is_known = index.intra_only or (index.codec in KNOWN_CODECS and not index.interlaced)
    return bool(index.segments) and is_known and index.order_is_told


def picking_pays(index: VideoIndex, wanted: BoolArray) -> bool:
    """Whether the frames wanted lie so far apart that decoding only what they need costs less, and may be done.

    Args:
        index: whole, not joined.
        wanted: (N,) which rows.
    """
    if not may_pick(index) or wanted.all():
        return False
    if index.intra_only:
        return True
    needed = sum(_last_wanted(wanted[s.first_row : s.first_row + s.rows]) for s in index.segments)
    return needed < _PICKING_PAYS * len(wanted)


def _last_wanted(wanted: BoolArray) -> int:
    """Frames up to the last that is wanted."""
    return int(np.flatnonzero(wanted)[-1]) + 1 if wanted.any() else 0
