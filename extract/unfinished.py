"""What is encoded of items that are not finished, kept in the cache so that an interrupted run goes on from there.

`<cache>/<model folder>/.unfinished/<sha16>-<recipe16>/` holds the outcome of each task of an item: features, times,
and how decoding went. The folder is named by all that the features depend on, so that nothing made in another way is
ever used, and it is removed when the entry is written. Of a task that is long by itself, a video in one piece, it
holds the pictures encoded so far, part by part. The disk is not waited for: what it loses is encoded again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..cache.common.atomic import replacing
from ..cache.common.errors import CacheError
from ..cache.format.sampling import Sampling
from ..cache.format.schema import Features
from ..cache.numpy_files import read_npz
from .inputs import HashedItem
from .video.collector import CollectedRows
from .video.delivery import DecodeReport
from .video.proof import Cuts, Picture
from .workers.messages import ImagesTask, SpanDone, SpanTask, WholeTask

SAVE_AFTER_S = 10.0
"""Nothing is kept of an item that takes no longer: many short clips cost no files."""

KEEP_DAYS = 30
"""What no run went on with for so long is removed."""

PART_PICTURES = 500
"""Pictures in a part of a task that is longer than a span."""

_FOLDER = ".unfinished"
_CHOICE = "in-one-piece.npz"
_ARRAYS = ("features", "rows", "timestamps_ms", "quality", "report", "by_count")
_PART = re.compile(r"(?P<start>\d+)-(?P<end>\d+)-(?P<checksum>\d+)\.npz")

Divided = SpanTask | WholeTask | ImagesTask
"""Tasks whose outcomes are features."""


@dataclass(frozen=True)
class Outcome:
    """A task that is done: what it showed and how decoding went, and (n, D) features, one row for each frame."""

    done: SpanDone
    features: Features


@dataclass(frozen=True)
class Beginning:
    """The first pictures of a long task, encoded: (n, D) features, and the checksum of the last picture."""

    features: Features
    checksum: int


class Unfinished:
    """The unfinished items of one run.

    Args:
        model_folder: the cache's folder for the model's weights.
        recipe: all that the features depend on beside the content and the sampling; values are text.
        on_problem: called with a sentence, once, if nothing can be written; the run goes on without.
    """

    def __init__(self, model_folder: Path, recipe: Mapping[str, str], on_problem: Callable[[str], None]) -> None:
        self._folder = model_folder / _FOLDER
        self._recipe = dict(recipe)
        self._on_problem: Callable[[str], None] | None = on_problem

    def item(self, item: HashedItem, sampling: Sampling) -> UnfinishedItem:
        """What is kept of one item."""
        recipe = {**self._recipe, "content": item.sha256, "sampling": str(sampling)}
        key = hashlib.sha256(json.dumps(recipe, sort_keys=True, allow_nan=False).encode()).hexdigest()
        return UnfinishedItem(self._folder / f"{item.sha256[:16]}-{key[:16]}", self.write)

    def write(self, path: Path, arrays: Mapping[str, Any]) -> None:
        """Write a file of arrays; without waiting for the disk, since a file that it loses costs only time."""
        if self._on_problem is None:
            return
        try:
            with replacing(path, durable=False) as temporary, temporary.open("xb") as file:
                np.savez(file, **arrays)
        except CacheError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return  # another run has finished the item, and removed the folder
            self._on_problem(f"what is done of unfinished videos is not kept: {error}")
            self._on_problem = None


class UnfinishedItem:
    """What is kept of one item, in a folder of its own."""

    def __init__(self, folder: Path, write: Callable[[Path, Mapping[str, Any]], None]) -> None:
        self._folder = folder
        self._write = write
        self._is_forgotten = False

    def choose(self, *, by_count: bool) -> None:
        """Note that the video must be decoded in one piece, and drop what is kept of its spans."""
        self.remove()
        self._write(self._folder / _CHOICE, {"by_count": np.array(by_count)})

    def chosen(self) -> bool | None:
        """`by_count` of the way to decode the video in one piece, if it must be; None where nothing is noted."""
        by_count = _read(self._folder / _CHOICE).get("by_count")
        return None if by_count is None else bool(by_count.any())

    def load(self, task: Divided) -> Outcome | None:
        """The outcome of a task, if it is here and sound."""
        stored = _read(self._folder / f"{_name(task)}.npz")
        with contextlib.suppress(KeyError, ValueError, TypeError):
            outcome = _outcome(stored)
            rows = len(outcome.done.collected.rows)
            if all(len(stored[name]) == rows for name in ("features", "timestamps_ms", "quality")):
                return outcome
        return None

    def save(self, task: Divided, outcome: Outcome) -> None:
        """Keep the outcome of a task, instead of its parts if there are any."""
        if outcome.done.unread:
            return  # images that could not be read now may be readable next time
        self._write(self._folder / f"{_name(task)}.npz", _arrays(outcome))
        shutil.rmtree(self._folder / _name(task), ignore_errors=True)

    def load_beginning(self, task: SpanTask | WholeTask) -> Beginning | None:
        """The pictures that are encoded of a long task, from the first on; None if there are none."""
        if self._is_forgotten:
            return None
        parts: list[Any] = []
        checksum = end = 0
        for start, stop, last, path in sorted(_parts(self._folder / _name(task))):
            features = _read(path).get("features")
            if start != end or features is None or features.shape[:1] != (stop - start,):
                continue  # damaged, or of a run that divided the pictures in another way
            parts.append(features)
            end, checksum = stop, last
        return Beginning(np.concatenate(parts), checksum) if parts else None

    def save_part(self, task: SpanTask | WholeTask, start: int, features: Features, checksum: int) -> None:
        """Keep the features of pictures `start` on; `checksum` is that of the last of them."""
        name = f"{start:010d}-{start + len(features):010d}-{checksum}.npz"
        self._write(self._folder / _name(task) / name, {"features": features})

    def forget_beginning(self, task: SpanTask | WholeTask) -> None:
        """Remove the parts of a long task: decoding gives other pictures now."""
        self._is_forgotten = True  # also where it cannot be removed
        shutil.rmtree(self._folder / _name(task), ignore_errors=True)

    def remove(self) -> None:
        """Remove all of it: the entry is written."""
        shutil.rmtree(self._folder, ignore_errors=True)


def remove_old(cache_dir: Path) -> None:
    """Remove what no run went on with for `KEEP_DAYS` days; what cannot be removed stays."""
    for folder in cache_dir.glob(f"*/{_FOLDER}/*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > KEEP_DAYS * 86_400:
                shutil.rmtree(folder, ignore_errors=True)


def _name(task: Divided) -> str:
    """Names a task among those of its item: by its frames, or by how the whole is decoded."""
    if isinstance(task, WholeTask):
        return f"whole-{'by-count' if task.by_count else 'by-time'}-{task.threads or 'any'}"
    if isinstance(task, ImagesTask):
        return f"images-{task.rows[0]:010d}-{task.rows[-1] + 1:010d}"
    segments = task.index.segments[task.span.first : task.span.end]
    return f"span-{segments[0].first_row:010d}-{segments[-1].first_row + segments[-1].rows:010d}"


def _parts(folder: Path) -> Iterator[tuple[int, int, int, Path]]:
    """Start, end and checksum of each part."""
    for path in folder.glob("*.npz"):
        if match := _PART.fullmatch(path.name):
            yield int(match["start"]), int(match["end"]), int(match["checksum"]), path


def _read(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a file; none if it is not there or not sound. Each array has a checksum (CRC-32), as zip has it."""
    try:
        return read_npz(path, _ARRAYS)
    except (OSError, ValueError):
        return {}


