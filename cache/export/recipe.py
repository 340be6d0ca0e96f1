"""Which frames of each video are exported, and what is done to their features: the options of `clipcache export`."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from ..common.errors import UsageError
from ..format.sampling import Sampling
from .formats import Format


@dataclass(frozen=True)
class Recipe:
    """What is done to the frames of each video, in this order: sampled, cut, pooled, normalised, cast.

    Attributes:
        fps: frames a second, by the rule of `Sampling`.
        every: every n-th frame of the video, >= 1.
        interval_s: one frame every so many seconds, > 0: the first frame of each interval since the video's first
            frame. For rates such as one frame in 1.5 s, which `fps` in thousandths cannot express.
        start: seconds on the video's clock, inclusive.
        end: seconds on the video's clock, exclusive.
        pool: mean over so many consecutive frames, >= 1; the last group may be smaller.
        normalize: whether each row is divided by its length; a row of zeros stays.
        dtype: "float16" or "float32"; None: as cached, or float32 where pooled or normalised.
        texts: prompts whose cosine with each frame becomes a column.

    Raises:
        UsageError: if a value is out of range, or frames are chosen in two ways.
    """

    fps: float | None = None
    every: int | None = None
    interval_s: float | None = None
    start: float | None = None
    end: float | None = None
    pool: int = 1
    normalize: bool = False
    dtype: str | None = None
    texts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        Sampling(self.fps, self.every)  # refuses what makes no sense before any video is read
        if self.interval_s is not None and (self.fps is not None or self.every is not None):
            raise UsageError("Choose frames by --fps, by --every or by --interval, not by several")
        if self.interval_s is not None and not 0.001 <= self.interval_s <= 1e6:
            raise UsageError(f"--interval must lie between 0.001 and 1000000 seconds, not {self.interval_s}")
        if not all(math.isfinite(value) for value in (self.start, self.end) if value is not None):
            raise UsageError(f"--start and --end are seconds, not {self.start} and {self.end}")
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise UsageError(f"--start {self.start:g} is not before --end {self.end:g}", "swap or widen them")
        if self.pool < 1:
            raise UsageError(f"--pool takes the mean of 1 frame or more, not of {self.pool}")

    @property
    def keeps_values(self) -> bool:
        """Whether features are exported as they are cached, without pooling or normalising."""
        return self.pool == 1 and not self.normalize

    def fit_for(self, chosen: Format) -> Recipe:
        """Return the recipe adapted to what the format's readers expect.

        Raises:
            UsageError: if scores are asked for and the format cannot hold them.
        """
        if self.texts and not chosen.takes_scores:
            raise UsageError(f"The format {chosen.name} cannot hold the scores of --text", "choose npz, parquet or csv")
        return dataclasses.replace(
            self, normalize=self.normalize or chosen.normalized, dtype=self.dtype or chosen.dtype
        )

    def as_dict(self) -> dict[str, object]:
        """The fields that differ from the defaults, for JSON."""
        defaults = Recipe()
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        changed = {name: value for name, value in values.items() if value != getattr(defaults, name)}
        return changed | ({"texts": list(self.texts)} if self.texts else {})


def parse_pool(text: str) -> int:
    """How many frames a group has, from "mean:16".

    Raises:
        UsageError: if `text` is anything else.
    """
    kind, _, count = text.partition(":")
    if kind != "mean" or not (count.isascii() and count.isdigit()):
        raise UsageError(f"--pool {text!r} is not of the form mean:N, such as mean:16")
    return int(count)
