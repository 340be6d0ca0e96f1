"""One entry of the cache: data are read when asked for, and no file is kept open."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Iterator
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from .common.errors import UsageError
from .common.paths import StrPath
from .common.quoting import quoted
from .format.blocks import BLOCK_ROWS
from .format.guard import OpenEntry, raises_entry_error
from .format.read import open_entry
from .format.sampling import Sampling, time_range
from .format.schema import ATTRIBUTE_TYPES, TIMED_KINDS, EntryAttributes, Features

Scalar = TypeVar("Scalar", bound=np.generic)


if TYPE_CHECKING:

    class _AttributesOfEntry(EntryAttributes):
        """What type checkers and editors see: the fields themselves."""

else:
    _AttributesOfEntry = type(
        "_AttributesOfEntry", (), {name: property(attrgetter(f"attributes.{name}")) for name in ATTRIBUTE_TYPES}
    )


@dataclasses.dataclass
class _Held:
    """The open file of an entry while it is kept open; None otherwise."""

    entry: OpenEntry | None = None


class Entry(_AttributesOfEntry):
    """Features of the frames of one video (or image, or image folder) under one set of weights.

    Nothing is read before it is asked for, and the file is closed after each read. `features` is read anew each time;
    attributes, timestamps and positions are kept.

    Every attribute of `EntryAttributes` is an attribute of the entry too: `entry.fps`, `entry.video_name`.

    Reading raises `EntryError` if the file is missing, damaged, foreign, hostile or of a newer schema.
    """

    def __init__(self, path: StrPath) -> None:
        self.path = Path(path)
        self._rows: npt.NDArray[np.int64] | None = None
        self._held = _Held()  # shared with all views

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    def __len__(self) -> int:
        return len(self.timestamps_ms)

    @property
    def model_dir(self) -> str:
        """Name of the folder of the model, "ViT-B-32-40d36571"."""
        return self.path.absolute().parent.parent.name

    @cached_property
    def attributes(self) -> EntryAttributes:
        """All attributes of the entry. Those of a slice are the same, except for `sampling`."""
        return self._head[0]

    @property
    def timestamps_ms(self) -> npt.NDArray[np.float64]:
        """(N,) float64, presentation time of each frame in milliseconds, non-decreasing; all 0.0 for images."""
        return self._keep(self._head[1])

    @property
    def frame_index(self) -> npt.NDArray[np.int64]:
        """(N,) int64, position of each frame in presentation order, strictly increasing."""
        return self._keep(self._head[2])

    @property
    def zero_ms(self) -> float:
        """Timestamp of the entry's first frame, in milliseconds; the same for every slice: ticks count from it."""
        return float(self._head[1][0])

    @property
    def frame_names(self) -> list[str] | None:
        """N file names of images in natural order; None for a video."""
        with self.opened() as entry:
            if entry.frame_names is None:
                return None
            names = entry.frame_names[:]
        return [name.decode("utf-8", "replace") for name in self._keep(names)]

    @property
    def quality(self) -> dict[str, npt.NDArray[np.float32]]:
        """Optional measures of each frame: (N,) float32 arrays by name."""
        with self.opened() as entry:
            return {name: self._keep(values[:]) for name, values in entry.quality.items()}

    @property
    def features(self) -> Features:
        """(N, D) float16 or float32, as the model returned them: not normalised."""
        with self.opened() as entry:
            if self._rows is None:
                whole: Features = entry.features[:]
                return whole
            kept = np.empty((len(self._rows), entry.features.shape[1]), entry.features.dtype)
            filled = 0
            for block in self._blocks(entry, BLOCK_ROWS):
                kept[filled : filled + len(block)] = block
                filled += len(block)
            return kept

    def iter_features(self, block: int = BLOCK_ROWS) -> Iterator[Features]:
        """Iterate over the features in order, `block` rows or fewer at a time, so that memory stays bounded.

        The file stays open while the iteration lasts, so that all pieces are of one version of the entry.
        """
        with self.opened() as entry:
            yield from self._blocks(entry, block)

    @contextlib.contextmanager
    def kept_open(self) -> Iterator[None]:
        """Keep the file open while the context lasts, for all that is read of the entry and of its slices."""
        with contextlib.ExitStack() as stack:  # which keeps the caller's own exceptions out of `open_entry`
            self._held.entry = stack.enter_context(self._opened_anew())
            try:
                yield
            finally:
                self._held.entry = None
                stack.close()

    @contextlib.contextmanager
    def opened(self) -> Iterator[OpenEntry]:
        """The checked, open file: the one kept open, else opened for this context only."""
        if self._held.entry is None:
            with self._opened_anew() as entry:
                yield entry
        else:
            with raises_entry_error(self.path):
                yield self._held.entry

    @contextlib.contextmanager
    def _opened_anew(self) -> Iterator[OpenEntry]:
        with open_entry(self.path) as entry:
            yield entry

    def slice(
        self,
        fps: float | None = None,
        every: int | None = None,
        start: float | None = None,
        end: float | None = None,
    ) -> Entry:
        """The entry reduced to some of its frames, as a view that reads only those.

        Sampling comes first, then the time range, so the frames do not depend on where the range starts, nor on whether
        a slice is sliced again. Ticks of `fps` count from the first frame that the entry holds: if decoding lost
        the video's first frame (`complete` is False), they differ from those of the whole video. An image folder
        has no times: `fps`, `start` and `end` have no effect.

        Args:
            fps: frames a second, by the rule of `Sampling`.
            every: every n-th frame of the video.
            start: seconds on the clock of `timestamps_ms`, inclusive.
            end: seconds, exclusive.

        Raises:
            UsageError: if an argument is out of range, or the entry does not hold the frames asked for.
        """
        has_clock = self.source_kind in TIMED_KINDS
        wanted = Sampling(fps if has_clock else None, every)
        held = Sampling.parse(self.sampling)
        if wanted.is_all:
            wanted = held
        if not held.covers(wanted):
            raise UsageError(
                f"{quoted(self.path)} holds the frames of {held}, from which {wanted} cannot be taken",
                "extract the video again with every frame",
            )
        _, timestamps, index = self._head
        rows = self._file_rows
        if wanted != held:
            rows = np.intersect1d(rows, wanted.rows(timestamps, index), assume_unique=True)
        if has_clock:
            rows = rows[time_range(timestamps[rows], start, end)]
        return self._view(rows, str(wanted))

    def take(self, rows: npt.NDArray[np.int64]) -> Entry:
        """The entry reduced to the frames at some positions, as a view that reads only those.

        Args:
            rows: (K,) positions in 0..N-1, strictly increasing.
        """
        return self._view(self._file_rows[rows], self.sampling)

    @property
    def _file_rows(self) -> npt.NDArray[np.int64]:
        """(N,) row of each frame in the file."""
        return self._keep(np.arange(len(self._head[1])))

    def _view(self, file_rows: npt.NDArray[np.int64], sampling: str) -> Entry:
        view = copy.copy(self)
        view._rows = file_rows
        view.attributes = dataclasses.replace(self.attributes, sampling=sampling)
        return view

    @cached_property
    def _head(self) -> tuple[EntryAttributes, npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """What opening the file gives, of all its frames, also for a slice."""
        with self.opened() as entry:
            return entry.attributes, entry.timestamps_ms, entry.frame_index

    def _keep(self, whole: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        return whole if self._rows is None else whole[self._rows]

    def _blocks(self, entry: OpenEntry, block: int) -> Iterator[Features]:
        if block < 1:
            raise UsageError(f"A block must have 1 row or more, not {block}")
        for start in range(0, entry.features.shape[0], block):
            if self._rows is None:
                yield entry.features[start : start + block]
                continue
            first, last = np.searchsorted(self._rows, (start, start + block))
            if first < last:
                low, high = self._rows[first], self._rows[last - 1] + 1
                yield entry.features[low:high][self._rows[first:last] - low]
