"""From the features in a file to an entry: they are checked, and get times, positions and attributes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..common.errors import ContentError, UsageError
from ..common.hashing import is_sha256
from ..common.quoting import quoted
from ..format.blocks import NOT_FINITE, all_finite
from ..format.names import canonical_model
from ..format.sampling import Sampling
from ..format.schema import IMPORTED_PREFIX, SCHEMA_VERSION, EntryAttributes, Features, timeline_problem, utc_now
from .formats import Found
from .identity import UNSEEN, Identity

UNKNOWN = "unknown"


class PublishedModel(Protocol):
    """What is known of a model by its name alone."""

    @property
    def sha256(self) -> str:
        """Of the weights as published."""

    @property
    def embed_dim(self) -> int:
        """D."""

    @property
    def input_size(self) -> int:
        """Pixels of the square that the model sees."""


@dataclass(frozen=True)
class Model:
    """The model that the user says made the features.

    Attributes:
        name: "ViT-B/32".
        weights_sha256: of its weights, 64 hex digits.
        embed_dim: D; None if not known: then any is accepted.
        input_size: pixels; 0 if not known.
        logit_scale: factor from cosine to logit.
    """

    name: str
    weights_sha256: str
    embed_dim: int | None
    input_size: int
    logit_scale: float


@dataclass(frozen=True)
class Timing:
    """The times of the rows, for files that do not hold them.

    Attributes:
        rate: rows a second, > 0; None: only features with timestamps are accepted.
        sampling: the frames of the video that the rows are; None: every frame, or those of `rate`.
    """

    rate: float | None = None
    sampling: Sampling | None = None

    def __post_init__(self) -> None:
        if self.rate is not None and not (math.isfinite(self.rate) and self.rate > 0):
            raise UsageError(f"The rate of the features must be above 0 a second, not {self.rate}")


@dataclass(frozen=True)
class Contents:
    """The arguments of `write_entry`."""

    attributes: EntryAttributes
    features: Features
    timestamps_ms: npt.NDArray[np.float64]
    frame_index: npt.NDArray[np.int64]


def name_model(
    name: str | None, weights_sha256: str | None, published: PublishedModel | None, logit_scale: float
) -> Model:
    """The model that the user names: one of OpenAI's, or any other with the hash of its weights.

    Raises:
        UsageError: if no model is named, or the hash of its weights is not known or not valid.
    """
    if name is None:
        raise UsageError("Say which model made the features: --model ViT-B/32, for example")
    if weights_sha256 is None and published is None:
        raise UsageError(f"The weights of {name!r} are not known by its name", "give their hash by --weights-sha256")
    if weights_sha256 is not None and not is_sha256(weights_sha256):
        raise UsageError("--weights-sha256 takes the 64 lower-case hex digits of the hash of the weights file")
    return Model(
        canonical_model(name),
        weights_sha256 or (published.sha256 if published else ""),
        published.embed_dim if published else None,
        published.input_size if published else 0,
        logit_scale,
    )


def checked_features(found: Found, model: Model) -> Features:
    """The features (N, D) in float16 or float32; float64 is rounded to float32.

    Raises:
        ContentError: if they are not finite floats (N, D), or D is not the model's.
    """
    features = found.features
    dim = model.embed_dim
    if features.ndim != 2 or features.dtype.kind != "f" or not features.size or dim not in (None, features.shape[1]):
        raise ContentError(
            f"{quoted(found.path)} holds for {found.name!r} an array of shape {features.shape} and type "
            f"{features.dtype} where features (N, {dim or 'D'}) of {model.name} belong",
            "leave it out, or name the right --model",
        )
    with np.errstate(over="ignore"):  # reported below
        kept: Features = features.astype("<f2" if features.dtype.itemsize == 2 else "<f4")
    if not all_finite(kept):
        raise ContentError(f"{quoted(found.path)} holds for {found.name!r} {NOT_FINITE}", "leave it out")
    return kept


def build(
    found: Found, features: Features, identity: Identity, model: Model, timing: Timing, rule_name: str
) -> Contents:
    """Everything that the entry of some checked features will hold.

    Raises:
        ContentError: if times or positions are missing, of another count than the features, or not in order.
    """
    count = len(features)
    timestamps = _timestamps(found, timing, count)
    sampling = _sampling(found, timing)
    index = _frame_index(found, sampling, count)
    if problem := timeline_problem(timestamps, index):
        raise ContentError(f"{quoted(found.path)} cannot be imported: for {found.name!r}, {problem}", "correct it")
    rate = timing.rate or _measured_rate(timestamps)
    attributes = EntryAttributes(
        schema_version=SCHEMA_VERSION,
        clipcache_version=version("clipcache"),
        created=utc_now(),
        complete=True,
        source_kind="video",
        video_name=identity.name,
        video_sha256=identity.sha256,
        video_bytes=identity.video_bytes,
        fps=found.fps or rate,
        duration_s=(timestamps[-1] - timestamps[0]) / 1000 + (1 / rate if rate else 0.0),
        width=0,
        height=0,
        rotation=0,
        codec=UNKNOWN if identity.is_seen else UNSEEN,
        frames_expected=count,
        frames_decoded=count,
        model=model.name,
        weights_sha256=model.weights_sha256,
        embed_dim=features.shape[1],
        input_size=model.input_size,
        logit_scale=model.logit_scale,
        precision=UNKNOWN,
        preprocess=UNKNOWN,
        sampling=str(sampling),
        decoder=f"{IMPORTED_PREFIX}{rule_name}",
        decoder_version=version("clipcache"),
        torch_version=UNKNOWN,
        source_path=identity.path,
    )
    return Contents(attributes, features, timestamps, index)


def _timestamps(found: Found, timing: Timing, count: int) -> npt.NDArray[np.float64]:
    """(N,) milliseconds: the file's own, else by the rate that the user gives."""
    if found.timestamps_ms is not None:
        return _column(found, "timestamps_ms", found.timestamps_ms, count).astype("<f8")
    if timing.rate is None:
        raise ContentError(
            f"{quoted(found.path)} does not hold times of the features of {found.name!r}",
            "give --fps or --interval",
        )
    return np.arange(count, dtype="<f8") * 1000.0 / timing.rate