def _arrays(outcome: Outcome) -> dict[str, npt.NDArray[Any]]:
    done, report = outcome.done, outcome.done.report
    said = {
        "decoders": sorted(report.decoders),
        "errors": report.errors,
        "corrupt": report.corrupt,
        "alone": sorted(report.cuts.alone),
        "continued": sorted(report.cuts.continued),
        "is_disordered": report.is_disordered,
        "timeline": report.timeline,
        "size": [done.width, done.height],
    }
    return {
        "features": outcome.features,
        "rows": done.collected.rows,
        "timestamps_ms": done.collected.timestamps_ms,
        "quality": done.collected.quality,
        "report": np.frombuffer(json.dumps(said, allow_nan=False).encode(), np.uint8),
    }


def _outcome(stored: Mapping[str, npt.NDArray[Any]]) -> Outcome:
    """The reverse of `_arrays`; each frame counts as a picture of its own."""
    said = json.loads(stored["report"].tobytes())
    alone, continued = ({Picture(*one) for one in said[name]} for name in ("alone", "continued"))
    report = DecodeReport(
        decoders=set(said["decoders"]),
        errors=said["errors"],
        corrupt=said["corrupt"],
        cuts=Cuts(alone, continued),
        is_disordered=said["is_disordered"],
        timeline=said["timeline"],
    )
    count = len(stored["rows"])
    rows = CollectedRows(stored["rows"], stored["timestamps_ms"], np.arange(count), count, stored["quality"])
    return Outcome(SpanDone(rows, report, *said["size"]), stored["features"])
