"""Schema v2 of an entry: its attributes and datasets, and what they must be.

| dataset          | shape  | dtype              |                                             |
|------------------|--------|--------------------|---------------------------------------------|
| `features`       | (N, D) | float16 or float32 | as the model returns them, not normalised   |
| `timestamps_ms`  | (N,)   | float64            | presentation time, milliseconds             |
| `frame_index`    | (N,)   | int64              | position in presentation order              |
| `frame_names`    | (N,)   | UTF-8 bytes        | images only: the file name of each          |
| `quality/<name>` | (N,)   | float32            | optional measures of each frame             |

N >= 1. Attributes are scalars of the root group: int64, float64, bool, or UTF-8 text of variable length, and a checksum
of them all, `attributes_sha256`. Version 1 lacks the checksum and the attributes of `ADDED_IN_VERSION_2`, and its texts
are of fixed length; it is read as if what it lacks were not known. Attributes that are not the schema's are ignored.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import struct
import typing
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from ..common.errors import ContentError, EntryError, UncheckedEntryError
from ..common.paths import StrPath
from ..common.quoting import quoted
from ..common.urls import is_url, without_credentials
from .header import MAX_TEXT_BYTES, StoredAttributes

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

CHECKSUM = "attributes_sha256"
"""Name of the attribute that holds the checksum of the others."""

_NO_BYTE = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # lone surrogates that `os.fsdecode` does not make
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
        source_path: where the content was when it was encoded, as `storable_path` gives it; "" where it is not known.
        logit_bias: what the model adds to a logit, as SigLIP does; 0.0 where it adds nothing, or it is not known.
        pooling: how the model makes one vector of a picture, "class token"; "" where it is not known.
        normalization: of the features as stored, "none" or "l2"; "" where it is not known.
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
    source_path: str = ""
    logit_bias: float = 0.0
    pooling: str = ""
    normalization: str = ""


ATTRIBUTE_TYPES: dict[str, type] = {
    name: kind
    for name, kind in typing.get_type_hints(EntryAttributes).items()
    if name in {field.name for field in dataclasses.fields(EntryAttributes)}
}


ADDED_IN_VERSION_2 = ("timeline", "frames_corrupt", "source_path", "logit_bias", "pooling", "normalization")


def attributes_of_version(version: int) -> dict[str, type]:
    """Names and types of the attributes that entries of a schema version hold."""
    left_out = ADDED_IN_VERSION_2 if version < 2 else ()
    return {name: kind for name, kind in ATTRIBUTE_TYPES.items() if name not in left_out}


def utc_now() -> str:
    """The time of an entry's `created`, now: ISO 8601 in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def storable_text(text: str) -> str:
    r"""Text that HDF5 can hold: bytes that are not UTF-8 (lone surrogates in Python) become escapes, `caf\xe9.mp4`.

    So do lone surrogates that stand for no byte (JSON may hold them), `\ud800`, and a zero byte, at which HDF5 would
    end the text. All other text stays as it is.
    """
    text = _NO_BYTE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").replace("\0", "\\x00")


def storable_path(path: StrPath) -> str:
    """The absolute path of an input, or its URL without user, password, query and fragment, as `storable_text`.

    One of more than 4096 bytes loses its beginning, for which "…" stands.
    """
    text = os.fspath(path)
    # A path without "..", and links as they are.
    text = without_credentials(text) if is_url(text) else os.path.abspath(text)  # noqa: PTH100
    stored = storable_text(text).encode()
    if len(stored) <= MAX_TEXT_BYTES:
        return stored.decode()
    cut = "…"
    return cut + stored[len(cut.encode()) - MAX_TEXT_BYTES :].decode("utf-8", "ignore")


def write_attributes(group: h5py.Group, attributes: EntryAttributes) -> None:
    """Write all attributes to `group`, in the current version of the schema, and their checksum.

    Raises:
        ContentError: if a value does not have the type of its field, or is text of more than 4096 bytes.
    """
    values = storable_values(attributes)
    for name, kind in ATTRIBUTE_TYPES.items():
        group.attrs.create(name, values[name], dtype=NUMBER_DTYPES.get(kind) or h5py.string_dtype())
    group.attrs.create(CHECKSUM, attributes_sha256(EntryAttributes(**values)), dtype=h5py.string_dtype())


