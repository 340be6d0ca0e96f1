"""2. Whole runs of extract against the ceilings of the machine."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from statistics import median

from . import ceilings, decoding
from .context import Context
from .extraction import Extracted, extract
from .report import Row, Section, Target
from .timing import alternate
from .videos import KINDS

SHARE = 0.90


def measure(context: Context) -> Section:
    """Each resolution."""
    rows = [row for kind in context.sizes.resolutions for row in _resolution(context, kind)]
    context.drop()
    shared = (
        "Ceiling of shared cores: with d frames/s decoded and resized by all cores, and e encoded by all cores, a "
        "frame takes cores/d + cores/e core-seconds, and all cores together reach 1 / (1/d + 1/e)."
    )
    own = "Ceiling: the lower of decode and resize with all cores, and encode; the target is held against the former."
    notes = [
        own if context.on_gpu else shared,
        "'extract' counts from the first frame index that arrives to the last entry written, in a fresh process: "
        "neither imports nor loading the model, but filling and draining the pipeline. 'The whole process' has it all.",
        "What extract chooses by itself: {device}, {precision}, batches of {batch_size}, {workers} decoding "
        "worker(s).".format_map(context.placement),
    ]
    return Section("2. End to end", rows, notes)


def shared_ceiling(one: Mapping[str, float]) -> float:
    """Frames/s when decoding and encoding share all cores: the core-seconds of a frame add up."""
    return 1.0 / (1.0 / one["resize"] + 1.0 / one["encode"])


def own_ceiling(one: Mapping[str, float]) -> float:
    """Frames/s when the encoder has a device of its own."""
    return min(one["resize"], one["encode"])


def _resolution(context: Context, kind: str) -> list[Row]:
    ceiling = own_ceiling if context.on_gpu else shared_ceiling
    repeats = decoding.warm_up(context, kind)
    first = {"resize": decoding.resized_rate(context, kind, repeats), "encode": ceilings.encoder_rate(context)}
    frames = max(2 * KINDS[kind].frames, round(ceiling(first) * context.sizes.run_seconds))
    video = context.video(kind, frames)
    runs: list[Extracted] = []

    def run() -> float:
        runs.append(extract(context, [video]))
        return runs[-1].rate

    sides = {
        "extract": run,
        "resize": partial(decoding.resized_rate, context, kind, repeats),
        "encode": partial(ceilings.encoder_rate, context),
    }
    rounds = alternate(sides, context.sizes.rounds)
    context.rates[kind] = rounds.median("extract")
    whole = median(run.whole_rate for run in runs)
    target = None if context.on_gpu or kind not in ("240p", "720p") else Target(">=", SHARE)
    rows = [
        Row(f"decode and resize, all cores, {kind}", rounds.median("resize"), "frames/s", runs=rounds.count),
        Row(f"encode, all cores, {kind}", rounds.median("encode"), "frames/s", runs=rounds.count),
        Row(f"ceiling, {kind}", rounds.median_of(ceiling), "frames/s", runs=rounds.count),
        Row(
            f"extract, {kind}, {runs[0].frames:,} frames; ratio to the ceiling",
            rounds.median("extract"),
            "frames/s",
            rounds.ratio_to("extract", ceiling),
            target,
            rounds.count,
        ),
        Row(f"the whole process, {kind}", whole, "frames/s", runs=rounds.count),
    ]
    if context.on_gpu:
        ratio = rounds.ratio("extract", "resize")
        rows.append(Row(f"extract to decode and resize, {kind}", None, "", ratio, Target(">=", SHARE), rounds.count))
    return rows
