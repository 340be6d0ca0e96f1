"""The command `clipcache cache status`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...cache.common.errors import UsageError
from ...cache.common.options import CACHE, COUNT, DEBUG, PATH, POSITIVE

if TYPE_CHECKING:
    from ...cache.common.hashing import DigestMemo
    from ...cache.format.sampling import Sampling
    from .status import Status


@click.command(short_help="Say what is done, failed, claimed and outstanding.")
@click.argument("inputs", nargs=-1, type=click.Path())
@click.option("--list", "list_file", type=PATH, help="More inputs, as `clipcache extract` takes them.")
@CACHE
@click.option("--model", envvar="CLIPCACHE_MODEL", help="Only this model, such as ViT-B/32; clap: sound.")
@click.option("--weights", type=PATH, envvar="CLIPCACHE_WEIGHTS", help="File of the model's weights; folder of a CLAP.")
@click.option("--fps", type=POSITIVE, help="The runs encode so many frames a second.")
@click.option("--every", type=COUNT, help="The runs encode every N-th frame.")
@click.option(
    "--audio-window", type=POSITIVE, default=10.0, show_default=True, metavar="SECONDS", help="Windows of sound."
)
@click.option("--audio-hop", type=POSITIVE, metavar="SECONDS", help="From window to window; default: a window.")
@click.option("--shards", type=COUNT, metavar="N", help="Print which of N shards have something outstanding.")
@click.option("--hash", "hashing", is_flag=True, help="Read the inputs that are not recognised.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@DEBUG
def status(
    inputs: tuple[str, ...],
    list_file: Path | None,
    cache_dir: Path,
    model: str | None,
    weights: Path | None,
    fps: float | None,
    every: int | None,
    audio_window: float,
    audio_hop: float | None,
    shards: int | None,
    hashing: bool,
    as_json: bool,
) -> None:
    """Say of INPUT... what is done, failed, claimed by a run, and outstanding; without INPUT, what the cache holds.

    No video is read: a file is recognised by its remembered checksum, or as that of an entry by path or name and size.
    """
    from ...cache.common.hashing import DigestMemo
    from ...cache.common.quoting import quoted
    from ...cache.format.sampling import Sampling
    from ...cache.store import FeatureCache
    from ..audio.windows import Windows
    from ..prepare import check_is_folder
    from .status import choose_models, status_of_cache
    from .status_report import as_dict, as_text, to_json

    memo = DigestMemo()
    check_is_folder(cache_dir)
    found = choose_models(cache_dir, model, weights, memo)
    if inputs or list_file is not None:
        windows = Windows(audio_window, audio_window if audio_hop is None else audio_hop)
        one = _of_library(
            inputs, list_file, cache_dir, model, found, Sampling(fps, every), windows.sampling, memo, hashing=hashing
        )
        click.echo(to_json(as_dict(one, cache_dir, shards)) if as_json else as_text(one, cache_dir, shards))
        return
    if shards is not None or hashing:
        raise UsageError("--shards and --hash are about inputs", "name the library, as the runs do")
    FeatureCache(cache_dir)  # says so if there is none
    several = [status_of_cache(cache_dir, name, _bar) for name in found]
    if as_json:
        click.echo(to_json([as_dict(one, cache_dir, None) for one in several]))
    else:
        said = "\n\n".join(as_text(one, cache_dir, None) for one in several)
        click.echo(said or f"Nothing is in {quoted(cache_dir)}.")


def _of_library(
    inputs: tuple[str, ...],
    list_file: Path | None,
    cache_dir: Path,
    model: str | None,
    found: list[str],
    frames: Sampling,
    windows: Sampling,
    memo: DigestMemo,
    *,
    hashing: bool,
) -> Status:
    """The status of a library of pictures, or of sound where the model is one of sound."""
    from ...cache.format.names import is_clap
    from ..inputs import find_items
    from .status import one_model, status_of_library

    model_dir = one_model(found, cache_dir)
    sound = is_clap(model_dir or model or "")
    items = find_items(inputs, list_file, sounds=sound)
    items = [item for item in items if not (sound and item.images)]
    return status_of_library(items, cache_dir, model_dir, windows if sound else frames, memo, _bar, hashing=hashing)


def _bar(several: Iterable[Any]) -> Iterable[Any]:
    """Show a bar on stderr where it takes long, and stderr is a terminal."""
    from tqdm import tqdm

    shown: Iterable[Any] = tqdm(several, unit=" items", delay=1.0, leave=False, disable=None)
    return shown
