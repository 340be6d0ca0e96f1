"""From the features in a file to an entry: they are checked, and get attributes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from importlib.metadata import version
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..common.errors import ContentError, UsageError
from ..common.hashing import is_sha256
from ..common.quoting import quoted
from ..format.blocks import features_problem
from ..format.names import canonical_model
from ..format.schema import (
    IMPORTED_PREFIX,
    SCHEMA_VERSION,
    EntryAttributes,
    Features,
    storable_path,
    timeline_problem,
    utc_now,
)
from .formats import Found
from .frames_of_video import Clock, VideoFrames
from .identity import UNSEEN, Identity
from .placing import Placed
from .provenance import Provenance

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
class Contents:
    """The arguments of `write_entry`."""

    attributes: EntryAttributes
    features: Features
    timestamps_ms: npt.NDArray[np.float64]
    frame_index: npt.NDArray[np.int64]
    frame_names: list[str] | None


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
        ContentError: if they are not floats (N, D) that a model may give, or D is not the model's.
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
    if problem := features_problem(kept):
        raise ContentError(f"{quoted(found.path)} holds for {found.name!r} {problem}", "leave it out")
    return kept


def build(
    found: Found,
    features: Features,
    identity: Identity,
    model: Model,
    placed: Placed,
    rule_name: str,
    known: Provenance | None,
    frames: VideoFrames | None,
) -> Contents:
    """Everything that the entry of some checked features will hold: what an export says of them, else what is known.

    Raises:
        ContentError: if times or positions are not in order.
    """
    times, index = placed.timestamps_ms, placed.frame_index
    if problem := timeline_problem(times, index):
        raise ContentError(f"{quoted(found.path)} cannot be imported: for {found.name!r}, {problem}", "correct it")
    decoder = f"{IMPORTED_PREFIX}{rule_name}"
    if known is not None:
        attributes = dataclasses.replace(
            known.attributes, decoder=f"{decoder}:{known.decoder}" if known.decoder else decoder
        )
    else:
        attributes = _foreign_attributes(found, features, identity, model, placed, decoder, frames)
    attributes = dataclasses.replace(
        attributes,
        schema_version=SCHEMA_VERSION,
        clipcache_version=version("clipcache"),
        created=utc_now(),
        complete=placed.complete,
        video_name=identity.name,
        video_sha256=identity.sha256,
        video_bytes=identity.video_bytes,
        source_path=storable_path(identity.path) if identity.path else attributes.source_path,
        frames_decoded=len(features),
        sampling=str(placed.sampling),
    )
    return Contents(attributes, features, times, index, found.frame_names)


def _foreign_attributes(
    found: Found,
    features: Features,
    identity: Identity,
    model: Model,
    placed: Placed,
    decoder: str,
    frames: VideoFrames | None,
) -> EntryAttributes:
    """The attributes of features of which no export says how they were made."""
    times, rate = placed.timestamps_ms, placed.rate
    clock = Clock.of(frames)
    turned = frames is not None and frames.rotation % 180 == 90
    width, height = (frames.width, frames.height) if frames else (0, 0)
    return EntryAttributes(
        schema_version=SCHEMA_VERSION,
        clipcache_version=version("clipcache"),
        created=utc_now(),
        complete=placed.complete,
        source_kind="video",
        video_name=identity.name,
        video_sha256=identity.sha256,
        video_bytes=identity.video_bytes,
        fps=clock.fps if clock else found.fps or rate,
        duration_s=clock.length_s if clock else (times[-1] - times[0]) / 1000 + (1 / rate if rate else 0.0),
        width=height if turned else width,
        height=width if turned else height,
        rotation=frames.rotation if frames else 0,
        codec=frames.codec if frames else UNKNOWN if identity.is_seen else UNSEEN,
        frames_expected=frames.frames_expected if frames else len(features),
        frames_decoded=len(features),
        model=model.name,
        weights_sha256=model.weights_sha256,
        embed_dim=features.shape[1],
        input_size=model.input_size,
        logit_scale=model.logit_scale,
        precision=UNKNOWN,
        preprocess=UNKNOWN,
        sampling=str(placed.sampling),
        decoder=decoder,
        decoder_version=version("clipcache"),
        torch_version=UNKNOWN,
        timeline=frames.timeline if frames and placed.times_are_the_videos else "",
    )
