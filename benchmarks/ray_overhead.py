"""11. What Ray costs: a run on this machine through Ray, against a plain run."""

from __future__ import annotations

import importlib.util
import shutil
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from . import videos
from .context import Context
from .report import Row, Section, Target
from .timing import alternate

MOST = 1.1


def measure(context: Context) -> Section:
    """Clips with the model of real size and with the tiny one, without the time that a start takes."""
    if importlib.util.find_spec("ray") is None:
        return Section("11. Ray", [], ["Not measured: Ray is not installed here."])
    rows = [*_rows(context, context.model, MOST), *_rows(context, "tiny", None)]
    notes = [
        "Whole commands; what the same command takes for a single clip, with the start of Ray, of the model and of the "
        "workers, is taken off. `--ray local` has one actor with all cores. Decoding workers: 1 on both sides. Clips: "
        "5 s of 240p. With the tiny model (section 6) encoding costs next to nothing, so that calls show most.",
    ]
    return Section("11. Ray", rows, notes)


def _rows(context: Context, model: str, most: float | None) -> list[Row]:
    count = context.sizes.ray_clips
    clips = videos.make_clips(context.data, "clip", count + 1)
    sides = {
        f"{ray or 'plain'}, {len(inputs)}": partial(_seconds, context, inputs, model, ray)
        for ray in ("", "local")
        for inputs in (clips[:1], clips[1:])
    }
    rounds = alternate(sides, context.sizes.ray_rounds)
    plain, ray = (
        [
            whole - start
            for start, whole in zip(rounds.values[f"{side}, 1"], rounds.values[f"{side}, {count}"], strict=True)
        ]
        for side in ("plain", "local")
    )
    ratio = sum(ray) / sum(plain)
    target = None if most is None else Target("<=", most)
    runs = rounds.count
    return [
        Row(f"{count} clips, {model}", sum(plain) / runs, "s", runs=runs),
        Row(f"the same by --ray local, {model}; ratio to plain", sum(ray) / runs, "s", ratio, target, runs),
        Row(f"start of a plain run, {model}", rounds.median("plain, 1"), "s", runs=runs),
        Row(f"start with --ray local, {model}", rounds.median("local, 1"), "s", runs=runs),
    ]


def _seconds(context: Context, inputs: Sequence[Path], model: str, ray: str) -> float:
    cache = context.folder()
    words = context.extract_words(inputs, cache, model, "--num-workers", "1", *(["--ray", ray] if ray else []))
    started = time.perf_counter()
    context.run(*words)
    seconds = time.perf_counter() - started
    shutil.rmtree(cache)
    return seconds
