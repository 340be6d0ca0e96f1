"""3. Against what people run today: the same video, the same weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import loops
from .context import Context
from .extraction import extract
from .report import Row, Section, Target
from .timing import Rounds, alternate

SCRIPTS: dict[str, tuple[str, Callable[..., float]]] = {
    "a": ("one frame at a time (PyAV, PIL, encode_image)", loops.one_by_one),
    "b": (f"batches of {loops.BATCH} through a DataLoader (PyAV, PIL)", loops.batches_through_loader),
    "c": (f"batches of {loops.BATCH} from decord get_batch, PIL", loops.decord_batches),
}
REPEATED = "720p, half of the frames repeated"
# Times as fast as (a) and (c), on a CPU that computes in bf16.
_TARGETS = {("720p", "a"): 4.0, ("720p", "c"): 2.0, (REPEATED, "a"): 7.0}
_COSINE = 0.999


def measure(context: Context) -> Section:
    """Each kind of video."""
    rows = [row for kind in context.sizes.baseline_kinds for row in _kind(context, kind)]
    context.drop()
    sizes = context.sizes
    notes = [
        "The scripts are plain loops in float32 with torch's default threads, in benchmarks/loops.py; the clock starts "
        f"when the model is loaded. (a) runs over the first {sizes.single_frames} frames, (b) and (c) over "
        f"{sizes.batched_frames}.",
        f"'extract' as in section 2, {context.placement['precision']} on {context.placement['device']}. Its ratios are "
        "its frames/s to theirs; the targets are for a CPU that computes in bf16.",
        "Cosine: the lowest over the frames that (a) encoded, of the cached features (float16) with those of (a).",
    ]
    return Section("3. What people run today", rows, notes)


def _kind(context: Context, kind: str) -> list[Row]:
    sizes, device = context.sizes, str(context.placement["device"])
    frames = {"a": sizes.single_frames, "b": sizes.batched_frames, "c": sizes.batched_frames}
    features = context.folder()
    video = context.video(kind, _long_enough(context, kind))
    cache = context.folder()

    def run_script(name: str) -> float:
        asked = {"path": video, "weights": context.weights(), "device": device, "frames": frames[name]}
        saved = features / f"{name}.npy"
        seconds: float = context.child(name).call(SCRIPTS[name][1], **asked, save=saved)
        return frames[name] / seconds

    def run_extract() -> float:
        below = cache / f"{len(list(cache.iterdir()))}"
        return extract(context, [video], cache=below).rate

    for name in SCRIPTS:  # loads the model, and lets the first call choose kernels
        asked = {"path": video, "weights": context.weights(), "device": device, "frames": 2}
        context.child(name).call(SCRIPTS[name][1], **asked)
    sides = {"extract": run_extract, **{name: partial(run_script, name) for name in SCRIPTS}}
    rounds = alternate(sides, sizes.baseline_rounds)
    context.rates.setdefault(kind, rounds.median("extract"))
    ours = _cached_features(cache / "0")
    theirs = {name: np.load(features / f"{name}.npy") for name in SCRIPTS}
    return _rows(context, kind, rounds, ours, theirs)


def _long_enough(context: Context, kind: str) -> int:
    """Frames that extract takes about half of `run_seconds` for: twice as many as a rough guess of a second's."""
    guess = context.rates.get(kind) or context.rates.get("720p") or (3000.0 if context.on_gpu else 80.0)
    return max(context.sizes.batched_frames, round(guess * context.sizes.run_seconds / 2))


def _cached_features(cache: Path) -> npt.NDArray[Any]:
    from clipcache.cache import FeatureCache

    (entry,) = FeatureCache(cache)
    return np.asarray(entry.features, np.float32)


def lowest_cosine(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    """Over the rows that both (n, D) arrays have, counted from the first."""
    count = min(len(a), len(b))
    a, b = a[:count].astype(np.float64), b[:count].astype(np.float64)
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return float(cosines.min())


def _rows(
    context: Context, kind: str, rounds: Rounds, ours: npt.NDArray[Any], theirs: dict[str, npt.NDArray[Any]]
) -> list[Row]:
    is_held = not context.on_gpu and context.placement["precision"] == "bf16"
    rows = [Row(f"extract, {kind}", rounds.median("extract"), "frames/s", runs=rounds.count)]
    for name, (words, _) in SCRIPTS.items():
        bound = _TARGETS.get((kind, name))
        target = Target(">=", bound) if bound and is_held else None
        what = f"({name}) {words}, {kind}; ratio of extract to it"
        rows.append(
            Row(what, rounds.median(name), "frames/s", rounds.ratio("extract", name), target, runs=rounds.count)
        )
    cosine, bound = lowest_cosine(ours, theirs["a"]), Target(">=", _COSINE, of_value=True)
    rows.append(Row(f"lowest cosine of extract with (a), {kind}", cosine, "", None, bound, digits=7))
    return rows
