"""Comparisons as rows, and rows as text: a table for people, CSV, JSON and JSON lines for programs.

Rows are made and written one after the other, so a million frames pass through without being held. Column names
carry the scale: a `…_cosine` is a cosine in [-1, 1], a `…_ms` milliseconds. Numbers are written with seven
decimals, which is what float32 holds; the table for people has four.
"""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby, islice
from pathlib import Path

from ..cache.common.atomic import replacing
from ..cache.common.errors import CacheError, UsageError
from ..cache.common.quoting import one_line
from .compare import Calibration, Comparison
from .metrics import SCALES
from .question import Answer
from .sound import AUDIO, sound_note

Cell = str | int | float | bool | None
Row = Mapping[str, Cell]

_STATISTICS = ("mean", "median", "min", "max", "std", "pooled")
_CALIBRATION = ("z_score", "percentile")  # of the mean cosine, among those of generic prompts
_MADE_WITH = (
    "frames_ignored",  # that only one of two videos has
    "video_sha256",
    "model",
    "weights_sha256",
    "precision",
    "sampling",  # of the entry; "all" is every frame
    "complete",  # False where part of the video could not be decoded
)
ROWS_MEASURED = 1000  # the rows of a table that its column widths are taken from
_POOLED = "of the reference with the mean of the normalised frames"


def table_columns(metric: str = "cosine", *, calibrated: bool = False) -> tuple[str, ...]:
    """What people get of a summary; names carry the metric. `max_at_ms` is empty for images."""
    mean, median, low, high, std, pooled = (f"{name}_{metric}" for name in _STATISTICS)
    won = ("won_share",) if metric == "probability" else ()
    extra = _CALIBRATION if calibrated else ()
    return (
        "video",
        "comparison",
        "reference",
        "frames",
        mean,
        median,
        low,
        high,
        "max_at_ms",
        std,
        pooled,
        *won,
        *extra,
    )


def summary_columns(metric: str = "cosine", *, calibrated: bool = False) -> tuple[str, ...]:
    """What programs get of a summary."""
    null = ("baseline_prompts", "baseline_mean_cosine", "baseline_std_cosine") if calibrated else ()
    return (*table_columns(metric, calibrated=calibrated), *null, *_MADE_WITH)


def frame_table_columns(metric: str = "cosine") -> tuple[str, ...]:
    """What people get of each frame."""
    return ("video", "comparison", "reference", "frame_index", "timestamp_ms", "frame_name", metric)


def footnote(metric: str = "cosine", *, calibrated: bool = False) -> str:
    """What the columns of a summary mean."""
    won = "; won_share: of the frames on which this reference is the most probable, 0 to 1" * (metric == "probability")
    null = (
        "\nz_score: of the mean cosine, in standard deviations from the mean of the same video's mean cosines with "
        "generic prompts; percentile: share of these that are lower, 0 to 100"
    )
    return (
        f"{SCALES[metric]}, per frame; max_at_ms: time of the frame with the highest {metric}, milliseconds on the "
        f"container's clock; std: of the population; pooled: {_POOLED}{won}{null * calibrated}\n"
    )


def answer_text(answer: Answer, style: str, *, per_frame: bool) -> Iterator[str]:
    """Write an answer as text in pieces; one video against one reference reads as a person would say it.

    Args:
        answer: what `ask` gave.
        style: table, csv, json (one array) or jsonl (one object a line).
        per_frame: one row a frame instead of one a comparison.
    """
    metric, calibrated = answer.metric, answer.calibrated
    if per_frame and style == "table" and metric == "probability":
        return probability_lines(answer.comparisons)
    if per_frame:
        columns = frame_table_columns(metric)
        rows = frame_rows(answer.comparisons)
        return render_rows(rows, style, (*columns, "video_sha256"), columns, f"{SCALES[metric]}\n{answer.sound_note}")
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
        return dict.fromkeys((*_CALIBRATION, "baseline_prompts", "baseline_mean_cosine", "baseline_std_cosine"))
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
    yield f"{SCALES['probability']}\n"


def render_rows(
    rows: Iterable[Row],
    style: str,
    columns: Sequence[str],
    table_columns: Sequence[str] | None = None,
    footnote: str = "",
) -> Iterator[str]:
    """Write any rows as text in pieces.

    Args:
        rows: each with a value for every column.
        style: table, csv, json (one array) or jsonl (one object a line).
        columns: what programs get.
        table_columns: what people get; None for all columns.
        footnote: explains the columns below a table.
    """
    writers: dict[str, Callable[[], Iterator[str]]] = {
        "table": lambda: _table(rows, columns if table_columns is None else table_columns, footnote),
        "csv": lambda: _csv(rows, columns),
        "json": lambda: _json(rows, columns),
        "jsonl": lambda: _json_lines(rows, columns),
    }
    return writers[style]()


