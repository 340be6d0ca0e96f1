"""6. Memory of a whole run, against the length of a video and the number of videos."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from . import videos
from .context import Context
from .report import Row, Section, Target

FLAT = 1.25
_POLL_SECONDS = 0.2


def measure(context: Context) -> Section:
    """Lengths with both models, then numbers of files."""
    if not Path("/proc/self/smaps_rollup").exists():
        return Section("6. Memory", [], ["Not measured: there is no /proc/PID/smaps_rollup here."])
    sizes = context.sizes
    rows = [
        *_lengths(context, context.model, sizes.real_minutes),
        *_lengths(context, "tiny", sizes.tiny_minutes),
        *_counts(context, "tiny", sizes.memory_clips),
    ]
    notes = [
        "Peak of the sum of proportional set sizes (PSS) of `clipcache extract` and all its processes, read every "
        f"{_POLL_SECONDS} s; {context.placement['workers']} decoding worker(s); H.264 in groups of 250 frames.",
        "'tiny' is a transformer of ViT-B/32's input and output with 2 layers of 64 channels: the same program, "
        "batches and features, but long videos end in minutes. Its own weights take next to nothing.",
        f"Flat is read as: no more than {FLAT} times the first row of its kind. Features themselves take 1 KB a frame "
        "until their entry is written.",
    ]
    context.drop()
    return Section("6. Memory", rows, notes)


def _lengths(context: Context, model: str, minutes: Sequence[float]) -> list[Row]:
    peaks: list[int] = []
    rows = []
    for length in minutes:
        loops = max(1, round(length * 60 * videos.FPS / videos.KINDS["1080p"].frames))
        video = videos.make_video(context.data, "1080p", loops, "memory")
        what = f"{length:g} min of 1080p, {model}"
        rows.append(_row(context, what, [video], model, peaks))
        video.unlink()
    return rows


def _counts(context: Context, model: str, counts: Sequence[int]) -> list[Row]:
    peaks: list[int] = []
    clips = videos.make_clips(context.data, "clip", max(counts))
    return [_row(context, f"{count:,} clips of 5 s, 240p, {model}", clips[:count], model, peaks) for count in counts]


def _row(context: Context, what: str, inputs: Sequence[Path], model: str, peaks: list[int]) -> Row:
    """Measure, and compare with the first of its kind, which `peaks` begins with."""
    cache = context.folder()
    peak, seconds = peak_bytes(context, context.program(*context.extract_words(inputs, cache, model)))
    shutil.rmtree(cache)
    peaks.append(peak)
    if len(peaks) == 1:
        return Row(f"peak, {what} ({seconds:.0f} s)", peak / 2**30, "GiB")
    target = Target("<=", FLAT, text=f"flat (<= {FLAT:g} x)")
    return Row(f"peak, {what} ({seconds:.0f} s); ratio to the first", peak / 2**30, "GiB", peak / peaks[0], target)


def peak_bytes(context: Context, command: Sequence[str]) -> tuple[int, float]:
    """Run a command; the highest sum of PSS over its process tree, and its wall-clock time in seconds.

    Raises:
        CalledProcessError: It failed.
    """
    started, peak = time.monotonic(), 0
    process = subprocess.Popen(command, env=context.environment, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        peak = max(peak, sum(_pss(pid) for pid in _tree(process.pid)))
        time.sleep(_POLL_SECONDS)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(command))
    return peak, time.monotonic() - started


def _tree(pid: int) -> list[int]:
    try:
        children = [
            child for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
        ]
    except OSError:
        return [pid]
    return [pid, *(below for child in children for below in _tree(int(child)))]


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