def storable_values(attributes: EntryAttributes) -> dict[str, typing.Any]:
    """The values by name, as they are stored: in the current version of the schema, text as `storable_text` gives it.

    Raises:
        ContentError: if a value does not have the type of its field, or is text of more than 4096 bytes.
    """
    values = vars(attributes) | {"schema_version": SCHEMA_VERSION}
    for name, kind in ATTRIBUTE_TYPES.items():
        if not _is_a(values[name], kind):
            raise ContentError(f"Attribute {name} must be {kind.__name__}, not {values[name]!r}")
        if kind is str:
            values[name] = storable_text(values[name])
            if (count := len(values[name].encode())) > MAX_TEXT_BYTES:
                raise ContentError(f"Attribute {name} has {count} bytes; at most {MAX_TEXT_BYTES} are stored")
    return values


def attributes_sha256(attributes: EntryAttributes) -> str:
    """Checksum of attributes, 64 hex digits: of the name and the value of each, in order of name.

    Each name and each value is followed by a zero byte. Values are spelled as UTF-8 text: a bool as "true" or "false",
    an integer in decimal digits, a float as the 16 hex digits of its 64 bits (IEEE 754), the sign first.
    """
    values = vars(attributes)
    text = "".join(f"{name}\0{_spelled(values[name], kind)}\0" for name, kind in _IN_ORDER)
    return hashlib.sha256(text.encode()).hexdigest()


_IN_ORDER = sorted(ATTRIBUTE_TYPES.items())


def _spelled(value: typing.Any, kind: type) -> str:
    if kind is float:
        return struct.pack(">d", value).hex()
    return str(bool(value)).lower() if kind is bool else str(value)


def read_attributes(file: h5py.File, path: Path) -> EntryAttributes:
    """Read and check all attributes of an entry; `path` is named in errors.

    Raises:
        EntryError: if the schema is newer, an attribute is missing or not the scalar it must be, or the checksum is
            wrong.
        ValueError: if they cannot be read.
    """
    stored = StoredAttributes(file)
    version = _schema_version(stored, path)
    if not 1 <= version <= SCHEMA_VERSION:
        raise (UncheckedEntryError if version > SCHEMA_VERSION else EntryError)(
            f"{quoted(path)} has schema version {version}, this clipcache reads 1 to {SCHEMA_VERSION}",
            "upgrade clipcache",
        )
    types = attributes_of_version(version)
    attributes = EntryAttributes(**{name: _read_attribute(stored, name, kind, path) for name, kind in types.items()})
    # The checksum is looked for in version 1 too: a 2 may have been changed to a 1.
    has_checksum = version > 1 or CHECKSUM in stored
    if has_checksum and _read_attribute(stored, CHECKSUM, str, path) != attributes_sha256(attributes):
        raise EntryError(f"{quoted(path)} has attributes that do not fit their checksum", EXTRACT_AGAIN)
    return attributes


def read_schema_version(file: h5py.File, path: Path) -> int:
    """The schema version that a file declares; `path` is named in errors.

    Raises:
        EntryError: if it declares none, as a foreign HDF5 file does, or one that is not an integer.
        ValueError: if its attributes cannot be read.
    """
    return _schema_version(StoredAttributes(file), path)


def _schema_version(stored: StoredAttributes, path: Path) -> int:
    if "schema_version" not in stored:
        raise EntryError(f"{quoted(path)} is an HDF5 file but not a clipcache entry", MOVE_OUT)
    version: int = _read_attribute(stored, "schema_version", int, path)
    return version


def _read_attribute(stored: StoredAttributes, name: str, kind: type, path: Path) -> typing.Any:
    if name not in stored:
        raise EntryError(f"{quoted(path)} lacks the attribute {name}", EXTRACT_AGAIN)
    value = stored.get(name, kind)
    if value is None:
        raise EntryError(f"{quoted(path)} has an attribute {name} that is not one {kind.__name__}", MOVE_OUT)
    return value


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
