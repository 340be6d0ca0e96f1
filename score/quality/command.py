"""`clipcache aesthetic` and `clipcache benchmark`: rate pictures by one method or by many."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click
import cloup

from ...cache.common.errors import UsageError
from ...cache.common.options import PATH, warn
from ..options import TARGETS, Scoring, output_options, scoring_command
from .choices import AGGREGATIONS, Activation

if TYPE_CHECKING:
    from ..compare import FrameSelection
    from .aesthetic import Column
    from .methods import ScoredVideo
    from .run import Rated

_METHOD = cloup.option_group(
    "How to rate",
    click.option("--attributes", "attribute_file", type=PATH, help="YAML of prompts, instead of the bundled ones."),
    click.option(
        "--aggregation",
        type=click.Choice(list(AGGREGATIONS)),
        help="How the attributes are combined into one score; weighted by default.",
    ),
    click.option("--probability", is_flag=True, help="Rank by the mean softmax over each pair of opposite prompts."),
    click.option("--head", "head_file", type=PATH, help="Rank by a head: a state dict of linear layers, .pth etc."),
    click.option(
        "--head-activation",
        type=click.Choice(get_args(Activation)),
        help="Activation between the layers of a head; needed where it has several.",
    ),
    click.option("--compare", is_flag=True, help="Compare all methods and cached measures with each other."),
)
_OUTPUT = output_options(
    click.option("--details", is_flag=True, help="Also each attribute: contrast_…, pos_…, neg_…."),
    click.option("--per-frame", is_flag=True, help="One row a frame or image, with its time or name."),
    click.option("--plot", type=PATH, help="Draw the scores of each video, or with --compare the correlations."),
)


@scoring_command(
    TARGETS, _METHOD, output=_OUTPUT, short_help="Rate how good videos and images look; find the best frame of each."
)
def aesthetic(
    scoring: Scoring,
    targets: tuple[Path, ...],
    attribute_file: Path | None,
    aggregation: str | None,
    probability: bool,
    head_file: Path | None,
    head_activation: Activation | None,
    compare: bool,
    style: str,
    output: Path | None,
    details: bool,
    per_frame: bool,
    plot: Path | None,
    selection: FrameSelection,
) -> None:
    """Rate cached videos and images, the best first, with the best frame of each.

    TARGETS are as in `score`; none means the whole cache. The score comes from CLIP's cosines with pairs of
    opposite prompts and single ones, or from a --head; its method and range are named below each table.
    """
    from .attributes import BUNDLED
    from .run import RatingOptions, prepare

    if per_frame and compare:
        raise UsageError("--compare is about whole videos", "leave out --per-frame")
    prompts = attribute_file or BUNDLED
    rating = RatingOptions(prompts, aggregation, probability, head_file, head_activation, details, compare)
    rated = prepare(rating, targets, selection, scoring.context())
    if compare:
        _compare(rated, style, output, plot)
    else:
        _rank(rated, style, output, plot, per_frame=per_frame)


@scoring_command(
    click.argument("config_file", metavar="CONFIG", type=PATH),
    short_help="Score a data set by the methods of a config file.",
    frames=False,
)
def benchmark(scoring: Scoring, config_file: Path) -> None:
    """Score cached videos and images by all methods of CONFIG, and correlate them, also with ratings of people.

    CONFIG is YAML; docs/quality.md has an example. Its `cache` and `model` come before the options here. Tables and
    pictures go to its `output` folder; the correlations are printed as well.
    """
    from ...cache.common.render import write_text
    from .benchmark import run_benchmark
    from .config import read_config
    from .results import printed, write_results

    config = read_config(config_file)
    scoring = replace(scoring, cache_dir=config.cache or scoring.cache_dir, model=config.model or scoring.model)
    results = run_benchmark(config, scoring.context())
    write_text(printed(results), None)
    written, said = write_results(results, config.output)
    for sentence in (*said, f"Wrote {', '.join(map(str, written))}."):
        warn(sentence)


def _compare(rated: Rated, style: str, output: Path | None, plot: Path | None) -> None:
    """Compare all methods; warn of videos without measures."""
    from ...cache.common.render import write_text
    from .agreement import compare_methods, comparison_text
    from .methods import MEASURES
    from .plot import plot_correlations

    compared = compare_methods(rated.frames(MEASURES), (*rated.methods, *MEASURES))
    if compared.unmeasured or MEASURES[0] not in compared.methods:
        without = compared.unmeasured or len(compared.videos)
        warn(f"{without} of {len(compared.videos)} have no measures; extract them again with --quality.")
    write_text(comparison_text(compared, style), output)
    if plot:
        names = [method.name for method in compared.methods]
        title = f"Spearman correlation of methods, {compared.frames} frames"
        if problem := plot_correlations(compared.spearman, names, plot, title):
            warn(problem)


def _rank(rated: Rated, style: str, output: Path | None, plot: Path | None, *, per_frame: bool) -> None:
    """Write videos, the best first, or frames, in order of time."""
    from ...cache.common.render import render_rows, write_text
    from .rows import (
        footnote,
        frame_columns,
        frame_rows,
        frame_table_columns,
        summary_columns,
        summary_rows,
        summary_table_columns,
    )

    overall, details = rated.overall, rated.details
    scored: Iterable[ScoredVideo] = rated.frames()
    if plot:
        scored = list(scored)
    note = footnote(overall, details, per_frame=per_frame)
    if per_frame:
        rows = frame_rows(scored, overall, details)
        pieces = render_rows(rows, style, frame_columns(details), frame_table_columns(details), note)
    else:
        ranked = summary_rows(scored, overall, details)
        pieces = render_rows(ranked, style, summary_columns(details), summary_table_columns(details), note)
    write_text(pieces, output)
    if plot:
        _draw(scored, overall, plot)


def _draw(scored: Iterable[ScoredVideo], overall: Column, path: Path) -> None:
    """Draw the scores of each video, the best one on top."""
    from ..plots import plot_distribution

    ranked = sorted(scored, key=lambda one: -one.mean(overall.name))
    groups = {f"{rank}  {one.video.video_name}": one.values[overall.name] for rank, one in enumerate(ranked, 1)}
    if problem := plot_distribution(groups, path, f"{overall.name} ({overall.scale})"):
        warn(problem)
