"""The formats as a table: which files each writes, what it cannot hold, and which function writes it.

Adding a format is one row here and one function, an `Exporter`, in a module of its own. Another package adds one by an
entry point of the group `clipcache.export_formats` that names a `Format`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from ..common.errors import UsageError
from ..common.quoting import first_line

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from .rows import Rows

GROUP = "clipcache.export_formats"


class Exporter(Protocol):
    """Writes the videos of one piece of an export, block by block where the format allows."""

    def __call__(self, videos: Iterable[Rows], paths: Sequence[Path]) -> None:
        """Write `videos` to new files at `paths`, one for each of the format's `files`.

        Each video must be written before the next one is asked for: its entry is open only until then.

        Raises:
            UsageError: if the format's library is not installed, or a value does not fit.
        """


@dataclass(frozen=True)
class Format:
    """One format of an export.

    Attributes:
        name: as `--format` takes it.
        writer: its `Exporter`, or where that is, "module:function" in this package.
        files: names of a piece's files below the output folder, with {name} for the video's or {shard} for the
            piece's number; empty if the output is one file.
        reserved: characters that have a meaning in the format's names; "_" replaces them in the names of videos.
        dtype: of the features unless the user says otherwise; None keeps the cached one.
        normalized: whether its readers expect features of length 1.
        takes_scores: whether it can hold score columns.
    """

    name: str
    writer: str | Exporter
    files: tuple[str, ...] = ()
    reserved: str = ""
    dtype: Literal["float16", "float32"] | None = None
    normalized: bool = False
    takes_scores: bool = True

    @property
    def is_one_file(self) -> bool:
        """Whether all videos go into one file, which is the output itself."""
        return not self.files

    @property
    def is_sharded(self) -> bool:
        """Whether a piece holds several videos and is named by its number."""
        return any("{shard" in file for file in self.files)

    def load(self) -> Exporter:
        """Return the function that writes it."""
        if not isinstance(self.writer, str):
            return self.writer
        module, function = self.writer.split(":")
        return cast(Exporter, getattr(importlib.import_module(f".{module}", __package__), function))


FORMATS = {
    one.name: one
    for one in (
        Format(
            "numpy",
            "numpy_triple:write",
            ("{name}_clip.npy", "{name}_timestamps_ms.npy", "{name}_fps.npy"),
            takes_scores=False,
        ),
        Format("npz", "npz:write", ("{name}.npz",)),
        Format("pickle", "pickled:write", ("{name}.pkl",)),
        Format("torch", "torch_dict:write", ("{name}.pt",)),
        Format("h5", "hdf5:write_flat", reserved="/", takes_scores=False),
        Format("h5-nested", "hdf5:write_nested", reserved="/"),
        Format("parquet", "parquet:write_frames", dtype="float32"),
        Format("parquet-videos", "parquet:write_videos", dtype="float32"),
        Format("csv", "csv_table:write"),
        Format(
            "clip-retrieval",
            "clip_retrieval:write",
            ("img_emb/img_emb_{shard:05d}.npy", "metadata/metadata_{shard:05d}.parquet"),
            dtype="float16",
            normalized=True,
        ),
        # webdataset ends a sample's key at the first dot of the file name.
        Format("webdataset", "webdataset_tar:write", ("{shard:05d}_clip_embeddings.tar",), reserved="."),
    )
}


def entry_points() -> list[EntryPoint]:
    """Every format that a package registered, sorted by name."""
    from importlib import metadata  # takes longer to import than all of this

    return sorted(metadata.entry_points(group=GROUP), key=lambda point: point.name)


def find_format(name: str) -> Format:
    """The format that `--format` names: one of `FORMATS`, else one that a package registered.

    Raises:
        UsageError: if there is none, or what was registered is not a format of that name.
    """
    if name in FORMATS:
        return FORMATS[name]
    points = {point.name: point for point in entry_points()}
    if name not in points:
        raise UsageError(f"There is no export format {name!r}", f"choose one of {', '.join([*FORMATS, *points])}")
    point = points[name]
    try:
        found: Any = point.load()
    except Exception as error:
        raise UsageError(
            f"The export format {point.value} cannot be loaded ({first_line(error)})", "fix or uninstall its package"
        ) from error
    if not isinstance(found, Format) or found.name != name:
        raise UsageError(f"{point.value} is not a Format with the name {name!r}", "fix or uninstall its package")
    return found
