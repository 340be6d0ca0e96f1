"""10. Several runs over one library, what claims cost, and how long it takes to the first frame."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from . import videos
from .child import ROOT, Child
from .context import Context
from .report import Row, Section, Target
from .timing import alternate, seconds_of

_CLIP = "clip"


def measure(context: Context) -> Section:
    """Two runs against one, claims against none, and the start against a script that loads the model."""
    rows = [*_two_runs(context), *_claims(context), *_first_frame(context)]
    context.drop()
    notes = [
        "Two runs: started together over the same videos and cache, with as many decoding workers in sum as the one; "
        "whole processes, until the later one ends. Both load the model.",
        "Claims: taking and releasing one for each clip, by itself, as a share of the run over the same clips with the "
        "tiny model, which is the run that they weigh on most.",
        "First frame: from the start of the process to the features of the first picture, over files of which none was "
        "hashed before; the script imports torch and clip and loads the same weights, and encodes nothing.",
    ]
    return Section("10. Several runs, claims, and the first frame", rows, notes)


def _two_runs(context: Context) -> list[Row]:
    clips = videos.make_clips(context.data, _CLIP, context.sizes.shared_videos)
    workers = max(2, context.cores)
    sides = {
        "one": partial(_together, context, clips, [workers]),
        "two": partial(_together, context, clips, [workers // 2, workers - workers // 2]),
    }
    rounds = alternate(sides, context.sizes.growth_rounds)
    count = f"{len(clips)} videos, {context.model}"
    ratio = rounds.ratio("two", "one")
    return [
        Row(f"one run, {count}, {workers} workers", rounds.median("one"), "s", runs=rounds.count),
        Row(f"two runs, {count}; ratio to one", rounds.median("two"), "s", ratio, Target("<=", 1.15), rounds.count),
    ]


def _together(context: Context, inputs: Sequence[Path], workers: Sequence[int]) -> float:
    """Seconds until all of the runs over one cache have ended.

    Raises:
        RuntimeError: One failed, or not every video is in the cache.
    """
    cache = context.folder()
    words = context.extract_words(inputs, cache, context.model)
    started = time.perf_counter()
    runs = [
        subprocess.Popen(
            context.program(*words, "--num-workers", str(count)),
            env=context.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for count in workers
    ]
    codes = [run.wait() for run in runs]
    seconds = time.perf_counter() - started
    entries = len(list(cache.glob("*/*/*.h5")))
    shutil.rmtree(cache)
    if any(codes) or entries != len(inputs):
        raise RuntimeError(f"Runs ended with {codes}, and {entries} of {len(inputs)} videos are in the cache.")
    return seconds


def _claims(context: Context) -> list[Row]:
    clips = videos.make_clips(context.data, _CLIP, context.sizes.claimed_clips)
    cache = context.folder()
    run = seconds_of(lambda: context.run(*context.extract_words(clips, cache, "tiny")))
    claims = context.child("claims").call(claim_all, folder=cache / "model", count=len(clips))
    shutil.rmtree(cache)
    target = Target("<=", 0.01)
    return [
        Row(f"a run over {len(clips):,} clips, tiny", run, "s", runs=1),
        Row(f"{len(clips):,} claims; share of that run", claims, "s", claims / run, target, 1),
    ]


def claim_all(folder: str, count: int) -> float:
    """In a child: seconds for taking and releasing so many claims."""
    from clipcache.cache.format.sampling import Sampling
    from clipcache.extract.cluster.claims import Claims
    from clipcache.extract.inputs import HashedItem, Item

    items = [HashedItem(Item(Path(f"{number}.mp4"), "video"), f"{number:064x}"[::-1], 1) for number in range(count)]
    claims, sampling = Claims(Path(folder)), Sampling()
    started = time.perf_counter()
    for item in items:
        claims.take(item, sampling)
        claims.release(item, sampling)
    seconds = time.perf_counter() - started
    claims.close()
    return seconds


def _first_frame(context: Context) -> list[Row]:
    clips = videos.make_clips(context.data, _CLIP, context.sizes.unhashed_files)
    real, demo = _first_frame_of(context, context.model, clips), _first_frame_of(context, "demo", clips)
    return [*real, *demo]


def _first_frame_of(context: Context, name: str, clips: Sequence[Path]) -> list[Row]:
    weights = ROOT / "demo" / "demo.npz" if name == "demo" else context.weights(name)
    sides: dict[str, Callable[[], float]] = {
        "script": lambda: _in_new_process(context, load_as_scripts_do, weights=weights),
        "extract": lambda: _in_new_process(
            context, reach_first_frame, folder=clips[0].parent, name=name, weights=weights, cache=context.folder()
        ),
    }
    rounds = alternate(sides, context.sizes.rounds)
    ratio = rounds.ratio("extract", "script")
    what = f"first frame of {len(clips):,} files, {name}; ratio to the script"
    return [
        Row(f"script: imports, and weights of {name}", rounds.median("script"), "s", runs=rounds.count),
        Row(what, rounds.median("extract"), "s", ratio, Target("<=", 1.3), rounds.count),
    ]


def _in_new_process(context: Context, function: Callable[..., Any], **arguments: Any) -> float:
    memo = context.scratch / "nothing-hashed.sqlite3"
    for path in memo.parent.glob(f"{memo.name}*"):
        path.unlink()
    started = time.perf_counter()
    with contextlib.closing(Child(context.environment | {"CLIPCACHE_MEMO": str(memo)})) as child:
        child.call(function, **arguments)
        return time.perf_counter() - started


def load_as_scripts_do(weights: str) -> None:
    """In the child: what the first lines of the usual script do."""
    import warnings

    import clip.clip  # noqa: F401  with its preprocessing
    from clip.model import build_model
    from safetensors.torch import load_file

    warnings.simplefilter("ignore")
    state = load_file(weights) if weights.endswith(".safetensors") else _arrays(weights)
    build_model(state).float().eval()


def _arrays(path: str) -> dict[str, Any]:
    import numpy as np
    import torch

    with np.load(path) as stored:
        return {name: torch.from_numpy(values).float() for name, values in stored.items() if values.ndim or values.size}


def reach_first_frame(folder: str, name: str, weights: str, cache: str) -> None:
    """In the child: extract until the first picture is encoded, then leave everything as it is."""
    from clipcache.extract import ExtractOptions
    from clipcache.extract import extract as run
    from clipcache.extract.models.batching import Batcher

    class Reached(BaseException):
        """The first features are there."""

    def stop(*_: Any) -> None:
        raise Reached

    Batcher._deliver = stop  # type: ignore[method-assign]
    os.environ.pop("CLIPCACHE_CACHE", None)
    with contextlib.suppress(Reached):
        run([folder], cache, ExtractOptions(model=name, weights=None if name == "demo" else Path(weights)))
