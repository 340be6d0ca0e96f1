"""Schema v2 of an entry: its attributes and datasets, and what they must be.

| dataset          | shape  | dtype              |                                             |
|------------------|--------|--------------------|---------------------------------------------|
| `features`       | (N, D) | float16 or float32 | as the model returns them, not normalised   |
| `timestamps_ms`  | (N,)   | float64            | presentation time, milliseconds             |
| `frame_index`    | (N,)   | int64              | position in presentation order              |
| `frame_names`    | (N,)   | UTF-8 bytes        | images only: the file name of each          |
| `quality/<name>` | (N,)   | float32            | optional measures of each frame             |

N >= 1. Attributes are scalars of the root group: int64, float64, bool, or UTF-8 text of fixed length. Version 1 lacks
`timeline` and `frames_corrupt`; it is read as if they were not known.
"""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from ..common.errors import ContentError, EntryError
from ..common.quoting import quoted

SCHEMA_VERSION = 2
SOURCE_KINDS = ("video", "image", "image-folder", "audio")
TIMED_KINDS = ("video", "audio")
"""Kinds whose frames have timestamps; images have none."""

IMPORTED_PREFIX = "imported:"
"""How the attribute `decoder` of imported entries begins."""

Features = npt.NDArray[np.float16] | npt.NDArray[np.float32]
FEATURE_DTYPES = (np.dtype("<f2"), np.dtype("<f4"))
TIME_DTYPE, INDEX_DTYPE, QUALITY_DTYPE = np.dtype("<f8"), np.dtype("<i8"), np.dtype("<f4")
NUMBER_DTYPES = {bool: np.dtype(np.bool_), int: np.dtype("<i8"), float: np.dtype("<f8")}
"""How attributes that are not text are stored."""

MOVE_OUT = "move it out of the cache"
"""What to do about a file that is not an entry; it may be the user's own, so no advice is to remove it."""
EXTRACT_AGAIN = f"{MOVE_OUT} and extract the video again"
"""What to do about an entry that is damaged."""

# A file name has at most 255 bytes; each may become an escape of four characters.
MAX_TEXT_BYTES = 4096
# Within these, whole microseconds times thousandths of a frame a second stay inside int64 (see sampling).
MAX_TIMESTAMP_MS = 1e15
MAX_SPAN_MS = 100 * 86_400_000.0


@dataclass(frozen=True)
class EntryAttributes:
    """What is known of an entry as a whole: the video, the model, and how the features were made.

    Attributes:
        schema_version: version of this schema: 2, or 1.
        clipcache_version: version of the program that wrote the entry.
        created: when, ISO 8601 in UTC.
        complete: whether every frame that the sampling asks for was decoded.
        source_kind: "video", "image" or "image-folder"; "audio" for the sound of a video or of an audio file, whose
            "frames" are windows.
        video_name: file or folder name with its suffix, as `storable_text` gives it.
        video_sha256: of the content, 64 hex digits.
        video_bytes: size of the file, or of the images together, in bytes.
        fps: average frames a second; 0.0 for images.
        duration_s: seconds; 0.0 for images.
        width: pixels, as shown (after rotation).
        height: pixels, as shown (after rotation).
        rotation: degrees that were applied, 0, 90, 180 or 270.
        codec: name of the codec, "h264"; the format for images.
        frames_expected: frames that the container announces (the whole video, before sampling).
        frames_decoded: frames that could be decoded, out of those that the sampling asks for.
        model: OpenAI's name, "ViT-B/32".
        weights_sha256: of the weights file, 64 hex digits.
        embed_dim: D, the length of a feature.
        input_size: pixels of the square that the model sees, 224.
        logit_scale: factor from cosine to logit, about 100.
        precision: "fp32", "bf16" or "fp16".
        preprocess: name of the preprocessing.
        sampling: the frames held, "all", "fps=2" or "every=16".
        decoder: "decord", "pyav", "decord+pyav" or "pillow".
        decoder_version: its version.
        torch_version: version of torch that encoded.
        timeline: where the times come from: "container", "doubled times parted", "restarts joined" or "from frame
            rate"; "" for images and sound, and where it is not known (version 1, imports).
        frames_corrupt: frames that the decoder marked as corrupt, of those in this entry; -1 where they were not
            counted.
    """

    schema_version: int
    clipcache_version: str
    created: str
    complete: bool
    source_kind: str
    video_name: str
    video_sha256: str
    video_bytes: int
    fps: float
    duration_s: float
    width: int
    height: int
    rotation: int
    codec: str
    frames_expected: int
    frames_decoded: int
    model: str
    weights_sha256: str
    embed_dim: int
    input_size: int
    logit_scale: float
    precision: str
    preprocess: str
    sampling: str
    decoder: str
    decoder_version: str
    torch_version: str
    timeline: str = ""
    frames_corrupt: int = -1


ATTRIBUTE_TYPES: dict[str, type] = {
    name: kind
    for name, kind in typing.get_type_hints(EntryAttributes).items()
    if name in {field.name for field in dataclasses.fields(EntryAttributes)}
}


ADDED_IN_VERSION_2 = ("timeline", "frames_corrupt")


def attributes_of_version(version: int) -> dict[str, type]:
    """Names and types of the attributes that entries of a schema version hold."""
    left_out = ADDED_IN_VERSION_2 if version < 2 else ()
    return {name: kind for name, kind in ATTRIBUTE_TYPES.items() if name not in left_out}


