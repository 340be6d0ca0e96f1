"""`clipcache score` and `clipcache compare`: compare cached videos, or two images; print a table or draw a plot."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
import cloup

from ..cache.common.errors import ClipcacheError, UsageError
from ..cache.common.options import PATH, warn
from .metrics import METRICS
from .options import TARGETS, Scoring, Wiring, output_options, scoring_command
from .plot_style import KINDS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..cache import Entry
    from .compare import FrameSelection
    from .plots import PeakFrames


_REFERENCES = cloup.option_group(
    "What to compare with",
    click.option("--text", "texts", multiple=True, help="Prompt to score with; may be repeated, as all references."),
    click.option(
        "--text-file", "text_files", multiple=True, type=PATH, help="Prompts, one a line (- is stdin), or a .yaml set."
    ),
    click.option("--image", "images", multiple=True, type=PATH, help="Reference image."),
    click.option("--video", "videos", multiple=True, type=PATH, help="Cached video: frame i against frame i."),
    click.option("--text-embeddings", "embeddings", multiple=True, type=PATH, help="Vectors (R, D), .npy or .npz."),
    click.option("--pairs", type=PATH, help="CSV of videos, each with its own prompt, image or reference_video."),
    click.option("--truncate", is_flag=True, help="Cut prompts of over 77 tokens instead of refusing them."),
)
_SCALE = cloup.option_group(
    "Scale",
    click.option(
        "--metric",
        type=click.Choice(list(METRICS)),
        default=next(iter(METRICS)),
        show_default=True,
        help="Scale of the scores.",
    ),
    click.option("--baseline", is_flag=True, help="Rank each score among those of generic prompts."),
    click.option("--baseline-file", type=PATH, help="Generic prompts of your own, one a line; implies --baseline."),
)
_OUTPUT = output_options(
    click.option("--per-frame", is_flag=True, help="One row a frame, with its timestamp."),
    click.option("--plot", type=PATH, help="Draw the scores: .png, .svg or .pdf."),
    click.option(
        "--plot-kind",
        type=click.Choice(KINDS),
        show_default=KINDS[0],
        help="Over time; distribution for each video; means of videos x references.",
    ),
    click.option("--plot-frames", is_flag=True, help="Show the best frames in a plot over time."),
)
_EXTRACT = click.option("--extract-missing", is_flag=True, help="First extract what is not in the cache.")


@scoring_command(
    TARGETS,
    _REFERENCES,
    _SCALE,
    _EXTRACT,
    output=_OUTPUT,
    short_help="Compare cached videos with prompts, images or videos.",
)
def score(
    scoring: Scoring,
    targets: tuple[Path, ...],
    texts: tuple[str, ...],
    text_files: tuple[Path, ...],
    images: tuple[Path, ...],
    videos: tuple[Path, ...],
    embeddings: tuple[Path, ...],
    pairs: Path | None,
    truncate: bool,
    metric: str,
    baseline: bool,
    baseline_file: Path | None,
    style: str,
    output: Path | None,
    per_frame: bool,
    plot: Path | None,
    plot_kind: str | None,
    plot_frames: bool,
    extract_missing: bool,
    selection: FrameSelection,
) -> None:
    """Compare cached videos with prompts, images, videos or given embeddings.

    TARGETS are videos, image folders, folders of them, or entries of the cache; none means the whole cache. Scores
    are cosines, from -1 to 1, or in the scale of --metric, per frame and as statistics per video. Frames that only one
    of a target and a reference video has are ignored; --fps, --every, --start and --end apply to both.
    """
    from ..cache.common.render import write_text
    from .pairs import ask_pairs
    from .plots import plot_comparisons
    from .question import Question, ask
    from .tables import answer_text

    if plot_kind and not plot:
        raise UsageError("--plot-kind is for a plot", "give --plot FILE")
    if plot_frames and (plot is None or plot_kind not in (None, "time")):
        raise UsageError("--plot-frames is for a plot over time", "give --plot FILE, and no other --plot-kind")
    asked = (targets, texts, text_files, images, videos, embeddings)
    if pairs and any(asked):
        raise UsageError("--pairs names the videos and their references", "leave out the targets and references")
    context = scoring.context(functools.partial(_extract_targets, scoring) if extract_missing else None)
    calibrated = baseline or baseline_file is not None
    question = Question(*asked, truncate, selection, metric, calibrated, baseline_file)
    answer = ask_pairs(pairs, question, context) if pairs else ask(question, context)
    if plot:
        answer = answer.kept()
    write_text(answer_text(answer, style, per_frame=per_frame), output)
    if plot:
        frames = _peak_frames(scoring.wiring) if plot_frames else None
        if problem := plot_comparisons(list(answer.comparisons), plot, plot_kind or KINDS[0], frames):
            warn(problem)


@scoring_command(click.argument("image_a", type=PATH), click.argument("image_b", type=PATH), frames=False)
def compare(scoring: Scoring, image_a: Path, image_b: Path) -> None:
    """Compare two images: the cosine of their embeddings, from -1 to 1."""
    from .question import compare_images

    context = replace(scoring, problems=[]).context()  # a bad entry of the cache has no part in the result
    cosine = compare_images(image_a, image_b, context, scoring.weights)
    click.echo(f"CLIP score (image-to-image): {cosine:.4f} ({METRICS['cosine'].scale})")


def _peak_frames(wiring: Wiring) -> PeakFrames:
    """A function that decodes frames of a video from where it was when last hashed, and warns if it is not there."""
    from ..cache import DigestMemo

    memo = DigestMemo()

    def read(video: Entry, at_ms: Sequence[float]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        path = next(iter(memo.paths_of(video.video_sha256)), None)
        if path is None or video.source_kind != "video":
            warn(f"The plot shows no frames of {video.video_name!r}: it is not a video file, or was moved.")
            return
        try:
            yield from wiring.frames_at(path, at_ms)
        except ClipcacheError as error:
            warn(str(error))

    return read


def _extract_targets(scoring: Scoring, paths: Sequence[Path], model: str | None) -> None:
    """Run `clipcache extract` as a user would; its summary goes to stderr, because stdout is for the scores."""
    given = {"cache": scoring.cache_dir, "model": model, "weights": scoring.weights, "device": scoring.device}
    words = [part for name, value in given.items() if value is not None for part in (f"--{name}", str(value))]
    if scoring.trust_weights:
        words.append("--trust-weights")
    with contextlib.redirect_stdout(sys.stderr):
        code = scoring.wiring.run(["extract", *words, "--", *map(str, paths)])
    if code not in (0, 1):  # 1: some files failed, which scoring reports if it needs them; other codes: interrupted
        click.get_current_context().exit(code)
