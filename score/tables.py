"""Comparisons as rows of a table, or as text.

Column names hold the scale: a `…_cosine` is a cosine in [-1, 1], a `…_ms` is in milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby

from ..cache.common.quoting import one_line
from ..cache.common.render import Cell, Row, render_rows
from .compare import Calibration, Comparison
from .metrics import AUDIO, METRICS, sound_note
from .question import Answer

_STATISTICS = ("mean", "median", "min", "max", "std", "pooled")
_CALIBRATION = ("z_score", "percentile")  # of the mean cosine, among those of generic prompts
_BASELINE = ("baseline_prompts", "baseline_mean_cosine", "baseline_std_cosine")
_MADE_WITH = (
    "frames_ignored",  # that only one of two videos has
    "video_sha256",
    "model",
    "weights_sha256",
    "precision",
    "sampling",  # of the entry; "all" is every frame
    "complete",  # False where part of the video could not be decoded
)
_POOLED = "of the reference with the mean of the normalised frames"


def table_columns(metric: str = "cosine", *, calibrated: bool = False) -> tuple[str, ...]:
    """The columns of a summary for people; names hold the metric. `max_at_ms` is empty for images."""
    mean, median, low, high, std, pooled = (f"{name}_{metric}" for name in _STATISTICS)
    won = ("won_share",) if metric == "probability" else ()
    extra = _CALIBRATION if calibrated else ()
    names = ("video", "comparison", "reference", "frames", mean, median, low, high, "max_at_ms", std, pooled)
    return (*names, *won, *extra)


def summary_columns(metric: str = "cosine", *, calibrated: bool = False) -> tuple[str, ...]:
    """The columns of a summary for programs."""
    baseline = _BASELINE if calibrated else ()
    return (*table_columns(metric, calibrated=calibrated), *baseline, *_MADE_WITH)


def frame_table_columns(metric: str = "cosine") -> tuple[str, ...]:
    """The columns of frames for people."""
    return ("video", "comparison", "reference", "frame_index", "timestamp_ms", "frame_name", metric)


def footnote(metric: str = "cosine", *, calibrated: bool = False) -> str:
    """Explain the columns of a summary."""
    won = "; won_share: of the frames on which this reference is the most probable, 0 to 1" * (metric == "probability")
    null = (
        "\nz_score: of the mean cosine, in standard deviations from the mean of the same video's mean cosines with "
        "generic prompts; percentile: share of these that are lower, 0 to 100"
    )
    return (
        f"{METRICS[metric].scale}, per frame; max_at_ms: time of the frame with the highest {metric}, milliseconds on "
        f"the container's clock; std: of the population; pooled: {_POOLED}{won}{null * calibrated}\n"
    )


def answer_text(answer: Answer, style: str, *, per_frame: bool) -> Iterator[str]:
    """Write an answer as text in pieces; one video against one reference as lines of text, anything else as rows.

    Args:
        answer: the result of `ask`.
        style: table, csv, json (one array) or jsonl (one object a line).
        per_frame: one row a frame instead of one a comparison.
    """
    metric, calibrated = answer.metric, answer.calibrated
    if per_frame and style == "table" and metric == "probability":
        return probability_lines(answer.comparisons)
    if per_frame:
        columns = frame_table_columns(metric)
        rows = frame_rows(answer.comparisons)
        return render_rows(
            rows, style, (*columns, "video_sha256"), columns, f"{METRICS[metric].scale}\n{answer.sound_note}"
        )
    if style == "table" and answer.videos == answer.references == 1:
        return chain.from_iterable(describe(comparison) for comparison in answer.comparisons)
    columns = table_columns(metric, calibrated=calibrated)
    note = footnote(metric, calibrated=calibrated) + answer.sound_note
    return render_rows(
        summary_rows(answer.comparisons), style, summary_columns(metric, calibrated=calibrated), columns, note
    )


def summary_rows(comparisons: Iterable[Comparison]) -> Iterator[Row]:
    """Yield one row per comparison, with the columns `summary_columns` of its metric."""
    for comparison in comparisons:
        attributes, summary, metric = comparison.video.attributes, comparison.summary, comparison.metric
        row: dict[str, Cell] = {
            "video": attributes.video_name,
            "comparison": comparison.name,
            "reference": comparison.reference,
            "frames": summary.frames,
            "max_at_ms": comparison.max_at_ms,
            "won_share": comparison.won_share,
            "frames_ignored": comparison.frames_ignored,
            "video_sha256": one_line(attributes.video_sha256),
            "model": one_line(attributes.model),
            "weights_sha256": attributes.weights_sha256,
            "precision": one_line(attributes.precision),
            "sampling": one_line(attributes.sampling),
            "complete": attributes.complete,
        }
        row |= {f"{name}_{metric}": getattr(summary, name) for name in _STATISTICS}
        yield row | _calibration_cells(comparison.calibration)


def _calibration_cells(calibration: Calibration | None) -> dict[str, Cell]:
    if calibration is None:
        return dict.fromkeys((*_CALIBRATION, *_BASELINE))
    return {
        "z_score": None if math.isnan(calibration.z_score) else calibration.z_score,
        "percentile": calibration.percentile,
        "baseline_prompts": calibration.prompts,
        "baseline_mean_cosine": calibration.null_mean,
        "baseline_std_cosine": calibration.null_std,
    }


def frame_rows(comparisons: Iterable[Comparison]) -> Iterator[Row]:
    """Yield one row per frame of each comparison, with the columns `frame_table_columns` and the video's hash."""
    for comparison in comparisons:
        video = comparison.video
        constant = {
            "video": video.video_name,
            "comparison": comparison.name,
            "reference": comparison.reference,
            "video_sha256": one_line(video.video_sha256),
        }
        names: Sequence[str | None] = video.frame_names or [None] * len(video)
        frames = zip(video.frame_index, video.timestamps_ms, names, comparison.scores, strict=True)
        for index, timestamp_ms, name, value in frames:
            yield {
                **constant,
                "frame_index": int(index),
                "timestamp_ms": float(timestamp_ms),
                "frame_name": name,
                comparison.metric: float(value),
            }


