"""The attributes of an entry: how it was made."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Protocol

import numpy as np

from ..cache.format.sampling import Sampling
from ..cache.format.schema import SCHEMA_VERSION, EntryAttributes, storable_path, utc_now
from .encoded import EncodedItem
from .inputs import HashedItem
from .models.frame_encoder import PictureEncoder
from .models.placement import Placement
from .options import ExtractOptions
from .video.resize import backend_used


def attributes_of(encoded: EncodedItem, encoder: PictureEncoder, sampling: Sampling, resize: str) -> EntryAttributes:
    """The attributes of the entry that an encoded item becomes."""
    picture = _picture(encoded)
    return EntryAttributes(
        complete=encoded.complete,
        source_kind=encoded.item.item.kind,
        fps=encoded.index.fps if encoded.index else 0.0,
        duration_s=_duration_s(encoded),
        width=picture.width,
        height=picture.height,
        rotation=picture.rotation,
        codec=picture.codec,
        frames_expected=encoded.frames_expected,
        frames_decoded=len(encoded.features),
        input_size=encoder.input_size,
        preprocess=_preprocessing(encoder, picture, resize),
        sampling=str(sampling),
        timeline=encoded.timeline,
        frames_corrupt=encoded.frames_corrupt,
        **common_attributes(encoded.item, encoder.weights, encoder, encoded.decoders),
    )


class _Weights(Protocol):
    """A model's weights: its name and their checksum."""

    @property
    def model(self) -> str: ...

    @property
    def sha256(self) -> str: ...


class _Encoder(Protocol):
    """An encoder of pictures or of sound."""

    embed_dim: int
    logit_scale: float
    logit_bias: float
    pooling: str
    normalization: str
    placement: Placement


def common_attributes(
    item: HashedItem, weights: _Weights, encoder: _Encoder, decoders: Sequence[str]
) -> dict[str, Any]:
    """The attributes that entries of pictures and of sound have in common, for `EntryAttributes`.

    Args:
        item: what was encoded.
        weights: the model's weights.
        encoder: what encoded it.
        decoders: names of the decoders that took part.
    """
    import torch

    return {
        "schema_version": SCHEMA_VERSION,
        "clipcache_version": metadata.version("clipcache"),
        "created": utc_now(),
        "video_name": os.path.basename(os.path.abspath(item.item.name)),  # noqa: PTH100, PTH119  "." has no name
        "video_sha256": item.sha256,
        "video_bytes": item.size,
        "source_path": storable_path(item.item.name),
        "model": weights.model,
        "weights_sha256": weights.sha256,
        "embed_dim": encoder.embed_dim,
        "logit_scale": encoder.logit_scale,
        "logit_bias": encoder.logit_bias,
        "pooling": encoder.pooling,
        "normalization": encoder.normalization,
        "precision": encoder.placement.precision,
        "decoder": "+".join(decoders),
        "decoder_version": ", ".join(map(decoder_version, decoders)),
        "torch_version": torch.__version__,
    }


def _preprocessing(encoder: PictureEncoder, picture: _Picture, resize: str) -> str:
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
    times = encoded.timestamps_ms if index.times_ms is None else index.times_ms
    return float(np.ptp(times)) / 1000.0 + (1.0 / index.fps if index.fps > 0 else 0.0)


def recipe_of(encoder: PictureEncoder, options: ExtractOptions, resize: str, threads: int) -> dict[str, str]:
    """All that features depend on beside the content and the sampling, by name.

    Args:
        encoder: what encodes.
        options: as asked for.
        resize: the backend that resizes.
        threads: of each decoder; 0 for its own choice. Damage may look otherwise with more than one.
    """
    import torch

    return {
        "clipcache": metadata.version("clipcache"),
        "torch": torch.__version__,
        **{decoder: decoder_version(decoder) for decoder in ("decord", "pyav", "pillow")},
        "weights": encoder.weights.sha256,
        "device": _device_name(encoder.placement.device),
        "batch": str(encoder.min_batch),
        "threads": str(threads),
        "precision": encoder.placement.precision,
        "preprocess": encoder.spec.describe_preprocessing(resize),
        "decoder": options.decoder,
        "dtype": options.dtype,
        "measured": str(options.quality),
    }


def _device_name(devices: str) -> str:
    """What computes, as far as its rounding depends on it: the kinds of GPU, and the instructions of the CPU."""
    import torch

    capability = torch.backends.cpu.get_cpu_capability
    names = {
        str(torch.cuda.get_device_name(device) if device.startswith("cuda") else capability())
        for device in devices.split(",")
    }
    return " + ".join(sorted(names))


def decoder_version(decoder: str) -> str:
    """Package and version behind a decoder's name."""
    packages = {"decord": ("decord2", "decord"), "pyav": ("av",), "pillow": ("Pillow",)}
    for package in packages[decoder]:
        try:
            return f"{package} {metadata.version(package)}"
        except metadata.PackageNotFoundError:
            continue
    return f"{decoder} of unknown version"
