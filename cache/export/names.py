"""Names of the exported videos and the files they go into, decided before anything is opened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..common.media_types import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from ..common.quoting import printable
from ..format.schema import EntryAttributes
from ..select import Chosen
from .formats import Format

MAX_PART_BYTES = 160  # of a file name's 255: suffixes and what makes a name unique come after


@dataclass(frozen=True)
class Source:
    """One entry and its name in the export.

    Attributes:
        name: "holiday/beach", unique in the export, also if case is ignored.
        entry_path: of the entry.
        attributes: of the entry.
    """

    name: str
    entry_path: Path
    attributes: EntryAttributes


@dataclass(frozen=True)
class Piece:
    """Files that are written together, from one or several entries.

    Attributes:
        files: below the export's folder.
        sources: what goes into them, in order.
    """

    files: tuple[str, ...]
    sources: tuple[Source, ...]


def name_sources(chosen: Sequence[Chosen], reserved: str = "") -> list[Source]:
    """Name each entry after its video, with its folders below the one that the user named.

    If names would be equal, digits of the video's hash are added to all of them, so that no name depends on the order.

    Args:
        chosen: the entries.
        reserved: characters that no name may hold; "_" replaces them.
    """
    candidates = [_candidates(one, number, reserved) for number, one in enumerate(chosen)]
    level = [0] * len(chosen)
    while True:
        names = [several[depth] for several, depth in zip(candidates, level, strict=True)]
        counts = Counter(name.casefold() for name in names)
        clashing = [row for row, name in enumerate(names) if counts[name.casefold()] > 1]
        deeper = [row for row in clashing if level[row] < len(candidates[row]) - 1]
        if not deeper:
            break
        for row in deeper:
            level[row] += 1
    return [Source(name, one.path, one.attributes) for name, one in zip(names, chosen, strict=True)]


def plan_pieces(sources: Sequence[Source], chosen: Format, output_name: str, per_shard: int) -> list[Piece]:
    """Assign the sources to files: one piece for each source, for each `per_shard` of them, or for all of them."""
    if chosen.is_one_file:
        return [Piece((output_name,), tuple(sources))]
    if not chosen.is_sharded:
        return [Piece(tuple(file.format(name=one.name) for file in chosen.files), (one,)) for one in sources]
    starts = range(0, len(sources), per_shard)
    return [
        Piece(tuple(file.format(shard=shard) for file in chosen.files), tuple(sources[start : start + per_shard]))
        for shard, start in enumerate(starts)
    ]


def _candidates(one: Chosen, number: int, reserved: str) -> tuple[str, ...]:
    """Names to try in order; the last differs from those of all other entries."""
    attributes = one.attributes
    # An entry may come from somebody else: of its own name only the last part counts.
    place = one.relative_path or Path(attributes.video_name.replace("\\", "/")).name
    parts = [*PurePosixPath(place).parts]
    if parts and attributes.source_kind != "image-folder":
        parts[-1] = _stem(parts[-1])
    name = "/".join(filter(None, (_safe(part) for part in parts))) or "video"
    for char in reserved:
        name = name.replace(char, "_")
    sampling = attributes.sampling.replace("=", "").replace(".", "p")
    sha256 = attributes.video_sha256
    return name, f"{name}-{sha256[:8]}", f"{name}-{sha256[:16]}-{sampling}", f"{name}-{sha256[:16]}-{sampling}-{number}"


def _stem(name: str) -> str:
    """The name without a video's or an image's suffix; other dots belong to it."""
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in VIDEO_SUFFIXES | IMAGE_SUFFIXES else name


def _safe(part: str) -> str:
    """One part of a path that any file system accepts and that stays in its folder: no "..", no control characters."""
    kept = "".join(c if c.isprintable() and c not in '/\\:*?"<>|' else "_" for c in printable(part)).strip(" .")
    while len(kept.encode()) > MAX_PART_BYTES:
        kept = kept[:-1]
    return kept
