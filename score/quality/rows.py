"""Scores of frames and videos as rows of a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ...cache.common.render import Cell, Row
from .aesthetic import Column
from .methods import ScoredVideo

_SUMMARY = (
    "rank",
    "video",
    "frames",
    "overall",
    "best_overall",
    "best_at_ms",  # None for images
    "best_frame_name",  # of images only
)
_MADE_WITH = ("best_frame_index", "method", "scale", "video_sha256", "model", "weights_sha256")
_FRAME = ("video", "frame_index", "timestamp_ms", "frame_name", "overall")


def summary_table_columns(details: Sequence[Column]) -> tuple[str, ...]:
    """The columns of the table of videos for people."""
    return (*_SUMMARY, *(one.name for one in details))


def summary_columns(details: Sequence[Column]) -> tuple[str, ...]:
    """The columns of the table of videos for programs."""
    return (*summary_table_columns(details), *_MADE_WITH)


def summary_rows(scored: Iterable[ScoredVideo], overall: Column, details: Sequence[Column]) -> list[Row]:
    """One row for each video, the best first; scores of frames are not kept, so memory does not grow with the library.

    Args:
        scored: with the columns `overall` and `details`.
        overall: what videos are ranked by, in the mean over their frames.
        details: more columns, whose means are given.
    """
    rows = [_summary_row(one, overall, details) for one in scored]
    rows.sort(key=lambda row: -row["overall"])  # type: ignore[operator]  # a float, which Cell does not tell
    return [{**row, "rank": rank} for rank, row in enumerate(rows, 1)]


def _summary_row(scored: ScoredVideo, overall: Column, details: Sequence[Column]) -> dict[str, Cell]:
    attributes, best = scored.video.attributes, scored.best(overall.name)
    return {
        "video": attributes.video_name,
        "frames": len(scored.video),
        "overall": scored.mean(overall.name),
        "best_overall": float(scored.values[overall.name][best]),
        "best_at_ms": scored.at_ms(best),
        "best_frame_name": scored.frame_name(best),
        "best_frame_index": int(scored.video.frame_index[best]),
        **{one.name: scored.mean(one.name) for one in details},
        "method": overall.name,
        "scale": overall.scale,
        "video_sha256": attributes.video_sha256,
        "model": attributes.model,
        "weights_sha256": attributes.weights_sha256,
    }


def frame_table_columns(details: Sequence[Column]) -> tuple[str, ...]:
    """The columns of the table of frames for people."""
    return (*_FRAME, *(one.name for one in details))


def frame_columns(details: Sequence[Column]) -> tuple[str, ...]:
    """The columns of the table of frames for programs."""
    return (*frame_table_columns(details), "method", "scale", "video_sha256")


def frame_rows(scored: Iterable[ScoredVideo], overall: Column, details: Sequence[Column]) -> Iterator[Row]:
    """One row a frame, in order of time."""
    for one in scored:
        video = one.video
        constant = {
            "video": video.video_name,
            "method": overall.name,
            "scale": overall.scale,
            "video_sha256": video.video_sha256,
        }
        frame_names: Sequence[str | None] = video.frame_names or [None] * len(video)
        frames = zip(video.frame_index, video.timestamps_ms, frame_names, strict=True)
        for row, (index, timestamp_ms, frame_name) in enumerate(frames):
            yield {
                **constant,
                "frame_index": int(index),
                "timestamp_ms": float(timestamp_ms) if one.has_clock else None,
                "frame_name": frame_name,
                "overall": float(one.values[overall.name][row]),
                **{detail.name: float(one.values[detail.name][row]) for detail in details},
            }


def footnote(overall: Column, details: Sequence[Column], *, per_frame: bool) -> str:
    """Explain the columns, those of one scale together."""
    about = f"overall: {overall.name} ({overall.scale})"
    if not per_frame:
        about += (
            ", mean over the frames; best_overall: of the best frame; best_at_ms: its time, milliseconds on the "
            "container's clock"
        )
    return "".join([about, *(f"; {line}" for line in scale_lines(details)), "\n"])


def scale_lines(columns: Sequence[Column]) -> Iterator[str]:
    """A line for each scale, with the names of its columns."""
    for scale in dict.fromkeys(column.scale for column in columns):
        yield f"{', '.join(one.name for one in columns if one.scale == scale)}: {scale}"
