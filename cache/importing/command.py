"""`clipcache import`: make entries of features that other programs have computed."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

from ..common.errors import ClipcacheError, UsageError
from ..common.options import CACHE, DEBUG, PATH, warn

if TYPE_CHECKING:
    from .entry_of import PublishedModel, Timing


class Wiring(Protocol):
    """What the context object must provide."""

    @property
    def published_model(self) -> Callable[[str], PublishedModel | None]:
        """Returns what is known of a model by its canonical name, "ViT-B/32"; None if it is not one of OpenAI's."""


@click.command(name="import", short_help="Make entries of features from other programs.")
@click.argument("targets", nargs=-1, type=PATH, required=True)
@CACHE
@click.option("--model", envvar="CLIPCACHE_MODEL", help="Model that made the features, such as ViT-B/32.")
@click.option("--weights-sha256", help="Sha256 of its weights, if they are not the published ones.")
@click.option(
    "--logit-scale", type=float, default=100.0, show_default=True, help="Factor from cosine to logit of the model."
)
@click.option("--videos", "videos", multiple=True, type=PATH, help="Video of the features, or a folder of videos.")
@click.option("--fps", type=float, help="Features per second, if the files do not say.")
@click.option("--interval", "interval_s", type=float, help="Seconds from one feature to the next, instead of --fps.")
@click.option("--sampling", metavar="all|fps=F|every=N", help="Which frames of the video the features are of.")
@DEBUG
@click.pass_obj
def import_features(
    wiring: Wiring,
    targets: tuple[Path, ...],
    cache_dir: Path,
    model: str | None,
    weights_sha256: str | None,
    logit_scale: float,
    videos: tuple[Path, ...],
    fps: float | None,
    interval_s: float | None,
    sampling: str | None,
) -> None:
    """Make entries of features from other programs, so that they can be scored, searched and exported.

    TARGETS are files, or folders of them: NAME_clip.npy with NAME_timestamps_ms.npy (video_features), .npz with the
    key features (HERO, moment_detr, UniVTG), .h5 with one dataset a video (MAD), .tar shards (clip-video-encode). Each
    entry records that it was imported, and by which rule. The video is searched by NAME, in --videos and beside the
    features; without it the entry is found only by its own path.
    """
    from tqdm import tqdm

    from ..common.hashing import DigestMemo
    from ..format.names import canonical_model
    from .entry_of import name_model
    from .formats import find_files
    from .run import Import

    def skip(_: Path, error: ClipcacheError) -> None:
        warn(f"Skipped: {error}")

    if not 0 < logit_scale < math.inf:
        raise UsageError(f"--logit-scale must be finite and above 0, not {logit_scale}")
    published = wiring.published_model(canonical_model(model)) if model and weights_sha256 is None else None
    made_by = name_model(model, weights_sha256, published, logit_scale)
    timing = _timing(fps, interval_s, sampling)
    files = find_files(targets)
    with tqdm(total=len(files), unit="file", disable=None, file=sys.stderr) as bar:
        summary = Import(cache_dir, made_by, timing, videos, DigestMemo(), skip, bar.update).run(files)
    click.echo(summary.as_text(cache_dir, made_by))
    if summary.failed:
        click.get_current_context().exit(1)


def _timing(fps: float | None, interval_s: float | None, sampling: str | None) -> Timing:
    """The times of the rows, from the options."""
    from ..format.sampling import Sampling
    from .entry_of import Timing

    if interval_s is not None and (fps is not None or interval_s <= 0):
        raise UsageError("--interval takes seconds above 0, and replaces --fps", "give one of them")
    rate = fps if interval_s is None else 1 / interval_s
    return Timing(rate, None if sampling is None else Sampling.parse(sampling))
