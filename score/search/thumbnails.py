"""Found frames as pictures: files of their own, and one sheet of all with captions."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...cache.common.atomic import replacing_output
from ...cache.common.errors import ClipcacheError, UsageError
from ...cache.common.paths import is_file
from ...cache.common.quoting import quoted
from ..options import FramesAt
from ..plot_style import new_figure, save_figure, shorten
from ..read_files import StrPath
from .formats import Found, clock, ranks, safe_stem
from .frames import Hit
from .scan import Source

Rgb = NDArray[np.uint8]  # (H, W, 3)

MAX_ON_SHEET = 100
_SHEET_COLUMNS = 5
_LEAST_COLUMNS = 3  # so that a heading fits
# Of the sheet, in inches: a picture's width, its caption, the heading of a query, and the space between pictures.
_CELL, _CAPTION, _HEADING, _PAD = 2.6, 0.62, 0.34, 0.15
_TALLEST = 1.4  # height to width; an upright video's pictures are drawn narrower
_SHEET_PIXELS = 320  # longer side of a picture on the sheet
_CAPTION_CHARS = 34
_JPEG_QUALITY = 92
_JPEG_COMMENT = b"thumbnail by clipcache"
_COMMENT_WITHIN = 4096  # bytes from the start of the file


@dataclass(frozen=True)
class Picture:
    """A found frame's pixels."""

    number: int  # of its hit, from 0
    rgb: Rgb  # (H, W, 3) uint8, upright, as large as the video


def write_pictures(
    found: Found,
    read: Callable[[Sequence[Hit]], Iterable[Picture]],
    thumbnails: StrPath | None,
    sheet: StrPath | None,
) -> tuple[dict[int, str], str | None]:
    """Write the frames of hits to files of their own in a folder, and all of them to one sheet.

    Args:
        found: frames, or moments, of which the best frame counts.
        read: decodes the frames of hits, as `read_pictures` does.
        thumbnails: the folder, made if it does not exist; None: no thumbnails.
        sheet: the picture of all; None: no sheet.

    Returns:
        File name of each hit's thumbnail by the hit's number, and the warning of `write_contact_sheet`.

    Raises:
        UsageError: a file cannot be written, or the hits are too many for a sheet.
    """
    if sheet is not None and len(found.hits) > MAX_ON_SHEET:
        raise UsageError(f"A contact sheet holds {MAX_ON_SHEET} pictures at most, not {len(found.hits)}", "lower --top")
    names = thumbnail_names(found.queries, found.hits)
    written: dict[int, str] = {}
    small: dict[int, Rgb] = {}
    for picture in read(found.hits):
        if thumbnails is not None:
            write_thumbnail(picture.rgb, Path(thumbnails) / names[picture.number])
            written[picture.number] = names[picture.number]
        if sheet is not None:
            small[picture.number] = reduced(picture.rgb)
    return written, None if sheet is None else write_contact_sheet(found, small, sheet)


def read_pictures(
    hits: Sequence[Hit],
    find: Callable[[Source], Path | None],
    frames_at: FramesAt,
    on_missing: Callable[[ClipcacheError], None],
) -> Iterator[Picture]:
    """Decode the frames of hits, video by video and one at a time.

    Args:
        hits: found frames, or moments, of which the best frame counts.
        find: gives the file of a source; None leaves its frames out.
        frames_at: decodes the frames of a file at given times, milliseconds.
        on_missing: called with the error of each file whose frames cannot be decoded.
    """
    by_file: dict[Path, list[int]] = {}
    for number, hit in enumerate(hits):
        path = find(hit.source)
        if path is not None:
            by_file.setdefault(path / hit.frame_name if path.is_dir() and hit.frame_name else path, []).append(number)
    for path, numbers in by_file.items():
        try:
            for position, rgb in frames_at(path, [hits[number].at_ms for number in numbers]):
                yield Picture(numbers[position], rgb)
        except ClipcacheError as error:
            on_missing(error)


def thumbnail_names(queries: Sequence[str], hits: Sequence[Hit]) -> list[str]:
    """Name each hit's picture by query (where there are several), rank, video, time: `2-001-shapes-0m04s125.jpg`."""
    names = []
    for rank, hit in ranks(hits):
        query = f"{hit.query + 1}-" if len(queries) > 1 else ""
        whole = round(hit.at_ms)
        place = f"{whole // 60_000}m{whole // 1000 % 60:02d}s{whole % 1000:03d}"
        if not hit.source.has_clock:
            place = safe_stem(hit.frame_name or "image")
        names.append(f"{query}{rank:03d}-{safe_stem(hit.source.name)}-{place}.jpg")
    return names


