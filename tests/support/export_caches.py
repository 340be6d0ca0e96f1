"""A cache to export, and the ways to run `clipcache export` and `clipcache import` in a test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from click.testing import CliRunner, Result
from clipcache.cache import Entry, FeatureCache, show_progress
from clipcache.cache.common.errors import ClipcacheError, MediaError
from clipcache.cache.export.command import export
from clipcache.cache.format.names import canonical_model
from clipcache.cache.importing.command import import_features
from score_caches import WEIGHTS, make_video, put

DIM = 4
PUBLISHED = {"ViT-B/32": SimpleNamespace(sha256=WEIGHTS, embed_dim=DIM, input_size=224)}


def fill(folder: Path) -> Path:
    """Three videos in `folder`/videos, one of them in a folder of its own, cached in `folder`/features."""
    rng = np.random.default_rng(0)
    for place, count in (("a.mp4", 20), ("b.mp4", 7), ("trip/c.mp4", 33)):
        video = make_video((folder / "videos" / place).parent, Path(place).name)
        put(folder / "features", video, rng.normal(size=(count, DIM)))
    return folder / "features"


def by_name(cache: Path) -> dict[str, Entry]:
    """The entries by the stem of their video."""
    return {Path(entry.video_name).stem: entry for entry in FeatureCache(cache)}


def score_columns(entry: Entry, texts: Sequence[str], **_: Any) -> dict[str, np.ndarray]:
    """Cosines that say which frame and which prompt they are of."""
    return {text: (entry.frame_index / 100 + number / 10).astype(np.float32) for number, text in enumerate(texts)}


class Frames(NamedTuple):
    """What demuxing would tell of a video."""

    times_ms: np.ndarray | None
    frames_expected: int
    fps: float
    codec: str = "h264"
    width: int = 320
    height: int = 240
    rotation: int = 0
    timeline: str = "container"


def make_frames(count: int, fps: float, first_ms: float = 0.0) -> Frames:
    """The frames of a video of constant rate."""
    return Frames(first_ms + np.arange(count) * 1000 / fps, count, fps)


FRAMES_OF: dict[str, Frames] = {}
"""By file name, the frames of videos that are no videos; a test fills it for itself."""


def read_frames(path: Path) -> Frames:
    if path.name not in FRAMES_OF:
        raise MediaError(f"{path.name} is not a video")
    return FRAMES_OF[path.name]


def run(command: Any, *arguments: object) -> Result:
    """Run a command; an error that the program would turn into an exit code is raised."""
    wiring = SimpleNamespace(
        score_columns=score_columns,
        published_model=lambda name: PUBLISHED.get(canonical_model(name)),
        read_frames=read_frames,
    )
    with show_progress():  # as the program does
        result = CliRunner().invoke(command, [str(one) for one in arguments], obj=wiring)
    if isinstance(result.exception, ClipcacheError):
        raise result.exception
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


def run_export(cache: Path, format_name: str, output: Path, *more: object) -> Result:
    return run(export, "--cache", cache, "--format", format_name, "--output", output, *more)


def run_import(cache: Path, *more: object) -> Result:
    return run(import_features, "--cache", cache, *more)
