"""What an import reads from files, and the rules by which it does: adding one is a row in `RULES` and one `Reader`."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from ..common.errors import UsageError
from ..common.paths import StrPath, is_file, is_folder
from ..common.quoting import quoted


@dataclass(frozen=True)
class Found:
    """The features of one video as a file holds them, unchecked.

    Attributes:
        name: of the video, without its suffix; may hold folders.
        path: file that the features come from.
        features: any array; an import needs floats (N, D).
        timestamps_ms: of each row, milliseconds; None if the file does not say.
        frame_index: position of each row in the video; None if the file does not say.
        fps: frames a second, of the video or of the rows, as the file says; None if it does not.
    """

    name: str
    path: Path
    features: npt.NDArray[Any]
    timestamps_ms: npt.NDArray[Any] | None = None
    frame_index: npt.NDArray[Any] | None = None
    fps: float | None = None


class Reader(Protocol):
    """Reads the features of all videos in one file, one video at a time."""

    def __call__(self, path: Path) -> Iterator[Found]:
        """Yield what is in the file.

        Raises:
            ContentError: if it cannot be read, or holds anything else.
        """


@dataclass(frozen=True)
class Rule:
    """How files with one suffix are read.

    Attributes:
        name: follows "imported:" in the entry's attribute `decoder`.
        suffix: how the names of its files end.
        reader: "module:function" of its `Reader`, in this package.
    """

    name: str
    suffix: str
    reader: str

    def load(self) -> Reader:
        """Return the function that reads its files."""
        module, function = self.reader.split(":")
        return cast(Reader, getattr(importlib.import_module(f".{module}", __package__), function))


RULES = (
    Rule("video_features", "_clip.npy", "arrays:read_triple"),
    Rule("npz", ".npz", "arrays:read_npz"),
    Rule("h5", ".h5", "hdf5:read_flat"),
    Rule("h5", ".hdf5", "hdf5:read_flat"),
    Rule("clip-video-encode", ".tar", "webdataset_tar:read_shard"),
)


def rule_of(path: Path) -> Rule | None:
    """The rule for a file, by the end of its name; None if there is none."""
    return next((rule for rule in RULES if path.name.endswith(rule.suffix) and not path.name.startswith(".")), None)


def find_files(targets: Sequence[StrPath]) -> list[tuple[Path, Rule]]:
    """The files that hold features: those named, and those in the folders named, at any depth, each with its rule.

    Raises:
        UsageError: if a target does not exist, is of no known kind, or holds nothing of a known kind.
    """
    found: dict[Path, Rule] = {}
    for target in map(Path, targets):
        files = sorted(target.rglob("*")) if is_folder(target) else [target]
        ruled = {path: rule for path in files if is_file(path) and (rule := rule_of(path))}
        if not ruled:
            known = ", ".join(f"*{rule.suffix}" for rule in RULES)
            raise UsageError(f"{quoted(target)} holds no features to import; known are {known}")
        found |= ruled
    return list(found.items())


def rate(values: npt.NDArray[Any] | None) -> float | None:
    """The one rate that an array holds; None if it holds none or several, or is not above 0."""
    if values is None or values.size != 1 or values.dtype.kind not in "fiu":
        return None
    number = float(np.ravel(values)[0])
    return number if 0 < number < math.inf else None
