"""9. Frames far apart: decode of each segment what the frames wanted need, or decode joined segments whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from . import decoding, videos
from .context import Context
from .report import Row, Section
from .timing import Rounds, alternate, cpu_seconds_of

_FPS = 0.5


def measure(context: Context) -> Section:
    """`--fps 0.5` on 1080p with a keyframe every second."""
    kind = replace(videos.KINDS["1080p"], frames=context.sizes.sampled_frames)
    coding = replace(videos.CODINGS["H.264"], gop=videos.FPS)
    path = videos.make_coded(context.data, kind, coding)
    told = context.child("sampling").call(compare, path=path, rounds=context.sizes.sampled_rounds)
    context.drop("sampling")
    rounds = Rounds(told["seconds"])
    what = f"{told['wanted']} of {told['frames']} frames of 1080p, {coding}"
    label = f"picked frames alone, {what}; ratio to whole segments ({rounds.middle('picked', 'whole')})"
    rows = [
        Row(f"whole segments, {what}", rounds.median("whole"), "CPU s", runs=rounds.count),
        Row(label, rounds.median("picked"), "CPU s", rounds.ratio("picked", "whole"), runs=rounds.count),
        Row("pictures and times that differ between the two", told["different"]),
    ]
    notes = [
        f"Decoding and resizing for `--fps {_FPS}`, CPU seconds of all threads, in one process. 'Whole segments': "
        "segments joined to at least 240 frames are decoded to their end by decord, and what is not wanted is dropped: "
        "what a run did before frames were picked. 'Picked frames alone': `decode_picked`, by PyAV, what a run does "
        "now. In brackets the middle half of the ratios of the turns.",
    ]
    return Section("9. Sampling", rows, notes)


def compare(path: str, rounds: int) -> dict[str, Any]:
    """In the child: CPU seconds of both ways, and in how many frames they differ.

    Raises:
        RuntimeError: a run would not pick frames of this video.
    """
    import numpy as np
    from clipcache.cache.format.sampling import Sampling
    from clipcache.extract.video.decode import Span, decode_picked, decode_span
    from clipcache.extract.video.index import read_index
    from clipcache.extract.video.spans import picking_pays

    index = read_index(path)
    assert index.times_ms is not None  # noqa: S101  an MP4 with times
    joined = index.joined()
    wanted = np.zeros(index.frames_expected, bool)
    wanted[Sampling(fps=_FPS).indices(index.times_ms)] = True
    if not picking_pays(index, wanted):
        raise RuntimeError(f"{path}: frames are not picked")

    def picked() -> Any:
        sink = decoding.resizing_sink()
        decode_picked(Path(path), index, Span(0, len(index.segments)), sink, wanted)
        return sink

    def whole() -> Any:
        sink = decoding.resizing_sink()
        decode_span(Path(path), joined, Span(0, len(joined.segments)), sink, wanted=wanted)
        return sink

    different = _differences(whole(), picked(), int(wanted.sum()))
    sides = {"whole": lambda: cpu_seconds_of(whole), "picked": lambda: cpu_seconds_of(picked)}
    return {
        "frames": index.frames_expected,
        "wanted": int(wanted.sum()),
        "different": different,
        "seconds": alternate(sides, rounds).values,
    }


def _differences(one: Any, other: Any, count: int) -> int:
    """Frames whose row, time or any byte of the resized picture is not the same; missing ones differ."""
    both = [(sink.finish(), sink.pictures) for sink in (one, other)]
    frames = [
        [
            (row, time, pictures[number].tobytes())
            for row, time, number in zip(rows.rows, rows.timestamps_ms, rows.source, strict=True)
        ]
        for rows, pictures in both
    ]
    return count - sum(a == b for a, b in zip(*frames, strict=False))
