"""7. How cost grows: many short clips, and one long video against the same footage in many files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median

from . import videos
from .context import Context
from .extraction import Extracted, extract
from .report import Row, Section, Target
from .timing import alternate

ALIKE = 0.9
_CLIP = "clip"


def measure(context: Context) -> Section:
    """Clips with the tiny model; long against short with both."""
    rows = _clips(context, "tiny")
    rows += _long_and_short(context, "tiny", context.sizes.growth_tiny_loops, context.cores)
    rows += _long_and_short(context, context.model, context.sizes.growth_loops, None)
    context.drop()
    notes = [
        "Clips: 5 s of 240p, 150 frames, each a file of its own content. With the tiny model (see section 6) encoding "
        "costs next to nothing, so that what a file costs shows; with a real one it is hidden behind the encoder.",
        "Frames/s from the first index to the last entry, in fresh processes; 'the whole process' has start, imports "
        f"and loading the model. With the tiny model {context.cores} decoding workers, otherwise what extract chooses.",
        "The long video has the very frames of the short files, in one file.",
    ]
    return Section("7. Cost growth", rows, notes)


class _Run:
    """A side of a comparison: extracts the same inputs again and again, and remembers how it went."""

    def __init__(self, context: Context, inputs: Sequence[Path], model: str, workers: int | None) -> None:
        self._again: Callable[[], Extracted] = partial(extract, context, inputs, model=model, workers=workers)
        self.runs: list[Extracted] = []

    def __call__(self) -> float:
        self.runs.append(self._again())
        return self.runs[-1].rate

    @property
    def whole_rate(self) -> float:
        """Median frames/s of whole processes."""
        return median(run.whole_rate for run in self.runs)


def _clips(context: Context, model: str) -> list[Row]:
    counts = context.sizes.growth_clips
    clips = videos.make_clips(context.data, _CLIP, max(counts))
    sides = {str(count): _Run(context, clips[:count], model, context.cores) for count in counts}
    rounds = alternate(sides, context.sizes.growth_rounds)
    rows = []
    for number, count in enumerate(counts):
        ratio = rounds.ratio(str(count), str(counts[0])) if number else None
        what = f"{count:,} clips, {model}{f'; ratio to {counts[0]}' if number else ''}"
        rows.append(Row(what, rounds.median(str(count)), "frames/s", ratio, runs=rounds.count))
        whole = sides[str(count)].whole_rate
        rows.append(Row(f"the whole process, {count:,} clips, {model}", whole, "frames/s", runs=rounds.count))
    return rows


def _long_and_short(context: Context, model: str, loops: int, workers: int | None) -> list[Row]:
    clips = videos.make_clips(context.data, _CLIP, loops)
    long = videos.make_video(context.data, _CLIP, loops, "long")
    sides = {"long": _Run(context, [long], model, workers), "short": _Run(context, clips, model, workers)}
    rounds = alternate(sides, context.sizes.growth_rounds)
    minutes = loops * videos.KINDS[_CLIP].frames / videos.FPS / 60
    what = f"one video of {minutes:.1f} min, {model}; ratio to the same in files"
    ratio = rounds.ratio("long", "short")
    return [
        Row(f"{loops} files of the same footage, {model}", rounds.median("short"), "frames/s", runs=rounds.count),
        Row(what, rounds.median("long"), "frames/s", ratio, Target(">=", ALIKE), rounds.count),
        Row(f"the whole process, one video, {model}", sides["long"].whole_rate, "frames/s", runs=rounds.count),
    ]
