"""What is exported of one video: its rows. A row is a frame, or the mean of several."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..format.schema import EntryAttributes, Features


@dataclass(frozen=True)
class Rows:
    """One video as it is exported: R rows of D values.

    Attributes:
        name: the video's name in the export, "holiday/beach"; unique in it.
        entry_path: of the entry that the rows come from.
        attributes: of the entry; `sampling` is that of the frames chosen.
        timestamps_ms: (R,) float64, presentation time of a row's first frame in milliseconds.
        frame_index: (R,) int64, position of a row's first frame in the video.
        frame_names: R file names, of images; None for a video.
        fps: rows a second; 0.0 for images.
        dtype: of the features, float16 or float32.
        cosines: by column name, (R,) float32 in [-1, 1]: "cosine:PROMPT", or "mean_cosine:PROMPT" over pooled frames.
        recipe: what was done to the frames, as `Recipe.as_dict` says it.
        blocks: iterates over the features in order, arrays (r, D), while the entry is open.
    """

    name: str
    entry_path: Path
    attributes: EntryAttributes
    timestamps_ms: npt.NDArray[np.float64]
    frame_index: npt.NDArray[np.int64]
    frame_names: list[str] | None
    fps: float
    dtype: np.dtype[Any]
    cosines: Mapping[str, npt.NDArray[np.float32]]
    recipe: Mapping[str, object]
    blocks: Callable[[], Iterator[Features]] = field(repr=False)

    def __len__(self) -> int:
        return len(self.timestamps_ms)

    @property
    def shape(self) -> tuple[int, int]:
        """(R, D)."""
        return len(self), self.attributes.embed_dim

    @property
    def metadata(self) -> dict[str, Any]:
        """What `import` needs to make the entry again: its attributes, `rows_per_second` and `recipe`, for JSON."""
        known = dataclasses.asdict(self.attributes)
        return known | {"rows_per_second": self.fps, "recipe": dict(self.recipe)}

    @property
    def metadata_json(self) -> str:
        """The metadata as one line."""
        return json.dumps(self.metadata, allow_nan=False)

    def features(self) -> Features:
        """(R, D), all in memory: for formats that cannot be written in pieces."""
        whole: Features = np.concatenate(list(self.blocks()))
        return whole

    def numbered_blocks(self) -> Iterator[tuple[slice, Features]]:
        """The blocks, each with the rows that it holds."""
        start = 0
        for block in self.blocks():
            yield slice(start, start + len(block)), block
            start += len(block)