def probability_lines(comparisons: Iterable[Comparison]) -> Iterator[str]:
    """Write probabilities frame by frame, the references of a video side by side; a frame's add up to 1."""
    for _, group in groupby(comparisons, key=lambda one: one.video.path):
        references = list(group)
        video = references[0].video
        yield f"Video {one_line(video.video_name)}: {' | '.join(one_line(one.reference) for one in references)}\n"
        for index, values in zip(video.frame_index, zip(*(one.scores for one in references), strict=True), strict=True):
            yield f"frame {index}: [{', '.join(f'{value:.4f}' for value in values)}]\n"
    yield f"{METRICS['probability'].scale}\n"


def describe(comparison: Comparison) -> Iterator[str]:
    """Write one comparison as lines of text."""
    summary, attributes = comparison.summary, comparison.video.attributes
    is_sound = attributes.source_kind == AUDIO
    yield f"{'Windows' if is_sound else 'Frames'} analyzed: {summary.frames}\n"
    metric = METRICS[comparison.metric]
    name, scale, limits = metric.title, metric.scale, f", {metric.range}" if metric.range else ""
    score = f"{'CLAP' if is_sound else 'CLIP'} score ({comparison.name})"
    at = "" if comparison.max_at_ms is None else f", at {comparison.max_at_ms / 1000:.3f} s"
    yield f"Mean {score}: {summary.mean:.4f} ({scale})\n"
    yield f"Median {score}: {summary.median:.4f} ({scale})\n"
    yield f"Min {score}: {summary.min:.4f} ({scale})\n"
    yield f"Max {score}: {summary.max:.4f} ({scale}){at}\n"
    yield f"Std {score}: {summary.std:.4f} ({name}, of the population)\n"
    yield f"Pooled {score}: {summary.pooled:.4f} ({name} with the mean of the normalised frames{limits})\n"
    if comparison.calibration is not None:
        yield _describe_calibration(comparison.calibration)
    if comparison.frames_ignored:
        yield f"Frames ignored: {comparison.frames_ignored} (only one of the videos has them: frame i meets frame i)\n"
    model, precision = one_line(attributes.model), one_line(attributes.precision)
    yield f"Model: {model} (weights {attributes.weights_sha256[:8]}, {precision})\n"
    yield sound_note([attributes])


def _describe_calibration(found: Calibration) -> str:
    return (
        f"Against {found.prompts} generic prompts (mean {found.null_mean:.4f}, std {found.null_std:.4f}, cosine): "
        f"z-score {found.z_score:.2f} (standard deviations), percentile {found.percentile:.1f} (0 to 100)\n"
    )