def write_thumbnail(rgb: Rgb, path: StrPath) -> None:
    """Write a frame as JPEG at its own size; the folder is made if it does not exist.

    A comment in the file says that it is a thumbnail: nothing but such a file is replaced.

    Raises:
        UsageError: it cannot be written, or something else has its name.
    """
    from PIL import Image

    path = Path(path)
    if not _may_be_replaced(path):
        raise UsageError(f"{quoted(path)} exists and is not a thumbnail of clipcache's", "choose another folder")
    data = io.BytesIO()
    Image.fromarray(rgb).save(data, "JPEG", quality=_JPEG_QUALITY, comment=_JPEG_COMMENT)
    with replacing_output(path, durable=False, make_folder=True) as temporary:
        temporary.write_bytes(data.getvalue())


def _may_be_replaced(path: Path) -> bool:
    """Whether a thumbnail may take the place of a file: there is none, or another thumbnail."""
    if not is_file(path):
        return not os.path.lexists(path)  # a pipe or a device would be written to
    with path.open("rb") as file:
        return _JPEG_COMMENT in file.read(_COMMENT_WITHIN)


def reduced(rgb: Rgb) -> Rgb:
    """Return a frame as large as the sheet shows it, (h, w, 3) uint8; small ones stay as they are."""
    from PIL import Image

    image = Image.fromarray(rgb)
    image.thumbnail((_SHEET_PIXELS, _SHEET_PIXELS), Image.Resampling.LANCZOS)
    return np.asarray(image)


def write_contact_sheet(found: Found, pictures: Mapping[int, Rgb], path: StrPath) -> str | None:
    """Draw all hits on one picture, each with rank, video, time and cosine below, and a heading for each query.

    Args:
        found: frames, or moments, of which the best frame is shown.
        pictures: frame of a hit by its number; a hit without one has its caption alone.
        path: .png, .jpg, .svg or .pdf.

    Returns:
        A warning about letters that the font lacks and that are drawn as boxes; None if there are none.

    Raises:
        UsageError: the file cannot be written.
    """
    return save_figure(_draw_sheet(found.queries, list(ranks(found.hits)), pictures), path)


def _draw_sheet(queries: Sequence[str], ranked: Sequence[tuple[int, Hit]], pictures: Mapping[int, Rgb]) -> Any:
    """Lay the sheet out from top to bottom, in inches."""
    groups = [[n for n, (_, hit) in enumerate(ranked) if hit.query == query] for query in range(len(queries))]
    columns = min(_SHEET_COLUMNS, max([_LEAST_COLUMNS, *map(len, groups)]))
    sides = [rgb.shape[0] / rgb.shape[1] for rgb in pictures.values()] or [0.75]
    box = _CELL * min(max(sides), _TALLEST)
    lines = sum(-(-len(group) // columns) for group in groups)
    width = columns * (_CELL + _PAD) + _PAD
    height = len(groups) * _HEADING + lines * (box + _CAPTION) + _PAD
    figure = new_figure(width, height, constrained=False)
    top = height - _PAD
    for query, group in enumerate(groups):
        _write(figure, _PAD / width, top / height, shorten(queries[query], int(width / 0.11)), 12)
        top -= _HEADING
        for position, number in enumerate(group):
            column, line = position % columns, position // columns
            left, bottom = _PAD + column * (_CELL + _PAD), top - line * (box + _CAPTION) - box
            area = (left / width, bottom / height, _CELL / width, box / height)
            _draw_picture(figure, area, pictures.get(number))
            _write(figure, left / width, (bottom - 0.06) / height, _caption(*ranked[number]), 8)
        top -= -(-len(group) // columns) * (box + _CAPTION)
    return figure


def _draw_picture(figure: Any, area: tuple[float, float, float, float], rgb: Rgb | None) -> None:
    """Put a picture into its place, or an empty frame where there is none."""
    axes = figure.add_axes(area, xticks=(), yticks=(), anchor="SW")
    if rgb is None:
        axes.text(0.5, 0.5, "no picture", ha="center", va="center", color="grey")
        return
    axes.set_axis_off()
    axes.imshow(rgb)


def _write(figure: Any, left: float, top: float, text: str, size: int) -> None:
    figure.text(left, top, text, fontsize=size, va="top", linespacing=1.25, parse_math=False)


def _caption(rank: int, hit: Hit) -> str:
    """The text below a picture of the sheet."""
    place = clock(hit.at_ms) if hit.source.has_clock else shorten(hit.frame_name or "image", _CAPTION_CHARS - 18)
    if hit.span_ms is not None:
        place = " to ".join(clock(time) for time in hit.span_ms)
    name = shorten(hit.source.name, _CAPTION_CHARS - len(f"{rank}  "))
    return f"{rank}  {name}\n{place}\ncosine {hit.cosine:.4f}"
