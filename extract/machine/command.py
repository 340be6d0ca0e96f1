"""`clipcache models` and `clipcache doctor`: what this machine can compute with."""

from __future__ import annotations

from pathlib import Path

import click

from ...cache.common.messages import above_bars, say
from ...cache.common.options import CACHE, DEBUG, LOADING, PATH, warn


@click.command(short_help="List models: size, cost, and where their weights are.")
@click.argument("pattern", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects.")
@DEBUG
def models(pattern: str | None, as_json: bool) -> None:
    """List OpenAI's models and registered encoders, or those whose name fits PATTERN, such as 'open_clip:ViT-B-32*'.

    DIM is the length of a feature, PIXELS the side of the picture that the model sees, GFLOPS the billions of
    operations that a picture takes (a multiplication and an addition are two), WEIGHTS the file, or the URL that
    it would be downloaded from.
    """
    from ..models import listing

    rows = listing.list_models(pattern)
    click.echo(listing.as_json(rows) if as_json else listing.as_text(rows))
    if pattern is None and not as_json:
        say("open_clip's models, if the extra open-clip is installed: clipcache models 'open_clip:*'", by_itself=True)
    if not rows:
        warn(f"No model is named like {pattern!r}; list them with: clipcache models")
        raise click.exceptions.Exit(1)


@click.command(short_help="Say whether this machine is ready, and what to do if not.")
@click.option("--model", default="ViT-B/32", envvar="CLIPCACHE_MODEL", show_default=True, help="Name of the model.")
@CACHE
@LOADING
@click.option("--videos", type=PATH, multiple=True, help="Examine these files and folders instead; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects.")
@DEBUG
def doctor(
    model: str,
    cache_dir: Path,
    weights: Path | None,
    trust_weights: bool,  # noqa: ARG001  the model is not loaded
    device: str,
    videos: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Say in ten lines whether this machine is ready to extract; exit code 1 if not, each problem with its remedy.

    With --videos, say of each video whether every frame is decoded exactly: it is decoded as extract does and, beside
    it, plainly from start to end, and pictures, order and times are compared. Exit code 1 if any video is not exact.

    Nothing is downloaded, and nothing stays behind.
    """
    if videos:
        from . import exactness

        def show(report: exactness.Report) -> None:
            if not as_json:
                with above_bars():
                    click.echo(report.as_line())

        reports = exactness.examine_videos(videos, show)
        click.echo(exactness.as_json(reports) if as_json else f"\n{exactness.summary_lines(reports)}")
        raise click.exceptions.Exit(1 if any(report.verdict != exactness.EXACT for report in reports) else 0)
    from . import doctor as examination

    findings = examination.examine(model, weights, cache_dir, device)
    click.echo(examination.as_json(findings) if as_json else examination.as_text(findings))
    raise click.exceptions.Exit(1 if any(finding.remedy for finding in findings) else 0)