def describe(comparison: Comparison) -> Iterator[str]:
    """Write one comparison as a person would read it."""
    summary, attributes = comparison.summary, comparison.video.attributes
    is_sound = attributes.source_kind == AUDIO
    yield f"{'Windows' if is_sound else 'Frames'} analyzed: {summary.frames}\n"
    name, scale = SCALES[comparison.metric].partition(":")[0].partition(",")[0], SCALES[comparison.metric]
    score = f"{'CLAP' if is_sound else 'CLIP'} score ({comparison.name})"
    at = "" if comparison.max_at_ms is None else f", at {comparison.max_at_ms / 1000:.3f} s"
    yield f"Mean {score}: {summary.mean:.4f} ({scale})\n"
    yield f"Median {score}: {summary.median:.4f} ({scale})\n"
    yield f"Min {score}: {summary.min:.4f} ({scale})\n"
    yield f"Max {score}: {summary.max:.4f} ({scale}){at}\n"
    yield f"Std {score}: {summary.std:.4f} ({name}, of the population)\n"
    yield f"Pooled {score}: {summary.pooled:.4f} ({name} with the mean of the normalised frames{_range(scale)})\n"
    if comparison.calibration is not None:
        yield _describe_calibration(comparison.calibration)
    if comparison.frames_ignored:
        yield f"Frames ignored: {comparison.frames_ignored} (only one of the videos has them: frame i meets frame i)\n"
    model, precision = one_line(attributes.model), one_line(attributes.precision)
    yield f"Model: {model} (weights {attributes.weights_sha256[:8]}, {precision})\n"
    yield sound_note([attributes])


def _range(scale: str) -> str:
    """The range at the end of a scale, ", -1 to 1"; none for a logit."""
    end = scale.rpartition(", ")[2]
    return f", {end}" if " to " in end else ""


def _describe_calibration(found: Calibration) -> str:
    return (
        f"Against {found.prompts} generic prompts (mean {found.null_mean:.4f}, std {found.null_std:.4f}, cosine): "
        f"z-score {found.z_score:.2f} (standard deviations), percentile {found.percentile:.1f} (0 to 100)\n"
    )


def write_text(pieces: Iterable[str], output: Path | None) -> None:
    """Write text to stdout, or to a file that appears whole or not at all.

    Raises:
        UsageError: the file cannot be written.
    """
    if output is None:
        sys.stdout.writelines(pieces)
        return
    try:
        with (
            replacing(output, make_folder=False) as temporary,
            temporary.open("x", encoding="utf-8", newline="") as file,
        ):
            file.writelines(pieces)
    except CacheError as error:
        raise UsageError(error.problem, error.remedy) from error


def _csv(rows: Iterable[Row], columns: Sequence[str]) -> Iterator[str]:
    """Write a header and one record a row."""
    lines = _Lines()
    writer = csv.writer(lines, lineterminator="\n")
    for record in chain([columns], ([_rounded(row[column]) for column in columns] for row in rows)):
        writer.writerow(record)
        yield lines.take()


def _json(rows: Iterable[Row], columns: Sequence[str]) -> Iterator[str]:
    """Write one array with an object a line."""
    yield "["
    separator = "\n"
    for line in _json_lines(rows, columns):
        yield separator + line.rstrip("\n")
        separator = ",\n"
    yield "\n]\n"


def _json_lines(rows: Iterable[Row], columns: Sequence[str]) -> Iterator[str]:
    """Write one object a line."""
    for row in rows:
        yield json.dumps({column: _rounded(row[column]) for column in columns}, ensure_ascii=False) + "\n"


def _table(rows: Iterable[Row], columns: Sequence[str], footnote: str) -> Iterator[str]:
    """Write aligned columns, names to the left and numbers to the right."""
    rows = iter(rows)
    measured = list(islice(rows, ROWS_MEASURED))
    if not measured:
        return
    lines = ([_shown(row[column]) for column in columns] for row in rows)
    first = [[_shown(row[column]) for column in columns] for row in measured]
    kept = [i for i in range(len(columns)) if any(line[i] for line in first)]  # no frame_name: no such column
    widths = {i: max(len(line[i]) for line in [list(columns), *first]) for i in kept}
    numeric = {i for i in kept if not any(isinstance(row[columns[i]], str) for row in measured)}
    for line in chain([list(columns)], first, lines):
        cells = (line[i].rjust(widths[i]) if i in numeric else line[i].ljust(widths[i]) for i in kept)
        yield "  ".join(cells).rstrip() + "\n"
    yield footnote


def _shown(cell: Cell) -> str:
    """Return a cell as people read it."""
    if cell is None:
        return ""
    return f"{cell:.4f}" if isinstance(cell, float) else one_line(str(cell))


def _rounded(cell: Cell) -> Cell:
    """Cut the digits that float32 does not hold."""
    return round(cell, 7) if isinstance(cell, float) else cell


class _Lines:
    """The file that `csv.writer` wants, holding the line it has just written."""

    def __init__(self) -> None:
        self._line = ""

    def write(self, line: str) -> None:
        self._line = line

    def take(self) -> str:
        return self._line
