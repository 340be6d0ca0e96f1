"""What an import reads from files, and the rules by which it does: adding one is a row in `RULES` and one `Reader`."""

from __future__ import annotations

import contextlib
import importlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from ..common.errors import ContentError, UsageError
from ..common.media_types import VIDEO_SUFFIXES
from ..common.paths import StrPath, is_file, is_folder
from ..common.quoting import first_line, quoted


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
        frame_names: file name of each row's image; None for a video, or if the file does not say.
        metadata: what else the file says, from JSON, unchecked; None if it says nothing.
    """

    name: str
    path: Path
    features: npt.NDArray[Any]
    timestamps_ms: npt.NDArray[Any] | None = None
    frame_index: npt.NDArray[Any] | None = None
    fps: float | None = None
    frame_names: list[str] | None = None
    metadata: Mapping[str, Any] | None = None


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
        folder: name of the folder that its files lie in; "" for any.
        is_vague: whether others' files have that suffix too. In a folder such files count only beside a video or a JSON
            file of the same name.
    """

    name: str
    suffix: str
    reader: str
    folder: str = ""
    is_vague: bool = False

    def load(self) -> Reader:
        """Return the function that reads its files."""
        module, function = self.reader.split(":")
        return cast(Reader, getattr(importlib.import_module(f".{module}", __package__), function))

    def fits(self, path: Path, *, named: bool) -> bool:
        """Whether it is for a file, which the user named, or which lies in a folder that the user named."""
        if not path.name.endswith(self.suffix) or path.name.startswith("."):
            return False
        if self.folder and path.parent.name != self.folder:
            return False
        return named or not self.is_vague or any(is_file(path.with_suffix(one)) for one in (".json", *VIDEO_SUFFIXES))


RULES = (
    Rule("video_features", "_clip.npy", "arrays:read_triple"),
    Rule("clip-retrieval", ".npy", "clip_retrieval:read_part", folder="img_emb"),
    Rule("clip-video-encode", ".npy", "arrays:read_single", is_vague=True),
    Rule("npz", ".npz", "arrays:read_npz"),
    Rule("torch", ".pt", "torch_dict:read_torch"),
    Rule("h5", ".h5", "hdf5:read_videos"),
    Rule("h5", ".hdf5", "hdf5:read_videos"),
    Rule("parquet", ".parquet", "parquet:read_parquet"),
    Rule("clip-video-encode", ".tar", "webdataset_tar:read_shard"),
)
_PICKLES = (".pkl", ".pickle")


def rule_of(path: Path, *, named: bool = True) -> Rule | None:
    """The rule for a file, which the user named or not; None if there is none."""
    return None if _belongs_to_another(path) else next((one for one in RULES if one.fits(path, named=named)), None)


def _belongs_to_another(path: Path) -> bool:
    """Whether a file is read together with another one: of a triple, or the metadata of clip-retrieval."""
    if path.suffix == ".parquet":
        return path.parent.name == "metadata" and is_folder(path.parent.parent / "img_emb")
    stems = [path.name.removesuffix(end) for end in ("_timestamps_ms.npy", "_fps.npy") if path.name.endswith(end)]
    return any(is_file(path.with_name(f"{stem}_clip.npy")) for stem in stems)


def find_files(targets: Sequence[StrPath]) -> list[tuple[Path, Rule]]:
    """The files that hold features: those named, and those in the folders named, at any depth, each with its rule.

    Raises:
        UsageError: if a target does not exist, is of no known kind, or holds nothing of a known kind.
    """
    found: dict[Path, Rule] = {}
    for target in map(Path, targets):
        named = not is_folder(target)
        files = [target] if named else sorted(target.rglob("*"))
        ruled = {path: rule for path in files if is_file(path) and (rule := rule_of(path, named=named))}
        if not ruled:
            raise UsageError(*_nothing_in(target, files))
        found |= ruled
    return list(found.items())


def _nothing_in(target: Path, files: Sequence[Path]) -> tuple[str, str]:
    """What is wrong with a target without features, and what to do."""
    if any(path.suffix in _PICKLES and is_file(path) for path in files):
        return (
            f"{quoted(target)} holds pickles, which are not read: a pickle can run any code",
            "export the features again with --format npz, or save them by numpy.savez",
        )
    known = ", ".join(dict.fromkeys(f"*{rule.suffix}" for rule in RULES))
    return f"{quoted(target)} holds no features to import; known are {known}", ""


def described(name: str, path: Path, features: npt.NDArray[Any], known: Mapping[str, Any]) -> Found:
    """The features of a video with what JSON says of it.

    Raises:
        ContentError: if that is not lists.
    """
    try:
        return Found(
            name,
            path,
            features,
            _array(known.get("timestamps_ms")),
            _array(known.get("frame_index")),
            rate(_array(known.get("fps"))),
            texts(known.get("frame_names")),
            known,
        )
    except (ValueError, TypeError, OverflowError) as error:
        raise ContentError(
            f"{quoted(path)} cannot be imported: what is said of {name!r} makes no sense ({first_line(error)})",
            "correct it",
        ) from error


def _array(value: object) -> npt.NDArray[Any] | None:
    return None if value is None else np.asarray(value)


def rate(values: npt.NDArray[Any] | None) -> float | None:
    """The one rate that an array holds; None if it holds none or several, or is not above 0."""
    if values is None or values.size != 1 or values.dtype.kind not in "fiu":
        return None
    number = float(np.ravel(values)[0])
    return number if 0 < number < math.inf else None


def texts(values: npt.NDArray[Any] | Sequence[object] | None) -> list[str] | None:
    """The texts of a column; None if it is none, or holds anything else.

    Raises:
        ValueError: if it is not a list.
    """
    if values is None:
        return None
    is_list = values.ndim == 1 if isinstance(values, np.ndarray) else isinstance(values, (list, tuple))
    if not is_list:
        raise ValueError("the names of frames are not a list")
    listed = list(values)
    decoded = [one.decode("utf-8", "replace") if isinstance(one, bytes) else one for one in listed]
    return [str(one) for one in decoded] if all(isinstance(one, str) for one in decoded) else None


def json_object(text: object) -> dict[str, Any] | None:
    """The object that JSON text holds, alone or in an array without dimensions; None if it holds none."""
    if isinstance(text, np.ndarray) and text.shape == () and text.dtype.kind == "U":
        text = text.item()
    with contextlib.suppress(ValueError, RecursionError):
        held = json.loads(text) if isinstance(text, str) else None
        return held if isinstance(held, dict) else None
    return None