def _sampling(found: Found, timing: Timing) -> Sampling:
    """The frames that the rows are: as the user says, else of the rate given, else every frame."""
    if timing.sampling is not None:
        return timing.sampling
    index = found.frame_index
    if index is not None and not np.array_equal(index, np.arange(len(index))):
        raise ContentError(
            f"{quoted(found.path)} holds some frames of {found.name!r} only",
            "say which: --sampling fps=RATE or every=N, or all where the others could not be decoded",
        )
    return Sampling(fps=timing.rate) if found.timestamps_ms is None else Sampling()


def _frame_index(found: Found, sampling: Sampling, count: int) -> npt.NDArray[np.int64]:
    """(N,) positions: the file's own, else those of the sampling, else the numbers of the rows."""
    if found.frame_index is not None:
        return _column(found, "frame_index", found.frame_index, count).astype("<i8")
    return np.arange(count, dtype=np.int64) * (sampling.every or 1)


def _column(found: Found, name: str, values: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    if values.shape != (count,) or values.dtype.kind not in "fiu":
        raise ContentError(
            f"{quoted(found.path)} holds for {found.name!r} {name} of shape {values.shape} and type {values.dtype} "
            f"where ({count},) numbers belong",
            "correct it",
        )
    if name == "frame_index" and not _are_whole(values):
        raise ContentError(
            f"{quoted(found.path)} holds for {found.name!r} a frame_index that is not a whole number", "correct it"
        )
    return values


def _are_whole(values: npt.NDArray[Any]) -> bool:
    """Whether all values are whole numbers that fit int64; NaN and infinity are not."""
    return bool((np.abs(values) < 2.0**62).all() and (np.trunc(values) == values).all())


def _measured_rate(timestamps_ms: npt.NDArray[np.float64]) -> float:
    """Rows a second on average; 0.0 if all have one time."""
    span_s = (timestamps_ms[-1] - timestamps_ms[0]) / 1000
    return float((len(timestamps_ms) - 1) / span_s) if span_s > 0 else 0.0
