"""`clipcache import`: make entries of features that other programs have computed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

from ..common.errors import ClipcacheError, UsageError
from ..common.options import CACHE, DEBUG, PATH, POSITIVE, warn
from ..common.progress import Bar

if TYPE_CHECKING:
    from .entry_of import PublishedModel
    from .frames_of_video import ReadFrames
    from .placing import Timing


class Wiring(Protocol):
    """What the context object must provide."""

    @property
    def published_model(self) -> Callable[[str], PublishedModel | None]:
        """Returns what is known of a model by its canonical name, "ViT-B/32"; None if it is not one of OpenAI's."""

    @property
    def read_frames(self) -> ReadFrames:
        """Demuxes a video; raises `MediaError` if that cannot be done."""


@click.command(name="import", short_help="Make entries of features from other programs.")
@click.argument("targets", nargs=-1, type=PATH, required=True)
@CACHE
@click.option("--model", envvar="CLIPCACHE_MODEL", help="Model that made the features; by default what the files say.")
@click.option("--weights-sha256", help="Sha256 of its weights, if they are not the published ones.")
@click.option(
    "--logit-scale", type=POSITIVE, help="Factor from cosine to logit; by default what the files say, else 100."
)
@click.option("--videos", "videos", multiple=True, type=PATH, help="Video of the features, or a folder of videos.")
@click.option("--fps", type=POSITIVE, help="Features per second, if the files do not say.")
@click.option("--interval", "interval_s", type=POSITIVE, help="Seconds from one feature to the next, instead of --fps.")
@click.option("--sampling", metavar="all|fps=F|every=N", help="Which frames of the video the features are of.")
@click.option("--unchecked", is_flag=True, help="Do not compare the rows with the frames of their video.")
@DEBUG
@click.pass_obj
def import_features(
    wiring: Wiring,
    targets: tuple[Path, ...],
    cache_dir: Path,
    model: str | None,
    weights_sha256: str | None,
    logit_scale: float | None,
    videos: tuple[Path, ...],
    fps: float | None,
    interval_s: float | None,
    sampling: str | None,
    unchecked: bool,
) -> None:
    """Make entries of features from other programs, so that they can be scored, searched and exported.

    TARGETS are files, or folders of them: exports of this program, which say what they are; NAME_clip.npy with
    NAME_timestamps_ms.npy (video_features), .npz with the key features (HERO, moment_detr, UniVTG), .h5 with one
    dataset a video (MAD), .tar shards and NAME.npy (clip-video-encode), img_emb with metadata (clip-retrieval), .pt,
    .parquet. Each entry records that it was imported, and by which rule. The video is searched by NAME, in --videos
    and beside the features, and the rows must fit its frames; without it the entry is found only by its own path.
    """
    from ..common.hashing import DigestMemo
    from .formats import find_files
    from .run import Claim, Import

    def skip(_: Path, error: ClipcacheError) -> None:
        warn(f"Skipped: {error}")

    def unread(_: Path, error: ClipcacheError) -> None:
        warn(f"Not compared with its video: {error}")

    claim = Claim(model, weights_sha256, logit_scale, wiring.published_model)
    timing = _timing(fps, interval_s, sampling)
    files = find_files(targets)
    with Bar("Importing", len(files), "files") as bar:
        read = None if unchecked else wiring.read_frames
        work = Import(cache_dir, claim, timing, videos, DigestMemo(), skip, bar.advance, read, unread)
        summary = work.run(files)
    for sentence in summary.inferred():
        warn(sentence)
    click.echo(summary.as_text(cache_dir))
    if summary.failed:
        click.get_current_context().exit(1)


def _timing(fps: float | None, interval_s: float | None, sampling: str | None) -> Timing:
    """The times of the rows, from the options."""
    from ..format.sampling import Sampling
    from .placing import Timing

    if interval_s is not None and (fps is not None or interval_s <= 0):
        raise UsageError("--interval takes seconds above 0, and replaces --fps", "give one of them")
    rate = fps if interval_s is None else 1 / interval_s
    return Timing(rate, None if sampling is None else Sampling.parse(sampling))
