"""4. Scoring again what is cached, against reading the same bytes and one matrix product."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from . import extraction
from .context import Context
from .entries import DIM, random_features, write_entries
from .report import Row, Section, Target
from .timing import alternate, seconds_of

FRAMES_EACH = 1000
PROMPTS = (1, 16, 256)
WEIGHTS = "ab" * 32  # stands for the sha256 of weights: no model is loaded, so there need be none
_SMALL = 10  # videos of the cache for a question asked again: 10,000 frames
_RUNS = 5


def measure(context: Context) -> Section:
    """Large cache, small cache, and what encoding everything again would take."""
    cache, small, flat = context.folder(), context.folder(), context.folder() / "features.bin"
    frames = context.sizes.cached_videos * FRAMES_EACH
    packed = flat.with_name("library.h5")
    asked = {"cache": cache, "flat": flat, "packed": packed, "videos": context.sizes.cached_videos}
    context.child("score").call(make_cache, **asked)
    few = min(_SMALL, context.sizes.cached_videos)
    context.child("score").call(make_cache, cache=small, flat=None, packed=None, videos=few)
    rows, seconds_16 = [], 0.0
    for prompts in PROMPTS:
        sides = {
            "score": partial(_called, context, run_score, cache=cache, prompts=prompts),
            "packed": partial(_called, context, run_score, cache=packed, prompts=prompts),
            "read": partial(_called, context, run_read, flat=flat, prompts=prompts),
        }
        for warm_up in sides.values():
            warm_up()
        rounds = alternate(sides, context.sizes.rounds)
        target = Target("<=", 2.0) if prompts == 16 else None
        read = f"read {frames:,} frames and multiply, {prompts} prompts"
        score = f"score {frames:,} frames, {prompts} prompts; ratio to reading and multiplying"
        rows.append(Row(read, rounds.median("read"), "s", runs=rounds.count))
        rows.append(Row(score, rounds.median("score"), "s", rounds.ratio("score", "read"), target, rounds.count))
        score = f"the same from a packed library (cache pack), {prompts} prompts"
        rows.append(Row(score, rounds.median("packed"), "s", rounds.ratio("packed", "read"), target, rounds.count))
        seconds_16 = rounds.median("score") if prompts == 16 else seconds_16
    context.drop()
    rows += _programs(context, cache, small, frames)
    rows.append(_encoding_again(context, frames, seconds_16))
    for folder in (cache, small, flat.parent):
        shutil.rmtree(folder)
    notes = [
        f"{context.sizes.cached_videos:,} videos of {FRAMES_EACH:,} frames, {DIM} random values in float16 each, "
        "written by clipcache's own writer; all of it in the page cache. 'Score' is what the command does from names "
        "to the statistics of each video and prompt, prompts remembered.",
        "'Read and multiply': numpy.fromfile of one flat file of as many values, astype(float32), one product with "
        "the prompts; neither norms, checks nor statistics.",
    ]
    return Section("4. Scoring again", rows, notes)


def _called(context: Context, function: Callable[..., float], **arguments: Any) -> float:
    seconds: float = context.child("score").call(function, **arguments)
    return seconds


def _programs(context: Context, cache: Path, small: Path, frames: int) -> list[Row]:
    """The whole program, from its start to its end, with prompts that it remembers."""

    def run(folder: Path, prompts: int) -> float:
        words = [part for text in texts(prompts) for part in ("--text", text)]
        return seconds_of(lambda: context.run("score", "--cache", folder, *words))

    sides = {"small": partial(run, small, 1), "large": partial(run, cache, 16)}
    sides["small"]()
    rounds = alternate(sides, _RUNS)
    held = min(_SMALL, context.sizes.cached_videos) * FRAMES_EACH
    bound = Target("<=", 0.5, of_value=True, text="<= 0.5 s")
    return [
        Row(
            f"the whole process, {held:,} frames, 1 remembered prompt", rounds.median("small"), "s", None, bound, _RUNS
        ),
        Row(f"the whole process, {frames:,} frames, 16 remembered prompts", rounds.median("large"), "s", runs=_RUNS),
    ]


def _encoding_again(context: Context, frames: int, seconds_16: float) -> Row:
    """Extrapolated from whole runs at 720p."""
    kind = context.sizes.resolutions[-1] if "720p" not in context.sizes.resolutions else "720p"
    if kind not in context.rates:
        context.rates[kind] = extraction.extract(context, [context.video(kind, context.sizes.batched_frames)]).rate
    seconds = frames / context.rates[kind]
    what = f"encode {frames:,} frames of {kind} again (extrapolated from {context.rates[kind]:.1f} frames/s)"
    return Row(f"{what}; ratio to scoring 16 prompts", seconds / 3600, "h", seconds / seconds_16)


def texts(count: int) -> list[str]:
    """So many prompts."""
    return [f"a photo of thing number {number}" for number in range(count)]


def make_cache(cache: str, flat: str | None, packed: str | None, videos: int) -> None:
    """In the child: entries, vectors of all prompts, a packed library, and a flat file of as many values."""
    from clipcache.cache import FeatureCache
    from clipcache.cache.pack import pack

    names = [f"video-{number:05d}.mp4" for number in range(videos)]
    write_entries(
        Path(cache), ((name, hashlib.sha256(name.encode()).hexdigest()) for name in names), WEIGHTS, FRAMES_EACH
    )
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((max(PROMPTS), DIM)).astype(np.float32)
    _remember(Path(cache), vectors)
    if packed is not None:
        pack(FeatureCache(cache), Path(packed), _refuse)
        _remember(Path(packed), vectors)
    if flat is not None:
        with Path(flat).open("wb") as file:
            for _ in range(videos):
                random_features(rng, FRAMES_EACH).tofile(file)


def _remember(cache: Path, vectors: Any) -> None:
    """As if the prompts had been asked before."""
    from clipcache.cache import ReferenceStore
    from clipcache.cache.format.names import model_dir_name
    from clipcache.cache.vector_store import reference_folder, text_key

    store = ReferenceStore(reference_folder(cache), model_dir_name("tiny", WEIGHTS))
    for text, vector in zip(texts(len(vectors)), vectors, strict=True):
        store.put("text", text_key(text), vector)


def _refuse(*what: object) -> NoReturn:
    raise RuntimeError(f"nothing was to be loaded, skipped or warned of: {what}")


def run_score(cache: str, prompts: int) -> float:
    """In the child: seconds from the question to all statistics."""
    from clipcache.score.question import Question, ScoringContext, ask

    context = ScoringContext(
        Path(cache),
        model=None,
        load_encoder=_refuse,
        published_weights=_refuse,
        warn=_refuse,
        on_skip=_refuse,
    )
    started = time.perf_counter()
    answer = ask(Question(texts=texts(prompts)), context)
    summaries = [comparison.summary for comparison in answer.comparisons]
    seconds = time.perf_counter() - started
    if len(summaries) != answer.videos * prompts:
        raise RuntimeError(f"{len(summaries)} results of {answer.videos} videos x {prompts} prompts")
    return seconds


def run_read(flat: str, prompts: int) -> float:
    """In the child: seconds to read the flat file and multiply it with the prompts."""
    vectors = np.random.default_rng(2).standard_normal((DIM, prompts)).astype(np.float32)
    started = time.perf_counter()
    features = np.fromfile(flat, np.float16).reshape(-1, DIM)
    scores = features.astype(np.float32) @ vectors
    seconds = time.perf_counter() - started
    if scores.shape != (len(features), prompts):
        raise RuntimeError(f"scores of shape {scores.shape}")
    return seconds