def utc_now() -> str:
    """The time of an entry's `created`, now: ISO 8601 in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def storable_text(text: str) -> str:
    r"""Text that HDF5 can hold: bytes that are not UTF-8 (lone surrogates in Python) become escapes, `caf\xe9.mp4`.

    All other text stays as it is.
    """
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def write_attributes(group: h5py.Group, attributes: EntryAttributes) -> None:
    """Write all attributes to `group`.

    Raises:
        ContentError: if a value does not have the type of its field, or is text of more than 4096 bytes.
    """
    for name, kind in attributes_of_version(attributes.schema_version).items():
        value = getattr(attributes, name)
        if not _is_a(value, kind):
            raise ContentError(f"Attribute {name} must be {kind.__name__}, not {value!r}")
        if kind is str:
            value = storable_text(value).encode()
            if len(value) > MAX_TEXT_BYTES:
                raise ContentError(f"Attribute {name} has {len(value)} bytes; at most {MAX_TEXT_BYTES} are stored")
            group.attrs.create(name, value, dtype=h5py.string_dtype("utf-8", max(1, len(value))))
        else:
            group.attrs.create(name, value, dtype=NUMBER_DTYPES[kind])


def read_attributes(group: h5py.Group, path: Path) -> EntryAttributes:
    """Read and check all attributes of `group`; `path` is named in errors.

    Raises:
        EntryError: if the schema is newer, or an attribute is missing or not the scalar it must be.
    """
    version = read_schema_version(group, path)
    if not 1 <= version <= SCHEMA_VERSION:
        raise EntryError(
            f"{quoted(path)} has schema version {version}, this clipcache reads 1 to {SCHEMA_VERSION}",
            "upgrade clipcache",
        )
    types = attributes_of_version(version)
    return EntryAttributes(**{name: _read_attribute(group, name, kind, path) for name, kind in types.items()})


def read_schema_version(group: h5py.Group, path: Path) -> int:
    """The schema version that `group` declares; `path` is named in errors.

    Raises:
        EntryError: if it declares none, as a foreign HDF5 file does, or one that is not an integer.
    """
    if not h5py.h5a.exists(group.id, b"schema_version"):
        raise EntryError(f"{quoted(path)} is an HDF5 file but not a clipcache entry", MOVE_OUT)
    version: int = _read_attribute(group, "schema_version", int, path)
    return version


def timeline_problem(timestamps_ms: npt.NDArray[np.float64], frame_index: npt.NDArray[np.int64]) -> str | None:
    """What is wrong with the times (N,) in milliseconds and positions (N,) of an entry's frames; None if nothing."""
    if not (np.abs(timestamps_ms) < MAX_TIMESTAMP_MS).all():
        return "a timestamp is not finite"
    if (np.diff(timestamps_ms) < 0).any():
        return "timestamps decrease"
    if timestamps_ms[-1] - timestamps_ms[0] > MAX_SPAN_MS:
        return "timestamps span more than 100 days"
    if frame_index[0] < 0 or (np.diff(frame_index) <= 0).any():
        return "frame_index does not increase from 0 or more"
    return None


def _is_a(value: object, kind: type) -> bool:
    """Whether a value can be stored as `kind`: bool only as bool; NumPy scalars count as Python's numbers."""
    if kind is bool or isinstance(value, (bool, np.bool_)):
        return kind is bool and isinstance(value, (bool, np.bool_))
    if kind is int:
        return isinstance(value, (int, np.integer))
    if kind is float:
        return isinstance(value, (int, float, np.integer, np.floating))
    return isinstance(value, kind)


def _read_attribute(group: h5py.Group, name: str, kind: type, path: Path) -> typing.Any:
    """One attribute, through HDF5's own calls: `group.attrs` takes three times as long, and checks less."""
    if not h5py.h5a.exists(group.id, name.encode()):
        raise EntryError(f"{quoted(path)} lacks the attribute {name}", EXTRACT_AGAIN)
    # Type and shape are checked before a byte is read: a hostile attribute may declare any size.
    attribute = h5py.h5a.open(group.id, name.encode())
    stored = attribute.get_type()
    dtype, memory_type = _memory_type(stored, kind)
    if dtype is None or attribute.get_space().get_simple_extent_type() != h5py.h5s.SCALAR:
        raise EntryError(f"{quoted(path)} has an attribute {name} that is not one {kind.__name__}", MOVE_OUT)
    value = np.empty((), dtype)
    attribute.read(value, mtype=memory_type)
    return value.item().decode() if kind is str else kind(value)


def _memory_type(stored: typing.Any, kind: type) -> tuple[str | None, typing.Any]:
    """NumPy's and HDF5's type to read a stored attribute of `kind` into; (None, None) if it is of another kind."""
    found, size = stored.get_class(), stored.get_size()
    if kind is str:
        fits = found == h5py.h5t.STRING and not stored.is_variable_str() and size <= MAX_TEXT_BYTES
        return (f"S{size}", stored) if fits else (None, None)
    if kind is bool:
        return ("i1", stored) if found == h5py.h5t.ENUM and size == 1 else (None, None)
    if kind is int:
        fits = found == h5py.h5t.INTEGER and stored.get_sign() == h5py.h5t.SGN_2 and size <= 8
        return ("i8", h5py.h5t.NATIVE_INT64) if fits else (None, None)
    return ("f8", h5py.h5t.NATIVE_DOUBLE) if found == h5py.h5t.FLOAT and size <= 8 else (None, None)
