"""What an entry says of how it was made."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata

import numpy as np

from ..cache.format.sampling import Sampling
from ..cache.format.schema import SCHEMA_VERSION, EntryAttributes
from .models.frame_encoder import FrameEncoder
from .pipeline import EncodedItem
from .video.resize import backend_used


def attributes_of(encoded: EncodedItem, encoder: FrameEncoder, sampling: Sampling, resize: str) -> EntryAttributes:
    """The attributes of the entry that an encoded item becomes."""
    import torch

    picture = _picture(encoded)
    return EntryAttributes(
        schema_version=SCHEMA_VERSION,
        clipcache_version=metadata.version("clipcache"),
        created=now(),
        complete=encoded.complete,
        source_kind=encoded.item.item.kind,
        video_name=os.path.basename(os.path.abspath(encoded.item.item.path)),  # noqa: PTH100, PTH119  "." has no name
        video_sha256=encoded.item.sha256,
        video_bytes=encoded.item.size,
        fps=encoded.index.fps if encoded.index else 0.0,
        duration_s=_duration_s(encoded),
        width=picture.width,
        height=picture.height,
        rotation=picture.rotation,
        codec=picture.codec,
        frames_expected=encoded.frames_expected,
        frames_decoded=len(encoded.features),
        model=encoder.weights.model,
        weights_sha256=encoder.weights.sha256,
        embed_dim=encoder.embed_dim,
        input_size=encoder.input_size,
        logit_scale=encoder.logit_scale,
        precision=encoder.placement.precision,
        preprocess=_preprocessing(encoder, picture, resize),
        sampling=str(sampling),
        decoder="+".join(decoders := encoded.decoders),
        decoder_version=", ".join(decoder_version(name) for name in decoders),
        torch_version=torch.__version__,
    )


def _preprocessing(encoder: FrameEncoder, picture: _Picture, resize: str) -> str:
    spec = encoder.spec
    return spec.describe_preprocessing(
        backend_used(picture.height, picture.width, spec.input_size, resize, spec.resize)
    )


@dataclass(frozen=True)
class _Picture:
    """How an item looks: size as shown in pixels, degrees that it was turned by, codec."""

    width: int
    height: int
    rotation: int
    codec: str


def _picture(encoded: EncodedItem) -> _Picture:
    index = encoded.index
    if index is None:
        width, height = next(((span.width, span.height) for span in encoded.spans if span.width), (0, 0))
        return _Picture(width, height, 0, encoded.item.item.images[0].suffix.lower().lstrip("."))
    turned = index.rotation % 180 == 90
    width, height = (index.height, index.width) if turned else (index.width, index.height)
    return _Picture(width, height, index.rotation, index.codec)


def _duration_s(encoded: EncodedItem) -> float:
    """From the first frame shown to the end of the last, which lasts as long as frames do on average."""
    index = encoded.index
    if index is None:
        return 0.0
    times = encoded.timestamps_ms if index.timestamps_ms is None else index.timestamps_ms
    return float(np.ptp(times)) / 1000.0 + (1.0 / index.fps if index.fps > 0 else 0.0)


def decoder_version(decoder: str) -> str:
    """Package and version behind a decoder's name."""
    packages = {"decord": ("decord2", "decord"), "pyav": ("av",), "pillow": ("Pillow",)}
    for package in packages[decoder]:
        try:
            return f"{package} {metadata.version(package)}"
        except metadata.PackageNotFoundError:
            continue
    return f"{decoder} of unknown version"


def now() -> str:
    """The time as ISO 8601 in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
