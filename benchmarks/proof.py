"""8. What the proof of cuts costs: one more picture a segment, and checksums."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from . import decoding, videos
from .context import Context
from .report import Row, Section, Target
from .timing import Rounds, alternate, cpu_seconds_of

if TYPE_CHECKING:
    from clipcache.extract.video.index import VideoIndex
    from clipcache.extract.video.segments import Segment

MOST = 1.02
_GOP = 30


def measure(context: Context) -> Section:
    """CPU time of decoding and resizing 720p with and without the proof, for each codec and two lengths of GOP."""
    kind = replace(videos.KINDS["720p"], frames=context.sizes.coded_frames)
    rows: list[Row] = []
    for name in context.sizes.coded:
        for gop in (None, _GOP):
            coding = replace(videos.CODINGS[name], gop=gop)
            path = videos.make_coded(context.data, kind, coding)
            rounds = context.sizes.proof_rounds
            told = context.child("proof").call(compare, path=path, rounds=rounds)
            rows += _rows(str(coding), told)
    context.drop("proof")
    notes = [
        "CPU seconds of all threads, in one process and by one decoder thread: segments joined to at least 240 frames, "
        "as a run without sampling decodes them, and frames resized to 224x224. In brackets the middle half of the "
        "ratios of the turns.",
        "Without the proof: a segment is not fed the keyframe at which the next one begins, unless pictures of its own "
        "need it (open GOP), and no checksums are computed. The switch is the benchmark's; the package has none.",
    ]
    return Section("8. The proof of cuts", rows, notes)


def _rows(what: str, told: dict[str, Any]) -> list[Row]:
    rounds = Rounds(told["seconds"])
    frames, more, segments = told["frames"], told["more"], told["segments"]
    label = f"decode and resize, {what}; ratio to without the proof ({rounds.middle('with', 'without')})"
    return [
        Row(f"frames decoded in addition, {what} ({frames} frames in {segments} segments)", more),
        Row(f"the same, per cent, {what}", 100 * more / frames, "%"),
        Row(label, rounds.median("with"), "CPU s", rounds.ratio("with", "without"), Target("<=", MOST), rounds.count),
    ]


@dataclass(frozen=True)
class _Plan:
    """A video to decode, with the proof and without."""

    path: str
    proved: VideoIndex
    unproved: VideoIndex


@lru_cache(maxsize=1)
def _plan(path: str) -> _Plan:
    from clipcache.extract.video.index import read_index

    index = read_index(path).joined()
    segments = _without_proof(index.segments)
    return _Plan(path, index, replace(index, segments=segments, first_picture=None))


def _without_proof(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """Segments that end before the next keyframe, where nothing that they show follows it in the file."""
    return tuple(
        replace(one, end_packet=one.next_keyframe, next_keyframe=None)
        if one.next_keyframe is not None and one.end_packet == one.next_keyframe + 1
        else one
        for one in segments
    )


def compare(path: str, rounds: int) -> dict[str, Any]:
    """In the child: packets that the proof adds, and CPU seconds of both sides."""
    plan = _plan(path)
    with_proof, without = (_packets_fed(path, index) for index in (plan.proved, plan.unproved))
    sides = {
        "with": lambda: cpu_seconds_of(lambda: _decode(path, plan.proved, is_proved=True)),
        "without": lambda: cpu_seconds_of(lambda: _decode(path, plan.unproved, is_proved=False)),
    }
    alternate(sides, 1)  # imports
    return {
        "frames": plan.proved.frames_expected,
        "segments": len(plan.proved.segments),
        "more": with_proof - without,
        "seconds": alternate(sides, rounds).values,
    }


def _packets_fed(path: str, index: VideoIndex) -> int:
    from clipcache.extract.video.packets import SegmentReader

    with SegmentReader(Path(path), index) as reader:
        return sum(len(reader.read(number)) for number in range(len(index.segments)))


def _decode(path: str, index: VideoIndex, *, is_proved: bool) -> None:
    """Decode all segments of an index and resize their frames.

    Raises:
        RuntimeError: a frame is missing, or decord refused a segment.
    """
    from clipcache.extract.video import decode

    sink = decoding.resizing_sink()
    checksums = nullcontext() if is_proved else mock.patch.object(decode, "checksum", return_value=0)
    with checksums:
        report = decode.decode_span(path, index, decode.Span(0, len(index.segments)), sink)
    if len(sink.finish().rows) != index.frames_expected or report.decoders != {"decord"}:
        raise RuntimeError(f"{path}: decoded by {sorted(report.decoders)}, not all frames or not all by decord")
