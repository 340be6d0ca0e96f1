"""`clipcache export`: write cached features in the formats of other programs."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

from ..common.errors import ClipcacheError
from ..common.options import CACHE, COUNT, DEBUG, LOADING, PATH, POSITIVE, SECOND, warn
from ..common.progress import Bar
from .formats import FORMATS, find_format

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ..entry import Entry


class Wiring(Protocol):
    """What the context object must provide for `--text`."""

    def score_columns(
        self,
        entry: Entry,
        texts: tuple[str, ...],
        *,
        cache_dir: Path,
        weights: Path | None,
        device: str,
        trust: bool,
    ) -> dict[str, npt.NDArray[np.float32]]:
        """Return for each prompt its cosine, in [-1, 1], with each frame of `entry`: (N,) float32.

        The model is loaded at most once in a program, and only for prompts whose embedding is not in the cache.
        """


@click.command(short_help="Write cached features in the formats of other programs.")
@click.argument("targets", nargs=-1, type=PATH)
@click.option(
    "--format",
    "format_name",
    metavar=f"[{'|'.join(FORMATS)}|NAME]",
    required=True,
    help="What to write; NAME is a format of another package.",
)
@click.option("--output", type=PATH, required=True, help="Folder, or the file of h5, parquet and csv.")
@click.option("--fps", type=POSITIVE, help="Frames per second of video.")
@click.option("--every", type=COUNT, help="Every N-th frame.")
@click.option("--interval", "interval_s", type=POSITIVE, help="One frame every so many seconds, such as 1.5.")
@click.option("--start", type=SECOND, help="Start of the range, in seconds.")
@click.option("--end", type=SECOND, help="End of the range, in seconds, exclusive.")
@click.option("--pool", metavar="mean:N", help="Mean of N consecutive frames; the last group may be smaller.")
@click.option("--normalize", is_flag=True, help="Divide each feature by its length.")
@click.option(
    "--dtype",
    type=click.Choice(["float16", "float32"]),
    help="Type of the features; by default as cached, float32 if computed.",
)
@click.option("--text", "texts", multiple=True, help="Add the cosine with this prompt; may be repeated.")
@click.option(
    "--per-shard", type=COUNT, default=1000, show_default=True, help="Videos per shard, in formats with shards."
)
@CACHE
@click.option("--model", envvar="CLIPCACHE_MODEL", help="Model, such as ViT-B/32; by default the cache's only one.")
@LOADING
@DEBUG
@click.pass_obj
def export(
    wiring: Wiring,
    targets: tuple[Path, ...],
    format_name: str,
    output: Path,
    fps: float | None,
    every: int | None,
    interval_s: float | None,
    start: float | None,
    end: float | None,
    pool: str | None,
    normalize: bool,
    dtype: str | None,
    texts: tuple[str, ...],
    per_shard: int,
    cache_dir: Path,
    model: str | None,
    weights: Path | None,
    trust_weights: bool,
    device: str,
) -> None:
    """Write cached features in the formats of other programs.

    TARGETS are videos, image folders, folders of them, or entries of the cache; without any, the whole cache is
    exported. Frames are sampled first, then cut, pooled and normalised. Files that an earlier run wrote in the same
    way are kept; a file that no export made is never replaced. A manifest of JSON lines says which entries each file
    was made from, and how.
    """
    from ..common.hashing import DigestMemo
    from ..select import Selector, check_one_model, differences
    from .recipe import Recipe, parse_pool
    from .run import Export, Target, size_warnings

    skipped: list[Path] = []

    def skip(path: Path, error: ClipcacheError) -> None:
        warn(f"Skipped: {error}")
        skipped.append(path)

    group = parse_pool(pool) if pool else 1
    recipe = Recipe(fps, every, interval_s, start, end, group, normalize, dtype, texts)
    target = Target(output, find_format(format_name), per_shard)
    memo = DigestMemo()
    chosen = Selector(cache_dir, model, memo, skip).select(targets)
    check_one_model(chosen)
    unreadable = len(skipped)
    for sentence in [*differences(chosen), *size_warnings(chosen, target)]:
        warn(sentence)
    columns = None
    if texts:
        columns = functools.partial(
            wiring.score_columns, cache_dir=cache_dir, weights=weights, device=device, trust=trust_weights
        )
    with Bar("Exporting", len(chosen), "entries") as bar:
        summary = Export(target, recipe, skip, columns, bar.advance, memo).run(chosen)
    summary.failed += unreadable
    click.echo(summary.as_text(target))
    if skipped:
        click.get_current_context().exit(1)
