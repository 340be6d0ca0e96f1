"""The formats, as a table: what files each gives, what it cannot hold, and which function writes it.

Adding a format is one row here and one function, an `Exporter`, in a module of its own.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, cast

if TYPE_CHECKING:
    from .rows import Rows


class Exporter(Protocol):
    """Writes the videos of one piece of an export, block by block where the format allows."""

    def __call__(self, videos: Iterable[Rows], paths: Sequence[Path]) -> None:
        """Write `videos` to new files at `paths`, one for each of the format's `files`.

        Each video is to be done with before the next one is asked for: its entry is open only until then.

        Raises:
            UsageError: if the format's library is not installed, or a value does not fit.
        """


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        name: as the user gives it.
        writer: "module:function" of its `Exporter`, in this package.
        files: names of a piece's files below the output folder, with {name} for the video's or {shard} for the
            piece's number; none where the output itself is the one file.
        reserved: characters that have a meaning in the format's names, so that no video's name may hold them.
        dtype: of the features unless the user says otherwise; None keeps the cached one.
        normalized: whether its readers take every feature to have length 1.
        takes_scores: whether it has a place for score columns.
    """

    name: str
    writer: str
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
        """Whether a piece holds several videos and is known by its number."""
        return any("{shard" in file for file in self.files)

    def load(self) -> Exporter:
        """Return the function that writes it."""
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
